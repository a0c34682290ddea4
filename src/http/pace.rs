//! How fast servers send, and how fast they take what is sent to them.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The most that the connection gets at once, in bytes: what it has counts as taken.
const STEP: usize = 16 << 10;

/// How fast a server sends or takes. Only time in which it is waited for counts, and none in which its bytes are.
#[derive(Debug)]
pub(super) struct Speed {
    pub(super) least: u64,
    pub(super) window: Duration,
    waited: Duration,
    came: u64,
}

impl Speed {
    pub(super) const fn new(least: u64, window: Duration) -> Self {
        Self {
            least,
            window,
            waited: Duration::ZERO,
            came: 0,
        }
    }

    /// Whether it is too slow, after another wait that brought so many bytes.
    pub(super) fn too_slow(&mut self, waited: Duration, came: u64) -> bool {
        self.waited += waited;
        self.came += came;
        if self.waited < self.window {
            return false;
        }
        let enough = self.least as f64 * self.waited.as_secs_f64();
        let slow = (self.came as f64) < enough;
        (self.waited, self.came) = (Duration::ZERO, 0);
        slow
    }
}

/// What the thread that sends a body and the one that waits share.
#[derive(Debug, Default)]
struct Flow {
    taken: AtomicU64,
    /// Whether the server is waited for, and not the source of the bytes.
    waits: AtomicBool,
    over: AtomicBool,
}

/// A body on its way to a server.
pub(super) struct Outgoing<R> {
    inner: R,
    left: u64,
    flow: Arc<Flow>,
}

impl<R: Read> Outgoing<R> {
    /// A body of `length` bytes, and who watches it.
    pub(super) fn new(inner: R, length: u64, speed: Speed) -> (Self, Watch) {
        let flow = Arc::new(Flow::default());
        let watch = Watch {
            flow: Arc::clone(&flow),
            speed,
            seen: 0,
            at: Instant::now(),
        };
        let left = length;
        (Self { inner, left, flow }, watch)
    }
}

impl<R: Read> Read for Outgoing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.flow.over.load(Ordering::Relaxed) {
            return Err(io::Error::other("given up"));
        }
        self.flow.waits.store(false, Ordering::Relaxed);
        let most = buffer.len().min(STEP);
        let count = self.inner.read(&mut buffer[..most])?;
        self.left = self.left.saturating_sub(count as u64);
        self.flow.taken.fetch_add(count as u64, Ordering::Relaxed);
        // With the last bytes the wait for an answer begins, which has a limit of its own.
        self.flow.waits.store(self.left > 0, Ordering::Relaxed);
        Ok(count)
    }
}

/// Looks after a body that another thread sends.
pub(super) struct Watch {
    flow: Arc<Flow>,
    speed: Speed,
    seen: u64,
    at: Instant,
}

impl Watch {
    /// Whether the server takes it too slowly; then the rest is not sent. To be asked again and again.
    pub(super) fn too_slow(&mut self) -> bool {
        let passed = self.at.elapsed();
        self.at += passed;
        let taken = self.flow.taken.load(Ordering::Relaxed);
        let more = taken - self.seen;
        self.seen = taken;
        let slow = self.flow.waits.load(Ordering::Relaxed) && self.speed.too_slow(passed, more);
        if slow {
            self.flow.over.store(true, Ordering::Relaxed);
        }
        slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_counts_over_the_whole_window() {
        let window = Duration::from_secs(10);
        let second = Duration::from_secs(1);
        let mut drips = Speed::new(512, window);
        let slow: Vec<bool> = (0..10).map(|_| drips.too_slow(second, 1)).collect();
        assert_eq!(slow.iter().position(|slow| *slow), Some(9));
        let mut steady = Speed::new(512, window);
        assert!((0..100).all(|_| !steady.too_slow(second, 512)));
        // A burst makes up for the silence around it.
        let mut bursts = Speed::new(512, window);
        assert!((0..100).all(|at| !bursts.too_slow(second, if at % 10 == 3 { 5120 } else { 0 })));
        let mut any = Speed::new(0, window);
        assert!((0..100).all(|_| !any.too_slow(second, 1)));
    }

    #[test]
    fn only_the_server_is_waited_for() {
        let speed = || Speed::new(1, Duration::from_millis(5));
        let wait = || std::thread::sleep(Duration::from_millis(10));
        let (mut body, mut watch) = Outgoing::new(io::repeat(1), 10, speed());
        wait();
        assert!(!watch.too_slow(), "nothing was sent");
        assert_eq!(body.read(&mut [0; 4]).unwrap(), 4);
        wait();
        assert!(!watch.too_slow(), "4 bytes were taken");
        wait();
        assert!(watch.too_slow());
        assert!(body.read(&mut [0; 4]).is_err(), "it was given up");
        let (mut body, mut watch) = Outgoing::new(io::repeat(1), 4, speed());
        body.read_exact(&mut [0; 4]).unwrap();
        assert!(!watch.too_slow());
        wait();
        assert!(!watch.too_slow(), "all was taken");
    }
}

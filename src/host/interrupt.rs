//! Ctrl-C and SIGTERM, as a state that waiting code can poll.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Signals within this time are one request.
const TOGETHER: Duration = Duration::from_millis(500);

/// Tells whether the user gave up. Cheap to clone; once set it stays set.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    requested: AtomicBool,
    /// Becomes readable when the interrupt is requested, and is never drained: every waiter sees
    /// it.
    readable: UnixStream,
    writable: UnixStream,
}

impl Interrupt {
    /// An interrupt that only [`request`](Self::request) sets.
    ///
    /// # Errors
    /// No socket pair can be made.
    pub fn new() -> io::Result<Self> {
        let (readable, writable) = UnixStream::pair()?;
        writable.set_nonblocking(true)?;
        Ok(Self(Arc::new(Inner {
            requested: AtomicBool::new(false),
            readable,
            writable,
        })))
    }

    /// An interrupt set by SIGINT, SIGTERM and SIGHUP. A second signal, half a second later or
    /// more, ends the process at once with exit code 130. (What comes together is one request:
    /// timeout(1) signals its child and then the child's group.)
    ///
    /// # Errors
    /// The signal handlers cannot be installed.
    pub fn from_signals() -> io::Result<Self> {
        let interrupt = Self::new()?;
        let mut signals = signal_hook::iterator::Signals::new([
            signal_hook::consts::SIGINT,
            signal_hook::consts::SIGTERM,
            signal_hook::consts::SIGHUP,
        ])?;
        let shared = interrupt.clone();
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                let mut first = None;
                for _ in signals.forever() {
                    let asked = *first.get_or_insert_with(Instant::now);
                    if asked.elapsed() >= TOGETHER {
                        std::process::exit(130);
                    }
                    shared.request();
                }
            })?;
        Ok(interrupt)
    }

    /// Sets it.
    pub fn request(&self) {
        if !self.0.requested.swap(true, Ordering::SeqCst) {
            // One byte is enough, and a full buffer is as readable as a new byte.
            let _ = io::Write::write(&mut &self.0.writable, b"!");
        }
    }

    /// Whether it is set.
    #[must_use]
    pub fn requested(&self) -> bool {
        self.0.requested.load(Ordering::SeqCst)
    }
}

/// Readable as soon as the interrupt is set; not to be read from.
impl AsFd for Interrupt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.readable.as_fd()
    }
}

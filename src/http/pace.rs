//! How fast servers send, and how fast they take what is sent to them.

use std::time::Duration;

/// How fast a server sends or takes. Only time in which it is waited for counts, and none in which
/// its bytes are.
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
}

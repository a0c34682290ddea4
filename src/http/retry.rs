//! Trying again: pauses that double, with some chance in them so that many clients do not come back
//! at once, or longer when the server asks for it.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::error::HttpError;
use crate::host::{Interrupt, process};

/// A server that asks to wait longer is told of instead.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How often and after what pauses something is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries after the first.
    pub retries: u32,
    /// The first pause.
    pub first: Duration,
    /// No pause of our own is longer.
    pub longest: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            retries: 4,
            first: Duration::from_millis(400),
            longest: Duration::from_secs(20),
        }
    }
}

/// Where a series of tries is.
#[derive(Debug)]
pub struct Backoff {
    policy: RetryPolicy,
    failed: u32,
}

impl Backoff {
    /// Before the first try.
    #[must_use]
    pub const fn new(policy: RetryPolicy) -> Self {
        Self { policy, failed: 0 }
    }

    /// The pause before the next try after `error`; `None` when there is to be none.
    pub fn pause(&mut self, error: &HttpError) -> Option<Duration> {
        if !error.is_transient() || self.failed >= self.policy.retries {
            return None;
        }
        let doubled = 1u32.checked_shl(self.failed).unwrap_or(u32::MAX);
        self.failed += 1;
        tracing::debug!(%error, failed = self.failed, "trying again");
        let pause = self.policy.first.saturating_mul(doubled);
        // Between half of it and the whole. A new hasher has a random key.
        let chance = RandomState::new().hash_one(0) as u32;
        let part = 0.5 + f64::from(chance) / f64::from(u32::MAX) / 2.0;
        let pause = pause.min(self.policy.longest).mul_f64(part);
        match error {
            HttpError::Status {
                retry_after: Some(asked),
                ..
            } => (*asked <= LONGEST_WAIT).then_some(pause.max(*asked)),
            _ => Some(pause),
        }
    }

    /// Something was achieved: the next failure is a first one.
    pub const fn reset(&mut self) {
        self.failed = 0;
    }
}

/// Sleeps; `false` as soon as the user gives up.
#[must_use]
pub fn sleep(time: Duration, interrupt: &Interrupt) -> bool {
    let end = Instant::now() + time;
    loop {
        if interrupt.requested() {
            return false;
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        if left < Duration::from_millis(50) {
            std::thread::sleep(left);
        } else if !process::pause(interrupt) {
            return false;
        }
    }
}

/// Does `work` until it succeeds, fails for good, or was tried often enough. `told` hears of each
/// failure that another try follows, and how long after.
///
/// # Errors
/// The last one of `work`; or the user gave up.
pub fn retry<T>(
    policy: RetryPolicy,
    interrupt: &Interrupt,
    told: &dyn Fn(&HttpError, Duration),
    mut work: impl FnMut() -> Result<T, HttpError>,
) -> Result<T, HttpError> {
    let mut backoff = Backoff::new(policy);
    loop {
        let error = match work() {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let Some(pause) = backoff.pause(&error) else {
            return Err(error);
        };
        told(&error, pause);
        if !sleep(pause, interrupt) {
            return Err(HttpError::Interrupted);
        }
    }
}

/// How long a `Retry-After` header asks to wait: seconds or a date (RFC 9110, section 10.2.3).
pub(super) fn retry_after(value: &str, now: std::time::SystemTime) -> Option<Duration> {
    let value = value.trim();
    // Some servers send fractions, which the RFC has not.
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::UNIX_EPOCH;

    use super::*;

    fn status(status: u16, retry_after: Option<u64>) -> HttpError {
        HttpError::Status {
            url: "http://a/".parse().unwrap(),
            status,
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    #[test]
    fn pauses_double_up_to_a_limit() {
        let policy = RetryPolicy {
            retries: 40,
            first: Duration::from_secs(1),
            longest: Duration::from_secs(5),
        };
        let mut backoff = Backoff::new(policy);
        for whole in [1.0, 2.0, 4.0, 5.0, 5.0] {
            let pause = backoff.pause(&status(503, None)).unwrap().as_secs_f64();
            assert!((whole / 2.0..=whole).contains(&pause), "{pause} of {whole}");
        }
        for _ in 0..35 {
            assert!(backoff.pause(&status(503, None)).unwrap() <= policy.longest);
        }
        assert_eq!(backoff.pause(&status(503, None)), None);
        backoff.reset();
        assert!(backoff.pause(&status(503, None)).unwrap() <= policy.first);
    }

    #[test]
    fn servers_can_ask_for_a_time() {
        let mut backoff = Backoff::new(RetryPolicy::default());
        assert_eq!(
            backoff.pause(&status(429, Some(7))),
            Some(Duration::from_secs(7))
        );
        assert_eq!(backoff.pause(&status(503, Some(60))), Some(LONGEST_WAIT));
        assert_eq!(backoff.pause(&status(429, Some(61))), None);
        let at_once = Backoff::new(RetryPolicy::default()).pause(&status(503, Some(0)));
        assert!(at_once.unwrap() > Duration::from_millis(100));
        assert_eq!(backoff.pause(&status(404, None)), None);
    }

    #[test]
    fn dates() {
        let example = "Sun, 06 Nov 1994 08:49:37 GMT";
        let now = UNIX_EPOCH + Duration::from_secs(784_111_770);
        assert_eq!(retry_after(example, now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(" 120", now), Some(Duration::from_secs(120)));
        assert_eq!(
            retry_after("Thu, 01 Jan 1970 00:00:00 GMT", now),
            Some(Duration::ZERO)
        );
        assert_eq!(retry_after("1.5", now), Some(Duration::from_millis(1500)));
        for odd in ["-1", "nan", "1e999", "", "tomorrow"] {
            assert_eq!(retry_after(odd, now), None, "{odd}");
        }
    }

    #[test]
    fn work_is_tried_again() {
        let policy = RetryPolicy {
            retries: 2,
            first: Duration::from_millis(1),
            longest: Duration::from_millis(2),
        };
        let interrupt = Interrupt::new().unwrap();
        let (tries, told) = (Cell::new(0), Cell::new(0));
        let run = |succeed_at: u32, status_code: u16| {
            tries.set(0);
            told.set(0);
            let hear = |_: &HttpError, _: Duration| told.set(told.get() + 1);
            retry(policy, &interrupt, &hear, || {
                tries.set(tries.get() + 1);
                if tries.get() == succeed_at {
                    Ok(())
                } else {
                    Err(status(status_code, None))
                }
            })
        };
        assert_eq!(run(3, 500), Ok(()));
        assert_eq!((tries.get(), told.get()), (3, 2));
        assert!(run(4, 500).is_err());
        assert_eq!((tries.get(), told.get()), (3, 2));
        assert!(run(4, 404).is_err());
        assert_eq!((tries.get(), told.get()), (1, 0));
        interrupt.request();
        assert_eq!(run(3, 500), Err(HttpError::Interrupted));
    }
}

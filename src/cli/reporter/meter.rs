//! How a download goes: a bar, bytes, the rate and the time that is left.

use std::time::{Duration, Instant};

use super::super::output::{duration, size};

/// Characters of a bar.
const WIDTH: usize = 20;
/// What the rate is taken over: long enough to be calm, short enough to notice a change.
const WINDOW: Duration = Duration::from_secs(3);

/// Bytes over time.
#[derive(Debug)]
pub(super) struct Meter {
    done: u64,
    total: Option<u64>,
    /// Where the window began, and where the next one will.
    from: (Instant, u64),
    next: (Instant, u64),
    last: Instant,
}

impl Meter {
    /// `done` bytes were there before.
    pub(super) const fn new(done: u64, total: Option<u64>, now: Instant) -> Self {
        Self {
            done,
            total,
            from: (now, done),
            next: (now, done),
            last: now,
        }
    }

    pub(super) fn update(&mut self, done: u64, total: Option<u64>, now: Instant) {
        // It can go back when a server begins anew.
        if done < self.done {
            *self = Self::new(done, total, now);
            return;
        }
        (self.done, self.total, self.last) = (done, total, now);
        if now.duration_since(self.next.0) >= WINDOW {
            self.from = self.next;
            self.next = (now, done);
        }
    }

    /// Bytes in a second; `None` before there is enough to tell.
    fn rate(&self) -> Option<f64> {
        let passed = self.last.duration_since(self.from.0).as_secs_f64();
        (passed > 0.3).then(|| (self.done - self.from.1) as f64 / passed)
    }

    /// `━━━━━━━━━━──────────  50%  1.0 of 2.0 GiB, 20 MiB/s, 51 s left`.
    pub(super) fn text(&self, unicode: bool) -> String {
        let mut text = match self.total {
            Some(total) => {
                let part = self.done.min(total) as f64 / total.max(1) as f64;
                let full = (part * WIDTH as f64) as usize;
                let (fill, rest) = if unicode { ("━", "─") } else { ("#", "-") };
                format!(
                    "{}{} {:3.0}%  {} of {}",
                    fill.repeat(full),
                    rest.repeat(WIDTH - full),
                    (part * 100.0).floor(),
                    size(self.done),
                    size(total)
                )
            }
            None => size(self.done),
        };
        let Some(rate) = self.rate() else {
            return text;
        };
        text += &format!(", {}/s", size(rate as u64));
        if let Some(left) = self.total.map(|total| total.saturating_sub(self.done))
            && rate >= 1.0
        {
            text += &format!(", {} left", whole((left as f64 / rate).ceil()));
        }
        text
    }
}

/// Seconds without tenths.
fn whole(seconds: f64) -> String {
    if seconds < 100.0 {
        format!("{seconds:.0} s")
    } else {
        duration(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_from_start_to_end() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mib = |count: u64| count << 20;
        let mut meter = Meter::new(mib(10), Some(mib(110)), start);
        assert_eq!(
            meter.text(false),
            "#-------------------   9%  10 MiB of 110 MiB"
        );
        meter.update(mib(60), Some(mib(110)), at(5.0));
        assert_eq!(
            meter.text(false),
            "##########----------  54%  60 MiB of 110 MiB, 10 MiB/s, 5 s left"
        );
        meter.update(mib(61), Some(mib(110)), at(9.0));
        // It has become slow, and the window knows.
        meter.update(mib(62), Some(mib(110)), at(13.0));
        assert!(
            meter.text(true).contains("256 KiB/s, 3 min 12 s left"),
            "{}",
            meter.text(true)
        );
        meter.update(0, None, at(14.0));
        meter.update(mib(1), None, at(15.0));
        assert_eq!(meter.text(true), "1.0 MiB, 1.0 MiB/s");
        meter.update(0, Some(0), at(16.0));
        assert_eq!(
            meter.text(true),
            "━".repeat(0) + &"─".repeat(20) + "   0%  0 B of 0 B"
        );
    }
}

//! What a process of this host uses (Linux, `Documentation/filesystems/proc.rst`).

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::Pid;

/// What a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Time that processors spent on it.
    pub cpu: Duration,
    /// Bytes of memory that it has, shared ones included.
    pub memory: u64,
    /// Since its start.
    pub age: Duration,
}

impl Usage {
    /// What a process uses now; nothing when it has ended, or the kernel does not say.
    #[must_use]
    pub fn of(pid: Pid) -> Option<Self> {
        let directory = PathBuf::from(format!("/proc/{pid}"));
        let read = |name: &str| fs::read_to_string(directory.join(name)).ok();
        let resident: u64 = read("statm")?.split(' ').nth(1)?.parse().ok()?;
        Some(Self {
            cpu: cpu(&directory)?,
            memory: resident * page_size() as u64,
            age: age(&read("stat")?, &fs::read_to_string("/proc/uptime").ok()?)?,
        })
    }
}

/// The kernel counts in nanoseconds for each thread, and for the process in ticks only.
fn cpu(directory: &std::path::Path) -> Option<Duration> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(directory.join("task")).ok()? {
        // Threads come and go.
        if let Ok(thread) = thread
            && let Ok(text) = fs::read_to_string(thread.path().join("schedstat"))
        {
            nanoseconds += text.split(' ').next()?.parse::<u64>().ok()?;
        }
    }
    Some(Duration::from_nanos(nanoseconds))
}

/// From the process's `stat` and the host's `uptime`. The name in `stat` may hold anything.
fn age(stat: &str, uptime: &str) -> Option<Duration> {
    /// `starttime` is the 22nd field, and the state, the first behind the name, the third.
    const START: usize = 22 - 3;
    let (_, fields) = stat.rsplit_once(") ")?;
    let start: u64 = fields.split(' ').nth(START)?.parse().ok()?;
    let start = start as f64 / clock_ticks_per_second() as f64;
    let uptime: f64 = uptime.split(' ').next()?.parse().ok()?;
    Duration::try_from_secs_f64((uptime - start).max(0.0)).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn this_process_uses_something() {
        let pid = rustix::process::getpid();
        let before = Usage::of(pid).unwrap();
        let held = vec![1_u8; 32 << 20];
        let started = Instant::now();
        let mut sum = 0_u64;
        while started.elapsed() < Duration::from_millis(300) {
            sum = held.iter().fold(sum, |sum, byte| sum + u64::from(*byte));
        }
        assert!(sum > 0);
        let after = Usage::of(pid).unwrap();
        // Not more than before: another test may have freed its memory meanwhile.
        assert!(after.memory >= held.len() as u64, "{after:?}");
        assert!(
            after.cpu > before.cpu + Duration::from_millis(20),
            "{after:?}"
        );
        assert!(
            after.age >= before.age + Duration::from_millis(280),
            "{after:?}"
        );
        assert!(after.age < Duration::from_secs(24 * 60 * 60));
    }

    #[test]
    fn a_name_with_anything_in_it() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 0 0 0 0 0 5 5 0 0 20 0 1 0 1200 1 1";
        let age = age(stat, "20.00 3.00\n").unwrap();
        let ticks = clock_ticks_per_second() as f64;
        assert!((age.as_secs_f64() - (20.0 - 1200.0 / ticks)).abs() < 0.001);
    }
}

//! Limits of a command: wall time, memory and processes, watched from outside.
//!
//! Resource limits of the kernel count per process (memory), or not at all for root (processes);
//! control groups need rights that an unprivileged user often lacks. So the worker looks at the
//! process tree below the sandbox every [`INTERVAL`] and ends it when it uses too much: the same
//! way for everybody.

use std::fs;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::derivation::step::Limits;

/// How often the process tree is looked at.
const INTERVAL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
/// Wall time of a step that sets none, in seconds.
pub const DEFAULT_SECONDS: u64 = 3600;
/// Processes of a step that sets no limit.
const DEFAULT_PROCESSES: u64 = 4096;

/// Waits for the sandbox. `Err` says which limit was passed, as the end of a sentence that begins
/// with the command.
pub(super) fn wait(
    child: &mut Child,
    limits: &Limits,
) -> std::io::Result<Result<ExitStatus, String>> {
    let seconds = limits.seconds.unwrap_or(DEFAULT_SECONDS);
    let processes = limits.processes.unwrap_or(DEFAULT_PROCESSES);
    let started = Instant::now();
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    loop {
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        match poll(&mut fds, Some(&INTERVAL)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(Ok(child.wait()?)),
            Err(error) => return Err(error.into()),
        }
        let usage = usage(child.id());
        let passed = if started.elapsed() > Duration::from_secs(seconds) {
            Some(format!("took longer than its limit of {seconds} s"))
        } else if usage.processes > processes {
            Some(format!("used more than its limit of {processes} processes"))
        } else {
            limits
                .memory
                .filter(|&limit| usage.memory > limit)
                .map(|limit| {
                    format!(
                        "used more than its limit of {} MiB of memory",
                        limit.div_ceil(1 << 20)
                    )
                })
        };
        if let Some(how) = passed {
            // The rest of the sandbox dies with it.
            child.kill()?;
            child.wait()?;
            return Ok(Err(how));
        }
    }
}

#[derive(Debug, Default)]
struct Usage {
    processes: u64,
    /// Resident memory in bytes.
    memory: u64,
}

/// What the processes below `root` use. Processes that end meanwhile count as nothing.
fn usage(root: u32) -> Usage {
    let mut usage = Usage::default();
    for pid in descendants(root) {
        usage.processes += 1;
        // The second field is resident memory in pages (proc_pid_statm(5)).
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
        let pages: u64 = statm
            .split_whitespace()
            .nth(1)
            .and_then(|field| field.parse().ok())
            .unwrap_or(0);
        usage.memory += pages * rustix::param::page_size() as u64;
    }
    usage
}

/// The processes below `root`, each before what it started.
pub(super) fn descendants(root: u32) -> Vec<u32> {
    let mut found = children(root);
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(children(pid));
        next += 1;
    }
    found
}

fn children(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return found;
    };
    for task in tasks.flatten() {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(
            text.split_whitespace()
                .filter_map(|field| field.parse::<u32>().ok()),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn run(script: &str, limits: &Limits) -> Result<ExitStatus, String> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", script])
            .spawn()
            .unwrap();
        wait(&mut child, limits).unwrap()
    }

    #[test]
    fn each_limit_is_named() {
        let none = Limits::default();
        assert!(run("exit 0", &none).unwrap().success());
        assert_eq!(run("exit 4", &none).unwrap().code(), Some(4));
        let time = Limits {
            seconds: Some(0),
            ..none.clone()
        };
        assert!(
            run("exec sleep 1000", &time)
                .unwrap_err()
                .contains("longer")
        );
        let processes = Limits {
            processes: Some(2),
            ..none.clone()
        };
        let bomb = "for i in 1 2 3 4; do sleep 2 >&- 2>&- & done; wait";
        assert!(run(bomb, &processes).unwrap_err().contains("2 processes"));
        let memory = Limits {
            memory: Some(32 << 20),
            ..none
        };
        let eater =
            "sh -c 'x=$(head -c 80000000 /dev/zero | tr \"\\0\" x); sleep 2 >&- 2>&-'; true";
        assert!(run(eater, &memory).unwrap_err().contains("32 MiB"));
    }
}

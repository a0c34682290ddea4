//! Limits of a command: wall time, memory and processes, watched from outside. Files in memory
//! count as memory: those of `/dev/shm`, of each tmpfs that the command mounted, and those without
//! a name (memfd_create(2)). So do segments of System V, which outlive the process that filled
//! them. What is mapped counts once more.
//!
//! Resource limits of the kernel count per process (memory), or not at all for root (processes);
//! control groups need rights that an unprivileged user often lacks. So the worker looks at the
//! process tree below the sandbox every [`INTERVAL`] and ends it when it uses too much: the same
//! way for everybody.

use std::collections::HashMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::derivation::step::StepLimits;

/// How often the process tree is looked at.
const INTERVAL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
/// Bytes of the blocks that stat(2) counts in.
const BLOCK: u64 = 512;
/// Wall time of a step that sets none, in seconds.
pub const DEFAULT_SECONDS: u64 = 3600;
/// Processes of a step that sets no limit.
const DEFAULT_PROCESSES: u64 = 4096;

/// Waits for the sandbox. `Err` says which limit was passed, as the end of a sentence that begins
/// with the command.
pub(super) fn wait(
    child: &mut Child,
    limits: &StepLimits,
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
        let mut usage = usage(child.id());
        if limits.memory.is_some() {
            usage.memory += files_in_memory(&usage.namespaces)
                + files_without_names(&usage.pids)
                + segments(&usage.pids);
        }
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
    pids: Vec<u32>,
    /// Resident memory in bytes.
    memory: u64,
    /// A process of each mount namespace.
    namespaces: HashMap<PathBuf, u32>,
}

/// What the processes below `root` use. Processes that end meanwhile count as nothing.
fn usage(root: u32) -> Usage {
    let mut usage = Usage::default();
    usage.pids = descendants(root);
    usage.processes = usage.pids.len() as u64;
    for &pid in &usage.pids {
        // The second field is resident memory in pages (proc_pid_statm(5)).
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
        let pages: u64 = statm
            .split_whitespace()
            .nth(1)
            .and_then(|field| field.parse().ok())
            .unwrap_or(0);
        usage.memory += pages * rustix::param::page_size() as u64;
        if let Ok(namespace) = fs::read_link(format!("/proc/{pid}/ns/mnt")) {
            usage.namespaces.insert(namespace, pid);
        }
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

/// Bytes of files in the memory file systems that processes have beyond those of this one, each
/// counted once.
fn files_in_memory(namespaces: &HashMap<PathBuf, u32>) -> u64 {
    let of = |process: &str| {
        let text = fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap_or_default();
        memory_file_systems(&text)
    };
    let mut counted = of("self");
    let mut bytes = 0;
    for pid in namespaces.values() {
        for (device, place) in of(&pid.to_string()) {
            let place = format!("/proc/{pid}/root{place}");
            // Another file system may lie over it, and mounts may move meanwhile.
            let found = fs::metadata(&place).map(|meta| {
                let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
                format!("{major}:{minor}")
            });
            if found.is_ok_and(|found| found == device)
                && let Ok(stat) = rustix::fs::statvfs(&place)
                && counted.insert(device, place).is_none()
            {
                bytes += (stat.f_blocks - stat.f_bfree) * stat.f_frsize;
            }
        }
    }
    bytes
}

/// Bytes of files without names that processes have open, each counted once.
fn files_without_names(pids: &[u32]) -> u64 {
    let mut counted = HashMap::new();
    for pid in pids {
        let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        for file in open.flatten().map(|entry| entry.path()) {
            let is_one = fs::read_link(&file)
                .is_ok_and(|to| to.as_os_str().as_bytes().starts_with(b"/memfd:"));
            if is_one && let Ok(meta) = fs::metadata(&file) {
                counted.insert((meta.dev(), meta.ino()), meta.blocks() * BLOCK);
            }
        }
    }
    counted.values().sum()
}

/// Resident bytes of the System V segments of processes. The kernel shows those of the reader's own
/// namespace, so a thread enters each.
fn segments(pids: &[u32]) -> u64 {
    let own = fs::read_link("/proc/self/ns/ipc").ok();
    let mut namespaces = HashMap::new();
    for pid in pids {
        let place = format!("/proc/{pid}/ns/ipc");
        if let Ok(namespace) = fs::read_link(&place)
            && Some(&namespace) != own.as_ref()
        {
            namespaces.insert(namespace, place);
        }
    }
    let inside = |place: &str| {
        let namespace = fs::File::open(place).ok()?;
        let kind = LinkNameSpaceType::InterProcessCommunication;
        move_into_link_name_space(namespace.as_fd(), Some(kind)).ok()?;
        Some(resident(&fs::read_to_string("/proc/sysvipc/shm").ok()?))
    };
    let found = namespaces.values().map(|place| {
        // A thread of its own: this one stays where it is.
        std::thread::scope(|scope| scope.spawn(|| inside(place)).join().ok().flatten())
    });
    found.flatten().sum()
}

/// The column `rss` of `/proc/sysvipc/shm`, summed up (sysvipc(5)).
fn resident(table: &str) -> u64 {
    let mut lines = table.lines().map(str::split_whitespace);
    let Some(column) = lines
        .next()
        .and_then(|mut names| names.position(|name| name == "rss"))
    else {
        return 0;
    };
    let sizes = lines.filter_map(|mut fields| fields.nth(column)?.parse::<u64>().ok());
    sizes.sum()
}

/// The tmpfs mounts of a mountinfo file: device numbers and places. Source: proc_pid_mountinfo(5).
fn memory_file_systems(mountinfo: &str) -> HashMap<String, String> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(2);
        let (device, place) = (fields.next()?, fields.nth(1)?);
        let is_tmpfs = file_system.split(' ').next() == Some("tmpfs");
        is_tmpfs.then(|| (device.to_owned(), place.to_owned()))
    });
    mounts.collect()
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

    fn run(script: &str, limits: &StepLimits) -> Result<ExitStatus, String> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", script])
            .spawn()
            .unwrap();
        wait(&mut child, limits).unwrap()
    }

    #[test]
    fn memory_file_systems_are_found() {
        let text = "36 25 0:31 / /dev rw,nosuid - tmpfs tmpfs rw,mode=755\n\
                    37 36 0:32 / /dev/pts rw shared:1 master:2 - devpts devpts rw\n\
                    38 36 0:31 /shm /dev/shm rw - tmpfs tmpfs rw\n";
        let found = memory_file_systems(text);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["0:31"]);
    }

    #[test]
    fn each_limit_is_named() {
        let none = StepLimits::default();
        assert!(run("exit 0", &none).unwrap().success());
        assert_eq!(run("exit 4", &none).unwrap().code(), Some(4));
        let time = StepLimits {
            seconds: Some(0),
            ..none.clone()
        };
        assert!(
            run("exec sleep 1000", &time)
                .unwrap_err()
                .contains("longer")
        );
        let processes = StepLimits {
            processes: Some(2),
            ..none.clone()
        };
        let bomb = "for i in 1 2 3 4; do sleep 2 >&- 2>&- & done; wait";
        assert!(run(bomb, &processes).unwrap_err().contains("2 processes"));
        let memory = StepLimits {
            memory: Some(32 << 20),
            ..none
        };
        let eater =
            "sh -c 'x=$(head -c 80000000 /dev/zero | tr \"\\0\" x); sleep 2 >&- 2>&-'; true";
        assert!(run(eater, &memory).unwrap_err().contains("32 MiB"));
    }
}

//! Limits of a command: wall time, memory, processes and disk, watched from outside. Files in memory
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
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::derivation::step::StepLimits;
use crate::limits::StepBounds;

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

/// What bounds a step, whatever its own limits are.
pub(super) struct Bounded<'a> {
    pub(super) most: &'a StepBounds,
    /// The directories that it writes to.
    pub(super) places: Vec<PathBuf>,
}

/// Waits for the sandbox. `Err` says which limit was passed, as the end of a sentence that begins
/// with the command.
pub(super) fn wait(
    child: &mut Child,
    limits: &StepLimits,
    bounded: Option<&Bounded<'_>>,
) -> std::io::Result<Result<ExitStatus, String>> {
    let most = bounded.map(|bounded| bounded.most);
    let own_seconds = limits.seconds.unwrap_or(DEFAULT_SECONDS);
    let own_processes = limits.processes.unwrap_or(DEFAULT_PROCESSES);
    let seconds = most.map_or(own_seconds, |most| own_seconds.min(most.seconds));
    let processes = most.map_or(own_processes, |most| own_processes.min(most.processes));
    let most_memory = most.map(|most| most.memory);
    let memory = match (limits.memory, most_memory) {
        (Some(own), Some(most)) => Some(own.min(most)),
        (own, most) => own.or(most),
    };
    // Whose limit it is, and where it can be raised.
    let whose = |name: &str, is_own: bool| match (is_own, most) {
        (false, Some(_)) => {
            format!(" (of templates of others: limits template-{name} in the configuration)")
        }
        _ => String::new(),
    };
    let mut written = bounded.map(|bounded| Written::new(&bounded.places));
    let started = Instant::now();
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    loop {
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        match poll(&mut fds, Some(&INTERVAL)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(Ok(child.wait()?)),
            Err(error) => return Err(error.into()),
        }
        let pids = descendants_up_to(child.id(), processes);
        // Of a fork bomb no more is read: it grows all the while.
        let too_many = pids.len() as u64 > processes;
        let mut usage = if too_many {
            Usage::default()
        } else {
            usage(pids)
        };
        let is_memory_counted = memory.is_some() && !too_many;
        let open = match is_memory_counted {
            true => files_without_names(&usage.pids),
            false => WithoutNames::default(),
        };
        if is_memory_counted {
            usage.memory +=
                files_in_memory(&usage.namespaces) + open.memory + segments(&usage.pids);
        }
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let passed = if started.elapsed() > Duration::from_secs(seconds) {
            let whose = whose("time", seconds == own_seconds);
            Some(format!("took longer than its limit of {seconds} s{whose}"))
        } else if too_many {
            let whose = whose("processes", processes == own_processes);
            Some(format!(
                "used more than its limit of {processes} processes{whose}"
            ))
        } else if let Some(limit) = memory.filter(|&limit| usage.memory > limit) {
            let (limit, whose) = (mib(limit), whose("memory", limits.memory == memory));
            Some(format!(
                "used more than its limit of {limit} MiB of memory{whose}"
            ))
        } else if let (Some(most), Some(written)) = (most, &mut written)
            && written.bytes().saturating_add(open.disk) > most.disk
        {
            let (limit, whose) = (mib(most.disk), whose("disk", false));
            Some(format!(
                "wrote more than its limit of {limit} MiB to the disk{whose}"
            ))
        } else {
            None
        };
        if let Some(how) = passed {
            // The rest of the sandbox dies with it.
            child.kill()?;
            child.wait()?;
            return Ok(Err(how));
        }
    }
}

/// What lies below directories, counted now and then: it takes the longer the more it is.
struct Written<'a> {
    places: &'a [PathBuf],
    bytes: u64,
    next: Instant,
}

impl<'a> Written<'a> {
    /// How much longer than counting not counting takes.
    const REST: u32 = 20;

    fn new(places: &'a [PathBuf]) -> Self {
        Self {
            places,
            bytes: 0,
            next: Instant::now(),
        }
    }

    fn bytes(&mut self) -> u64 {
        let now = Instant::now();
        if now >= self.next {
            let bytes = self.places.iter().map(|place| blocks_below(place));
            self.bytes = bytes.fold(0, u64::saturating_add);
            self.next = Instant::now() + now.elapsed() * Self::REST;
        }
        self.bytes
    }
}

/// The longest path that is followed from one open directory, in bytes: the kernel takes no path of
/// 4096 bytes, and a step makes longer ones from inside.
const LONGEST_PATH: usize = 2048;

/// Bytes on the disk of what is below a directory, in its own file system. A directory that cannot
/// be read counts as more than any limit: nothing hides in it.
fn blocks_below(directory: &Path) -> u64 {
    let Ok(top) = fs::File::open(directory) else {
        return 0;
    };
    let Ok(device) = top.metadata().map(|meta| meta.dev()) else {
        return 0;
    };
    let place = |anchor: &fs::File, path: &Path| {
        PathBuf::from(format!("/proc/self/fd/{}", anchor.as_raw_fd())).join(path)
    };
    let mut bytes = 0_u64;
    let mut waiting = vec![(Rc::new(top), PathBuf::new())];
    while let Some((mut anchor, mut path)) = waiting.pop() {
        if path.as_os_str().len() > LONGEST_PATH {
            match fs::File::open(place(&anchor, &path)) {
                Ok(opened) => (anchor, path) = (Rc::new(opened), PathBuf::new()),
                // It was removed meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(_) => return u64::MAX,
            }
        }
        let entries = match fs::read_dir(place(&anchor, &path)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(_) => return u64::MAX,
        };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else {
                continue;
            };
            // The tree itself is another file system.
            if meta.dev() != device {
                continue;
            }
            // A file with several names counts once for all of them together.
            bytes = bytes.saturating_add(meta.blocks() * BLOCK / meta.nlink().max(1));
            if meta.is_dir() {
                waiting.push((Rc::clone(&anchor), path.join(entry.file_name())));
            }
        }
    }
    bytes
}

#[derive(Debug, Default)]
struct Usage {
    pids: Vec<u32>,
    /// Resident memory in bytes.
    memory: u64,
    /// A process of each mount namespace.
    namespaces: HashMap<PathBuf, u32>,
}

/// What processes use. Those that end meanwhile count as nothing.
fn usage(pids: Vec<u32>) -> Usage {
    let mut usage = Usage {
        pids,
        ..Usage::default()
    };
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
    descendants_up_to(root, u64::MAX)
}

/// The same, but not many more than so many.
fn descendants_up_to(root: u32, most: u64) -> Vec<u32> {
    let mut found = children(root);
    let mut next = 0;
    while let Some(&pid) = found.get(next)
        && found.len() as u64 <= most
    {
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
#[derive(Debug, Default)]
struct WithoutNames {
    /// Those of memfd_create(2).
    memory: u64,
    /// Those that were removed.
    disk: u64,
}

fn files_without_names(pids: &[u32]) -> WithoutNames {
    let (mut in_memory, mut removed) = (HashMap::new(), HashMap::new());
    for pid in pids {
        let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        for file in open.flatten().map(|entry| entry.path()) {
            let Ok(meta) = fs::metadata(&file) else {
                continue;
            };
            if !meta.is_file() || meta.nlink() > 0 {
                continue;
            }
            let is_of_memory = fs::read_link(&file)
                .is_ok_and(|to| to.as_os_str().as_bytes().starts_with(b"/memfd:"));
            let counted = if is_of_memory {
                &mut in_memory
            } else {
                &mut removed
            };
            counted.insert((meta.dev(), meta.ino()), meta.blocks() * BLOCK);
        }
    }
    WithoutNames {
        memory: in_memory.values().sum(),
        disk: removed.values().sum(),
    }
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
        wait(&mut child, limits, None).unwrap()
    }

    #[test]
    fn bounds_hold_whatever_the_limits_are() {
        let scratch = tempfile::tempdir().unwrap();
        let bounds = StepBounds {
            seconds: 3600,
            memory: 1 << 30,
            processes: 4096,
            disk: 1 << 30,
        };
        let generous = StepLimits {
            seconds: Some(u64::MAX),
            memory: Some(u64::MAX),
            processes: Some(u64::MAX),
        };
        let file = scratch.path().join("file");
        let run = |script: &str, most: StepBounds| {
            let mut child = Command::new("/bin/sh")
                .args(["-c", script, "sh"])
                .arg(&file)
                .spawn()
                .unwrap();
            let bounded = Bounded {
                most: &most,
                places: vec![scratch.path().to_owned()],
            };
            wait(&mut child, &generous, Some(&bounded))
                .unwrap()
                .unwrap_err()
        };
        let seconds = 0;
        let how = run("exec sleep 1000", StepBounds { seconds, ..bounds });
        assert!(how.contains("limits template-time"), "{how}");
        let processes = 2;
        let bomb = "for i in 1 2 3 4; do sleep 9 >&- 2>&- & done; wait";
        let how = run(
            bomb,
            StepBounds {
                processes,
                ..bounds
            },
        );
        assert!(how.contains("limits template-processes"), "{how}");
        let memory = 1 << 10;
        let how = run("sleep 30 >&- 2>&-; true", StepBounds { memory, ..bounds });
        assert!(how.contains("limits template-memory"), "{how}");
        let disk = 1 << 20;
        let fill = "head -c 3000000 /dev/zero > \"$1\"; exec sleep 1000";
        let how = run(fill, StepBounds { disk, ..bounds });
        assert!(how.contains("wrote more than its limit of 1 MiB"), "{how}");
        // A file that was removed is still there for whoever has it open.
        let hidden =
            "exec 3> \"$1\"; rm \"$1\"; head -c 3000000 /dev/zero >&3; sleep 30 >&- 2>&-; true";
        let how = run(hidden, StepBounds { disk, ..bounds });
        assert!(how.contains("wrote more than its limit of 1 MiB"), "{how}");
        // No path leads to what lies deep enough.
        let deep = "cd \"${1%/*}\"; name=$(head -c 250 /dev/zero | tr '\\0' d)
            for i in $(seq 40); do mkdir $name; cd -P $name; done
            head -c 3000000 /dev/zero > file; exec sleep 1000";
        let how = run(deep, StepBounds { disk, ..bounds });
        assert!(how.contains("wrote more than its limit of 1 MiB"), "{how}");
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

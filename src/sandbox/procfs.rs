//! What of `/proc` a sandbox may change and read: its own processes.
//!
//! Much of the rest changes the host when root writes to it, and root of a sandbox can be the
//! host's root, whatever capabilities it lost: the kernel compares ids there. Which entries these
//! are depends on the kernel, and their modes do not bind root: all are shown read-only.

use std::fs;
use std::io;
use std::path::Path;

use super::worker::WorkerError;

/// Entries that tell of the host's memory, kernel and keys. Not every kernel has all of them.
const HIDDEN: [&str; 11] = [
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "sched_debug",
    "sysrq-trigger",
    "timer_list",
];

/// What is mounted over an entry of `/proc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cover {
    /// Itself, read-only.
    ReadOnly(String),
    /// An empty file.
    Hidden(String),
}

/// The covers for the `/proc` of this process.
pub(super) fn of_this_process() -> Result<Vec<Cover>, WorkerError> {
    covers(Path::new("/proc")).map_err(WorkerError::io("read /proc"))
}

/// The covers for a `/proc` like the one given, sorted by path.
fn covers(proc: &Path) -> io::Result<Vec<Cover>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(proc)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let of_a_process = name.starts_with(|first: char| first.is_ascii_digit());
        // The links lead to the entries of a process. What kind of file a process is cannot be
        // asked once it ended.
        if !of_a_process && !entry.file_type()?.is_symlink() {
            names.push(name);
        }
    }
    names.sort();
    let covers = names.into_iter().map(|name| {
        let path = format!("/proc/{name}");
        match HIDDEN.contains(&name.as_str()) {
            true => Cover::Hidden(path),
            false => Cover::ReadOnly(path),
        }
    });
    Ok(covers.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_processes_is_covered() {
        let proc = tempfile::tempdir().unwrap();
        let at = |name: &str| proc.path().join(name);
        for directory in ["1", "sys", "newly-invented"] {
            fs::create_dir(at(directory)).unwrap();
        }
        for file in ["meminfo", "kcore"] {
            fs::write(at(file), "").unwrap();
        }
        std::os::unix::fs::symlink("1/net", at("net")).unwrap();
        let read_only = |name: &str| Cover::ReadOnly(format!("/proc/{name}"));
        let expected = [
            Cover::Hidden("/proc/kcore".to_owned()),
            read_only("meminfo"),
            read_only("newly-invented"),
            read_only("sys"),
        ];
        assert_eq!(covers(proc.path()).unwrap(), expected);
    }
}

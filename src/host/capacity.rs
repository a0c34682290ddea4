//! What this host has for machines, as its kernel says and as far as a cgroup leaves it (Linux,
//! `Documentation/admin-guide/cgroup-v2.rst`).

use std::fs;
use std::path::Path;

/// Where cgroups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Bytes of memory that programs can use, without swap: those of the host, or fewer where a cgroup
/// of this process has a limit. Nothing where the kernel does not say.
#[must_use]
pub fn usable_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let total = meminfo(&text, "MemTotal:")?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Some(limit(Path::new(CGROUPS), &groups).map_or(total, |limit| limit.min(total)))
}

/// Bytes of a line of `/proc/meminfo`.
pub(super) fn meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

/// Bytes of memory that programs can take now without pushing others out of it.
#[must_use]
pub fn available_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    meminfo(&text, "MemAvailable:")
}

/// How many processes ran or wanted to run, on average over the last minute.
#[must_use]
pub fn load() -> Option<f64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').next()?.parse().ok()
}

/// Processors that this process may use, at least one.
#[must_use]
pub fn usable_cpus() -> u32 {
    let cpus = std::thread::available_parallelism();
    cpus.map_or(1, |cpus| cpus.get().try_into().unwrap_or(u32::MAX))
}

/// The least memory that one of the cgroups around a process may have; `groups` is its
/// `/proc/self/cgroup`.
fn limit(root: &Path, groups: &str) -> Option<u64> {
    let mut least: Option<u64> = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            "memory" => (root.join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        let group = Path::new(path.trim_start_matches('/'));
        for around in group.ancestors() {
            // `max` is no number.
            let text = fs::read_to_string(root.join(around).join(file)).unwrap_or_default();
            let limit: Option<u64> = text.trim().parse().ok();
            least = least.into_iter().chain(limit).min();
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_cgroup_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("memory.max", "max\n");
        write("a/memory.max", "4096\n");
        write("a/b/memory.max", "8192\n");
        write("c/memory.max", "max\n");
        write("memory/d/memory.limit_in_bytes", "2048\n");
        let limit = |groups: &str| limit(root.path(), groups);
        assert_eq!(limit("0::/a/b\n"), Some(4096));
        assert_eq!(limit("0::/c\n"), None);
        assert_eq!(limit("0::/gone/b\n"), None);
        assert_eq!(limit("5:cpu:/a\n4:memory:/d/e\n"), Some(2048));
        assert_eq!(limit(""), None);
    }

    #[test]
    fn this_host_has_some() {
        let memory = usable_memory().unwrap();
        assert!(memory <= super::super::total_memory().unwrap());
        assert!(memory > 64 << 20, "{memory}");
        assert!(usable_cpus() > 0);
        assert_eq!(meminfo("MemTotal:  3 kB\n", "MemTotal:"), Some(3072));
    }
}

//! What lies in caches and was not touched for long: downloads that nobody went on with, what was remembered of registries.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::host::Home;

const DAY: Duration = Duration::from_secs(86_400);
/// How long a download that is not finished stays.
const DOWNLOADS: Duration = Duration::from_secs(7 * DAY.as_secs());
/// How long it is known which image a reference stood for.
const PULLED: Duration = Duration::from_secs(365 * DAY.as_secs());
/// How long manifests and what was seen in repositories stay.
const MANIFESTS: Duration = Duration::from_secs(90 * DAY.as_secs());

/// Removes it, unless it is only looked; tells how many bytes that is.
pub(super) fn sweep(home: &Home, dry_run: bool) -> u64 {
    [
        (home.downloads(), DOWNLOADS),
        (home.manifests(), MANIFESTS),
        (home.registries(), MANIFESTS),
        (home.pulled(), PULLED),
    ]
    .iter()
    .map(|(directory, age)| sweep_directory(directory, *age, dry_run))
    .sum()
}

/// Bytes of downloads that the next sweep removes.
pub(super) fn old_downloads(directory: &Path) -> u64 {
    sweep_directory(directory, DOWNLOADS, true)
}

fn sweep_directory(directory: &Path, age: Duration, dry_run: bool) -> u64 {
    let now = SystemTime::now();
    let mut freed = 0;
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        let modified = meta.modified().unwrap_or(now);
        let is_old = now.duration_since(modified).is_ok_and(|old| old > age);
        // Who is at work on it has a lock.
        let in_use = || File::open(&path).is_ok_and(|file| file.try_lock().is_err());
        if !meta.is_file() || !is_old || in_use() {
            continue;
        }
        if dry_run || fs::remove_file(&path).is_ok() {
            freed += meta.len();
        }
    }
    freed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_and_in_nobodys_hands_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let make = |name: &str, days: u64| {
            fs::write(path(name), b"12345").unwrap();
            let file = File::options().write(true).open(path(name)).unwrap();
            let then = SystemTime::now() - Duration::from_secs(days * DAY.as_secs());
            file.set_modified(then).unwrap();
            file
        };
        make("young", 6);
        make("old", 8);
        let held = make("held", 8);
        held.lock().unwrap();
        let sweep = |dry_run| sweep_directory(directory.path(), DOWNLOADS, dry_run);
        assert_eq!((sweep(true), sweep(false), sweep(false)), (5, 5, 0));
        assert!(path("young").exists() && path("held").exists());
    }
}

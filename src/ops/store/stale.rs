//! What lies in caches and was not touched for long: downloads that nobody went on with, what was
//! remembered of registries.

use std::fs::{self, File, Metadata};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::stat::{CacheUsage, Downloads, allocated};
use crate::host::Home;

const DAY: Duration = Duration::from_secs(86_400);
/// How long a download that is not finished stays.
const DOWNLOADS: Duration = Duration::from_secs(7 * DAY.as_secs());
/// How long it is known which image a reference stood for.
const PULLED: Duration = Duration::from_secs(365 * DAY.as_secs());
/// How long manifests, what was seen in repositories, and digests of local files stay.
const MANIFESTS: Duration = Duration::from_secs(90 * DAY.as_secs());

/// Removes it, unless it is only looked; tells how many bytes that is.
pub(super) fn sweep(home: &Home, dry_run: bool) -> u64 {
    [
        (home.downloads(), DOWNLOADS),
        (home.manifests(), MANIFESTS),
        (home.registries(), MANIFESTS),
        (home.known_files(), MANIFESTS),
        (home.pulled(), PULLED),
    ]
    .iter()
    .map(|(directory, age)| sweep_directory(directory, *age, dry_run))
    .sum::<u64>()
        + sweep_repositories(&home.repositories(), dry_run)
}

/// Removes what was checked out long ago: it can be had again.
fn sweep_repositories(directory: &Path, dry_run: bool) -> u64 {
    let mut freed = 0;
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let cached = entry.metadata().ok().map(|meta| Cached {
            path: entry.path(),
            meta,
        });
        if let Some(old) = cached.filter(|cached| cached.is_stale(MANIFESTS)) {
            let bytes = below(&old.path);
            if dry_run || fs::remove_dir_all(&old.path).is_ok() {
                freed += bytes;
            }
        }
    }
    freed
}

/// How many bytes the files below a directory have.
fn below(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, meta)| match meta.is_dir() {
            true => below(&path),
            false => allocated(&meta),
        })
        .sum()
}

/// What lies among the downloads. What another process just began has nothing in it.
pub(super) fn downloads(directory: PathBuf) -> Downloads {
    let mut usage = CacheUsage::default();
    let mut old = 0;
    for file in files(&directory).filter(|file| file.meta.len() > 0) {
        usage.files += 1;
        usage.bytes += allocated(&file.meta);
        if file.is_stale(DOWNLOADS) {
            old += allocated(&file.meta);
        }
    }
    Downloads {
        directory,
        usage,
        old,
    }
}

fn sweep_directory(directory: &Path, age: Duration, dry_run: bool) -> u64 {
    let mut freed = 0;
    for file in files(directory).filter(|file| file.is_stale(age)) {
        if dry_run || fs::remove_file(&file.path).is_ok() {
            freed += allocated(&file.meta);
        }
    }
    freed
}

/// A regular file of a cache.
struct Cached {
    path: PathBuf,
    meta: Metadata,
}

impl Cached {
    /// Whether it was not touched for longer, and nobody is at work on it, who would have a lock.
    fn is_stale(&self, age: Duration) -> bool {
        let now = SystemTime::now();
        let modified = self.meta.modified().unwrap_or(now);
        now.duration_since(modified).is_ok_and(|old| old > age)
            && !File::open(&self.path).is_ok_and(|file| file.try_lock().is_err())
    }
}

/// The regular files in a directory.
fn files(directory: &Path) -> impl Iterator<Item = Cached> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let (path, meta) = (entry.path(), entry.metadata().ok()?);
        meta.is_file().then_some(Cached { path, meta })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_and_in_nobodys_hands_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let make = |name: &str, days: u64| {
            fs::write(path(name), vec![1; 100_000]).unwrap();
            let file = File::options().write(true).open(path(name)).unwrap();
            file.sync_all().unwrap();
            let then = SystemTime::now() - Duration::from_secs(days * DAY.as_secs());
            file.set_modified(then).unwrap();
            file
        };
        make("young", 6);
        let old = allocated(&make("old", 8).metadata().unwrap());
        let held = make("held", 8);
        held.lock().unwrap();
        fs::create_dir(path("directory")).unwrap();
        let told = || downloads(directory.path().to_owned());
        assert_eq!((told().usage.files, told().old), (3, old));
        assert_eq!(told().usage.bytes, 3 * old);
        let sweep = |dry_run| sweep_directory(directory.path(), DOWNLOADS, dry_run);
        assert_eq!((sweep(true), sweep(false), sweep(false)), (old, old, 0));
        assert_eq!((told().usage.files, told().old), (2, 0));
        assert!(path("young").exists() && path("held").exists());
    }
}

//! What must not be in an image: the identity of the machine that built it, its logs and caches.
//!
//! Removed from the upper directory before it is packed, so that nothing of it ever is in a layer,
//! and a step that only touched such files gives an empty layer. Each machine makes its own
//! identity at its first boot. `src/builder/guest/clean.sh` does the same inside a machine.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// Files that are removed. A `*` stands for any part of a file name.
pub(crate) const REMOVED: &[&str] = &[
    // Identity.
    "etc/ssh/ssh_host_*",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/credential.secret",
    "var/lib/systemd/timesync/*",
    "var/lib/dhcp/*",
    "var/lib/dhcpcd/*",
    "var/lib/NetworkManager/*",
    "root/.bash_history",
    "root/.ash_history",
    // Logs of the build.
    "var/log/alternatives.log",
    "var/log/apt/*",
    "var/log/apk.log",
    "var/log/bootstrap.log",
    "var/log/dnf*",
    "var/log/dpkg.log",
    "var/log/fontconfig.log",
    "var/log/hawkey.log",
    // Caches that differ from run to run.
    "var/cache/apt/*.bin",
    "var/cache/apt/archives/*",
    "var/cache/debconf/*-old",
    "var/cache/dnf/*",
    "var/cache/ldconfig/aux-cache",
    "var/lib/apt/lists/*",
    "var/lib/dpkg/*-old",
];

/// Files that must exist and must hold nothing.
pub(crate) const EMPTIED: &[&str] = &[
    "etc/machine-id",
    "var/log/btmp",
    "var/log/faillog",
    "var/log/lastlog",
    "var/log/wtmp",
];

/// Directories whose content is not of the image: the guest mounts something over them.
const CLEARED: &[&str] = &["dev", "proc", "run", "sys", "tmp"];

/// Cleans an upper directory.
pub(super) fn clean(upper: &Path) -> io::Result<()> {
    for pattern in REMOVED {
        let (directory, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
        let Some(directory) = real_directory(upper, directory) else {
            continue;
        };
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if matches(name, &entry.file_name().to_string_lossy()) {
                remove(&entry.path())?;
            }
        }
    }
    for path in EMPTIED {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let Some(directory) = real_directory(upper, directory) else {
            continue;
        };
        let path = directory.join(name);
        if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file()) {
            fs::OpenOptions::new()
                .write(true)
                .truncate(true)
                .open(&path)?;
        }
    }
    for directory in CLEARED {
        let Some(directory) = real_directory(upper, directory) else {
            continue;
        };
        for entry in fs::read_dir(&directory)? {
            remove(&entry?.path())?;
        }
    }
    Ok(())
}

/// `upper/path`, when each part of it is a directory: a link could lead out of the tree.
fn real_directory(upper: &Path, path: &str) -> Option<std::path::PathBuf> {
    let mut current = upper.to_owned();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        current.push(part);
        if !fs::symlink_metadata(&current).is_ok_and(|meta| meta.is_dir()) {
            return None;
        }
    }
    Some(current)
}

fn remove(path: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.file_type().is_char_device() {
        // A whiteout: the step itself removed what a layer below has.
        return Ok(());
    }
    if meta.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}

/// Whether `name` fits `pattern`, in which `*` stands for any characters, at most once.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => {
            name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_goes_and_the_rest_stays() {
        let upper = tempfile::tempdir().unwrap();
        let write = |path: &str| {
            let path = upper.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "content").unwrap();
        };
        let kept = [
            "etc/ssh/sshd_config",
            "var/log/mine.log",
            "etc/hostname",
            "var/tmp/x",
        ];
        let gone = [
            "etc/ssh/ssh_host_rsa_key",
            "run/lock/x",
            "var/lib/apt/lists/a",
            "tmp/x/y",
        ];
        kept.iter().chain(&gone).for_each(|path| write(path));
        write("etc/machine-id");
        clean(upper.path()).unwrap();
        for path in kept {
            assert!(upper.path().join(path).exists(), "{path} is gone");
        }
        for path in gone {
            assert!(!upper.path().join(path).exists(), "{path} is left");
        }
        assert_eq!(fs::read(upper.path().join("etc/machine-id")).unwrap(), b"");
    }

    #[test]
    fn links_are_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("x"), "content").unwrap();
        let upper = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), upper.path().join("tmp")).unwrap();
        clean(upper.path()).unwrap();
        assert!(outside.path().join("x").exists());
    }
}

//! Who may read the files that this program makes.
//!
//! Everything in the home is the user's alone: images hold password hashes and keys, unpacked
//! layers hold setuid programs. So the program runs with the umask 077 from its start. What it
//! writes to the user's own directories (disks, layouts, the lock file) gets the mode that the
//! user's umask gives.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::Mode;

static USERS: OnceLock<Mode> = OnceLock::new();

/// Makes all files that this process makes from here on private, unless [`users`] says otherwise.
pub fn make_files_private() {
    let before = rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let _ = USERS.set(before);
}

/// Undoes [`make_files_private`], for commands that only write to the user's own directories.
pub fn follow_users_umask() {
    rustix::process::umask(users_umask());
}

/// The mode of a file or directory in the user's own directories, of which `mode` is the most.
#[must_use]
pub fn users(mode: u32) -> Permissions {
    Permissions::from_mode(mode & !users_umask().as_raw_mode())
}

/// Makes a directory of the user's, and those above it that are missing.
///
/// # Errors
/// One cannot be made.
pub fn create_users_directories(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, users(0o777)),
        Err(_) if path.is_dir() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match path.parent() {
            Some(above) if !above.as_os_str().is_empty() => {
                create_users_directories(above)?;
                create_users_directories(path)
            }
            _ => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// Takes a directory from everyone but its owner. Links, and what others own, stay as they are.
pub fn close(directory: &Path) {
    let Ok(meta) = fs::symlink_metadata(directory) else {
        return;
    };
    let own = meta.uid() == rustix::process::geteuid().as_raw();
    if meta.is_dir() && own && meta.mode() & 0o077 != 0 {
        // On a file system without modes there is nothing to take.
        let _ = fs::set_permissions(directory, Permissions::from_mode(meta.mode() & 0o7700));
    }
}

/// The umask that this process was started with.
fn users_umask() -> Mode {
    *USERS.get_or_init(|| {
        // There is no way to read it but to set it; other threads would notice.
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let digits = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        let umask = digits.and_then(|digits| u32::from_str_radix(digits.trim(), 8).ok());
        Mode::from_raw_mode(umask.unwrap_or(0o022))
    })
}

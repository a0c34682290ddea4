//! What this process has of whoever started it, and must not pass on: open files, keys,
//! environment.
//!
//! Children run code of others (steps, guests, servers), and the caller may be a CI runner with the
//! secrets of everybody. So nothing is inherited unless it is named.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;

/// Makes every open file from 3 on close when a child starts its program. The standard library
/// opens all files of this process that way; this is for those that the caller left open. They are
/// not closed at once: a recipe may be one of them (`vmfab build <(…)`).
///
/// # Errors
/// The kernel is older than 5.11.
#[allow(unsafe_code)]
pub fn keep_files_from_children() -> io::Result<()> {
    const FIRST: libc::c_uint = 3;
    // SAFETY: the call takes three numbers, and changes only a flag of open files.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    answer(result)
}

/// Gives this process, and so its children, an empty session keyring instead of the caller's.
///
/// # Errors
/// The kernel refuses; one without keyrings is no error.
#[allow(unsafe_code)]
pub fn leave_session_keyring() -> io::Result<()> {
    /// Source: linux/keyctl.h.
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    const ANONYMOUS: libc::c_long = 0;
    // SAFETY: the call takes two numbers; a null pointer stands for a keyring without a name.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, ANONYMOUS) };
    match answer(result) {
        // Container engines answer EPERM when their filter forbids keyrings: then there are none.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Ok(()),
        result => result,
    }
}

/// Keeps this process and its children from connecting to abstract sockets of other processes.
/// These belong to a network namespace, and some programs answer whoever has the right user id
/// there. Needs `CAP_SYS_ADMIN` in the process's user namespace, and Linux 6.12 with Landlock; else
/// it does nothing.
///
/// # Errors
/// The kernel can, and refuses.
#[allow(unsafe_code)]
pub fn leave_abstract_sockets() -> io::Result<()> {
    /// Source: linux/landlock.h, `struct landlock_ruleset_attr`.
    #[repr(C)]
    struct Ruleset {
        files: u64,
        network: u64,
        scoped: u64,
    }
    const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
    const NO_FLAGS: libc::c_long = 0;
    let ruleset = Ruleset {
        files: 0,
        network: 0,
        scoped: SCOPE_ABSTRACT_UNIX_SOCKET,
    };
    // SAFETY: the kernel reads as many bytes of the structure as it has.
    let created = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const ruleset,
            size_of::<Ruleset>(),
            NO_FLAGS,
        )
    };
    // Older kernels do not know the call or the scope.
    let Some(number) = i32::try_from(created).ok().filter(|&number| number >= 0) else {
        return Ok(());
    };
    // SAFETY: the kernel made this descriptor, and nothing else knows it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    // SAFETY: the call takes two numbers.
    answer(unsafe {
        libc::syscall(
            libc::SYS_landlock_restrict_self,
            descriptor.as_raw_fd(),
            NO_FLAGS,
        )
    })
}

/// A command whose environment has nothing of this process but `PATH`.
#[must_use]
pub fn bare_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

fn answer(result: libc::c_long) -> io::Result<()> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_child_gets_neither_open_files_nor_the_environment() {
        let file = tempfile::tempfile().unwrap();
        // A duplicate like the ones that shells leave open: children get it.
        let open = rustix::io::dup(&file).unwrap();
        let look = || {
            let script = format!(
                "test -e /proc/self/fd/{} && echo open; env",
                open.as_raw_fd()
            );
            let mut command = bare_command("/bin/sh");
            let output = command.args(["-c", &script]).stdin(Stdio::null()).output();
            String::from_utf8(output.unwrap().stdout).unwrap()
        };
        assert!(look().starts_with("open\n"));
        keep_files_from_children().unwrap();
        let seen = look();
        // The shell adds variables of its own.
        let own = ["PATH=", "PWD=", "OLDPWD=", "SHLVL=", "_="];
        let others = seen
            .lines()
            .filter(|line| !own.iter().any(|name| line.starts_with(name)));
        assert_eq!(others.count(), 0, "{seen}");
    }

    #[test]
    fn the_session_keyring_can_be_left() {
        leave_session_keyring().unwrap();
    }
}

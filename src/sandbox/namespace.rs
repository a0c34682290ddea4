//! The user and mount namespace of a worker: the one place with unsafe code.
//!
//! Ids are mapped so that a tree can hold files of any owner: as root, ids 0 to 65535 are
//! themselves; as a user, id 0 is the user and 1 to 65535 are the first subordinate ids of
//! `/etc/subuid` and `/etc/subgid`, mapped by `newuidmap` and `newgidmap`. Capabilities hold only
//! inside, even for root.

use std::io;
use std::process::{Command, Stdio};

use rustix::thread::UnshareFlags;

use super::worker::WorkerError;

/// How many ids a tree can use.
const IDS: u32 = 65_536;

/// Moves this process into a new user namespace and a new mount namespace. The process must not have
/// started a thread.
pub(super) fn enter() -> Result<(), WorkerError> {
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    // The mapping has to be written by somebody outside: a shell that waits until we are inside.
    let pid = std::process::id();
    let script = if uid.is_root() {
        // Two ranges: in a rootless container root is one range and everybody else another, and a
        // range may not cross theirs (user_namespaces(7)).
        let map = format!("printf '0 0 1\\n1 1 {}\\n'", IDS - 1);
        format!("read -r _; {map} >/proc/{pid}/uid_map && {map} >/proc/{pid}/gid_map")
    } else {
        let name = user_name(uid.as_raw());
        let user_range = subordinate_range("/etc/subuid", &name, uid.as_raw())?;
        let group_range = subordinate_range("/etc/subgid", &name, uid.as_raw())?;
        format!(
            "read -r _; newuidmap {pid} 0 {} 1 1 {user_range} {count} && \
             newgidmap {pid} 0 {} 1 1 {group_range} {count}",
            uid.as_raw(),
            gid.as_raw(),
            count = IDS - 1,
        )
    };
    let mut mapper = Command::new("/bin/sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .spawn()
        .map_err(WorkerError::io("start /bin/sh to map user ids"))?;

    unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS).map_err(|error| WorkerError::Helped {
        message: format!("this process may not make a user namespace: {error}"),
        help: "allow unprivileged user namespaces (sysctl user.max_user_namespaces, \
               kernel.apparmor_restrict_unprivileged_userns=0), or in a container run it privileged"
            .to_owned(),
    })?;
    drop(mapper.stdin.take());
    let status = mapper.wait().map_err(WorkerError::io("map user ids"))?;
    if !status.success() {
        return Err(unmapped(uid.is_root()));
    }
    // Nothing that is mounted here may be seen outside.
    rustix::mount::mount_change(
        "/",
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC,
    )
    .map_err(|error| WorkerError::io("make mounts private")(error.into()))
}

fn unmapped(root: bool) -> WorkerError {
    let (message, help) = if root {
        (
            "user ids 0 to 65535 could not be mapped",
            "in a container, give it at least 65536 user ids; cat /proc/self/uid_map shows how many \
             it has",
        )
    } else {
        (
            "user ids could not be mapped (newuidmap failed)",
            "check that the package uidmap is installed and that /etc/subuid and /etc/subgid give \
             you 65536 ids; `vmfab doctor` checks both",
        )
    };
    WorkerError::Helped {
        message: message.to_owned(),
        help: help.to_owned(),
    }
}

#[allow(unsafe_code)]
fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: rustix marks this unsafe because unsharing the file table of a thread breaks the
    // ownership of descriptors; FILES is not among the flags, and the process has one thread.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

fn user_name(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entry = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    entry
        .or_else(|| std::env::var("USER").ok())
        .unwrap_or_else(|| uid.to_string())
}

/// The first id of the first range in a file of subordinate ids that is long enough.
fn subordinate_range(file: &'static str, name: &str, uid: u32) -> Result<u32, WorkerError> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(WorkerError::io("read the subordinate ids")(error)),
    };
    parse_range(&text, name, uid).ok_or_else(|| WorkerError::Helped {
        message: format!(
            "{file} gives user \"{name}\" no range of {} subordinate ids",
            IDS - 1
        ),
        help: format!(
            "run as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}"
        ),
    })
}

/// Format: `name-or-uid:first:count`, one range a line (subuid(5)).
fn parse_range(text: &str, name: &str, uid: u32) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let first = fields.next()?.parse().ok()?;
        let count: u32 = fields.next()?.parse().ok()?;
        ((owner == name || owner.parse() == Ok(uid)) && count >= IDS - 1).then_some(first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_long_enough_range_by_name_or_number() {
        let text = "other:100000:65536\nme:165536:10\nme:231072:65536\n1001:300000:65535\n# x\n";
        assert_eq!(parse_range(text, "me", 5), Some(231_072));
        assert_eq!(parse_range(text, "nobody", 1001), Some(300_000));
        assert_eq!(parse_range(text, "nobody", 5), None);
    }
}

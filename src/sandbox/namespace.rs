//! The user and mount namespace of a worker: the one place with unsafe code.
//!
//! Ids are mapped so that a tree can hold files of any owner (`ids`): as root by this program, as a
//! user by `newuidmap` and `newgidmap`. Capabilities hold only inside, even for root.

use std::process::Stdio;

use rustix::thread::UnshareFlags;

use super::confinement::Grant;
use super::ids::{Ids, IdsError, Map};
use super::worker::WorkerError;
use crate::host::bare_command;

/// Moves this process into a new user namespace and a new mount namespace. The process must not
/// have started a thread.
pub(super) fn enter() -> Result<(), WorkerError> {
    let root = rustix::process::getuid().is_root();
    let Ids { users, groups } = Ids::of_sandboxes()
        .map_err(|IdsError { message, help }| WorkerError::Helped { message, help })?;
    // The mapping has to be written by somebody outside: a shell that waits until we are inside.
    let pid = std::process::id();
    let script = if root {
        // A range may not cross the ones that this process has itself (user_namespaces(7)).
        let write =
            |map: &Map, file| format!("printf '{}' >/proc/{pid}/{file}", triples(map, "\\n"));
        format!(
            "read -r _; {} && {}",
            write(&users, "uid_map"),
            write(&groups, "gid_map")
        )
    } else {
        format!(
            "read -r _; newuidmap {pid} {} && newgidmap {pid} {}",
            triples(&users, " "),
            triples(&groups, " ")
        )
    };
    let mut mapper = bare_command("/bin/sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .spawn()
        .map_err(WorkerError::io("start /bin/sh to map user ids"))?;

    unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS).map_err(|error| WorkerError::Helped {
        message: format!("cannot create a user namespace: {error}"),
        help: format!(
            "on a host, allow unprivileged user namespaces (sysctl user.max_user_namespaces, \
             kernel.apparmor_restrict_unprivileged_userns=0)\n\
             in a container, start it with these:\n{}",
            Grant::Namespaces.flags()
        ),
    })?;
    drop(mapper.stdin.take());
    let status = mapper.wait().map_err(WorkerError::io("map user ids"))?;
    if !status.success() {
        return Err(unmapped(root));
    }
    // Nothing that is mounted here may be seen outside.
    rustix::mount::mount_change(
        "/",
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC,
    )
    .map_err(|error| WorkerError::Helped {
        message: format!("cannot mount in a user namespace: {error}"),
        help: format!(
            "start the container with these:\n{}",
            Grant::Namespaces.flags()
        ),
    })
}

/// The ranges of a map, as both ways of writing it take them.
fn triples(map: &Map, end: &str) -> String {
    let lines = map.0.iter().map(|range| {
        let (inside, outside, count) = (range.inside, range.outside, range.count);
        format!("{inside} {outside} {count}{end}")
    });
    lines.collect()
}

fn unmapped(root: bool) -> WorkerError {
    let (message, help) = if root {
        (
            "cannot map user ids into a user namespace",
            "in a container: check whether it may write /proc/self/uid_map (capabilities SETUID and SETGID)",
        )
    } else {
        (
            "cannot map user ids (newuidmap failed)",
            "check that the package uidmap is installed and that /etc/subuid and /etc/subgid give \
             you 65536 ids; `vmfab doctor` checks both\n\
             in a container without CAP_SYS_ADMIN, newuidmap and newgidmap need file capabilities: \
             setcap cap_setuid=ep /usr/bin/newuidmap; setcap cap_setgid=ep /usr/bin/newgidmap",
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

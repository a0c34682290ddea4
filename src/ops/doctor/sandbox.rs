//! What the sandbox of build steps needs from the kernel and the administrator.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use super::{Check, State, existing};
use crate::host::{Home, find_program};
use crate::sandbox::{self, Grant};

/// Subordinate ids that a user needs to own every file of an image.
const IDS: u64 = 65_536;

/// Tries what every step needs, as root, too: a user namespace with mounts of its own.
pub(super) fn user_namespaces() -> Check {
    let check = |state, detail: String| {
        Check::new(
            "user namespaces",
            "the sandbox of build steps",
            state,
            detail,
        )
    };
    let failure = match in_namespace(&["true".as_ref()]) {
        Ok(()) => return check(State::Ok, "allowed".to_owned()),
        Err(failure) => failure,
    };
    let switches = [
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("user.max_user_namespaces", "0", "15000"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ];
    let blocking = switches.iter().find(|(key, bad, _)| {
        let file = format!("/proc/sys/{}", key.replace('.', "/"));
        std::fs::read_to_string(file).is_ok_and(|text| text.trim() == *bad)
    });
    match (failure, blocking) {
        (failure @ Failure::NoUnshare, _) => failure.check(&check),
        (_, Some((key, bad, good))) => check(State::Missing, format!("forbidden by {key}={bad}"))
            .help(format!("sudo sysctl -w {key}={good}")),
        (failure, None) => failure.check(&check).help(format!(
            "start the container with these:\n{}",
            Grant::Namespaces.flags()
        )),
    }
}

/// Why a try in a namespace failed.
enum Failure {
    NoUnshare,
    Failed(String),
}

impl Failure {
    fn check(self, check: &dyn Fn(State, String) -> Check) -> Check {
        match self {
            Self::NoUnshare => {
                check(State::Missing, "unshare is not installed".to_owned()).package("util-linux")
            }
            Self::Failed(why) => check(State::Missing, why),
        }
    }
}

/// Runs a command in a user namespace and a mount namespace of its own.
fn in_namespace(command: &[&OsStr]) -> Result<(), Failure> {
    let unshare = find_program("unshare").ok_or(Failure::NoUnshare)?;
    let output = Command::new(unshare)
        .args(["--map-root-user", "--mount"])
        .args(command)
        .output()
        .map_err(|error| Failure::Failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().next().unwrap_or("it failed without a word");
    Err(Failure::Failed(line.trim().to_owned()))
}

pub(super) fn subordinate_ids(name: &str, file: &Path, root: bool) -> Check {
    let check = |state, detail: String| Check::new(name, "building without root", state, detail);
    if root {
        return check(State::Ok, "not needed as root".to_owned());
    }
    let uid = rustix::process::getuid().as_raw();
    let user = user_name(uid).unwrap_or_else(|| uid.to_string());
    let text = std::fs::read_to_string(file).unwrap_or_default();
    match subordinate_range(&text, &user, uid) {
        Some((first, count)) if count >= IDS => {
            check(State::Ok, format!("{count} ids from {first}"))
        }
        found => {
            let count = found.map_or(0, |(_, count)| count);
            let first = free_range(&text);
            let option = name.replace("sub", "--add-sub") + "s";
            check(
                State::Missing,
                format!(
                    "{} gives {user} {count} ids, {IDS} are needed",
                    file.display()
                ),
            )
            .help(format!(
                "sudo usermod {option} {first}-{} {user}",
                first + IDS - 1
            ))
        }
    }
}

/// Where a new range can begin: behind all others of a subuid(5) file.
fn free_range(text: &str) -> u64 {
    let ends = text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':').skip(1);
        Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
    });
    ends.max().unwrap_or(0).max(100_000)
}

/// The largest range that a subuid(5) file gives a user, by name or number.
fn subordinate_range(text: &str, user: &str, uid: u32) -> Option<(u64, u64)> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            (owner == user || owner == uid.to_string()).then_some(range)
        })
        .max_by_key(|(_, count)| *count)
}

fn user_name(uid: u32) -> Option<String> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    text.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        (fields.get(2)?.parse() == Ok(uid)).then(|| fields[0].to_owned())
    })
}

/// Tries all that a step needs, where steps will run: a sandbox with process ids of its own, and an overlay.
pub(super) fn confinement(home: &Home) -> Vec<Check> {
    let check =
        |name, state, detail: &str| Check::new(name, "the sandbox of build steps", state, detail);
    let place = existing(home.root());
    let confinement = match sandbox::probe(&place) {
        Ok(confinement) => confinement,
        Err(refusal) => {
            let check = check("sandbox", State::Missing, &refusal.message);
            return vec![match refusal.help.is_empty() {
                true => check,
                false => check.help(refusal.help.join("\n")),
            }];
        }
    };
    let weaknesses = confinement.weaknesses();
    let aspects = [
        ("process ids", Grant::Proc, "each step has its own"),
        ("host name", Grant::Namespaces, "each step has its own"),
        ("overlayfs", Grant::Volume, "works where VMFAB_HOME is"),
    ];
    let aspects = aspects.map(|(name, grant, strong)| {
        match weaknesses.iter().find(|weakness| weakness.grant == grant) {
            None => check(name, State::Ok, strong),
            Some(weakness) => check(name, State::Optional, weakness.cost).help(format!(
                "start the container with these:\n{}",
                grant.flags()
            )),
        }
    });
    aspects.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ids_belong_to_a_name_or_a_number() {
        let text = "root:1:9\nanna:100000:65536\nanna:300000:10\n1001:200000:65536\nbroken\n";
        assert_eq!(
            subordinate_range(text, "anna", 1000),
            Some((100_000, 65_536))
        );
        assert_eq!(
            subordinate_range(text, "ben", 1001),
            Some((200_000, 65_536))
        );
        assert_eq!(subordinate_range(text, "eve", 1002), None);
        assert_eq!(free_range(text), 300_010);
        assert_eq!(free_range(""), 100_000);
    }
}

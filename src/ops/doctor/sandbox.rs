//! What the sandbox of build steps needs from the kernel and the administrator.

use std::ffi::OsStr;

use super::{Check, State, existing};
use crate::host::{Home, bare_command, find_program};
use crate::sandbox::{self, Grant, IdsError, Kind};

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
        (failure @ Refusal::NoUnshare, _) => failure.check(&check),
        (_, Some((key, bad, good))) => check(State::Missing, format!("forbidden by {key}={bad}"))
            .help(format!("sudo sysctl -w {key}={good}")),
        (failure, None) => failure.check(&check).help(format!(
            "start the container with these:\n{}",
            Grant::Namespaces.flags()
        )),
    }
}

/// Why a try in a namespace failed.
enum Refusal {
    NoUnshare,
    Failed(String),
}

impl Refusal {
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
fn in_namespace(command: &[&OsStr]) -> Result<(), Refusal> {
    let unshare = find_program("unshare").ok_or(Refusal::NoUnshare)?;
    let output = bare_command(unshare)
        .args(["--map-root-user", "--mount"])
        .args(command)
        .output()
        .map_err(|error| Refusal::Failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().next().unwrap_or("it failed without a message");
    Err(Refusal::Failed(line.trim().to_owned()))
}

pub(super) fn subordinate_ids(name: &str, ids: Kind, root: bool) -> Check {
    let check = |state, detail: String| Check::new(name, "building without root", state, detail);
    if root {
        return check(State::Ok, "not needed as root".to_owned());
    }
    match ids.subordinate() {
        Ok(map) => check(State::Ok, format!("ids {map}")),
        Err(IdsError { message, help }) => check(State::Missing, message).help(help),
    }
}

/// Tries all that a step needs, where steps will run: a sandbox with process ids of its own, and an
/// overlay.
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

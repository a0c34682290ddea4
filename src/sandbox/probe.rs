//! Finding out how far this host lets a step be confined, by trying it in a worker of its own.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{ExitCode, Stdio};

use serde::{Deserialize, Serialize};

use super::confinement::{Changes, Confinement, Grant, Isolation};
use super::ids::{Ids, IdsError, NEEDED};
use super::keeper::end_descendants;
use super::overlay::Overlay;
use super::run::{remove_tree, worker_command};
use super::worker::{PROBE_ARGUMENT, WorkerError};
use super::{bwrap, launch, layer, namespace, procfs};

/// Why no step can run here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What was tried, and why it failed.
    pub message: String,
    /// What to do next, in lines.
    pub help: Vec<String>,
}

impl Refusal {
    fn new(error: WorkerError) -> Self {
        let (message, help) = match error {
            WorkerError::Helped { message, help }
            | WorkerError::Unsatisfiable { message, help } => (message, help),
            WorkerError::Failed { command, how } => (format!("{command} {how}"), String::new()),
            WorkerError::Plain(message) => (message, String::new()),
        };
        Self {
            message,
            help: help.lines().map(str::to_owned).collect(),
        }
    }
}

/// Tries what steps need, in a new directory below `directory`, which must be on the file system of
/// the layers.
///
/// # Errors
/// Steps cannot run here, or it cannot be tried.
pub fn probe(directory: &Path) -> Result<Confinement, Refusal> {
    let failed = |what: String| Refusal::new(WorkerError::Plain(what));
    let place = tempfile::Builder::new()
        .prefix(".probe-")
        .tempdir_in(directory)
        .map_err(|error| Refusal {
            message: format!("cannot write to {}: {error}", directory.display()),
            help: vec!["set VMFAB_HOME to a directory that you can write to".to_owned()],
        })?
        .keep();
    let output = worker_command()
        .arg(PROBE_ARGUMENT)
        .arg(&place)
        .stdin(Stdio::null())
        .output();
    // What cannot be removed now is in the way of nothing.
    let _ = remove_tree(&place);
    let output = output.map_err(|error| failed(format!("cannot start a worker: {error}")))?;
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(failed(format!("cannot test the sandbox: {}", said.trim())))
    })
}

/// The worker that tries it.
pub(super) fn probe_main(place: &Path) -> ExitCode {
    let answer = find(place).map_err(Refusal::new);
    match serde_json::to_writer(io::stdout(), &answer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn find(place: &Path) -> Result<Confinement, WorkerError> {
    enough_ids()?;
    namespace::enter()?;
    Ok(Confinement {
        isolation: isolation()?,
        changes: changes(place)?,
    })
}

/// A container can have fewer ids than the files of any system have owners.
fn enough_ids() -> Result<(), WorkerError> {
    let ids = Ids::of_sandboxes()
        .map_err(|IdsError { message, help }| WorkerError::Helped { message, help })?;
    for (kind, map) in [("user", &ids.users), ("group", &ids.groups)] {
        let count = map.count();
        if count < u64::from(NEEDED) {
            return Err(WorkerError::Helped {
                message: format!(
                    "this host gives {count} {kind} ids, but the files of an image need {NEEDED}"
                ),
                help:
                    "give the container more ids: rootless engines and userns-remap take them from \
                       /etc/subuid and /etc/subgid of the host; the last column of \
                       /proc/self/uid_map shows how many there are"
                        .to_owned(),
            });
        }
    }
    Ok(())
}

fn isolation() -> Result<Isolation, WorkerError> {
    let covers = procfs::of_this_process()?;
    let mut why = String::new();
    for isolation in Isolation::ALL {
        let (mut bwrap, _files) = launch::command(&bwrap::trial(isolation, &covers))?;
        let output = bwrap.output().map_err(WorkerError::io("start bwrap"))?;
        end_descendants();
        if output.status.success() {
            return Ok(isolation);
        }
        String::from_utf8_lossy(&output.stderr)
            .trim()
            .clone_into(&mut why);
    }
    Err(unconfinable(&why))
}

/// Why no step can run, from what bubblewrap said.
fn unconfinable(said: &str) -> WorkerError {
    let flags = format!(
        "start the container with these:\n{}",
        Grant::Namespaces.flags()
    );
    // The capability lifts the filter from all that the sandbox needs but this (moby's
    // profiles/seccomp).
    let (why, help) = match said.contains("pivot_root") {
        true => (
            "the container's filter of system calls (seccomp) forbids pivot_root, which bubblewrap needs",
            format!("--cap-add SYS_ADMIN does not lift that; {flags}"),
        ),
        false => (said, flags),
    };
    WorkerError::Helped {
        message: format!("no step can run on this host: {why}"),
        help,
    }
}

fn changes(place: &Path) -> Result<Changes, WorkerError> {
    let on_disk = match try_overlay(&place.join("disk"), Changes::OnDisk) {
        Ok(()) => return Ok(Changes::OnDisk),
        Err(error) => error,
    };
    // What is said of the weaker way is of no use to anybody who can have the stronger one.
    try_overlay(&place.join("memory"), Changes::InMemory)
        .map(|()| Changes::InMemory)
        .map_err(|_| on_disk)
}

/// Does what steps do: look below a file that a layer removes, and replace a directory.
fn try_overlay(scratch: &Path, changes: Changes) -> Result<(), WorkerError> {
    let trying = || WorkerError::io("try an overlay file system");
    let (lower, upper) = (scratch.join("lower"), scratch.join("removed"));
    for directory in [scratch, &lower, &lower.join("directory"), &upper] {
        fs::create_dir(directory).map_err(trying())?;
    }
    fs::write(lower.join("file"), "").map_err(trying())?;
    layer::whiteout(&upper, &upper.join("file"), changes).map_err(trying())?;
    let overlay = Overlay::mount(scratch, &[lower, upper], changes)?;
    let seen = |name: &str| overlay.tree().join(name);
    if seen("file").exists() {
        return Err(WorkerError::Plain(
            "the kernel knows no whiteouts in attributes".to_owned(),
        ));
    }
    fs::remove_dir(seen("directory"))
        .and_then(|()| fs::create_dir(seen("directory")))
        .map_err(trying())?;
    overlay.finish().map(drop)
}

//! The worker: this program, started again with one hidden argument, which does one request.

use std::fmt::Display;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::SystemTime;

use super::beside::Beside;
use super::borrowed::Borrowed;
use super::confinement::Changes;
use super::overlay::Overlay;
use super::request::{BesideSource, LayerSource, Outcome, Request, Task};
use super::tasks::{Tasks, not_unpacked};
use super::{cache, edit, identity, keeper, layer, namespace, probe};
use crate::host;
use crate::instruction::Network;

/// The hidden first argument that makes this program a worker.
pub const WORKER_ARGUMENT: &str = "__worker";
/// The second argument of the process that edits a tree as its root directory.
pub(super) const EDIT_ARGUMENT: &str = "edit";
/// The second argument of a process that becomes another program and ends with its parent. The
/// third is the parent's id, then come the program and its arguments.
const ATTACHED_ARGUMENT: &str = "attached";
/// The second argument of a process that moves into namespaces of its own and becomes another
/// program, which follows with its arguments.
pub(super) const NESTED_ARGUMENT: &str = "nested";
/// The second argument of the process that keeps a command: see `keeper`. The third is the parent's
/// id.
pub(super) const KEEPER_ARGUMENT: &str = "keeper";
/// The second argument of the process that finds out what this host allows; see `probe`.
pub(super) const PROBE_ARGUMENT: &str = "probe";
/// The second argument of the process that removes a directory, which is the third.
pub(super) const REMOVE_ARGUMENT: &str = "remove";
/// The second argument of the process that prints the stamp of a directory, which is the third.
pub(super) const STAMP_ARGUMENT: &str = "stamp";

/// Why a worker stopped.
#[derive(Debug)]
pub(super) enum WorkerError {
    /// A command failed; see [`Outcome::Failed`].
    Failed { command: String, how: String },
    /// See [`Outcome::Unsatisfiable`].
    Unsatisfiable { message: String, help: String },
    /// The worker itself failed, and there is something to do about it.
    Helped { message: String, help: String },
    /// The worker itself failed.
    Plain(String),
}

impl WorkerError {
    /// For `map_err`: what was tried, before why it failed.
    pub(super) fn io(what: impl Display) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Plain(format!("cannot {what}: {error}"))
    }

    pub(super) fn message(&self) -> &str {
        match self {
            Self::Failed { how, .. } => how,
            Self::Unsatisfiable { message, .. }
            | Self::Helped { message, .. }
            | Self::Plain(message) => message,
        }
    }

    fn into_outcome(self) -> Outcome {
        match self {
            Self::Failed { command, how } => Outcome::Failed { command, how },
            Self::Unsatisfiable { message, help } => Outcome::Unsatisfiable { message, help },
            Self::Helped { message, help } => Outcome::Error {
                message,
                help: Some(help),
            },
            Self::Plain(message) => Outcome::Error {
                message,
                help: None,
            },
        }
    }
}

/// Runs a worker: `arguments` are those after [`WORKER_ARGUMENT`]; the request is read from
/// standard input as JSON. The exit code says only whether an outcome was written.
#[must_use]
pub fn worker_main(arguments: &[String]) -> ExitCode {
    // Nothing of a step survives the vmfab that wanted it.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    // What bubblewrap leaves behind becomes this process's child, and can be waited for.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    if let [first, parent, program, rest @ ..] = arguments
        && first == ATTACHED_ARGUMENT
    {
        return become_program(parent, program, rest);
    }
    if let [first, parent] = arguments
        && first == KEEPER_ARGUMENT
    {
        return keeper::keeper_main(parent);
    }
    rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
    if let [first, path] = arguments
        && first == REMOVE_ARGUMENT
    {
        let removed = namespace::enter().is_ok() && std::fs::remove_dir_all(path).is_ok();
        return if removed {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    if let [first, path] = arguments
        && first == STAMP_ARGUMENT
    {
        let stamp = namespace::enter()
            .is_ok()
            .then(|| cache::stamp(Path::new(path)));
        return match stamp {
            Some(Ok(stamp))
                if io::Write::write_all(&mut io::stdout(), stamp.to_string().as_bytes())
                    .is_ok() =>
            {
                ExitCode::SUCCESS
            }
            _ => ExitCode::FAILURE,
        };
    }
    if let [first, program, rest @ ..] = arguments
        && first == NESTED_ARGUMENT
    {
        return become_nested(program, rest);
    }
    if let [first, place] = arguments
        && first == PROBE_ARGUMENT
    {
        return probe::probe_main(Path::new(place));
    }
    let mut input = Vec::new();
    if io::stdin().read_to_end(&mut input).is_err() {
        return ExitCode::FAILURE;
    }
    if arguments
        .first()
        .is_some_and(|argument| argument == EDIT_ARGUMENT)
    {
        return edit_main(&input);
    }
    let Ok(request) = serde_json::from_slice::<Request>(&input) else {
        return ExitCode::FAILURE;
    };
    let outcome = match work(&request) {
        Ok(()) => Outcome::Done,
        Err(error) => error.into_outcome(),
    };
    let written = serde_json::to_vec(&outcome)
        .map_err(io::Error::other)
        .and_then(|bytes| std::fs::write(request.scratch.join("outcome.json"), bytes));
    if written.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A command that runs `program` and ends, however that comes, with the thread of this process that
/// starts it. `vmfab` is this program.
#[must_use]
pub fn attached(vmfab: &Path, program: &Path) -> Command {
    let mut command = host::bare_command(vmfab);
    command
        .args([WORKER_ARGUMENT, ATTACHED_ARGUMENT])
        .arg(std::process::id().to_string())
        .arg(program);
    command
}

/// The signal at the parent's end is set, and stays set when another program is executed.
fn become_program(parent: &str, program: &str, arguments: &[String]) -> ExitCode {
    // The parent may have ended before.
    let there = rustix::process::getppid().map(|pid| pid.as_raw_pid().to_string());
    if there.as_deref() == Some(parent) {
        become_other(program, arguments);
    }
    ExitCode::FAILURE
}

/// In a new user namespace all mounts so far are locked: nobody in it can take away what lies over
/// others, or make writable what is read-only (mount_namespaces(7)).
fn become_nested(program: &str, arguments: &[String]) -> ExitCode {
    match namespace::enter() {
        Ok(()) => become_other(program, arguments),
        Err(error) => say(&format!(
            "cannot lock the mounts of {program}: {}",
            error.message()
        )),
    }
    ExitCode::FAILURE
}

/// Returns only when that cannot be done.
fn become_other(program: &str, arguments: &[String]) {
    let error = Command::new(program).args(arguments).exec();
    say(&format!("cannot start {program}: {error}"));
}

/// To standard error, which is the step's log.
fn say(message: &str) {
    let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("{message}\n"));
}

/// The process that edits the tree: what it has to say goes to standard error, into the step's log.
fn edit_main(input: &[u8]) -> ExitCode {
    let result = serde_json::from_slice::<(PathBuf, PathBuf, Vec<edit::Edit>)>(input)
        .map_err(io::Error::other)
        .and_then(|(job, tree, edits)| edit::apply(&job, &tree, &edits));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn work(request: &Request) -> Result<(), WorkerError> {
    host::keep_files_from_children().map_err(WorkerError::io(
        "keep open files from steps (Linux 5.11 or later can)",
    ))?;
    host::leave_session_keyring().map_err(WorkerError::io("leave the caller's keyring"))?;
    namespace::enter()?;
    host::leave_abstract_sockets()
        .map_err(WorkerError::io("keep sockets of the host from steps"))?;
    // A second earlier: the clock that stamps files may be behind by a tick.
    let started = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs().cast_signed() - 1);
    let mut directories = Vec::new();
    for source in &request.layers {
        unpack(source, request.confinement.changes)?;
        // Overlayfs refuses one directory twice, as of two steps that changed nothing. The upper of
        // two equal layers hides all of the lower one.
        directories.retain(|directory| *directory != source.directory);
        directories.push(source.directory.clone());
    }
    let mut beside = Vec::new();
    for (index, source) in request.beside.iter().enumerate() {
        if let BesideSource::Layers(layers) = source {
            for layer in layers {
                unpack(layer, request.confinement.changes)?;
            }
        }
        let scratch = request.scratch.join(format!("beside-{index}"));
        beside.push(Beside::new(source, &scratch, request.confinement.changes)?);
    }
    answer_syncs()?;
    let tasks = |tree: &Path, in_run| {
        Tasks {
            request,
            tree,
            beside: &beside,
            in_run,
        }
        .run_all(&request.tasks)
    };
    let upper = if directories.is_empty() {
        let upper = request.scratch.join("upper");
        std::fs::create_dir(&upper).map_err(WorkerError::io("create the upper directory"))?;
        tasks(&upper, None)?;
        upper
    } else {
        let borrowed = borrow(request, &directories)?;
        directories.extend(borrowed.as_ref().map(|layer| layer.directory().to_owned()));
        let overlay = Overlay::mount(&request.scratch, &directories, request.confinement.changes)?;
        let in_run = borrowed.as_ref().and_then(|layer| layer.in_run.as_ref());
        tasks(overlay.tree(), in_run)?;
        let upper = overlay.finish()?;
        if let Some(borrowed) = borrowed {
            borrowed
                .give_back(&upper)
                .map_err(WorkerError::io("take files of the build out of the layer"))?;
        }
        upper
    };
    if let Some(pack) = &request.pack {
        if pack.clean {
            identity::clean(&upper).map_err(WorkerError::io("clean the layer"))?;
        }
        layer::pack(&upper, &pack.archive, started, pack.epoch)
            .map_err(WorkerError::io("pack the layer"))?;
    }
    Ok(())
}

/// Unpacks a layer that is not unpacked yet.
fn unpack(source: &LayerSource, changes: Changes) -> Result<(), WorkerError> {
    let Some(archive) = &source.archive else {
        return Ok(());
    };
    layer::unpack(archive, &source.directory, changes)
        .and_then(|()| std::fs::remove_file(archive))
        .map_err(|error| not_unpacked("layer", error))
}

/// The files that commands see beyond the tree, when there are commands.
fn borrow(request: &Request, layers: &[PathBuf]) -> Result<Option<Borrowed>, WorkerError> {
    let networks = request.tasks.iter().filter_map(|task| match task {
        Task::Command(command) => Some(command.network),
        Task::Process(process) => Some(process.network != Network::None),
        Task::Packages(install) => Some(!install.locked),
        _ => None,
    });
    let Some(network) = networks.reduce(|one, other| one || other) else {
        return Ok(None);
    };
    let resolver = match network {
        true => std::fs::read("/etc/resolv.conf").ok(),
        false => None,
    };
    let is_process = |task: &Task| matches!(task, Task::Process(_));
    Borrowed::make(
        request.scratch.join("borrowed"),
        layers,
        resolver.as_deref(),
        request.tasks.iter().any(is_process),
    )
    .map(Some)
    .map_err(WorkerError::io("show files of the build to the step"))
}

/// Makes file syncs of all that runs from here on succeed without doing anything. Package managers
/// sync each file; what a step leaves is made durable once, by the store.
fn answer_syncs() -> Result<(), WorkerError> {
    use seccompiler::{SeccompAction, SeccompFilter};
    // Numbers of the system calls: the kernel's asm/unistd_64.h and asm-generic/unistd.h.
    #[cfg(target_arch = "x86_64")]
    // fsync, fdatasync, sync, sync_file_range, syncfs, msync
    let calls = [74, 75, 162, 277, 306, 26];
    #[cfg(target_arch = "aarch64")]
    let calls = [82, 83, 81, 84, 267, 227];
    let rules = calls.into_iter().map(|call| (call, Vec::new())).collect();
    let failed = |error: &dyn Display| WorkerError::Plain(format!("cannot filter syncs: {error}"));
    let architecture = std::env::consts::ARCH.try_into().map_err(|e| failed(&e))?;
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(0),
        architecture,
    )
    .map_err(|error| failed(&error))?;
    let mut program: seccompiler::BpfProgram = filter
        .try_into()
        .map_err(|e: seccompiler::BackendError| failed(&e))?;
    // The filter begins with the end of every process of another architecture. Those of 32 bits
    // have other call numbers; they may do their syncs.
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    if let Some(end) = program
        .iter_mut()
        .take(4)
        .find(|instruction| instruction.code == RETURN)
    {
        end.k = ALLOW;
    }
    seccompiler::apply_filter(&program).map_err(|error| failed(&error))
}

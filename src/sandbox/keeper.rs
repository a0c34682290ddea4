//! The keeper of a command that has no process ids of its own: what the first process of a pid
//! namespace does elsewhere.
//!
//! It stands between the worker and bubblewrap. Whatever the command starts stays below it, since
//! orphans become its children; and when the command or the worker ends, however that comes, it
//! ends what is left. Where the kernel can (6.12 and later), nothing below it can send a signal to
//! a process outside.

use std::io::{self, Write};
use std::process::{Child, ExitCode, Stdio};
use std::time::Duration;

use landlock::{Ruleset, RulesetAttr, Scope};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use signal_hook::consts::{SIGCHLD, SIGTERM};

use super::bwrap::Invocation;
use super::launch;
use super::limits::descendants;
use super::worker::{KEEPER_ARGUMENT, WORKER_ARGUMENT, WorkerError};
use crate::host::bare_command;

/// Between two looks at processes that take their time to end.
const PAUSE: Duration = Duration::from_millis(2);

/// Starts a keeper, which starts bubblewrap.
pub(super) fn start(invocation: &Invocation) -> Result<Child, WorkerError> {
    let input =
        serde_json::to_vec(invocation).map_err(|error| WorkerError::Plain(error.to_string()))?;
    let mut keeper = bare_command("/proc/self/exe")
        .args([WORKER_ARGUMENT, KEEPER_ARGUMENT])
        .arg(std::process::id().to_string())
        .stdin(Stdio::piped())
        .spawn()
        .map_err(WorkerError::io("start a keeper"))?;
    if let Some(mut stdin) = keeper.stdin.take() {
        stdin
            .write_all(&input)
            .map_err(WorkerError::io("instruct a keeper"))?;
    }
    Ok(keeper)
}

/// The keeper: `parent` is the process that started it, and what bubblewrap is to do comes from
/// there.
pub(super) fn keeper_main(parent: &str) -> ExitCode {
    match keep(parent) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let text = format!("cannot keep a command: {}\n", error.message());
            let _ = io::stderr().write_all(text.as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn keep(parent: &str) -> Result<u8, WorkerError> {
    let mut signals = signal_hook::iterator::Signals::new([SIGCHLD, SIGTERM])
        .map_err(WorkerError::io("receive signals"))?;
    // Asked, and not killed: there is something to do first.
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| WorkerError::io("watch the worker")(error.into()))?;
    let over = || WorkerError::Plain("the worker has ended".to_owned());
    let there = rustix::process::getppid().map(|pid| pid.as_raw_pid().to_string());
    if there.as_deref() != Some(parent) {
        return Err(over());
    }
    confine_signals().map_err(|error| WorkerError::Plain(error.to_string()))?;
    let invocation: Invocation = serde_json::from_reader(io::stdin())
        .map_err(|error| WorkerError::Plain(error.to_string()))?;
    let (mut bwrap, _files) = launch::command(&invocation)?;
    let child = bwrap.spawn().map_err(WorkerError::io("start bwrap"))?;
    let main = Pid::from_child(&child);
    for signal in signals.forever() {
        if signal == SIGTERM {
            break;
        }
        if let Some(status) = reap(main) {
            end_descendants();
            // As a shell says it.
            let killed = || status.terminating_signal().map_or(1, |signal| 128 + signal);
            let code = status.exit_status().unwrap_or_else(killed);
            return Ok(u8::try_from(code).unwrap_or(u8::MAX));
        }
    }
    end_descendants();
    Err(over())
}

/// From here on, signals reach only what this process starts, and so do connections to abstract
/// sockets. A kernel that cannot do it changes nothing.
fn confine_signals() -> Result<(), landlock::RulesetError> {
    Ruleset::default()
        .scope(Scope::Signal | Scope::AbstractUnixSocket)?
        .create()?
        .restrict_self()
        .map(drop)
}

/// Takes the states of all children that have ended; gives that of `main` when it is among them.
fn reap(main: Pid) -> Option<WaitStatus> {
    let mut ended = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid == main {
            ended = Some(status);
        }
    }
    ended
}

/// Ends everything below this process and waits for it. Orphans must become its children.
pub(super) fn end_descendants() {
    let own = std::process::id();
    loop {
        // In a pid namespace of their own they end by themselves; this is only faster.
        for pid in descendants(own) {
            if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => std::thread::sleep(PAUSE),
            // No child is left, and so nothing below.
            Err(_) => return,
        }
    }
}

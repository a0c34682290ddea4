//! The command line: arguments, progress, error display, exit codes.
//!
//! A command is one file in `commands/`: a struct with its arguments and
//! `fn run(self, &Session) -> Result<Status, Failure>`, which calls an operation of
//! [`ops`](crate::ops) and prints what it returns. Results go to standard output, progress and
//! diagnostics to standard error. To add a command: its file, a line in each of the two lists in
//! `commands/mod.rs`, and its place in a group of the help text there.
//!
//! | file | content |
//! |---|---|
//! | `commands/` | one file for each command |
//! | `complete.rs` | what shells ask to complete a word |
//! | `detach.rs` | `--detach`: runs a command in the background |
//! | `error/` | every error to its kind, message, help and exit code |
//! | `habits.rs` | what other tools call commands |
//! | `notify.rs` | `--notify`: runs the user's program when a command ends |
//! | `output.rs` | standard output: text, tables, JSON; colours |
//! | `pages/` | what commands print, as pages for browsers |
//! | `podman_bootc.rs` | the program under the name of a link, `podman-bootc` |
//! | `prompt.rs` | questions at a terminal |
//! | `reporter/` | events to bars, plain lines, JSON or a log file |
//! | `screen/` | pages that take the whole terminal, and texts in them |
//! | `session.rs` | what a command gets: context, output, reporter |
//! | `trace.rs` | diagnostics for developers: `VMFAB_LOG`, `--trace` |

mod commands;
mod complete;
mod detach;
mod error;
mod habits;
mod notify;
mod options;
mod output;
mod pages;
mod podman_bootc;
mod prompt;
mod reporter;
mod screen;
mod session;
mod table;
mod trace;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::FromArgMatches;

use crate::failure::Failure;
use crate::guest::ec2::{METADATA_ARGUMENT, metadata_main};
use crate::host::umask;
use crate::machine::{DISK_ARGUMENT, NETWORK_ARGUMENT, network_main};
use crate::ops::lazy::disk_main;
use crate::sandbox;
use options::Hints;
use session::{Records, Session};

/// How a command ended when nothing went wrong that needs a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Done,
    /// A code of its own: what a remote command returned, or "found something wrong".
    Code(u8),
}

impl Status {
    /// The exit code of the process.
    const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Code(code) => code,
        }
    }
}

/// The whole command line, for manuals and tests.
#[must_use]
pub fn command() -> clap::Command {
    commands::root()
}

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    // A kernel that is too old for this is too old to build anything; the worker says so.
    let _ = crate::host::keep_files_from_children();
    let arguments: Vec<_> = std::env::args_os().collect();
    if arguments
        .get(1)
        .is_some_and(|first| first == sandbox::WORKER_ARGUMENT)
    {
        let rest = arguments
            .iter()
            .skip(2)
            .map(|argument| argument.to_string_lossy().into_owned());
        return sandbox::worker_main(&rest.collect::<Vec<_>>());
    }
    if arguments
        .get(1)
        .is_some_and(|first| first == METADATA_ARGUMENT)
    {
        return metadata_main(arguments.get(2).map(OsString::as_os_str));
    }
    if arguments
        .get(1)
        .is_some_and(|first| first == NETWORK_ARGUMENT)
    {
        return network_main(&arguments[2..]);
    }
    if arguments.get(1).is_some_and(|first| first == DISK_ARGUMENT) {
        return disk_main(&arguments[2..]);
    }
    umask::make_files_private();
    let hints = Hints::of(&arguments);
    match complete::answer() {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => return error::usage(&error, &hints),
    }
    let called_podman_bootc = podman_bootc::is_called();
    let report = |error: &Failure| {
        let code = error::report(error, &hints);
        match called_podman_bootc {
            true => podman_bootc::exit_code(error.kind()),
            false => code,
        }
    };
    let parsed = match called_podman_bootc {
        true => podman_bootc::parse(&arguments, hints.color.into()),
        false => parse(&arguments, hints.color.into()),
    };
    let (name, root) = match parsed {
        Ok(parsed) => parsed,
        Err(mut error) => {
            if called_podman_bootc {
                let is_wrong = error.use_stderr();
                let code = error::usage(&error, &hints);
                return if is_wrong { ExitCode::FAILURE } else { code };
            }
            habits::advise(&mut error, &commands::root());
            return error::usage(&error, &hints);
        }
    };
    let level = root.command.log_level();
    if let Err(error) = trace::begin(root.options.trace.as_deref(), level) {
        return report(&error);
    }
    let builds = root.command.builds();
    let streams = root.command.streams_events();
    let records = match (builds, root.command.records_at_once()) {
        (false, _) => Records::Never,
        (true, false) => Records::WhatRuns,
        (true, true) => Records::AtOnce,
    };
    let session = match Session::new(root.options, name, streams, records) {
        Ok(session) => session,
        Err(error) => return report(&error),
    };
    let result = root.command.run(&session);
    session.end_progress();
    session.record_end(&result);
    if builds && result.is_ok() {
        session.collect_garbage();
    }
    match result {
        Ok(status) => ExitCode::from(status.code()),
        Err(error) => report(&error),
    }
}

/// The name of the command, and what to do.
fn parse(
    arguments: &[OsString],
    color: clap::ColorChoice,
) -> clap::error::Result<(String, commands::Root)> {
    let command = commands::root().color(color);
    let mut parsed = command.clone().try_get_matches_from(arguments);
    if let Err(error) = &parsed
        && let Some(words) = commands::version_instead(error, arguments)
    {
        parsed = command.try_get_matches_from(words);
    }
    let matches = parsed?;
    let name = matches.subcommand_name().unwrap_or_default().to_owned();
    Ok((name, commands::Root::from_arg_matches(&matches)?))
}

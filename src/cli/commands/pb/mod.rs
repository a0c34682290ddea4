//! `vmfab pb …`: what podman-bootc does, with its words.

mod columns;
mod completion;
mod images;
mod inspect;
mod list;
mod rm;
mod run;
mod ssh;
mod start;
mod stop;

use std::process::Command;

use clap::{Args, Subcommand, ValueEnum};
use tracing::level_filters::LevelFilter;

use super::super::Status;
use super::super::session::Session;
use crate::checked::AccountName;
use crate::failure::Failure;
use crate::ops::pb::{self, PbMachine};

/// Run bootable containers as virtual machines, as podman-bootc does
///
/// A link to vmfab with the name podman-bootc takes the same commands without "pb". The machines are
/// those of vmfab list. An ID stands for the machine of the image whose id begins with it.
#[derive(Debug, Args)]
#[command(
    subcommand_value_name = "COMMAND",
    after_help = "\
Examples:
  vmfab pb run quay.io/centos-bootc/centos-bootc:stream9
  vmfab pb list
  vmfab pb ssh
  vmfab pb rm --all --force
  ln -s \"$(command -v vmfab)\" ~/.local/bin/podman-bootc"
)]
pub(crate) struct Pb {
    #[command(subcommand)]
    command: PbCommand,

    /// Write diagnostics of this level and above to standard error
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        value_enum,
        ignore_case = true
    )]
    log_level: Option<LogLevel>,
}

#[derive(Debug, Subcommand)]
enum PbCommand {
    Run(Box<run::Run>),
    Ssh(ssh::Ssh),
    List(list::List),
    Images(images::Images),
    Start(start::Start),
    Stop(stop::Stop),
    Rm(rm::Rm),
    Inspect(inspect::Inspect),
    Completion(completion::Completion),
}

/// The levels of podman's family.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogLevel {
    #[value(alias = "panic", alias = "fatal")]
    Error,
    #[value(alias = "warning")]
    Warn,
    Info,
    Debug,
    Trace,
}

impl Pb {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        match self.command {
            PbCommand::Run(command) => command.run(session),
            PbCommand::Ssh(command) => command.run(session),
            PbCommand::List(command) => command.run(session),
            PbCommand::Images(command) => command.run(session),
            PbCommand::Start(command) => command.run(session),
            PbCommand::Stop(command) => command.run(session),
            PbCommand::Rm(command) => command.run(session),
            PbCommand::Inspect(command) => command.run(session),
            PbCommand::Completion(command) => command.run(session),
        }
    }

    /// Whether it may build images.
    pub(super) const fn builds(&self) -> bool {
        matches!(self.command, PbCommand::Run(_))
    }

    /// Which diagnostics are wanted.
    pub(super) const fn log_level(&self) -> Option<LevelFilter> {
        match self.log_level {
            None => None,
            Some(LogLevel::Error) => Some(LevelFilter::ERROR),
            Some(LogLevel::Warn) => Some(LevelFilter::WARN),
            Some(LogLevel::Info) => Some(LevelFilter::INFO),
            Some(LogLevel::Debug) => Some(LevelFilter::DEBUG),
            Some(LogLevel::Trace) => Some(LevelFilter::TRACE),
        }
    }
}

/// Opens a session, or runs a command. The exit code is that of `ssh`.
fn enter(
    session: &Session,
    machine: &PbMachine,
    user: &AccountName,
    command: &[String],
) -> Result<Status, Failure> {
    let context = session.context()?;
    let (mut ssh, _held): (Command, _) = pb::session(machine, user, command)?;
    if command.is_empty() {
        session.end_progress();
        super::super::output::write_text(format!(
            "Connecting to vm {}. To close connection, use `~.` or `exit`",
            machine.container.id
        ))?;
    }
    super::ssh::code(session, context, &mut ssh).map(Status::Code)
}

/// The account that is entered unless the user says otherwise.
const USER: &str = "root";

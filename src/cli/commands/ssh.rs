//! `vmfab ssh`

use std::os::unix::process::{CommandExt, ExitStatusExt};

use clap::Args;

use super::super::Status;
use super::super::error::CliError;
use super::super::session::Session;
use crate::ops::{Context, machine};

/// Open a session in a machine, or run a command in it
///
/// As with ssh, the words of the command are joined by spaces and given to the shell of the machine,
/// and its exit code is passed on (255: the session could not be opened). The machine has a key
/// pair and a list of known hosts of its own: the files in ~/.ssh are neither read nor written.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab ssh docker
  vmfab ssh                          the only machine of a project
  vmfab ssh -- uname -a
  vmfab ssh docker -- docker run --rm hello-world
  vmfab ssh docker --user root --tty -- journalctl --follow
  tar c src | vmfab ssh docker -- tar x")]
pub(crate) struct Ssh {
    /// The machine [default: the only one of the project here]
    name: Option<String>,

    /// The account [default: the one that the image names]
    #[arg(short, long)]
    user: Option<String>,

    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,

    /// A command to run instead of a shell
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    command: Vec<String>,
}

impl Ssh {
    pub(super) fn run(self, session: &Session) -> Result<Status, CliError> {
        let context = session.reading_context()?;
        let name = match self.name {
            Some(name) => name,
            None => machine::only_machine(context)?,
        };
        let mut ssh = machine::ssh(
            context,
            &name,
            self.user.as_deref(),
            self.tty,
            &self.command,
        )?;
        session.end_progress();
        // ssh takes the place of this process: terminal, signals and exit code are its own.
        Err(not_started(&ssh.exec()))
    }
}

/// Runs a shell in a machine and waits for its end.
pub(super) fn session(
    session: &Session,
    context: &Context,
    name: &str,
) -> Result<Status, CliError> {
    let mut ssh = machine::ssh(context, name, None, false, &[])?;
    session.end_progress();
    let status = ssh.status().map_err(|error| not_started(&error))?;
    let code = status
        .code()
        .or(status.signal().map(|signal| 128 + signal))
        .and_then(|code| u8::try_from(code).ok());
    Ok(Status::Code(code.unwrap_or(255)))
}

fn not_started(error: &std::io::Error) -> CliError {
    CliError::failed(format!("ssh cannot be started: {error}"))
}

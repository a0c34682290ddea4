//! `vmfab ssh`

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use clap::Args;

use super::super::Status;
use super::super::session::Session;
use crate::checked::AccountName;
use crate::failure::{Failure, Kind};
use crate::host::process;
use crate::machine::Machine;
use crate::ops::Context;
use crate::ops::machine::{self, SshOptions};

/// Open a session in a machine, or run a command in it
///
/// As with ssh, the shell of the machine gets the words of the command, joined by spaces. vmfab
/// passes on the exit code (255: the session could not be opened). Each machine has its own key
/// pair and list of known hosts; vmfab neither reads nor writes the files in ~/.ssh.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab ssh docker
  vmfab ssh                          enter the only machine of a project
  vmfab ssh -- uname -a
  vmfab ssh docker -- docker run --rm hello-world
  vmfab ssh docker --user root --tty -- journalctl --follow
  vmfab ssh --accept-new-host-key docker
  tar c src | vmfab ssh docker -- tar x")]
pub(crate) struct Ssh {
    /// Machine to enter [default: the only one of the project]
    name: Option<String>,

    /// Log in as USER [default: the account that the image names]
    #[arg(short, long)]
    user: Option<AccountName>,

    /// Allocate a terminal for the command
    #[arg(short, long)]
    tty: bool,

    /// Accept a changed host key; only if you know why it changed
    #[arg(long)]
    accept_new_host_key: bool,

    /// Command to run instead of a shell
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    command: Vec<String>,
}

impl Ssh {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?;
        let (name, command) = target(self.name, self.command, after_dashes());
        let name = match name {
            Some(name) => name,
            None => machine::only_machine(context)?,
        };
        let options = SshOptions {
            user: self.user,
            terminal: self.tty,
            accept_new_host_key: self.accept_new_host_key,
        };
        enter(session, context, &name, &options, &command)
    }
}

/// How many words stand after `--`.
pub(super) fn after_dashes() -> usize {
    let after = std::env::args_os().skip_while(|word| word != "--");
    after.skip(1).count()
}

/// The machine and the command, when so many words stood after `--`: when all of them did, the
/// first is of the command, too.
pub(super) fn target(
    name: Option<String>,
    mut command: Vec<String>,
    after_dashes: usize,
) -> (Option<String>, Vec<String>) {
    match name {
        Some(first) if after_dashes == command.len() + 1 => {
            command.insert(0, first);
            (None, command)
        }
        name => (name, command),
    }
}

/// Runs a command or a shell in a machine, on this terminal. The exit code is its own.
pub(super) fn enter(
    session: &Session,
    context: &Context,
    name: &str,
    options: &SshOptions,
    command: &[String],
) -> Result<Status, Failure> {
    let machine = machine::find_machine(context, name)?;
    let ssh = machine::ssh(&machine, options, command)?;
    run_session(session, context, &machine, ssh)
}

/// Runs a session with a machine that is ready to be started. The exit code is its own.
pub(super) fn run_session(
    session: &Session,
    context: &Context,
    machine: &Machine,
    mut ssh: Command,
) -> Result<Status, Failure> {
    // Not when somebody stops it at this moment.
    let _occupied = machine.occupy().ok();
    let code = code(session, context, &mut ssh)?;
    if code == NOT_OPENED && !context.interrupt.requested() {
        // The command may have ended with this code, too.
        if let Some(why) = machine::why_no_session(machine)? {
            return Err(why.with_kind(Kind::NoSession));
        }
    }
    Ok(Status::Code(code))
}

/// How `ssh` ends when it cannot open a session.
pub(super) const NOT_OPENED: u8 = 255;

/// Runs `ssh` to its end.
pub(super) fn code(session: &Session, context: &Context, ssh: &mut Command) -> Result<u8, Failure> {
    let not_started = |error: std::io::Error| Failure::failed(format!("cannot start ssh: {error}"));
    session.end_progress();
    let status = ssh
        .spawn()
        .and_then(|mut ssh| process::wait(&mut ssh, &context.interrupt))
        .map_err(not_started)?;
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    let code = code.and_then(|code| u8::try_from(code).ok());
    Ok(code.unwrap_or(NOT_OPENED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_after_the_dashes_are_a_command() {
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let target = |name: &str, command: &str, after| {
            let name = Some(name.to_owned()).filter(|name| !name.is_empty());
            let (name, command) = target(name, words(command), after);
            format!("{}: {}", name.unwrap_or_default(), command.join(" "))
        };
        assert_eq!(target("id", "-u", 2), ": id -u");
        assert_eq!(target("web", "id -u", 2), "web: id -u");
        assert_eq!(target("web", "id -u", 0), "web: id -u");
        assert_eq!(target("", "", 0), ": ");
    }
}

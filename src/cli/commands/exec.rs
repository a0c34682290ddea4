//! `vmfab exec`

use std::io::{self, Write};

use clap::Args;

use super::super::Status;
use super::super::error::standard_output;
use super::super::session::Session;
use super::ssh::run_session;
use crate::checked::AccountName;
use crate::failure::Failure;
use crate::ops::machine::{self, Exec as Ran, ExecOptions, Way};

/// Run a command in a machine
///
/// The command gets its words as they are; no shell reads them, unlike with vmfab ssh. vmfab passes
/// on the exit code. If a guest agent runs in the machine (the package qemu-guest-agent), vmfab runs
/// the command through it and shows the output at the end of the command; this works without a
/// network and without an SSH server. Without an agent, and with --interactive or --tty, vmfab uses
/// SSH.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab exec docker -- systemctl status docker
  vmfab exec --user root docker -- cat /etc/shadow
  vmfab exec --interactive docker -- sh -c 'cat > file' < file
  vmfab exec -it docker -- top")]
pub(crate) struct Exec {
    /// Name of the machine
    name: String,

    /// Run as USER [default: the account that the image names]
    #[arg(short, long)]
    user: Option<AccountName>,

    /// Pass on standard input
    #[arg(short, long)]
    interactive: bool,

    /// Allocate a terminal
    #[arg(short, long)]
    tty: bool,

    /// Use the guest agent, and fail without one
    #[arg(long, conflicts_with_all = ["ssh", "tty"])]
    agent: bool,

    /// Use SSH, even if a guest agent runs
    #[arg(long)]
    ssh: bool,

    /// Command and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, required = true)]
    command: Vec<String>,
}

impl Exec {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?;
        let options = ExecOptions {
            user: self.user,
            terminal: self.tty,
            input: self.interactive,
            way: match (self.agent, self.ssh) {
                (true, _) => Way::Agent,
                (_, true) => Way::Ssh,
                _ => Way::Auto,
            },
        };
        match machine::exec(context, &self.name, &options, &self.command)? {
            Ran::Session(ssh) => {
                let machine = machine::find_machine(context, &self.name)?;
                run_session(session, context, &machine, ssh)
            }
            Ran::Ended(ended) => {
                session.end_progress();
                let written = io::stdout().write_all(&ended.stdout);
                written.map_err(|error| standard_output(&error))?;
                // Nobody is left to tell when standard error is closed.
                let _ = io::stderr().write_all(&ended.stderr);
                if ended.truncated {
                    session.note("the output is incomplete: the guest agent keeps 16 MiB; --ssh shows all of it");
                }
                Ok(Status::Code(u8::try_from(ended.code).unwrap_or(u8::MAX)))
            }
        }
    }
}

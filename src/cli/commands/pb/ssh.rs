//! `vmfab pb ssh`

use clap::Args;

use super::super::super::Status;
use super::super::super::session::Session;
use super::super::ssh::{after_dashes, target};
use super::{USER, enter};
use crate::checked::AccountName;
use crate::failure::Failure;
use crate::ops::pb;

/// Open a session in a machine of a bootable container, or run a command
///
/// As with ssh, the shell of the machine gets the words of the command, joined by spaces, and vmfab
/// passes on the exit code. vmfab accepts every host key that the machine shows, as podman-bootc
/// does; vmfab ssh does not.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab pb ssh
  vmfab pb ssh d0300f628e13
  vmfab pb ssh centos-bootc -- systemctl status sshd
  vmfab pb ssh -- bootc status")]
pub(crate) struct Ssh {
    /// Name of the machine, or first digits of its image's id [default: the latest that runs]
    #[arg(value_name = "NAME|ID")]
    machine: Option<String>,

    /// Command to run instead of a shell
    #[arg(value_name = "CMD")]
    command: Vec<String>,

    /// Log in as USER
    #[arg(short, long, default_value = USER)]
    user: AccountName,
}

impl Ssh {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?;
        let (name, command) = target(self.machine, self.command, after_dashes());
        let machine = match name {
            Some(name) => pb::find(context, &name)?,
            None => pb::latest(context)?,
        };
        enter(session, &machine, &self.user, &command)
    }
}

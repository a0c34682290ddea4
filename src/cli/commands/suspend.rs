//! `vmfab suspend`

use clap::Args;

use super::super::Status;
use super::super::session::Session;
use super::several::{Named, finish};
use crate::failure::Failure;
use crate::ops::machine::{self, Affected, Suspended};
use crate::text::shown_size;

/// Write the memory of running machines to a file, and end them
///
/// A suspended machine takes no memory and no processor of this host, and survives its restart.
/// vmfab resume continues it where it was, and sets its clock. Its connections to others are lost
/// when these give up. Machines with shared directories, a TPM or disks in files of this host cannot
/// be suspended.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab suspend docker
  vmfab resume docker
  vmfab suspend --all && sudo reboot
  vmfab start --cold docker          boot it without what it had in memory")]
pub(crate) struct Suspend {
    #[command(flatten)]
    machines: Named,
}

impl Suspend {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?;
        let suspended = self
            .machines
            .targets(Affected::Started)
            .each(context, |machine| machine::suspend(context, machine))?;
        finish(session, suspended, "suspended", describe)
    }
}

fn describe(suspended: &Suspended) -> String {
    let Suspended { name, .. } = suspended;
    match suspended.was_started {
        true => format!("{name}: suspended, {}\n", shown_size(suspended.stored_size)),
        false => format!("{name}: was already suspended\n"),
    }
}

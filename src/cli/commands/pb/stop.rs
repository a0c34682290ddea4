//! `vmfab pb stop`

use clap::Args;

use super::super::super::Status;
use super::super::super::session::Session;
use super::super::several::Shutdown;
use super::super::stop::describe;
use crate::failure::Failure;
use crate::ops::pb;

/// Stop a machine of a bootable container
///
/// It keeps its disk. vmfab does not stop a machine in which a session is open.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab pb stop d0300f628e13
  vmfab pb stop --force centos-bootc")]
pub(crate) struct Stop {
    /// Name of the machine, or first digits of its image's id
    #[arg(value_name = "NAME|ID")]
    machine: String,

    #[command(flatten)]
    shutdown: Shutdown,
}

impl Stop {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?;
        let machine = pb::find(context, &self.machine)?;
        let stopped = pb::stop(context, &machine, self.shutdown.timeout())?;
        session.print(&stopped, describe)?;
        Ok(Status::Done)
    }
}

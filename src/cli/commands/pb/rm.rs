//! `vmfab pb rm`

use clap::Args;

use super::super::super::Status;
use super::super::super::session::Session;
use crate::failure::Failure;
use crate::ops::pb;

/// Remove machines of bootable containers
///
/// Keep their images: the next run installs nothing. vmfab does not remove a machine in which a
/// session is open. With --all it passes over the machines that it cannot remove.
#[derive(Debug, Args)]
#[command(
    visible_alias = "remove",
    after_help = "\
Examples:
  vmfab pb rm centos-bootc
  vmfab pb rm -f d0300f628e13
  vmfab pb rm --all --force"
)]
pub(crate) struct Rm {
    /// Name of the machine, or first digits of its image's id
    #[arg(
        value_name = "NAME|ID",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    machine: Option<String>,

    /// Remove all machines of bootable containers that do not run
    #[arg(long)]
    all: bool,

    /// Also remove machines that run, without a shutdown
    #[arg(short, long)]
    force: bool,
}

impl Rm {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?;
        let removed = match self.machine {
            Some(text) => {
                let machine = pb::find(context, &text)?;
                pb::remove(context, &machine, self.force)?;
                vec![machine.name]
            }
            None => pb::remove_all(context, self.force)?,
        };
        session.print(&removed, |removed| {
            let lines = removed.iter().map(|name| format!("{name}: removed\n"));
            lines.collect::<String>()
        })?;
        Ok(Status::Done)
    }
}

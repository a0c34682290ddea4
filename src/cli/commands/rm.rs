//! `vmfab rm`

use clap::Args;

use super::super::Status;
use super::super::session::Session;
use super::stop::each;
use crate::failure::Failure;
use crate::ops::machine;

/// Remove machines
///
/// Remove their disks and keys, too; keep their images.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab rm docker
  vmfab rm --force docker docker-2")]
pub(crate) struct Rm {
    /// Names of the machines
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,

    /// Also remove running machines, without a shutdown
    #[arg(short, long)]
    force: bool,
}

impl Rm {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?;
        let removed = each(session, &self.names, "removed", |name| {
            machine::remove(context, name, self.force)
        })?;
        session.print(&removed, |removed| {
            let lines = removed.iter().map(|one| format!("{}: removed\n", one.name));
            lines.collect::<String>()
        })?;
        Ok(Status::Done)
    }
}

//! `vmfab rename`

use clap::Args;

use super::super::Status;
use super::super::session::Session;
use crate::failure::Failure;
use crate::ops::machine;

/// Rename a stopped machine
///
/// The machine keeps its disk, key and ports. Its guest gets the new host name at the next start.
/// The machines of a project have the names that its vmfab.kdl gives them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab rename docker-2 staging")]
pub(crate) struct Rename {
    /// Name of the machine
    name: String,

    /// Its new name
    #[arg(value_name = "NEW")]
    new: String,
}

impl Rename {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let renamed = machine::rename(session.context()?, &self.name, &self.new)?;
        session.print(&renamed, |renamed| {
            format!("{}: renamed to {}\n", renamed.before, renamed.name)
        })?;
        Ok(Status::Done)
    }
}

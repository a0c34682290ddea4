//! `vmfab resume`

use clap::Args;

use super::super::Status;
use super::super::session::Session;
use super::stop::each;
use crate::failure::Failure;
use crate::ops::machine::{self, Resumed};

/// Resume halted machines
///
/// QEMU halts a machine when the disk of this host is full, so that no write is lost. Free some
/// space first. resume also continues machines that are paused or asleep. vmfab start does the
/// same, and waits until the machine is ready.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab resume docker
  vmfab list                         show which machines are halted, and why")]
pub(crate) struct Resume {
    /// Names of the machines
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

impl Resume {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.reading_context()?;
        let resumed = each(session, &self.names, "resumed", |name| {
            machine::resume(context, name)
        })?;
        session.print(&resumed, |resumed| {
            resumed.iter().map(describe).collect::<String>()
        })?;
        Ok(Status::Done)
    }
}

fn describe(resumed: &Resumed) -> String {
    let how = match resumed.was_halted {
        true => "goes on",
        false => "was already running",
    };
    format!("{}: {how}\n", resumed.name)
}

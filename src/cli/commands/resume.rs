//! `vmfab resume`

use clap::Args;

use super::super::Status;
use super::super::session::Session;
use super::several::{Named, finish};
use crate::failure::Failure;
use crate::ops::machine::{self, Affected, Resumed};

/// Resume paused and suspended machines
///
/// vmfab pause pauses machines, and QEMU pauses one when the disk of this host is full, so that no
/// write is lost: free some space first. vmfab suspend writes the memory of a machine to a file;
/// resume continues from there and sets the clock. resume also wakes machines that are asleep.
/// vmfab start does the same, and waits until the machine is ready.
#[derive(Debug, Args)]
#[command(
    visible_alias = "unpause",
    after_help = "\
Examples:
  vmfab resume docker
  vmfab resume --all
  vmfab list                         show which machines are paused, and why"
)]
pub(crate) struct Resume {
    #[command(flatten)]
    machines: Named,
}

impl Resume {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?;
        let resumed = self
            .machines
            .targets(Affected::Halted)
            .each(context, |machine| machine::resume(context, machine))?;
        finish(session, resumed, "resumed", describe)
    }
}

fn describe(resumed: &Resumed) -> String {
    let how = match resumed.was_halted {
        true => "resumed",
        false => "was already running",
    };
    format!("{}: {how}\n", resumed.name)
}

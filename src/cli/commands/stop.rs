//! `vmfab stop`

use clap::Args;

use super::super::Status;
use super::super::session::Session;
use super::several::{Named, Shutdown, finish};
use crate::failure::Failure;
use crate::machine::StoppedBy;
use crate::ops::machine::{self, Affected, Stopped};

/// Stop machines
///
/// Press the power button, so that the machine shuts down. If it does not in time, end it; its disk
/// is then as after a power failure. vmfab start starts it again. A machine created with --rm is
/// removed. Several machines stop at the same time.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab stop docker
  vmfab stop --force docker
  vmfab stop worker control          all workers of a project, and control
  vmfab stop --all")]
pub(crate) struct Stop {
    #[command(flatten)]
    machines: Named,

    #[command(flatten)]
    shutdown: Shutdown,
}

impl Stop {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?;
        let timeout = self.shutdown.timeout();
        let stopped = self
            .machines
            .targets(Affected::Any)
            .each(context, |machine| {
                machine::stop_machine(context, machine, timeout)
            })?;
        finish(session, stopped, "stopped", describe)
    }
}

pub(super) fn describe(stopped: &Stopped) -> String {
    let how = match stopped.by {
        StoppedBy::Nothing => "was already stopped",
        StoppedBy::Guest => "stopped",
        StoppedBy::Force => "forced to stop",
    };
    let removed = if stopped.removed { ", removed" } else { "" };
    format!("{}: {how}{removed}\n", stopped.name)
}

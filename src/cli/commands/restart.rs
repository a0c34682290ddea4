//! `vmfab restart`

use std::time::Duration;

use clap::Args;

use super::super::Status;
use super::super::session::Session;
use super::boot::TIMEOUT;
use super::several::{Named, OvercommitArgs, Shutdown};
use super::start;
use crate::failure::Failure;
use crate::machine::Until;
use crate::ops::machine::{self, Affected, StartOptions};

/// Stop machines and start them again
///
/// Shut them down as vmfab stop does, and start them as vmfab start does: with a new QEMU, and with
/// what was changed since their last start. A stopped machine is started. A machine created with
/// --rm stays.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab restart docker
  vmfab restart --force docker
  vmfab restart --all")]
pub(crate) struct Restart {
    #[command(flatten)]
    machines: Named,

    #[command(flatten)]
    room: OvercommitArgs,

    #[command(flatten)]
    shutdown: Shutdown,

    /// Wait at most SECONDS until machines are ready again
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT)]
    ready_timeout: u64,
}

impl Restart {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?.clone();
        let context = &context.with_overcommit(self.room.overcommit);
        let timeout = self.shutdown.timeout();
        let options = StartOptions {
            until: Until::Ssh,
            timeout: Duration::from_secs(self.ready_timeout),
        };
        let restarted = self
            .machines
            .targets(Affected::Started)
            .each(context, |machine| {
                machine::restart(context, machine, timeout, options)
            })?;
        start::finish(session, restarted, "restarted")
    }
}

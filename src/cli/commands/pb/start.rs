//! `vmfab pb start`

use std::time::Duration;

use clap::Args;

use super::super::super::Status;
use super::super::super::session::Session;
use super::super::boot::TIMEOUT;
use crate::failure::Failure;
use crate::machine::Until;
use crate::ops::machine::StartOptions;
use crate::ops::pb;

/// Start a stopped machine of a bootable container
///
/// It has the disk that it had, and waits until a command over SSH has succeeded.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab pb start centos-bootc
  vmfab pb start d0300f628e13 && vmfab pb ssh d0300f628e13")]
pub(crate) struct Start {
    /// Name of the machine, or first digits of its image's id
    #[arg(value_name = "NAME|ID")]
    machine: String,

    /// Wait at most SECONDS until it is ready
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT)]
    timeout: u64,
}

impl Start {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?;
        let machine = pb::find(context, &self.machine)?;
        let options = StartOptions {
            until: Until::Ssh,
            timeout: Duration::from_secs(self.timeout),
        };
        let started = pb::start_again(context, &machine, options)?;
        let text = |name: &str| format!("{name}: enter it with: vmfab pb ssh {name}\n");
        session.print(&started, |started| text(started.name.as_str()))?;
        Ok(Status::Done)
    }
}

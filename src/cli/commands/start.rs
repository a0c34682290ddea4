//! `vmfab start`

use std::time::Duration;

use clap::Args;

use super::super::Status;
use super::super::session::Session;
use super::boot::TIMEOUT;
use crate::failure::Failure;
use crate::machine::Until;
use crate::ops::machine::{self, StartOptions};

/// Start a stopped machine
///
/// The machine keeps its disk, key and ports. vmfab start ends when a command over SSH has
/// succeeded. It leaves a running machine alone.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab start docker
  vmfab start docker && vmfab ssh docker")]
pub(crate) struct Start {
    /// Name of the machine
    name: String,

    /// Wait at most SECONDS until the machine is ready
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT)]
    timeout: u64,
}

impl Start {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let options = StartOptions {
            until: Until::Ssh,
            timeout: Duration::from_secs(self.timeout),
        };
        let started = machine::start(session.context()?, &self.name, options)?;
        session.print_last(
            &started,
            |started| started.name.clone(),
            |started| {
                let name = &started.name;
                match started.has_ssh {
                    true => format!("{name}: enter it with: vmfab ssh {name}"),
                    false => format!("{name}: started"),
                }
            },
        )?;
        Ok(Status::Done)
    }
}

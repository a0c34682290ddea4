//! `vmfab start`

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::super::error::CliError;
use super::super::session::Session;
use super::super::{Status, output};
use super::boot::TIMEOUT;
use crate::machine::Until;
use crate::ops::machine::{self, StartOptions, Started};

/// Start a machine that was stopped
///
/// It has the disk, the key and the ports that it had. The command ends when a command over SSH has
/// succeeded in it. A machine that runs is left alone.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab start docker
  vmfab start docker && vmfab ssh docker")]
pub(crate) struct Start {
    /// The machine
    name: String,

    /// How long it may take until it is ready, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT)]
    timeout: u64,
}

impl Start {
    pub(super) fn run(self, session: &Session) -> Result<Status, CliError> {
        let options = StartOptions {
            until: Until::Ssh,
            timeout: Duration::from_secs(self.timeout),
        };
        let started = machine::start(session.context()?, &self.name, options)?;
        session.end_progress();
        match (session.json(), session.quiet()) {
            (true, _) => output::write_json_line(&Outcome::Result(&started))?,
            (false, true) => output::write_text(&started.name)?,
            (false, false) => output::write_text(format!(
                "{name}: enter it with: vmfab ssh {name}",
                name = started.name
            ))?,
        }
        Ok(Status::Done)
    }
}

/// The last line of the JSON stream.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Outcome<'a> {
    Result(&'a Started),
}

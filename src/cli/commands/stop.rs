//! `vmfab stop`

use std::time::Duration;

use clap::Args;

use super::super::Status;
use super::super::output::count;
use super::super::session::Session;
use crate::failure::{Failure, Kind};
use crate::machine::StoppedBy;
use crate::ops::machine::{self, Stopped};

/// Stop machines
///
/// Press the power button, so that the machine shuts down. If it does not in time, end it; its disk
/// is then as after a power failure. vmfab start starts it again. A machine created with --rm is
/// removed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab stop docker
  vmfab stop --force docker
  vmfab list --quiet | xargs vmfab stop")]
pub(crate) struct Stop {
    /// Names of the machines
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,

    /// Wait at most SECONDS for machines to shut down
    #[arg(short, long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,

    /// End machines at once, without a shutdown
    #[arg(short, long, conflicts_with = "timeout")]
    force: bool,
}

impl Stop {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?;
        let timeout = Duration::from_secs(if self.force { 0 } else { self.timeout });
        each(session, &self.names, "stopped", |name| {
            machine::stop(context, name, timeout)
        })
        .and_then(|stopped| {
            session.print(&stopped, |stopped| {
                stopped.iter().map(describe).collect::<String>()
            })
        })?;
        Ok(Status::Done)
    }
}

/// Does something with each machine, whatever becomes of the others; fails when one of them failed.
pub(super) fn each<T>(
    session: &Session,
    names: &[String],
    done: &str,
    mut act: impl FnMut(&str) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let mut results = Vec::new();
    let mut errors = Vec::new();
    for name in names {
        match act(name) {
            Ok(result) => results.push(result),
            Err(error) if error.is(Kind::Interrupted) => return Err(error),
            Err(error) => errors.push(error),
        }
    }
    session.end_progress();
    if errors.is_empty() {
        return Ok(results);
    }
    let message = format!("{} could not be {done}", count(errors.len(), "machine"));
    Err(Failure::several(errors, message))
}

fn describe(stopped: &Stopped) -> String {
    let how = match stopped.by {
        StoppedBy::Nothing => "was already stopped",
        StoppedBy::Guest => "stopped",
        StoppedBy::Force => "forced to stop",
    };
    let removed = if stopped.removed { ", removed" } else { "" };
    format!("{}: {how}{removed}\n", stopped.name)
}

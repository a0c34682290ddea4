//! `vmfab down`

use std::time::Duration;

use clap::Args;

use super::super::Status;
use super::super::output::{count, size};
use super::super::session::Session;
use super::rm::loss;
use crate::failure::Failure;
use crate::machine::StoppedBy;
use crate::ops::project::{self, DownMachine, DownOptions, Outcome};

/// Stop the machines of a project
///
/// Stop them in reverse order of their dependencies. vmfab presses the power button; it ends a
/// machine that does not shut down in time. Disks stay, and vmfab up starts the machines again;
/// --rm removes them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab down
  vmfab down worker
  vmfab down --rm --dry-run
  vmfab down --rm --yes")]
pub(crate) struct Down {
    /// Machines to stop [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// Wait at most SECONDS for machines to shut down
    #[arg(short, long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,

    /// End machines at once, without a shutdown
    #[arg(short, long, conflicts_with = "timeout")]
    force: bool,

    /// Also remove the machines; their disks are lost
    #[arg(long)]
    rm: bool,

    /// Do not ask before discarding data
    #[arg(short, long)]
    yes: bool,

    /// Show what would happen, and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl Down {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let options = DownOptions {
            names: self.names,
            timeout: Duration::from_secs(if self.force { 0 } else { self.timeout }),
            remove: self.rm,
        };
        let context = session.context()?;
        let targets = project::targets(context, &options)?;
        if self.dry_run {
            session.print(&targets, |targets| plan_text(targets, self.rm))?;
            return Ok(Status::Done);
        }
        if self.rm && !self.yes && !targets.is_empty() {
            let lost = targets
                .iter()
                .map(|target| loss(&target.name, &target.loss));
            let lost: Vec<String> = lost.collect();
            session.confirm(&lost.join("\n"), "--yes")?;
        }
        let down = project::down(context, &options)?;
        session.print(&down, |down| {
            down.machines.iter().map(describe).collect::<String>()
        })?;
        if down.machines.is_empty() {
            session.note("the project has no machines: vmfab up creates them");
        }
        let errors: Vec<Failure> = down.failures;
        if errors.is_empty() {
            return Ok(Status::Done);
        }
        let message = format!("{} could not be stopped", count(errors.len(), "machine"));
        Err(Failure::several(errors, message))
    }
}

fn plan_text(targets: &[DownMachine], remove: bool) -> String {
    let line = |target: &DownMachine| {
        let own = size(target.loss.stored_size);
        let what = match (target.state, remove) {
            ("stopped", false) => "is already stopped".to_owned(),
            ("stopped", true) => format!("would be removed with its disk ({own} of its own)"),
            (_, false) => "would be stopped".to_owned(),
            (_, true) => format!("would be stopped and removed with its disk ({own} of its own)"),
        };
        format!("{}: {what}\n", target.name)
    };
    targets.iter().map(line).collect()
}

fn describe(outcome: &Outcome) -> String {
    if let Some(error) = &outcome.error {
        return format!("{}: failed: {error}\n", outcome.name);
    }
    let how = match outcome.by {
        Some(StoppedBy::Guest) => "stopped",
        Some(StoppedBy::Force) => "forced to stop",
        Some(StoppedBy::Nothing) | None => "was already stopped",
    };
    let removed = if outcome.removed { ", removed" } else { "" };
    format!("{}: {how}{removed}\n", outcome.name)
}

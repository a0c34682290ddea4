//! `vmfab start`

use std::time::Duration;

use clap::Args;

use super::super::Status;
use super::super::session::Session;
use super::boot::TIMEOUT;
use super::several::{self, Named, OvercommitArgs};
use crate::failure::Failure;
use crate::machine::Until;
use crate::ops::machine::{self, Affected, Each, StartOptions, Started};

/// Start stopped machines
///
/// A machine keeps its disk, key and ports. vmfab start ends when a command over SSH has succeeded
/// in each. It leaves running machines alone, and resumes paused and suspended ones. Several
/// machines start at the same time.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab start docker
  vmfab start docker && vmfab ssh docker
  vmfab start --all
  vmfab start --cold docker          boot anew instead of continuing a suspended machine")]
pub(crate) struct Start {
    #[command(flatten)]
    machines: Named,

    /// Boot suspended machines without what they had in memory, as after a power cut
    #[arg(long)]
    cold: bool,

    #[command(flatten)]
    room: OvercommitArgs,

    /// Wait at most SECONDS until machines are ready
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT)]
    timeout: u64,
}

impl Start {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?.clone();
        let context = &context.with_overcommit(self.room.overcommit);
        let options = StartOptions {
            until: Until::Ssh,
            timeout: Duration::from_secs(self.timeout),
        };
        let started = self
            .machines
            .targets(Affected::Any)
            .each(context, |machine| {
                machine::start_machine(context, machine, options, |locked| match self.cold {
                    true => Ok(locked.forget_memory()?),
                    false => Ok(()),
                })
            })?;
        finish(session, started, "started")
    }
}

/// Prints which machines were started, and fails when it was not all.
pub(super) fn finish(
    session: &Session,
    each: Each<Started>,
    done: &str,
) -> Result<Status, Failure> {
    let names = |started: &Vec<Started>| {
        let names = started.iter().map(|started| format!("{}\n", started.name));
        names.collect::<String>()
    };
    let text = |started: &Vec<Started>| started.iter().map(describe).collect::<String>();
    session.print_last(&each.done, names, text)?;
    several::check(each, done)
}

fn describe(started: &Started) -> String {
    let name = &started.name;
    match started.has_ssh {
        true => format!("{name}: enter it with: vmfab ssh {name}\n"),
        false => format!("{name}: started\n"),
    }
}

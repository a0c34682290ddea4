//! What commands have in common that are about several machines.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::super::Status;
use super::super::output::count;
use super::super::session::Session;
use crate::failure::Failure;
use crate::ops::machine::{Affected, Each, Targets};

/// Which machines a command is about.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// Machines; the name of a node with count= in vmfab.kdl stands for all of its machines
    #[arg(value_name = "NAME", required_unless_present = "all")]
    names: Vec<String>,

    /// All machines of the project, or of the home if the project has none
    #[arg(short, long, conflicts_with = "names")]
    all: bool,
}

impl Named {
    /// The machines; with `--all` those in one of the states.
    pub(super) fn targets(self, affected: Affected) -> Targets {
        match self.all {
            true => Targets::All(affected),
            false => Targets::Named(self.names),
        }
    }
}

/// Whether this host may promise more than it has.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(super) struct OvercommitArgs {
    /// Start machines even if this host has no room for them
    #[arg(long)]
    pub(super) overcommit: bool,
}

/// How machines are shut down.
#[derive(Debug, Args)]
pub(super) struct Shutdown {
    /// Wait at most SECONDS for machines to shut down
    #[arg(short, long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,

    /// End machines at once, without a shutdown
    #[arg(short, long, conflicts_with = "timeout")]
    force: bool,
}

impl Shutdown {
    /// How long guests may take; with zero they are not asked.
    pub(super) const fn timeout(&self) -> Duration {
        match self.force {
            true => Duration::ZERO,
            false => Duration::from_secs(self.timeout),
        }
    }
}

/// Prints what became of machines, and fails when it was not done with all of them; `done` is the
/// word for it.
pub(super) fn finish<T: Serialize>(
    session: &Session,
    each: Each<T>,
    done: &str,
    describe: impl Fn(&T) -> String,
) -> Result<Status, Failure> {
    let lines = |results: &Vec<T>| results.iter().map(&describe).collect::<String>();
    session.print(&each.done, lines)?;
    if each.done.is_empty() && each.failures.is_empty() {
        session.note(&format!("no machine to be {done}"));
    }
    check(each, done)
}

/// Fails when something was not done with all machines.
pub(super) fn check<T>(mut each: Each<T>, done: &str) -> Result<Status, Failure> {
    if let Some(interrupted) = each.interrupted() {
        return Err(interrupted.clone());
    }
    match each.failures.len() {
        0 => Ok(Status::Done),
        number => {
            let message = format!("{} could not be {done}", count(number, "machine"));
            Err(Failure::several(
                std::mem::take(&mut each.failures),
                message,
            ))
        }
    }
}

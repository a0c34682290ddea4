//! Machines side by side: what each does, and the end of its console.

use serde::Serialize;

use super::super::Context;
use super::list::{Lister, MachineEntry};
use super::targets::Targets;
use crate::failure::Failure;
use crate::machine::{Machine, last_lines};

/// A machine, and what its guest wrote last.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Glance {
    /// What the list says.
    #[serde(flatten)]
    pub entry: MachineEntry,
    /// The last lines of its console, as text.
    pub console: Vec<String>,
}

/// Looks at machines, each with at most `lines` of its console. Names that stand for none are left
/// out.
///
/// # Errors
/// A directory cannot be read.
pub fn glance(
    context: &Context,
    lister: &mut Lister,
    targets: &Targets,
    lines: usize,
) -> Result<Vec<(Machine, Glance)>, Failure> {
    let machines = targets.find(context)?.done;
    let entries = lister.ask(&machines)?;
    let glances = machines.into_iter().zip(entries).map(|(machine, entry)| {
        let console = last_lines(&machine.console_log(), lines);
        (machine, Glance { entry, console })
    });
    Ok(glances.collect())
}

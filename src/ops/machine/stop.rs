//! Stopping and removing machines.

use std::time::Duration;

use serde::Serialize;

use super::super::Context;
use super::find_machine;
use crate::failure::Failure;
use crate::machine::{Machine, MachineName, Projects, StoppedBy};

/// A machine that does not run any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stopped {
    pub name: MachineName,
    /// What it took.
    pub by: StoppedBy,
    /// Whether it is gone, because it was made to go when it stops.
    pub removed: bool,
}

/// Presses a machine's power button, waits up to `timeout` for the guest, and then ends QEMU. With
/// a `timeout` of zero the guest is not asked.
///
/// # Errors
/// There is no such machine, or QEMU cannot be ended.
pub fn stop(context: &Context, name: &str, timeout: Duration) -> Result<Stopped, Failure> {
    stop_machine(context, &find_machine(context, name)?, timeout)
}

/// The same with a machine that was found.
///
/// # Errors
/// See [`stop`].
pub fn stop_machine(
    context: &Context,
    machine: &Machine,
    timeout: Duration,
) -> Result<Stopped, Failure> {
    let locked = machine.lock(context.sink.as_ref(), &context.interrupt)?;
    let by = locked.stop(timeout, context.sink.as_ref(), &context.interrupt)?;
    let removed = machine
        .config()
        .is_ok_and(|config| config.remove_when_stopped);
    if removed {
        locked.remove(false)?;
    }
    Ok(Stopped {
        name: machine.name().clone(),
        by,
        removed,
    })
}

/// A machine that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removed {
    pub name: MachineName,
}

/// Removes a machine with its disk and key; one that runs only by `force`.
///
/// # Errors
/// There is no such machine, or it runs.
pub fn remove(context: &Context, name: &str, force: bool) -> Result<Removed, Failure> {
    let machine = find_machine(context, name)?;
    machine
        .lock(context.sink.as_ref(), &context.interrupt)?
        .remove(force)?;
    if let Some(project) = machine.project() {
        Projects::new(&context.home).tidy(project)?;
    }
    Ok(Removed {
        name: machine.name().clone(),
    })
}

//! Stopping and removing machines.

use std::time::Duration;

use serde::Serialize;

use super::super::Context;
use super::find_machine;
use super::ssh_config::refresh_ssh_config;
use crate::audit::Deed;
use crate::failure::Failure;
use crate::machine::{Locked, Machine, MachineError, MachineName, Projects, StoppedBy};

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
/// QEMU cannot be ended, or the user gave up.
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
        remove_locked(context, locked, false)?;
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
/// It runs.
pub fn remove(context: &Context, machine: &Machine, force: bool) -> Result<Removed, Failure> {
    let locked = machine.lock(context.sink.as_ref(), &context.interrupt)?;
    remove_locked(context, locked, force)?;
    if let Some(project) = machine.project() {
        Projects::new(&context.home).tidy(project)?;
    }
    refresh_ssh_config(context);
    Ok(Removed {
        name: machine.name().clone(),
    })
}

/// Removes a machine that is locked.
///
/// # Errors
/// See [`remove`].
pub(in crate::ops) fn remove_locked(
    context: &Context,
    locked: Locked,
    force: bool,
) -> Result<(), MachineError> {
    let machine = locked.machine().name().to_string();
    locked.remove(force)?;
    context.record(&Deed::MachineRemoved { machine });
    Ok(())
}

/// A machine that has another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Renamed {
    pub name: MachineName,
    /// Its name before.
    pub before: MachineName,
}

/// Gives a stopped machine of the home another name.
///
/// # Errors
/// There is no such machine, it runs, it is of a project, or the name is taken.
pub fn rename(context: &Context, name: &str, new: &str) -> Result<Renamed, Failure> {
    let machine = find_machine(context, name)?;
    if let Some(project) = machine.project() {
        return Err(Failure::usage(format!(
            "machine \"{}\" belongs to the project {}",
            machine.name(),
            project.root().display()
        ))
        .with_help(
            "its file names its machines: under another name, vmfab up creates another machine",
        ));
    }
    let new: MachineName = new.parse().map_err(MachineError::from)?;
    let locked = machine.lock(context.sink.as_ref(), &context.interrupt)?;
    let renamed = locked.rename(&new)?;
    refresh_ssh_config(context);
    Ok(Renamed {
        name: renamed.name().clone(),
        before: machine.name().clone(),
    })
}

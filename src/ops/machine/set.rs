//! Changing what a machine has.

use serde::Serialize;

use super::super::Context;
use super::find_machine;
use crate::failure::Failure;
use crate::image::{Hardware, Network};
use crate::machine::{MachineError, MachineName, State, check_memory};

/// What a machine has now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    pub name: MachineName,
    /// In bytes.
    pub memory: u64,
    /// Virtual processors.
    pub cpus: u32,
    /// What it is connected to.
    pub network: Network,
    /// In bytes.
    pub disk_size: u64,
    /// Whether it runs, and so has what it had before until its next start.
    pub after_next_start: bool,
    /// Whether its guest runs and sees a larger disk.
    pub disk_grew_live: bool,
}

/// Changes memory, processors, network and the size of the disk, as far as they are said.
///
/// # Errors
/// There is no such machine, this host has less memory, or the disk would shrink.
pub fn set(context: &Context, name: &str, hardware: &Hardware) -> Result<Changed, Failure> {
    let machine = find_machine(context, name)?;
    let locked = machine.lock(context.sink.as_ref(), &context.interrupt)?;
    if machine.state()? == State::Suspended {
        return Err(MachineError::Suspended(machine.name().clone()).into());
    }
    if let Some(mib) = hardware.memory_mib {
        check_memory(mib)?;
    }
    let disk_grew_live = match hardware.disk_size {
        Some(bytes) => locked.grow(bytes)?,
        None => false,
    };
    locked.change(|config| {
        config.memory_mib = hardware.memory_mib.unwrap_or(config.memory_mib);
        config.cpus = hardware.cpus.unwrap_or(config.cpus);
        if let Some(network) = &hardware.network {
            config.network.clone_from(network);
        }
    })?;
    let later =
        hardware.memory_mib.is_some() || hardware.cpus.is_some() || hardware.network.is_some();
    let config = machine.config()?;
    Ok(Changed {
        name: machine.name().clone(),
        memory: u64::from(config.memory_mib) << 20,
        cpus: config.cpus,
        network: config.network.clone(),
        disk_size: config.disk_size(),
        after_next_start: later && machine.state()? != State::Stopped,
        disk_grew_live,
    })
}

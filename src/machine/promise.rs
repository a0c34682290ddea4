//! What machines were promised of this host: their QEMUs say it, not their configs, which may have
//! changed since.

use std::fs;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::directory::holders;
use super::{Machine, MachineConfig};
use crate::qemu;

/// What a machine may take of this host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// Bytes of memory.
    pub memory: u64,
    /// Virtual processors.
    pub cpus: u32,
}

impl Promise {
    /// What a machine of these settings will have.
    #[must_use]
    pub fn new(memory_mib: u32, cpus: u32) -> Self {
        Self {
            memory: u64::from(memory_mib) << 20,
            cpus,
        }
    }

    /// What a machine will have when it is started.
    #[must_use]
    pub fn of(config: &MachineConfig) -> Self {
        Self::new(config.memory_mib, config.cpus)
    }

    /// Whether another promise asks for nothing beyond this one.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        other.memory <= self.memory && other.cpus <= self.cpus
    }

    /// What each of several machines has; nothing for those that do not run. A QEMU that is about to
    /// start or to end counts with its config.
    #[must_use]
    pub fn running(machines: &[Machine]) -> Vec<Option<Self>> {
        let taken: Vec<bool> = machines
            .iter()
            .map(|machine| machine.has_qemu().unwrap_or(false))
            .collect();
        if !taken.contains(&true) {
            return vec![None; machines.len()];
        }
        let pids = holders(machines.iter().map(Machine::directory));
        let machines = machines.iter().zip(taken).zip(pids);
        machines
            .map(
                |((machine, taken), pid)| match (taken, pid.and_then(asked)) {
                    (false, _) => None,
                    (true, None) => machine.config().ok().map(|config| Self::of(&config)),
                    (true, said) => said,
                },
            )
            .collect()
    }
}

/// What the arguments of a process say.
fn asked(pid: Pid) -> Option<Promise> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let (memory_mib, cpus) = qemu::promised(bytes.split(|byte| *byte == 0))?;
    Some(Promise::new(memory_mib, cpus))
}

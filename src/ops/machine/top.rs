//! What machines use of this host, beside what they were promised.

use serde::Serialize;

use super::super::Context;
use super::admission::{HostRoom, room};
use super::list::{Lister, MachineEntry};
use crate::failure::Failure;
use crate::host::{available_memory, load};

/// What machines use of this host.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Top {
    pub host: HostUse,
    /// Those that take something of it, the busiest first.
    pub machines: Vec<MachineEntry>,
}

/// This host, with all that runs on it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HostUse {
    #[serde(flatten)]
    pub room: HostRoom,
    /// Bytes of memory that programs can still take.
    pub memory_available: Option<u64>,
    /// Processes that ran or wanted to, on average over the last minute.
    pub load: Option<f64>,
    /// Bytes that the disks of all machines, stopped ones too, may grow to.
    pub disk_promised: u64,
    /// Bytes that they take.
    pub disk_used: u64,
}

/// What the machines of the home and of its projects use now.
///
/// # Errors
/// A directory cannot be read.
pub fn top(context: &Context, lister: &mut Lister) -> Result<Top, Failure> {
    let mut machines = lister.list(context, true)?;
    let settings = machines.iter().filter_map(|one| one.settings.as_ref());
    let host = HostUse {
        disk_promised: settings.map(|settings| settings.disk_size).sum(),
        disk_used: machines.iter().map(|machine| machine.stored_size).sum(),
        room: room(context)?,
        memory_available: available_memory(),
        load: load(),
    };
    machines.retain(|machine| machine.usage.is_some());
    let cpu = |machine: &MachineEntry| machine.usage.map_or(0.0, |usage| usage.cpu);
    machines.sort_by(|one, other| cpu(other).total_cmp(&cpu(one)));
    Ok(Top { host, machines })
}

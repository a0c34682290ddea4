//! QEMU: its command line, its firmware, its control socket.
//!
//! What a machine is made of goes in as a typed [`MachineSpec`]; [`arguments`] turns it into QEMU's
//! arguments and does nothing else. Fields go to `-blockdev` and `-device`, never to the legacy
//! `-drive`, which has its own quoting and stops migration from working.

mod accel;
pub mod agent;
mod command;
mod firmware;
mod memory;
mod network;
pub mod qmp;
pub mod socket;
mod told;

pub use accel::{Accel, AccelChoice, ProbeFile, kvm_failed};
pub use command::{
    AGENT, Backing, Boot, Disk, MachineSpec, Share, ShareServer, arguments, disk_node, promised,
};
pub use firmware::{Firmware, FirmwareMissing, find_firmware};
pub use memory::{MEMORY_SOCKET, Sending, incoming};
pub use network::{Card, Forward, MetadataService, OtherEnd, Uplink};
pub use told::{Told, container_string};

//! `vmfab set`

use clap::Args;

use super::super::Status;
use super::super::output::size;
use super::super::session::Session;
use super::hardware::{parse_memory, parse_network, parse_size};
use crate::failure::Failure;
use crate::image::{Hardware, Network};
use crate::ops::machine::{self, Changed};

/// Change the memory, the processors, the disk or the network of a machine
///
/// A running machine gets other memory, processors and network at its next start. Its disk grows at once; the
/// file system on it grows when the guest boots. A disk cannot shrink. The vmfab.kdl of a project sets
/// memory, processors and network again at the next vmfab up.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab set docker memory=4G cpus=4
  vmfab set docker disk-size=40G
  vmfab set docker network=none")]
pub(crate) struct Set {
    /// Name of the machine
    name: String,

    /// What to change: memory=SIZE, cpus=N, disk-size=SIZE, network=NETWORK (as for vmfab boot)
    #[arg(value_name = "KEY=VALUE", required = true, value_parser = parse_change)]
    changes: Vec<Change>,
}

/// One change.
#[derive(Debug, Clone)]
enum Change {
    Memory(u32),
    Cpus(u32),
    DiskSize(u64),
    Network(Network),
}

impl Set {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let mut hardware = Hardware::default();
        for change in &self.changes {
            match change {
                Change::Memory(mib) => hardware.memory_mib = Some(*mib),
                Change::Cpus(number) => hardware.cpus = Some(*number),
                Change::DiskSize(bytes) => hardware.disk_size = Some(*bytes),
                Change::Network(network) => hardware.network = Some(network.clone()),
            }
        }
        let changed = machine::set(session.context()?, &self.name, &hardware)?;
        session.print(&changed, |changed| {
            format!(
                "{}: memory {}, processors {}, disk {}, network {}\n",
                changed.name,
                size(changed.memory),
                changed.cpus,
                size(changed.disk_size),
                changed.network
            )
        })?;
        note(session, &changed);
        Ok(Status::Done)
    }
}

/// Says what is not so yet.
fn note(session: &Session, changed: &Changed) {
    let name = &changed.name;
    if changed.after_next_start {
        session.note(&format!(
            "machine \"{name}\" is running: it gets memory, processors and network at its next start"
        ));
    }
    if changed.disk_grew_live {
        session.note(&format!(
            "the guest of \"{name}\" sees the larger disk; its file system grows at the next boot"
        ));
    }
}

fn parse_change(text: &str) -> Result<Change, String> {
    let help = "write memory=4G, cpus=4, disk-size=40G or network=none";
    let (key, value) = text.split_once('=').ok_or(help)?;
    match key {
        "memory" => parse_memory(value).map(Change::Memory),
        "cpus" => value
            .parse()
            .ok()
            .filter(|number| (1..=255).contains(number))
            .map(Change::Cpus)
            .ok_or_else(|| "write a number of processors from 1 to 255".to_owned()),
        "disk-size" => parse_size(value).map(Change::DiskSize),
        "network" => parse_network(value).map(Change::Network),
        _ => Err(help.to_owned()),
    }
}

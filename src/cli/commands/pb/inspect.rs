//! `vmfab pb inspect`

use clap::Args;
use serde::Serialize;

use super::super::super::Status;
use super::super::super::session::Session;
use super::super::inspect::describe;
use crate::failure::Failure;
use crate::ops::machine::{self, MachineDetails};
use crate::ops::pb::{self, PbMachine};

/// Show details of a machine of a bootable container
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab pb inspect centos-bootc
  vmfab pb inspect d0300f628e13 --json | jq .ssh_port")]
pub(crate) struct Inspect {
    /// Name of the machine, or first digits of its image's id
    #[arg(value_name = "NAME|ID")]
    machine: String,
}

/// What is known of a machine.
#[derive(Serialize)]
struct Details {
    #[serde(flatten)]
    machine: PbMachine,
    /// Nothing when its record is lost.
    details: Option<MachineDetails>,
}

impl Inspect {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.reading_context()?;
        let machine = pb::find(context, &self.machine)?;
        let details = match machine.recorded {
            true => Some(machine::inspect(context, machine.name.as_str())?),
            false => None,
        };
        let details = Details { machine, details };
        session.print(&details, text)?;
        Ok(Status::Done)
    }
}

fn text(details: &Details) -> String {
    let Details { machine, details } = details;
    let mut text = format!(
        "{:<14}{}\n{:<14}{}\n",
        "id:", machine.container.id, "repo:", machine.container.reference
    );
    match details {
        Some(details) => text += &describe(details),
        None => {
            text += &format!("{:<14}{}\n", "name:", machine.name);
            text += &format!("{:<14}{}\n", "running:", machine.running);
            if let Some(port) = machine.ssh_port {
                text += &format!("{:<14}127.0.0.1 port {port}\n", "ssh:");
            }
            text += &format!("{:<14}lost; this is what its QEMU tells\n", "record:");
        }
    }
    text
}

//! `vmfab pb list`

use clap::Args;

use super::super::super::Status;
use super::super::super::podman_bootc;
use super::super::super::session::Session;
use super::columns::{ago, columns, now};
use crate::failure::Failure;
use crate::ops::pb::{self, PbMachine, human_size};

/// List the machines of bootable containers
///
/// Whether they run is current: vmfab asks each QEMU now. A machine whose record is lost is listed
/// with what its QEMU tells. The link podman-bootc prints no column NAME.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab pb list
  vmfab pb list --json | jq -r '.[] | select(.running).name'")]
pub(crate) struct List {}

impl List {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let Self {} = self;
        let machines = pb::list(session.reading_context()?)?;
        session.print(&machines, |machines| {
            if session.quiet() {
                let names = machines.iter().map(|machine| format!("{}\n", machine.name));
                names.collect()
            } else {
                table(machines, podman_bootc::is_called())
            }
        })?;
        Ok(Status::Done)
    }
}

fn table(machines: &[PbMachine], plain: bool) -> String {
    let header = ["ID", "REPO", "SIZE", "CREATED", "RUNNING", "SSH PORT"];
    let rows = machines.iter().map(|machine| {
        let unknown = || "<unknown>".to_owned();
        [
            machine.container.id.short(),
            machine.container.reference.to_string(),
            machine.disk_size.map_or_else(unknown, human_size),
            machine
                .created
                .map_or_else(unknown, |time| ago(time, now())),
            machine.running.to_string(),
            machine
                .ssh_port
                .map_or_else(unknown, |port| port.to_string()),
        ]
    });
    let rows: Vec<[String; 6]> = rows.collect();
    if plain {
        return columns(header, &rows);
    }
    let [id, repo, size, created, running, port] = header;
    let named = rows.into_iter().zip(machines).map(|(row, machine)| {
        let [id, repo, size, created, running, port] = row;
        [
            id,
            repo,
            size,
            created,
            running,
            port,
            machine.name.to_string(),
        ]
    });
    let named: Vec<[String; 7]> = named.collect();
    columns([id, repo, size, created, running, port, "NAME"], &named)
}

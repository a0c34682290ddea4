//! `vmfab inspect`

use std::time::{Duration, UNIX_EPOCH};

use clap::Args;

use super::super::Status;
use super::super::output::{duration, size};
use super::super::session::Session;
use super::list::ports;
use crate::failure::Failure;
use crate::image::{Devices, DiskFile, Firmware};
use crate::ops::machine::{self, MachineDetails};
use crate::qemu::{Accel, AccelChoice};

/// Show details of a machine
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab inspect docker
  vmfab inspect docker --json | jq .ssh.port")]
pub(crate) struct Inspect {
    /// Name of the machine
    name: String,
}

impl Inspect {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let details = machine::inspect(session.reading_context()?, &self.name)?;
        session.print(&details, describe)?;
        Ok(Status::Done)
    }
}

pub(super) fn describe(details: &MachineDetails) -> String {
    let entry = &details.entry;
    let mut rows: Vec<(&str, String)> = vec![
        ("name", entry.name.to_string()),
        (
            "state",
            match entry.reason {
                Some("disk-full") => format!(
                    "paused until space is free: no space left on {}",
                    details.directory.display()
                ),
                _ => entry.state.to_owned(),
            },
        ),
        (
            "process",
            entry.pid.map_or_else(String::new, |pid| pid.to_string()),
        ),
    ];
    if let Some(usage) = &entry.usage {
        rows.extend([
            ("uptime", duration(usage.uptime)),
            (
                "uses",
                format!(
                    "{} of memory, {:.0}% of a processor",
                    size(usage.memory),
                    usage.cpu * 100.0
                ),
            ),
        ]);
    }
    if let Some(project) = &entry.project {
        rows.push(("project", project.display().to_string()));
    }
    if let Some(settings) = &entry.settings {
        let created = UNIX_EPOCH + Duration::from_secs(settings.created);
        rows.extend([
            (
                "image",
                format!("{} {}", settings.image_name, settings.image.short()),
            ),
            (
                "container",
                settings
                    .container
                    .as_ref()
                    .map_or_else(String::new, |container| {
                        format!("{} {}", container.reference, container.id.short())
                    }),
            ),
            (
                "created",
                humantime::format_rfc3339_seconds(created).to_string(),
            ),
            ("processors", settings.cpus.to_string()),
            ("memory", size(settings.memory)),
            (
                "disk",
                format!(
                    "{}, {} of its own on this host",
                    size(settings.disk_size),
                    size(details.entry.stored_size)
                ),
            ),
            (
                "boots",
                match settings.firmware {
                    Firmware::Direct => "kernel directly".to_owned(),
                    Firmware::Uefi => "UEFI".to_owned(),
                    Firmware::Bios => "BIOS".to_owned(),
                },
            ),
            (
                "acceleration",
                acceleration(settings.accel, details.runs_under),
            ),
            ("seed", settings.seed.describe().to_owned()),
            (
                "ssh",
                format!(
                    "{}@{} port {}",
                    settings.ssh.user, settings.ssh.host, settings.ssh.port
                ),
            ),
            ("ports", ports(entry)),
        ]);
        for bytes in &settings.further_disks {
            rows.push(("further disk", size(*bytes)));
        }
        for DiskFile { path, writable, .. } in &settings.disk_files {
            let how = if *writable { "" } else { ", read-only" };
            rows.push(("further disk", format!("{}{how}", path.display())));
        }
        for mount in &settings.mounts {
            rows.push(("mounts", mount.to_string()));
        }
        rows.extend(devices(&settings.devices));
        rows.push(("network", settings.network.to_string()));
        if settings.remove_when_stopped {
            rows.push(("goes", "when it is stopped".to_owned()));
        }
    }
    rows.extend([
        ("key", details.private_key.display().to_string()),
        ("console", details.console_log.display().to_string()),
        (
            "vnc",
            details
                .vnc_socket
                .as_ref()
                .map_or_else(String::new, |socket| format!("unix:{}", socket.display())),
        ),
        ("directory", details.directory.display().to_string()),
    ]);
    rows.iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{:<14}{value}\n", format!("{name}:")))
        .collect()
}

/// What was asked for, and what it came to.
fn acceleration(asked: AccelChoice, runs_under: Option<Accel>) -> String {
    let asked = asked.name();
    match runs_under {
        Some(accel) if accel.name() == asked => asked.to_owned(),
        Some(accel) => format!("{asked}, running under {}", accel.name()),
        None => asked.to_owned(),
    }
}

/// What differs from the usual devices.
fn devices(devices: &Devices) -> Vec<(&'static str, String)> {
    let mut rows = devices.platform.describe();
    if let Some(file) = &devices.cdrom {
        rows.push(("cdrom", file.display().to_string()));
    }
    if devices.tpm {
        rows.push(("tpm", "2.0".to_owned()));
    }
    rows
}

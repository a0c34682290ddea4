//! `vmfab volume`

use std::time::{Duration, UNIX_EPOCH};

use clap::{Args, Subcommand};

use super::super::Status;
use super::super::output::size;
use super::super::session::Session;
use super::super::table::{Align, Table};
use super::hardware::parse_size;
use crate::failure::Failure;
use crate::ops::volume::{self, VolumeEntry};

/// Manage volumes
///
/// A volume is a disk with a name. A machine mounts it at each boot, and it outlives the machine.
/// One machine at a time can use it.
#[derive(Debug, Args)]
#[command(
    subcommand_value_name = "COMMAND",
    after_help = "\
Examples:
  vmfab volume create data --size 40G
  vmfab boot @docker --volume data:/var/lib/docker
  vmfab volume list"
)]
pub(crate) struct Volume {
    #[command(subcommand)]
    command: VolumeCommand,
}

#[derive(Debug, Subcommand)]
enum VolumeCommand {
    Create(Create),
    List(List),
    Inspect(Inspect),
    Resize(Resize),
    Rm(Rm),
}

impl Volume {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        match self.command {
            VolumeCommand::Create(command) => command.run(session),
            VolumeCommand::List(command) => command.run(session),
            VolumeCommand::Inspect(command) => command.run(session),
            VolumeCommand::Resize(command) => command.run(session),
            VolumeCommand::Rm(command) => command.run(session),
        }
    }
}

/// Create a volume with an empty file system
///
/// vmfab boot and vmfab up create the volumes that they need, of 10 GiB. Unused space costs nothing
/// on this host.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab volume create data
  vmfab volume create data --size 40G")]
struct Create {
    /// Name of the volume
    #[arg(value_name = "NEW-VOLUME")]
    name: String,

    /// Set its size [default: 10G]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    size: Option<u64>,
}

impl Create {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let made = volume::create(session.context()?, &self.name, self.size)?;
        session.print(&made, |made| {
            format!("{}: {}\n", made.name, size(made.size))
        })?;
        Ok(Status::Done)
    }
}

/// List volumes
#[derive(Debug, Args)]
#[command(
    visible_alias = "ls",
    after_help = "\
Examples:
  vmfab volume list
  vmfab volume list --json | jq -r '.[] | select(.machines == []).name'"
)]
struct List {}

impl List {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let entries = volume::list(session.reading_context()?)?;
        session.print(&entries, |entries| {
            if session.quiet() {
                return entries
                    .iter()
                    .map(|one| format!("{}\n", one.name))
                    .collect();
            }
            if entries.is_empty() {
                return String::new();
            }
            let mut table = Table::new(vec![
                ("NAME", Align::Left),
                ("SIZE", Align::Right),
                ("USED", Align::Right),
                ("MACHINES", Align::Left),
            ]);
            for entry in entries {
                table.row(vec![
                    entry.name.to_string(),
                    size(entry.size),
                    size(entry.stored_size),
                    machines(entry),
                ]);
            }
            table.to_string()
        })?;
        if entries.is_empty() {
            session.note("no volumes: vmfab volume create NAME creates one");
        }
        Ok(Status::Done)
    }
}

/// The machines that mount it; the one that runs with it is marked.
fn machines(entry: &VolumeEntry) -> String {
    let marked =
        entry
            .machines
            .iter()
            .map(|machine| match entry.in_use_by.as_ref() == Some(machine) {
                true => format!("{machine} (in use)"),
                false => machine.clone(),
            });
    marked.collect::<Vec<_>>().join(", ")
}

/// Show details of a volume
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab volume inspect data
  vmfab volume inspect data --json | jq -r .path")]
struct Inspect {
    /// Name of the volume
    name: String,
}

impl Inspect {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let entry = volume::inspect(session.reading_context()?, &self.name)?;
        session.print(&entry, |entry| {
            let created = UNIX_EPOCH + Duration::from_secs(entry.created);
            let rows = [
                ("name", entry.name.to_string()),
                ("size", size(entry.size)),
                ("used", size(entry.stored_size)),
                (
                    "created",
                    humantime::format_rfc3339_seconds(created).to_string(),
                ),
                ("machines", machines(entry)),
                ("path", entry.path.display().to_string()),
            ];
            rows.iter()
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| format!("{:<10}{value}\n", format!("{name}:")))
                .collect::<String>()
        })?;
        Ok(Status::Done)
    }
}

/// Make a volume larger
///
/// The disk grows at once, and its file system when a machine mounts it at its next boot. A volume cannot
/// shrink.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab volume resize data 40G")]
struct Resize {
    /// Name of the volume
    name: String,

    /// Its new size
    #[arg(value_parser = parse_size)]
    size: u64,
}

impl Resize {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let resized = volume::resize(session.context()?, &self.name, self.size)?;
        session.print(&resized, |resized| {
            let volume = &resized.volume;
            format!("{}: {}\n", volume.name, size(volume.size))
        })?;
        if let (Some(machine), true) = (&resized.volume.in_use_by, resized.live) {
            session.note(&format!(
                "the guest of \"{machine}\" sees the larger disk; its file system grows at the next boot"
            ));
        }
        Ok(Status::Done)
    }
}

/// Remove volumes and their data
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab volume rm data
  vmfab volume rm --force data")]
struct Rm {
    /// Names of the volumes
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,

    /// Also remove volumes that belong to stopped machines
    #[arg(short, long)]
    force: bool,
}

impl Rm {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?;
        let (mut removed, mut errors) = (Vec::new(), Vec::new());
        for name in &self.names {
            match volume::remove(context, name, self.force) {
                Ok(name) => removed.push(name),
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            let message = format!("{} volumes could not be removed", errors.len());
            return Err(Failure::several(errors, message));
        }
        session.print(&removed, |removed| {
            let lines = removed.iter().map(|name| format!("{name}: removed\n"));
            lines.collect::<String>()
        })?;
        Ok(Status::Done)
    }
}

//! `vmfab snapshot create|list|inspect|diff|restore|delete|export|import`

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand, ValueEnum, ValueHint};

use super::super::Status;
use super::super::output::{age, size};
use super::super::session::Session;
use super::super::table::{Align, Table};
use super::several::Shutdown;
use crate::failure::Failure;
use crate::machine::Parts;
use crate::ops::machine;
use crate::ops::snapshot::{
    self, Change, CreateOptions, Entry, ExportOptions, ImportOptions, Kind, RestoreOptions,
    Restored, SnapshotDetails,
};
use crate::share::SnapshotKind;

/// Save machines and set them back
///
/// A project snapshot (NAME) holds the disks and settings of a machine at one moment. A base
/// snapshot (@NAME) is an image.
#[derive(Debug, Args)]
#[command(
    visible_alias = "base",
    subcommand_value_name = "COMMAND",
    after_help = "\
Examples:
  vmfab snapshot create before-upgrade --machine web
  vmfab snapshot list
  vmfab snapshot diff before-upgrade
  vmfab snapshot restore before-upgrade
  vmfab snapshot delete before-upgrade
  vmfab snapshot export @docker && scp docker.snapshot.tar.gz other-host:"
)]
pub(crate) struct Snapshot {
    #[command(subcommand)]
    command: SnapshotCommand,
}

#[derive(Debug, Subcommand)]
enum SnapshotCommand {
    Create(Create),
    List(List),
    Inspect(Inspect),
    Diff(Diff),
    Restore(Restore),
    Delete(Delete),
    Export(Export),
    Import(Import),
}

impl Snapshot {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        match self.command {
            SnapshotCommand::Create(command) => command.run(session),
            SnapshotCommand::List(command) => command.run(session),
            SnapshotCommand::Inspect(command) => command.run(session),
            SnapshotCommand::Diff(command) => command.run(session),
            SnapshotCommand::Restore(command) => command.run(session),
            SnapshotCommand::Delete(command) => command.run(session),
            SnapshotCommand::Export(command) => command.run(session),
            SnapshotCommand::Import(command) => command.run(session),
        }
    }
}

/// Make a snapshot of a machine
///
/// The machine goes on. A stopped machine is saved as it is. The disks and volumes of a running one
/// are saved as after a power failure; --quiesce has the guest write its file systems back first.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab snapshot create before-upgrade --machine web
  vmfab snapshot create nightly --machine db --quiesce --description 'before the import'
  vmfab snapshot create logged-in --machine web --memory")]
struct Create {
    /// Name of the snapshot
    name: String,

    /// Name of the machine [default: the only one of the project]
    #[arg(short, long, value_name = "MACHINE")]
    machine: Option<String>,

    /// Have the guest write back and freeze its file systems for the moment
    #[arg(long, conflicts_with = "memory")]
    quiesce: bool,

    /// Save what the guest has in memory, too; the guest is halted meanwhile
    ///
    /// vmfab snapshot restore gives it back to the same machine on this host, which then goes on from
    /// that moment instead of booting. vmfab snapshot export leaves it out.
    #[arg(long)]
    memory: bool,

    /// Say what it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

impl Create {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?;
        let machine = match self.machine {
            Some(machine) => machine,
            None => machine::only_machine(context)?,
        };
        let options = CreateOptions {
            name: self.name,
            machine,
            description: self.description,
            quiesce: self.quiesce,
            memory: self.memory,
        };
        let made = snapshot::create(context, &options)?;
        session.print(&made, |made| {
            format!(
                "{}: snapshot of {}, {}; {}\n",
                made.snapshot.name,
                made.snapshot.machine,
                size(made.size),
                made.snapshot.frozen.describe(),
            )
        })?;
        Ok(Status::Done)
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Type {
    Base,
    Project,
}

/// List snapshots
///
/// SIZE of a project snapshot is what its machine had written since the snapshot before.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab snapshot list
  vmfab snapshot list --type project
  vmfab snapshot list --json | jq -r '.[].name'")]
struct List {
    /// List only base ones (images) or project ones (machines)
    #[arg(long = "type", value_name = "TYPE", value_enum)]
    kind: Option<Type>,
}

impl List {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let kind = self.kind.map(|kind| match kind {
            Type::Base => Kind::Base,
            Type::Project => Kind::Project,
        });
        let entries = snapshot::list(session.reading_context()?, kind)?;
        session.print(&entries, |entries| match session.quiet() {
            true => entries
                .iter()
                .map(|one| format!("{}\n", one.name))
                .collect(),
            false => table(entries),
        })?;
        if entries.is_empty() {
            session
                .note("no snapshots yet: vmfab snapshot create NAME --machine MACHINE makes one");
        }
        Ok(Status::Done)
    }
}

fn table(entries: &[Entry]) -> String {
    let mut table = Table::new([
        ("TYPE", Align::Left),
        ("NAME", Align::Left),
        ("CREATED", Align::Left),
        ("SIZE", Align::Right),
        ("DESCRIPTION", Align::Left),
    ]);
    for entry in entries {
        table.row([
            entry.kind.name().to_owned(),
            entry.name.clone(),
            entry.created.map_or_else(String::new, age),
            size(entry.size),
            entry.description.clone(),
        ]);
    }
    table.to_string()
}

/// Show what a snapshot of a machine holds
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab snapshot inspect before-upgrade
  vmfab snapshot inspect before-upgrade --json | jq .settings")]
struct Inspect {
    /// Name of the snapshot
    name: String,
}

impl Inspect {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let details = snapshot::inspect(session.reading_context()?, &self.name)?;
        session.print(&details, describe)?;
        Ok(Status::Done)
    }
}

fn describe(details: &SnapshotDetails) -> String {
    let one = &details.snapshot;
    let settings = &one.settings;
    let created = SystemTime::UNIX_EPOCH + Duration::from_secs(one.created);
    let mut rows = vec![
        ("name", one.name.to_string()),
        ("machine", one.machine.to_string()),
        (
            "created",
            format!(
                "{}, {}",
                humantime::format_rfc3339_seconds(created),
                age(one.created)
            ),
        ),
        ("state", one.frozen.describe().to_owned()),
        (
            "image",
            format!("{} ({})", settings.image_name, settings.image.short()),
        ),
        (
            "settings",
            format!(
                "{} MiB of memory, {} CPUs",
                settings.memory_mib, settings.cpus
            ),
        ),
        (
            "size",
            format!(
                "{} since the snapshot before, {} with what it shares",
                size(details.size),
                size(details.shared_size)
            ),
        ),
    ];
    if let Some(memory) = &one.memory {
        let accel = memory.accel.name().to_uppercase();
        let stored = size(details.memory_size);
        rows.push(("memory", format!("{stored}, of a guest under {accel}")));
    }
    for disk in &settings.disks {
        rows.push((
            "disk",
            format!("{}, {} layers", size(disk.size), disk.layers.len()),
        ));
    }
    for volume in &one.volumes {
        let (name, disk) = (&volume.name, &volume.disk);
        let of = format!("{name}, {}, {} layers", size(disk.size), disk.layers.len());
        rows.push(("volume", of));
    }
    if let Some(description) = &one.description {
        rows.push(("description", description.to_string()));
    }
    if let Some(project) = &details.project {
        rows.push(("project", project.display().to_string()));
    }
    let lines = rows
        .iter()
        .map(|(name, value)| format!("{name:<12} {value}\n"));
    lines.collect()
}

/// List the files in which two snapshots differ
///
/// A: added, C: content, type, mode or owner changed, D: deleted; --json says which. Times do not
/// count. vmfab compares the root file systems, and the volumes that both mount, in place, if they
/// are ext4.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab snapshot diff before-upgrade             # with what the stopped machine has now
  vmfab snapshot diff monday tuesday
  vmfab snapshot diff @debian-12 before-upgrade
  vmfab snapshot diff @v1 @v2 --json | jq -r '.[] | select(.change == \"added\").path'")]
struct Diff {
    /// Name of the snapshot before, or @tag of an image
    before: String,

    /// Name of the snapshot after, or @tag of an image [default: the machine as it is now]
    after: Option<String>,
}

impl Diff {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.reading_context()?;
        let changes = snapshot::diff(context, &self.before, self.after.as_deref())?;
        session.print(&changes, |changes| {
            let lines = changes.iter().map(|one| {
                // A path is one line.
                let path = one.path.replace('\n', "\\n");
                format!("{} {path}\n", one.change.letter())
            });
            lines.collect::<String>()
        })?;
        let count = |change| changes.iter().filter(|one| one.change == change).count();
        session.note(&format!(
            "{} added, {} changed, {} deleted",
            count(Change::Added),
            count(Change::Changed),
            count(Change::Deleted)
        ));
        Ok(Status::Done)
    }
}

/// Set a machine back to a snapshot
///
/// A running machine is stopped. Its present state becomes an automatic snapshot first, so nothing
/// is lost. Its volumes are set back with it. A machine that was removed is made again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab snapshot restore before-upgrade
  vmfab snapshot restore before-upgrade --machine web-2
  vmfab snapshot restore @debian-12 --machine web
  vmfab snapshot restore @debian-12               # makes a machine")]
struct Restore {
    /// Name of the snapshot, or @tag of an image
    name: String,

    /// Name of the machine [default: the one that the snapshot is of; of an image a new one]
    #[arg(short, long, value_name = "MACHINE")]
    machine: Option<String>,

    /// Make no snapshot of the present state: it is lost
    #[arg(long)]
    discard: bool,

    /// Leave the volumes of the machine as they are
    #[arg(long)]
    keep_volumes: bool,

    /// Do not give back what the guest had in memory: the machine boots at its next start
    #[arg(long)]
    cold: bool,

    #[command(flatten)]
    shutdown: Shutdown,
}

impl Restore {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let options = RestoreOptions {
            name: self.name,
            machine: self.machine,
            keep: !self.discard,
            parts: Parts {
                volumes: !self.keep_volumes,
                memory: !self.cold,
            },
            timeout: self.shutdown.timeout(),
        };
        let restored = snapshot::restore(session.context()?, &options)?;
        session.print(&restored, restored_text)?;
        Ok(Status::Done)
    }
}

fn restored_text(restored: &Restored) -> String {
    let Restored { machine, name, .. } = restored;
    let mut text = match restored.created {
        true => format!("{machine}: created from {name}\n"),
        false => format!("{machine}: restored to {name}\n"),
    };
    if let Some(kept) = &restored.kept {
        text += &format!("{machine}: the state before is the snapshot {kept}\n");
    }
    text + &match restored.suspended {
        true => format!("continue it with: vmfab resume {machine}\n"),
        false => format!("start it with: vmfab start {machine}\n"),
    }
}

/// Delete snapshots of machines
///
/// What other snapshots or machines share with them stays.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab snapshot delete before-upgrade
  vmfab snapshot delete monday tuesday")]
struct Delete {
    /// Names of the snapshots
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

impl Delete {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?;
        let names = self.names.iter();
        let deleted: Vec<_> = names
            .map(|name| snapshot::delete(context, name))
            .collect::<Result<_, _>>()?;
        session.print(&deleted, |deleted| {
            let lines = deleted.iter().map(|one| format!("{}: deleted\n", one.name));
            lines.collect::<String>()
        })?;
        Ok(Status::Done)
    }
}

/// Write a snapshot to one file
///
/// The file holds everything that vmfab snapshot import needs on another host: for a project
/// snapshot also the image of its machine. A name that ends in .tar gives a plain tar.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab snapshot export @docker
  vmfab snapshot export before-upgrade --output /mnt/usb/web.snapshot.tar.gz
  vmfab snapshot export @web --since @debian-12 --output web.tar
  vmfab snapshot export @docker --output - | ssh other-host vmfab snapshot import -")]
struct Export {
    /// Name of the snapshot, or @tag of an image
    name: String,

    /// Write to FILE, or - for standard output [default: NAME.snapshot.tar.gz]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,

    /// Leave out what the image @TAG has: the other host must have it
    #[arg(long, value_name = "@TAG")]
    since: Option<String>,

    /// Replace the file if it exists
    #[arg(short, long)]
    force: bool,
}

impl Export {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let is_stream = self
            .output
            .as_ref()
            .is_some_and(|output| output.as_os_str() == "-");
        let options = ExportOptions {
            name: self.name,
            output: self.output,
            since: self.since,
            force: self.force,
        };
        let exported = snapshot::export(session.context()?, &options)?;
        if is_stream {
            session.note(&format!(
                "{}: exported {}",
                exported.name,
                size(exported.size)
            ));
            return Ok(Status::Done);
        }
        session.print(&exported, |exported| {
            let (name, output) = (&exported.name, exported.output.display());
            format!("{name}: exported to {output}, {}\n", size(exported.size))
        })?;
        Ok(Status::Done)
    }
}

/// Take a snapshot from a file
///
/// vmfab verifies all of the file before the snapshot gets its name.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab snapshot import docker.snapshot.tar.gz
  vmfab snapshot import web.snapshot.tar.gz --name web-from-anna
  ssh other-host vmfab snapshot export @docker --output - | vmfab snapshot import -")]
struct Import {
    /// The file, or - for standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,

    /// Give it this name [default: the one that it has in the file]
    #[arg(long)]
    name: Option<String>,

    /// Replace a tag of another image, and take snapshots for other processors
    #[arg(short, long)]
    force: bool,
}

impl Import {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let options = ImportOptions {
            file: self.file,
            name: self.name,
            force: self.force,
        };
        let imported = snapshot::import(session.context()?, &options)?;
        session.print(&imported, |imported| {
            let name = &imported.name;
            let next = match imported.kind {
                SnapshotKind::Base => format!("vmfab boot {name}"),
                SnapshotKind::Project => format!("vmfab snapshot restore {name}"),
            };
            format!("{name}: imported; use it with: {next}\n")
        })?;
        Ok(Status::Done)
    }
}

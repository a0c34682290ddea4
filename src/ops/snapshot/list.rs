//! What snapshots there are.

use std::path::PathBuf;

use serde::Serialize;

use super::super::machine::places;
use super::super::{Context, images};
use super::{find, project};
use crate::event::Event;
use crate::failure::Failure;
use crate::machine::{MachineError, Machines, Snapshot};

/// A kind of snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An image under a tag.
    Base,
    /// A machine at one moment.
    Project,
}

impl Kind {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Project => "project",
        }
    }
}

/// A snapshot of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Base ones with `@`.
    pub name: String,
    /// In seconds since 1970, when that is known.
    pub created: Option<u64>,
    /// Bytes: of a project one what its machine had written since the one before, and its memory; of a base one
    /// what disk, kernel and initrd take.
    pub size: u64,
    pub description: String,
    /// The machine of a project one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// The directory of the project that it is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<PathBuf>,
}

/// All about a project snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnapshotDetails {
    #[serde(flatten)]
    pub snapshot: Snapshot,
    /// The directory of the project that it is of; nothing when it is of the home.
    pub project: Option<PathBuf>,
    /// Bytes that its machine had written since the snapshot before.
    pub size: u64,
    /// Bytes of all layers below it, which other snapshots may share.
    pub shared_size: u64,
    /// Bytes of the file that has what the guest had in memory.
    pub memory_size: u64,
}

/// The snapshots of the project that the user is in, those of the home, and the base ones; only
/// those of one kind when that is asked. One that cannot be read is left out, with a warning.
///
/// # Errors
/// A directory cannot be read, or the store fails.
pub fn list(context: &Context, kind: Option<Kind>) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    if kind != Some(Kind::Project) {
        entries.extend(images::list(context)?.into_iter().map(|image| Entry {
            kind: Kind::Base,
            name: format!("@{}", image.tag),
            created: image.created,
            size: image.stored_size,
            description: image.description.unwrap_or_default(),
            machine: None,
            project: None,
        }));
    }
    if kind != Some(Kind::Base) {
        for machines in places(context)? {
            let snapshots = machines.snapshots();
            let mut listed = Vec::new();
            for name in snapshots.names()? {
                match snapshots.open(&name) {
                    Ok(snapshot) => listed.push(snapshot),
                    Err(MachineError::NoSnapshot(_)) => {}
                    Err(error) => context.emit(Event::Warning {
                        message: error.to_string(),
                    }),
                }
            }
            listed.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
            entries.extend(listed.into_iter().map(|snapshot| Entry {
                kind: Kind::Project,
                name: snapshot.name.to_string(),
                created: Some(snapshot.created),
                size: snapshots.stored_size(&snapshot.own) + snapshots.memory_size(&snapshot.name),
                description: snapshot.description.map(String::from).unwrap_or_default(),
                machine: Some(snapshot.machine.to_string()),
                project: project(&machines),
            }));
        }
    }
    Ok(entries)
}

/// The names of project snapshots. None of them is read.
///
/// # Errors
/// A directory cannot be read.
pub fn names(context: &Context) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for machines in places(context)? {
        let listed = machines.snapshots().names()?.into_iter();
        names.extend(listed.map(String::from));
    }
    Ok(names)
}

/// All about a project snapshot.
///
/// # Errors
/// There is none of that name.
pub fn inspect(context: &Context, name: &str) -> Result<SnapshotDetails, Failure> {
    if name.starts_with('@') {
        return Err(Failure::usage(format!("{name} names an image"))
            .with_help(format!("vmfab image inspect {name} shows it")));
    }
    let found = find(context, name)?;
    Ok(details(&found.machines, found.snapshot))
}

pub(super) fn details(machines: &Machines, snapshot: Snapshot) -> SnapshotDetails {
    let snapshots = machines.snapshots();
    let disks = snapshot.settings.disks.iter();
    let layers: Vec<_> = disks.flat_map(|disk| disk.layers.iter().copied()).collect();
    SnapshotDetails {
        project: project(machines),
        size: snapshots.stored_size(&snapshot.own),
        shared_size: snapshots.stored_size(&layers),
        memory_size: snapshots.memory_size(&snapshot.name),
        snapshot,
    }
}

//! Which files two snapshots differ in.

use std::error::Error;
use std::io;

use ext4_view::Ext4;
use serde::Serialize;

use super::super::images::FoundImage;
use super::super::machine::find_machine;
use super::super::{Context, images};
use super::find;
use crate::checked::Name;
use crate::digest::ObjectId;
use crate::disk::{Difference, ReadAt, differences, open_root};
use crate::failure::Failure;
use crate::image::Mount;
use crate::machine::{FileSystemId, LayeredDisk, MachineError, Volumes};
use crate::world::image_config;

/// A file that is not the same in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    pub path: String,
    pub change: Change,
    /// What differs, when it is in both: `content`, `type`, `mode`, `owner`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub what: Vec<&'static str>,
    /// Bytes before, of a file or link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_before: Option<u64>,
    /// Bytes after, of a file or link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    Added,
    Changed,
    Deleted,
}

impl Change {
    /// The letter that `docker diff` shows.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Added => 'A',
            Self::Changed => 'C',
            Self::Deleted => 'D',
        }
    }
}

/// The files that differ between two snapshots, in their roots and in the volumes that both mount;
/// `@name` for images. Without a second one, the first is compared with what its machine has now.
///
/// # Errors
/// One of them does not exist, its root is no ext4 file system, the machine runs, or a disk cannot
/// be read.
pub fn diff(
    context: &Context,
    before: &str,
    after: Option<&str>,
) -> Result<Vec<FileChange>, Failure> {
    let old = side(context, before)?;
    let (after, new) = match after {
        Some(after) => (after.to_owned(), side(context, after)?),
        None => present(context, before)?,
    };
    compare(context, before, &old, &after, &new)
}

/// The files in which the roots of two images differ.
///
/// # Errors
/// One of them has no ext4 file system, or cannot be read.
pub(in crate::ops) fn diff_images(
    context: &Context,
    before: &FoundImage,
    after: &FoundImage,
) -> Result<Vec<FileChange>, Failure> {
    let names = (before.display_name(), after.display_name());
    let (old, new) = (
        image_side(context, &names.0, before)?,
        image_side(context, &names.1, after)?,
    );
    compare(context, &names.0, &old, &names.1, &new)
}

fn compare(
    context: &Context,
    before: &str,
    old: &Side,
    after: &str,
    new: &Side,
) -> Result<Vec<FileChange>, Failure> {
    let mut changes = Vec::new();
    let mut add = |at: &str, old: &Ext4, new: &Ext4, one: bool| {
        let mut keep = |difference: Difference| -> Result<(), Box<dyn Error + Send + Sync>> {
            if context.interrupt.requested() {
                return Err(io::Error::from(io::ErrorKind::Interrupted).into());
            }
            changes.push(change(at, &difference));
            Ok(())
        };
        match differences(old, new, one, &mut keep) {
            Ok(()) => Ok(()),
            Err(_) if context.interrupt.requested() => Err(Failure::interrupted()),
            Err(error) => Err(Failure::failed(format!(
                "compare the files of {before} and {after}: {error}"
            ))),
        }
    };
    add("", &old.root, &new.root, old.image == new.image)?;
    for volume in &new.volumes {
        let mut others = old.volumes.iter();
        if let Some(other) = others.find(|other| other.at == volume.at) {
            let one = other.filesystem == volume.filesystem;
            add(&volume.at, &other.root, &volume.root, one)?;
        }
    }
    Ok(changes)
}

fn change(at: &str, difference: &Difference) -> FileChange {
    let size = |entry: Option<crate::disk::Entry>| {
        let entry = entry.filter(|entry| entry.kind.is_regular_file() || entry.kind.is_symlink());
        entry.map(|entry| entry.size)
    };
    let mut what = Vec::new();
    let change = match (difference.before, difference.after) {
        (None, _) => Change::Added,
        (_, None) => Change::Deleted,
        (Some(old), Some(new)) => {
            if old.kind != new.kind {
                what.push("type");
            } else if difference.other_bytes || old.size != new.size {
                what.push("content");
            }
            if old.mode != new.mode {
                what.push("mode");
            }
            if (old.uid, old.gid) != (new.uid, new.gid) {
                what.push("owner");
            }
            Change::Changed
        }
    };
    FileChange {
        path: format!("{at}{}", String::from_utf8_lossy(&difference.path)),
        change,
        what,
        size_before: size(difference.before),
        size: size(difference.after),
    }
}

/// A side of a comparison.
struct Side {
    root: Ext4,
    /// What its disk came from.
    image: ObjectId,
    volumes: Vec<VolumeSide>,
}

/// A volume of a side.
struct VolumeSide {
    /// Where it is mounted.
    at: String,
    filesystem: FileSystemId,
    root: Ext4,
}

impl Side {
    fn open(name: &str, image: ObjectId, disk: impl ReadAt + 'static) -> Result<Self, Failure> {
        Ok(Self {
            root: open(&format!("disk of {name}"), disk)?,
            image,
            volumes: Vec::new(),
        })
    }

    /// Adds the volumes that are mounted, if `find` knows what they hold.
    fn with_volumes(
        mut self,
        mounts: &[Mount],
        find: impl Fn(&Name) -> Result<Option<(FileSystemId, LayeredDisk)>, Failure>,
    ) -> Result<Self, Failure> {
        for mount in mounts {
            let Some(name) = mount.volume() else { continue };
            if let Some((filesystem, disk)) = find(name)? {
                self.volumes.push(VolumeSide {
                    at: mount.at.to_string(),
                    filesystem,
                    root: open(&format!("volume {name}"), disk)?,
                });
            }
        }
        Ok(self)
    }
}

fn open(what: &str, disk: impl ReadAt + 'static) -> Result<Ext4, Failure> {
    let root =
        open_root(disk).map_err(|error| Failure::failed(format!("read the {what}: {error}")))?;
    root.ok_or_else(|| {
        Failure::failed(format!("the {what} has no ext4 file system"))
            .with_help("vmfab compares the files of ext2, ext3 and ext4")
    })
}

fn image_side(context: &Context, name: &str, found: &FoundImage) -> Result<Side, Failure> {
    let disk = context.store()?.open_object(&found.config.disk.id)?;
    Side::open(name, found.image, disk)
}

/// A snapshot or image.
fn side(context: &Context, name: &str) -> Result<Side, Failure> {
    let store = context.store()?;
    if name.starts_with('@') {
        return image_side(context, name, &images::find(context, name)?);
    }
    let found = find(context, name)?;
    let settings = &found.snapshot.settings;
    let image = image_config(&store, &settings.image)?;
    let disk = settings.disks.first();
    let disk = disk.ok_or_else(|| Failure::failed(format!("{name} has no disk")))?;
    let snapshots = found.machines.snapshots();
    let disk = snapshots.disk(disk, &image.disk, &store)?;
    let side = Side::open(name, settings.image, disk)?;
    side.with_volumes(&settings.mounts, |name| {
        let mut saved = found.snapshot.volumes.iter();
        match saved.find(|saved| saved.name == *name) {
            Some(saved) => Ok(Some((saved.filesystem, snapshots.volume(saved)?))),
            None => Ok(None),
        }
    })
}

/// The machine that a snapshot is of, as it is now.
fn present(context: &Context, snapshot: &str) -> Result<(String, Side), Failure> {
    if snapshot.starts_with('@') {
        return Err(Failure::usage(format!(
            "{snapshot} is an image: name what to compare it with"
        ))
        .with_help(format!("vmfab snapshot diff {snapshot} NAME|@TAG")));
    }
    let name = find(context, snapshot)?.snapshot.machine.to_string();
    let machine = find_machine(context, &name)?;
    let _locked = machine.lock(context.sink.as_ref(), &context.interrupt)?;
    if !machine.state()?.is_off() {
        return Err(
            Failure::failed(format!("machine \"{name}\" runs: its disk changes")).with_help(
                format!(
                    "vmfab snapshot create NOW --machine {name} && vmfab snapshot diff {snapshot} NOW"
                ),
            ),
        );
    }
    let store = context.store()?;
    let config = machine.config()?;
    let id = config.image;
    let image = image_config(&store, &id)?;
    let side = Side::open(&name, id, machine.disk(&image.disk, &store)?)?;
    let volumes = Volumes::new(&context.home);
    let side = side.with_volumes(&config.mounts, |name| match volumes.open(name) {
        Err(MachineError::UnknownVolume(_)) => Ok(None),
        volume => {
            let volume = volume?;
            Ok(Some((volume.filesystem(), volume.content()?)))
        }
    })?;
    Ok((name, side))
}

//! Setting volumes back.
//!
//! A machine and its volumes have a file each, so a vmfab that is killed may leave some of them set
//! back and others not. A file `restoring` in the machine's directory says so from before the first
//! until after the last; the machine does not start as long as it is there.

use std::fs;
use std::io;
use std::path::Path;

use super::Snapshots;
use super::name::SnapshotName;
use super::record::{Snapshot, SnapshotVolume};
use crate::host::Interrupt;
use crate::host::beneath::read_unlinked;
use crate::host::file::{Durability, Replace};
use crate::image::Mount;
use crate::machine::directory::files;
use crate::machine::error::{MachineError, io_error};
use crate::machine::volume::HeldVolume;
use crate::machine::{Machine, Volume, Volumes};

impl Snapshot {
    /// Whether the snapshot holds what is mounted.
    pub(super) fn holds(&self, mount: &Mount) -> bool {
        let mut volumes = self.volumes.iter();
        volumes.any(|volume| mount.volume() == Some(&volume.name))
    }

    /// Makes sure that volumes may be set back: a newer volume of the same name must stay as it is.
    pub(super) fn check_volumes(
        &self,
        saved: &[&SnapshotVolume],
        present: &[HeldVolume],
    ) -> Result<(), MachineError> {
        let mut present = present.iter().map(|held| &held.volume);
        let is_other = |volume: &&Volume| {
            let mut saved = saved.iter();
            let saved = saved.find(|saved| saved.name == *volume.name());
            saved.is_some_and(|saved| saved.filesystem != volume.filesystem())
        };
        match present.find(is_other) {
            None => Ok(()),
            Some(other) => Err(MachineError::OtherVolume {
                volume: other.name().clone(),
                snapshot: self.name.clone(),
            }),
        }
    }
}

impl Snapshots {
    /// Sets a volume back, or creates it again if it was removed.
    pub(super) fn put_volume(
        &self,
        saved: &SnapshotVolume,
        volumes: &Volumes,
        held: &mut [HeldVolume],
        interrupt: &Interrupt,
    ) -> Result<(), MachineError> {
        let layers = self.layers();
        let mut held = held.iter_mut();
        let Some(held) = held.find(|held| *held.volume.name() == saved.name) else {
            let fill = |own: &super::Layers| own.take(&layers, &saved.disk.layers);
            let (name, disk) = (&saved.name, &saved.disk);
            volumes.create_of(name, saved.filesystem, disk, interrupt, &fill)?;
            return Ok(());
        };
        let volume = &mut held.volume;
        volume.layers().take(&layers, &saved.disk.layers)?;
        volume.change(saved.filesystem, saved.disk.frozen())?;
        volume.tidy();
        Ok(())
    }
}

/// Notes in a machine's directory that it is being set back.
pub(super) fn begin_restore(directory: &Path, snapshot: &SnapshotName) -> Result<(), MachineError> {
    let path = directory.join(files::RESTORING);
    Replace::new(&path, Durability::Lasting)
        .with(snapshot.as_str().as_bytes())
        .map_err(io_error("write", &path))
}

impl Machine {
    /// Notes that the restore is complete.
    pub(super) fn end_restore(&self) -> Result<(), MachineError> {
        let path = self.directory.join(files::RESTORING);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Makes sure that no vmfab was killed while it set the machine back.
    pub(in crate::machine) fn check_restored(&self) -> Result<(), MachineError> {
        let path = self.directory.join(files::RESTORING);
        let bytes = match read_unlinked(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            read => read.map_err(io_error("read", &path))?,
        };
        Err(MachineError::HalfRestored {
            name: self.name.clone(),
            snapshot: String::from_utf8_lossy(&bytes).parse().ok(),
        })
    }
}

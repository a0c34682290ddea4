//! The disks that a machine writes to: its own, and its volumes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::Snapshots;
use super::layer::{LayerId, Layers};
use super::record::SnapshotVolume;
use crate::checked::Name;
use crate::disk::overlay;
use crate::host::Interrupt;
use crate::host::file::Durability;
use crate::machine::config::{MachineConfig, MachineDisk};
use crate::machine::directory::files::overlay_of;
use crate::machine::error::{MachineError, io_error};
use crate::machine::launch::utf8;
use crate::machine::volume::HeldVolume;
use crate::machine::{Machine, Volume};
use crate::qemu::disk_node;

/// One of them: where its files are, and what QEMU calls it.
pub(super) struct Slot {
    /// Where its overlay is.
    directory: PathBuf,
    /// The name of its file before it was ever frozen.
    first: String,
    /// The name of its node then.
    pub(super) first_node: String,
    pub(super) layers: Layers,
    /// Whether QEMU runs in the directory.
    is_own: bool,
}

/// All of them: first its own, then the volumes.
pub(super) struct Slots {
    machine: Machine,
    /// As it is in its file.
    config: MachineConfig,
    volumes: Vec<HeldVolume>,
    pub(super) all: Vec<Slot>,
}

impl Slot {
    /// The overlay that the guest writes to; none when the next start makes it.
    pub(super) fn overlay(&self, disk: &MachineDisk) -> Option<PathBuf> {
        let file = disk.overlay_after(&self.first)?;
        Some(self.directory.join(file))
    }

    /// The same, as the path that QEMU gets: relative if QEMU runs in the directory.
    pub(super) fn shown(&self, disk: &MachineDisk) -> Result<String, MachineError> {
        match disk.overlay_after(&self.first) {
            None => Ok(String::new()),
            Some(file) if self.is_own => Ok(file),
            Some(file) => utf8(self.directory.join(file)),
        }
    }

    /// A new overlay over the layers of a disk.
    pub(super) fn make_overlay(&self, disk: &mut MachineDisk) -> Result<(), MachineError> {
        make_overlay(&self.directory, disk)
    }
}

impl Slots {
    pub(super) fn of(
        machine: &Machine,
        snapshots: &Snapshots,
        volumes: Vec<HeldVolume>,
    ) -> Result<Self, MachineError> {
        let config = machine.config()?;
        let own = (0..config.disks.len()).map(|number| Slot {
            directory: machine.directory.clone(),
            first: overlay_of(number),
            first_node: disk_node(number),
            layers: snapshots.layers(),
            is_own: true,
        });
        let of_volumes = volumes.iter().map(|held| Slot {
            directory: held.volume.directory().to_owned(),
            first: Volume::DISK.to_owned(),
            first_node: held.volume.first_node(),
            layers: held.volume.layers(),
            is_own: false,
        });
        let all = own.chain(of_volumes).collect();
        Ok(Self {
            machine: machine.clone(),
            config,
            volumes,
            all,
        })
    }

    pub(super) const fn config(&self) -> &MachineConfig {
        &self.config
    }

    /// What the disks consist of.
    pub(super) fn disks(&self) -> Vec<MachineDisk> {
        let volumes = self.volumes.iter().map(|held| held.volume.disk());
        self.config.disks.iter().chain(volumes).cloned().collect()
    }

    /// Records `disks` as those of the machine and its volumes, one file after the other.
    pub(super) fn write(
        &mut self,
        disks: &[MachineDisk],
        durability: Durability,
    ) -> Result<(), MachineError> {
        let (own, of_volumes) = disks.split_at(self.config.disks.len());
        if own != self.config.disks {
            let config = MachineConfig {
                disks: own.to_vec(),
                ..self.config.clone()
            };
            config.write_with(&self.machine.directory, durability)?;
            self.config = config;
        }
        for (held, disk) in self.volumes.iter_mut().zip(of_volumes) {
            if held.volume.disk() != disk {
                held.volume.layers().sync()?;
                held.volume.change(held.volume.filesystem(), disk.clone())?;
            }
        }
        Ok(())
    }

    /// Adds the layers of the frozen volumes to those of the snapshots, and returns what the volumes
    /// hold.
    pub(super) fn save_volumes(
        &self,
        snapshots: &Snapshots,
    ) -> Result<Vec<SnapshotVolume>, MachineError> {
        let saved = self.volumes.iter().map(|held| {
            let volume = &held.volume;
            let disk = volume.disk().frozen();
            snapshots.layers().take(&volume.layers(), &disk.layers)?;
            Ok(SnapshotVolume {
                name: volume.name().clone(),
                filesystem: volume.filesystem(),
                disk,
            })
        });
        saved.collect()
    }

    pub(super) fn volumes(&self) -> &[HeldVolume] {
        &self.volumes
    }

    pub(super) fn into_volumes(self) -> Vec<HeldVolume> {
        self.volumes
    }
}

impl Machine {
    /// Locks those of the volumes that exist. Fails if another machine runs with one.
    pub(super) fn hold_volumes<'a>(
        &self,
        names: impl Iterator<Item = &'a Name>,
        interrupt: &Interrupt,
    ) -> Result<Vec<HeldVolume>, MachineError> {
        let mut names: Vec<&Name> = names.collect();
        // Everybody locks in this order, so that no two wait for each other.
        names.sort();
        names.dedup();
        let mut volumes = Vec::new();
        for name in names {
            let held = match self.machines.volumes.hold(name, interrupt) {
                Err(MachineError::UnknownVolume(_)) => continue,
                held => held?,
            };
            held.volume.check_not_held(self)?;
            let layers = held.volume.layers();
            fs::create_dir_all(layers.directory())
                .map_err(io_error("create", layers.directory()))?;
            volumes.push(held);
        }
        Ok(volumes)
    }
}

/// Makes an overlay over the layers of a disk, and records it in `disk`. Its file is on disk when this
/// returns.
pub(in crate::machine) fn make_overlay(
    directory: &Path,
    disk: &mut MachineDisk,
) -> Result<(), MachineError> {
    let id = LayerId::random();
    let path = directory.join(id.overlay());
    // QEMU is told where the layers are; the name is for people.
    match disk.layers.last() {
        Some(layer) => overlay::create_over(&path, &format!("{layer}.qcow2"), disk.size)?,
        None => overlay::create(&path, "image", 0, disk.size)?,
    }
    let synced = File::open(&path).and_then(|file| file.sync_all());
    synced.map_err(io_error("write", &path))?;
    disk.top = Some(id);
    Ok(())
}

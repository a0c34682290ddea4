//! Snapshots without their layers: what travels, and what a backup has.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::Snapshots;
use super::layer::LayerId;
use super::name::SnapshotName;
use super::record::Snapshot;
use crate::digest::{ObjectId, ObjectRef};
use crate::disk::Qcow2;
use crate::host::Interrupt;
use crate::image::ImageConfig;
use crate::machine::error::{MachineError, io_error};
use crate::store::Store;

/// A snapshot whose disks are objects of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PortableSnapshot {
    /// Without layers.
    pub snapshot: Snapshot,
    /// The whole disks; the first shares chunks with the image's.
    pub disks: Vec<ObjectRef>,
    /// The whole volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<ObjectRef>,
}

impl PortableSnapshot {
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("snapshots serialise to JSON")
    }

    /// # Errors
    /// It is none that this program reads; a phrase.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Stored {
            snapshot: serde_json::Value,
            disks: Vec<ObjectRef>,
            #[serde(default)]
            volumes: Vec<ObjectRef>,
        }
        let stored: Stored = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let mut snapshot = Snapshot::from_value(stored.snapshot)?;
        // Layers are names of files on the host that wrote it.
        without_layers(&mut snapshot);
        let volumes: Vec<_> = snapshot.volumes.iter().map(|one| &one.disk).collect();
        let disks = &snapshot.settings.disks;
        if (disks.len(), volumes.len()) != (stored.disks.len(), stored.volumes.len()) {
            return Err("it has another number of disks than its settings say".to_owned());
        }
        let settings = disks.iter().chain(volumes);
        for (settings, disk) in settings.zip(stored.disks.iter().chain(&stored.volumes)) {
            if settings.size.next_multiple_of(512) != disk.size.next_multiple_of(512) {
                return Err("a disk has another size than its settings say".to_owned());
            }
        }
        Ok(Self {
            snapshot,
            disks: stored.disks,
            volumes: stored.volumes,
        })
    }

    /// The objects of the store that it needs, but for those of the image.
    #[must_use]
    pub fn objects(&self) -> Vec<ObjectRef> {
        let mut objects = self.disks.clone();
        objects.extend(&self.volumes);
        objects.extend(self.snapshot.firmware_vars);
        objects
    }

    /// Bytes of its disks and volumes, as the guest sees them.
    #[must_use]
    pub fn disk_size(&self) -> u64 {
        let disks = self.disks.iter().chain(&self.volumes);
        disks.map(|disk| disk.size).sum()
    }

    /// The image that its machine is of.
    #[must_use]
    pub const fn image(&self) -> ObjectId {
        self.snapshot.settings.image
    }
}

fn without_layers(snapshot: &mut Snapshot) {
    snapshot.own.clear();
    // Memory stays on the host that wrote it: QEMU trusts what it reads as memory.
    snapshot.memory = None;
    // A host elsewhere learns them anew.
    snapshot.known_hosts.clear();
    // The volumes in the snapshot are its own: restoring it refuses others of the same names.
    let mut mounts = std::mem::take(&mut snapshot.settings.mounts);
    mounts.retain(|mount| snapshot.holds(mount));
    snapshot.settings.forget_grants();
    snapshot.settings.mounts = mounts;
    let volumes = snapshot.volumes.iter_mut().map(|volume| &mut volume.disk);
    for disk in snapshot.settings.disks.iter_mut().chain(volumes) {
        disk.layers.clear();
        disk.top = None;
    }
}

impl Snapshots {
    /// Stores the disks of a snapshot. It costs what the machine changed.
    ///
    /// # Errors
    /// A layer is gone or damaged, or the store fails.
    pub fn portable(
        &self,
        snapshot: &Snapshot,
        image: &ImageConfig,
        store: &Store,
    ) -> Result<PortableSnapshot, MachineError> {
        let nothing = store.put_bytes(&[])?;
        let mut objects = Vec::new();
        let volumes = snapshot.volumes.iter().map(|volume| &volume.disk);
        for (number, disk) in snapshot.settings.disks.iter().chain(volumes).enumerate() {
            let below = if number == 0 { image.disk } else { nothing };
            let mut stored = self.stored(disk, &below, store)?;
            if stored.size < disk.size {
                stored = store.resize(&stored.id, disk.size)?;
            }
            objects.push(stored);
        }
        let volumes = objects.split_off(snapshot.settings.disks.len());
        let mut portable = PortableSnapshot {
            snapshot: snapshot.clone(),
            disks: objects,
            volumes,
        };
        without_layers(&mut portable.snapshot);
        Ok(portable)
    }

    /// Makes a snapshot of one that came from elsewhere, whose objects are in the store, with layers
    /// of what differs from the image.
    ///
    /// # Errors
    /// The name is taken, an object is damaged, or files cannot be written.
    pub fn adopt(
        &self,
        portable: &PortableSnapshot,
        name: &SnapshotName,
        image: &ImageConfig,
        store: &Store,
        interrupt: &Interrupt,
    ) -> Result<Snapshot, MachineError> {
        let held = self.hold(interrupt)?;
        self.check_free(name)?;
        let mut snapshot = portable.snapshot.clone();
        snapshot.name = name.clone();
        let disks = snapshot.settings.disks.iter_mut().zip(&portable.disks);
        for (number, (disk, object)) in disks.enumerate() {
            let parts = match number {
                0 => store.difference(&object.id, &image.disk.id)?,
                _ => store.open_object(&object.id)?.data_in(0..object.size),
            };
            if parts.is_empty() {
                continue;
            }
            let layer = self.write_layer(object, &parts, store, interrupt)?;
            disk.layers.push(layer);
            snapshot.own.push(layer);
        }
        for (volume, object) in snapshot.volumes.iter_mut().zip(&portable.volumes) {
            let parts = store.open_object(&object.id)?.data_in(0..object.size);
            let layer = self.write_layer(object, &parts, store, interrupt)?;
            volume.disk.layers.push(layer);
            snapshot.own.push(layer);
        }
        self.publish(&snapshot, &held)?;
        Ok(snapshot)
    }

    /// A layer with these parts of a disk.
    fn write_layer(
        &self,
        object: &ObjectRef,
        parts: &[Range<u64>],
        store: &Store,
        interrupt: &Interrupt,
    ) -> Result<LayerId, MachineError> {
        let disk = store.open_object(&object.id)?;
        let layers = self.layers();
        let qcow2 = Qcow2::of_parts(&disk, parts);
        layers.write(
            qcow2.map_err(io_error("write", layers.directory()))?,
            interrupt,
        )
    }
}

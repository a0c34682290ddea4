//! Disks of machines and snapshots as a whole, and what a machine changed as a disk of its own.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::process::Command;

use super::snapshot::Layers;
use super::{Machine, MachineDisk, MachineError, SnapshotVolume, Snapshots, Volume};
use crate::digest::ObjectRef;
use crate::disk::ReadAt;
use crate::disk::overlay::Overlay;
use crate::host::Interrupt;
use crate::store::{ObjectReader, Store, StoreError};

impl Machine {
    /// Lets the guest write to a further overlay, number `number` + 1. It goes on; its file systems
    /// stand still for a moment. What the overlay `number` holds then is what
    /// [`spliced`](Self::spliced) reads. `remote` runs [`FREEZE`](super::FREEZE) in the guest.
    ///
    /// # Errors
    /// The guest does not write its file systems back, or QEMU takes no new overlay.
    pub fn set_apart(
        &self,
        number: u32,
        remote: Command,
        log: &File,
        interrupt: &Interrupt,
    ) -> Result<(), MachineError> {
        let frozen = self.freeze(remote, log, interrupt)?;
        self.stack_overlay(number)?;
        frozen.thaw(interrupt)
    }

    /// Stores `base` with what the overlay holds, which nobody writes to any more.
    ///
    /// # Errors
    /// The overlay cannot be read, or the store fails.
    pub fn spliced(
        &self,
        number: u32,
        base: &ObjectRef,
        store: &Store,
    ) -> Result<ObjectRef, MachineError> {
        let overlay = Overlay::open(&self.overlay(number))?;
        Ok(LayeredDisk::new(base, vec![overlay], store)?.store(base, store)?)
    }
}

impl Machine {
    /// The first disk of a machine that is stopped, as it is now, over `image`, the disk of its
    /// image.
    ///
    /// # Errors
    /// A layer is gone or damaged, or the store fails.
    pub fn disk(&self, image: &ObjectRef, store: &Store) -> Result<LayeredDisk, MachineError> {
        let config = self.config()?;
        let snapshots = self.machines().snapshots();
        let mut overlays = Vec::new();
        if let Some(disk) = config.disks.first() {
            overlays = snapshots.overlays(disk)?;
            if let Some(top) = disk.overlay(0) {
                overlays.push(Overlay::open(&self.directory().join(top))?);
            }
        }
        Ok(LayeredDisk::new(image, overlays, store)?)
    }
}

impl Snapshots {
    /// Stores the disk of a snapshot that is over `image`, the disk of its image. It costs what the
    /// machine changed, and reads only that.
    ///
    /// # Errors
    /// A layer is gone or damaged, or the store fails.
    pub fn stored(
        &self,
        disk: &MachineDisk,
        image: &ObjectRef,
        store: &Store,
    ) -> Result<ObjectRef, MachineError> {
        match disk.layers.is_empty() && disk.size == image.size {
            true => Ok(*image),
            false => Ok(self.disk(disk, image, store)?.store(image, store)?),
        }
    }

    /// The disk of a snapshot that is over `image`, the disk of its image.
    ///
    /// # Errors
    /// A layer is gone or damaged, or the store fails.
    pub fn disk(
        &self,
        disk: &MachineDisk,
        image: &ObjectRef,
        store: &Store,
    ) -> Result<LayeredDisk, MachineError> {
        Ok(LayeredDisk::new(image, self.overlays(disk)?, store)?)
    }

    /// What a volume held.
    ///
    /// # Errors
    /// A layer is gone or damaged.
    pub fn volume(&self, volume: &SnapshotVolume) -> Result<LayeredDisk, MachineError> {
        Ok(LayeredDisk::alone(self.overlays(&volume.disk)?))
    }

    fn overlays(&self, disk: &MachineDisk) -> Result<Vec<Overlay>, MachineError> {
        opened(&self.layers(), disk)
    }
}

impl Volume {
    /// What it holds, while no machine runs with it.
    ///
    /// # Errors
    /// A machine runs with it, or a file is gone or damaged.
    pub fn content(&self) -> Result<LayeredDisk, MachineError> {
        self.check_free()?;
        let mut overlays = opened(&self.layers(), self.disk())?;
        if let Some(top) = self.overlay() {
            overlays.push(Overlay::open(&top)?);
        }
        Ok(LayeredDisk::alone(overlays))
    }
}

fn opened(layers: &Layers, disk: &MachineDisk) -> Result<Vec<Overlay>, MachineError> {
    let ids = disk.layers.iter();
    let overlays = ids.map(|id| Ok(Overlay::open(&layers.file(id))?));
    overlays.collect()
}

/// Overlays that nobody writes to, over a disk of the store or over nothing.
#[derive(Debug)]
pub struct LayeredDisk {
    below: Option<ObjectReader>,
    /// The lowest first.
    overlays: Vec<Overlay>,
}

impl LayeredDisk {
    fn new(below: &ObjectRef, overlays: Vec<Overlay>, store: &Store) -> Result<Self, StoreError> {
        Ok(Self {
            below: Some(store.open_object(&below.id)?),
            overlays,
        })
    }

    pub(super) const fn alone(overlays: Vec<Overlay>) -> Self {
        let below = None;
        Self { below, overlays }
    }

    /// Stores the disk, which is over `base`.
    fn store(&self, base: &ObjectRef, store: &Store) -> Result<ObjectRef, StoreError> {
        let mut held: Vec<Range<u64>> = Vec::new();
        for extent in self.overlays.iter().flat_map(Overlay::extents) {
            match extent.at {
                Some(_) => held.push(extent.range.clone()),
                // Free space that was free before is no change; what an overlay below holds there is.
                None => {
                    let below = self.below.iter();
                    held.extend(below.flat_map(|below| below.data_in(extent.range.clone())));
                }
            }
        }
        held.sort_unstable_by_key(|range| range.start);
        let mut changed: Vec<Range<u64>> = Vec::with_capacity(held.len());
        for range in held {
            match changed.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => changed.push(range),
            }
        }
        let levels = self.overlays.len();
        let mut read = |offset: u64, buffer: &mut [u8]| self.read(levels, offset, buffer);
        store.splice(base, self.size_of(levels), &changed, &mut read)
    }

    /// How large the disk is with so many overlays.
    fn size_of(&self, levels: usize) -> u64 {
        let top = levels.checked_sub(1).and_then(|top| self.overlays.get(top));
        let below = || self.below.as_ref().map_or(0, ObjectReader::size);
        top.map_or_else(below, Overlay::size)
    }

    /// Reads the disk with so many overlays. One that was smaller ends with zeros.
    fn read(&self, levels: usize, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let there = self.size_of(levels).saturating_sub(offset);
        let there = there.min(buffer.len() as u64) as usize;
        buffer[there..].fill(0);
        let buffer = &mut buffer[..there];
        if buffer.is_empty() {
            return Ok(());
        }
        match levels.checked_sub(1) {
            None => match &self.below {
                Some(below) => below.read_exact_at(buffer, offset),
                None => Err(io::ErrorKind::UnexpectedEof.into()),
            },
            Some(below) => self.overlays[below].read_at(offset, buffer, &mut |offset, buffer| {
                self.read(below, offset, buffer)
            }),
        }
    }
}

impl ReadAt for LayeredDisk {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size_of(self.overlays.len()))
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.size_of(self.overlays.len())) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read(self.overlays.len(), offset, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::overlay;

    #[test]
    fn a_disk_with_an_overlay_is_what_qemu_sees() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        let mut disk = vec![0; 8 << 20];
        for (number, block) in disk[..6 << 20].chunks_mut(4096).enumerate() {
            if number % 50 < 30 {
                blake3::Hasher::new()
                    .update(&number.to_le_bytes())
                    .finalize_xof()
                    .fill(block);
            }
        }
        let base = store.put(&mut disk.as_slice()).unwrap();
        let raw = store.materialise(&base.id).unwrap();
        let path = directory.path().join("overlay");
        overlay::create(&path, raw.to_str().unwrap(), base.size, 9 << 20).unwrap();
        let requests = [
            "write -P 1 100k 5k",
            "write -P 2 3M 300k",
            "write -z 1M 500k",
            "discard 5M 3M",
            "write -P 3 8500k 1k",
        ];
        let mut command = Command::new("qemu-io");
        command.args(["-d", "unmap", "-f", "qcow2"]);
        for request in requests {
            command.args(["-c", request]);
        }
        let output = command.arg(&path).output();
        let output = output.expect("qemu-io runs (package qemu-utils)");
        assert!(output.status.success(), "{output:?}");

        let overlays = vec![Overlay::open(&path).unwrap()];
        let disk = LayeredDisk::new(&base, overlays, &store).unwrap();
        let spliced = disk.store(&base, &store).unwrap();
        let converted = directory.path().join("converted");
        let output = Command::new("qemu-img")
            .args(["convert", "-O", "raw"])
            .args([&path, &converted])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let converted = std::fs::read(converted).unwrap();
        assert_eq!(disk.bytes_at(0, converted.len()).unwrap(), converted);
        assert_eq!(spliced, store.put(&mut converted.as_slice()).unwrap());
    }
}

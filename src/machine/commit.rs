//! What a machine changed on its disk, as a disk of its own.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::process::Command;

use super::{Machine, MachineDisk, MachineError, Snapshots};
use crate::digest::ObjectRef;
use crate::disk::overlay::Overlay;
use crate::host::Interrupt;
use crate::store::{Store, StoreError};

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
        Ok(splice(store, base, &[overlay])?)
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
        let layers = disk
            .layers
            .iter()
            .map(|layer| Overlay::open(&self.layer(layer)));
        let layers: Vec<Overlay> = layers.collect::<Result<_, _>>()?;
        match layers.is_empty() && disk.size == image.size {
            true => Ok(*image),
            false => Ok(splice(store, image, &layers)?),
        }
    }
}

/// The object that equals `base` but in what overlays hold, the lowest first.
fn splice(store: &Store, base: &ObjectRef, overlays: &[Overlay]) -> Result<ObjectRef, StoreError> {
    let below = store.open_object(&base.id)?;
    let mut held: Vec<Range<u64>> = Vec::new();
    for extent in overlays.iter().flat_map(Overlay::extents) {
        match extent.at {
            Some(_) => held.push(extent.range.clone()),
            // Free space that was free before is no change; what an overlay below holds there is.
            None => held.extend(below.data_in(extent.range.clone())),
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
    let size = overlays.last().map_or(base.size, Overlay::size);
    let mut read_below = |offset: u64, buffer: &mut [u8]| -> io::Result<()> {
        let there = base.size.saturating_sub(offset).min(buffer.len() as u64) as usize;
        buffer[there..].fill(0);
        below.read_exact_at(&mut buffer[..there], offset)
    };
    let mut read =
        |offset: u64, buffer: &mut [u8]| read_through(overlays, offset, buffer, &mut read_below);
    store.splice(base, size, &changed, &mut read)
}

/// Reads what overlays hold, and `below` what none of them holds.
fn read_through(
    overlays: &[Overlay],
    offset: u64,
    buffer: &mut [u8],
    below: &mut dyn FnMut(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<()> {
    match overlays.split_last() {
        None => below(offset, buffer),
        Some((top, rest)) => top.read_at(offset, buffer, &mut |offset, buffer| {
            // A disk that was smaller ends with zeros.
            let there = rest.last().map_or(u64::MAX, Overlay::size);
            let there = there.saturating_sub(offset).min(buffer.len() as u64) as usize;
            buffer[there..].fill(0);
            read_through(rest, offset, &mut buffer[..there], below)
        }),
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

        let spliced = splice(&store, &base, &[Overlay::open(&path).unwrap()]).unwrap();
        let converted = directory.path().join("converted");
        let output = Command::new("qemu-img")
            .args(["convert", "-O", "raw"])
            .args([&path, &converted])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let converted = std::fs::read(converted).unwrap();
        assert_eq!(spliced, store.put(&mut converted.as_slice()).unwrap());
    }
}

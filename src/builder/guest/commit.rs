//! What a machine changed on its disk, as a disk of its own.

use std::io;
use std::ops::Range;

use super::error::failed;
use super::session::{Report, Session};
use crate::derivation::BuildError;
use crate::digest::ObjectRef;
use crate::disk::overlay::Overlay;
use crate::store::Store;

impl Session {
    /// Stores the disk as it is now. The guest goes on; its file systems stand still for a moment.
    /// The same disk as before when nothing was done since.
    ///
    /// # Errors
    /// The guest does not write its file systems back, QEMU takes no new overlay, or the store
    /// fails.
    pub fn commit(&mut self, report: &Report<'_>) -> Result<ObjectRef, BuildError> {
        let frozen = self.freeze(report)?;
        self.machine.stack_overlay(self.overlay).map_err(failed)?;
        self.overlay += 1;
        frozen.thaw(report.interrupt)?;
        let disk = self.splice(self.overlay - 1)?;
        self.touched = false;
        self.log_console(report)?;
        Ok(disk)
    }

    /// Stores the last disk with what the overlay holds, which nobody writes to any more.
    pub(super) fn splice(&mut self, overlay: u32) -> Result<ObjectRef, BuildError> {
        let overlay = Overlay::open(&self.machine.overlay(overlay)).map_err(BuildError::other)?;
        self.disk = splice(&self.shared.store, &self.disk, &overlay)?;
        Ok(self.disk)
    }
}

/// The object that equals `base` but in what the overlay holds.
fn splice(store: &Store, base: &ObjectRef, overlay: &Overlay) -> Result<ObjectRef, BuildError> {
    let below = store.open_object(&base.id).map_err(BuildError::other)?;
    let mut changed: Vec<Range<u64>> = Vec::new();
    for extent in overlay.extents() {
        match extent.at {
            Some(_) => changed.push(extent.range.clone()),
            // Free space that was free before is no change.
            None => changed.extend(below.data_in(extent.range.clone())),
        }
    }
    let mut read_below = |offset: u64, buffer: &mut [u8]| -> io::Result<()> {
        let there = base.size.saturating_sub(offset).min(buffer.len() as u64) as usize;
        buffer[there..].fill(0);
        below.read_exact_at(&mut buffer[..there], offset)
    };
    let mut read =
        |offset: u64, buffer: &mut [u8]| overlay.read_at(offset, buffer, &mut read_below);
    store
        .splice(base, overlay.size(), &changed, &mut read)
        .map_err(BuildError::other)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

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

        let spliced = splice(&store, &base, &Overlay::open(&path).unwrap()).unwrap();
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

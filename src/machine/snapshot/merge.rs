//! Merging layers.
//!
//! A read of what no layer holds goes through all of them, and QEMU opens each of them at its start:
//! with a hundred layers, reads take four times as long as with one. So if a disk has many layers when
//! its machine starts, vmfab puts one layer in place of several neighbours. Snapshots keep the layers
//! that they name. Merging copies, so the neighbours that take the least space go first: large layers
//! are copied seldom.

use super::layer::{LayerId, Layers};
use crate::disk::Qcow2;
use crate::disk::overlay::Overlay;
use crate::host::Interrupt;
use crate::machine::LayeredDisk;
use crate::machine::config::MachineDisk;
use crate::machine::error::{MachineError, io_error};

/// The most layers that a disk has when its machine starts.
const MOST: usize = 32;
/// How many are merged into one.
const RUN: usize = 16;

/// Whether a disk has more layers than it should.
pub(in crate::machine) const fn has_many(disk: &MachineDisk) -> bool {
    disk.layers.len() > MOST
}

impl Layers {
    /// Merges layers of a disk until it has at most [`MOST`]. The caller must hold the lock of the
    /// directory, and records the new list.
    pub(in crate::machine) fn merge(
        &self,
        disk: &mut MachineDisk,
        interrupt: &Interrupt,
    ) -> Result<(), MachineError> {
        while has_many(disk) {
            let size = |run: &[LayerId]| self.stored_size(run);
            let sizes = disk.layers.windows(RUN).map(size).enumerate();
            let (start, _) = sizes.min_by_key(|(_, size)| *size).unwrap_or_default();
            let run = start..start + RUN;
            let merged = self.one_of(&disk.layers[run.clone()], interrupt)?;
            disk.layers.splice(run, [merged]);
        }
        Ok(())
    }

    fn one_of(&self, ids: &[LayerId], interrupt: &Interrupt) -> Result<LayerId, MachineError> {
        let opened = ids.iter().map(|id| Ok(Overlay::open(&self.file(id))?));
        let overlays: Vec<Overlay> = opened.collect::<Result<_, MachineError>>()?;
        let extents = overlays.iter().flat_map(Overlay::extents);
        let extents: Vec<_> = extents
            .map(|extent| (extent.range.clone(), extent.at.is_some()))
            .collect();
        let disk = LayeredDisk::alone(overlays);
        let qcow2 = Qcow2::of_overlays(&disk, extents.into_iter());
        self.write(
            qcow2.map_err(io_error("merge", self.directory()))?,
            interrupt,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::disk::{ReadAt, overlay};

    /// Layers that write, discard and grow: a disk over them reads the same before and after.
    #[test]
    fn a_disk_reads_the_same_from_fewer_layers() {
        let directory = tempfile::tempdir().unwrap();
        let layers = Layers::of(directory.path());
        std::fs::create_dir(layers.directory()).unwrap();
        let image = directory.path().join("image");
        std::fs::write(&image, vec![0xaa; 8 << 20]).unwrap();
        let image = image.to_str().unwrap();
        let mut disk = MachineDisk::new(8 << 20);
        for number in 0..40_u64 {
            let id = LayerId::random();
            let path = layers.file(&id);
            disk.size = (8 << 20) + number * (1 << 16);
            overlay::create(&path, image, 8 << 20, disk.size).unwrap();
            let place = (number * 37 % 128) << 16;
            let other = (number * 11 % 128) << 16;
            let mut command = Command::new("qemu-io");
            command.args(["-d", "unmap", "-f", "qcow2"]);
            command.args(["-c", &format!("write -P {} {place} 3k", number + 1)]);
            command.args(["-c", &format!("write -z {other} 64k")]);
            let ran = command.arg(&path).output();
            let ran = ran.expect("qemu-io runs (package qemu-utils)");
            assert!(ran.status.success(), "{ran:?}");
            disk.layers.push(id);
        }
        // Above all of them, and above what would be below them.
        let read = |disk: &MachineDisk, from: usize| {
            let ids = &disk.layers[from..];
            let overlays = ids
                .iter()
                .map(|id| Overlay::open(&layers.file(id)).unwrap());
            let disk = LayeredDisk::alone(overlays.collect());
            let size = disk.size().unwrap();
            disk.bytes_at(0, size as usize).unwrap()
        };
        let before = read(&disk, 0);
        let named = disk.layers.clone();
        let interrupt = Interrupt::new().unwrap();
        layers.merge(&mut disk, &interrupt).unwrap();
        assert!(!has_many(&disk), "{} layers", disk.layers.len());
        assert!(read(&disk, 0) == before);
        // Zeros hide what is below, wherever the run was.
        let last = *disk.layers.last().unwrap();
        let checked = Command::new("qemu-img")
            .args(["check", "-q"])
            .arg(layers.file(&last))
            .output()
            .unwrap();
        assert!(checked.status.success(), "{checked:?}");
        for id in &named {
            assert!(layers.file(id).exists());
        }
    }
}

//! A running machine's disk at one moment: a fresh overlay over the one that the guest writes to.

use std::path::PathBuf;

use super::Machine;
use super::directory::files;
use super::error::MachineError;
use crate::disk::overlay::{self, Overlay};
use crate::qemu::disk_node;
use crate::qemu::qmp::NewLayer;

impl Machine {
    /// The overlay of that number: 0 is the one that the machine was made with.
    pub(super) fn overlay(&self, number: u32) -> PathBuf {
        self.directory.join(file_name(number))
    }

    /// Lets the guest write to a new overlay, number `number` + 1, over the one of that number,
    /// which it writes to now and which does not change any more. Both must stay until QEMU ends.
    /// The guest's file systems should be frozen meanwhile. A machine whose overlays are more than
    /// one cannot be started again.
    pub(super) fn stack_overlay(&self, number: u32) -> Result<(), MachineError> {
        let size = Overlay::open(&self.overlay(number))?.size();
        let next = file_name(number + 1);
        overlay::create_over(&self.directory.join(&next), &file_name(number), size)?;
        let mut qmp = self.qmp()?;
        let layer = NewLayer {
            below: node(number),
            node: node(number + 1),
            file: next,
        };
        qmp.open_overlay(&layer)?;
        Ok(qmp.put_overlays(&[layer])?)
    }
}

/// The name of an overlay's node in QEMU: the first is called so on its command line.
fn node(number: u32) -> String {
    match number {
        0 => disk_node(0),
        number => format!("{}-{number}", disk_node(0)),
    }
}

fn file_name(number: u32) -> String {
    match number {
        0 => files::OVERLAY.to_owned(),
        number => format!("overlay-{number}.qcow2"),
    }
}

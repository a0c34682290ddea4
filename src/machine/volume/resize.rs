//! Larger volumes.

use super::{HeldVolume, Volume, Volumes};
use crate::checked::Name;
use crate::disk::overlay;
use crate::host::Interrupt;
use crate::machine::error::MachineError;
use crate::machine::set::grow_file;
use crate::machine::state;

impl Volumes {
    /// Gives a volume at least `size` bytes, in whole MiB; tells whether a running guest sees it
    /// already. Its file system grows when a guest mounts it.
    ///
    /// # Errors
    /// It would shrink, its machine is just starting, or the file cannot be changed.
    pub fn grow(
        &self,
        name: &Name,
        size: u64,
        interrupt: &Interrupt,
    ) -> Result<(Volume, bool), MachineError> {
        let HeldVolume { mut volume, lock } = self.hold(name, interrupt)?;
        let has = volume.size();
        if size < has {
            return Err(MachineError::Shrink { asked: size, has });
        }
        let live = match volume.holder()? {
            Some(holder) => {
                let (_, qmp) = state::observe(&holder.directory)?;
                let mut qmp = qmp.ok_or_else(|| volume.in_use(&holder))?;
                let node = volume.disk().node_of(&volume.first_node());
                qmp.resize(&node, size)?;
                true
            }
            None => {
                // Over layers without an overlay, the next start makes one of the new size.
                if let Some(path) = volume.overlay() {
                    overlay::check(&path)?;
                    grow_file(&path, size)?;
                }
                false
            }
        };
        let mut disk = volume.disk().clone();
        disk.size = size;
        volume.change(volume.filesystem(), disk)?;
        drop(lock);
        Ok((volume, live))
    }
}

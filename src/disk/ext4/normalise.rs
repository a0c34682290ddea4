//! Removing from a fresh ext4 file system what depends on the moment and the place of its making.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::super::{DiskError, io_error};
use super::inode;
use super::layout::Layout;

/// Makes the file system at `offset` in `file` a function of the tree's content: access, change
/// and creation times become the modification time, extended attributes are sorted, and how much
/// was written is forgotten. Checksums follow. Only inodes in use are read and written, so the file stays sparse and the time depends
/// on the number of files, not on the size.
///
/// # Errors
/// The file cannot be read or written, or holds another kind of file system.
pub fn normalise(file: &File, offset: u64) -> Result<(), DiskError> {
    let layout = Layout::read(file, offset)?;
    for group in layout.groups(file, offset)? {
        let Some(mut inodes) = layout.inodes(file, offset, &group)? else {
            continue;
        };
        let all = inodes.bytes.chunks_exact_mut(layout.inode_size);
        for (number, inode) in (inodes.first..).zip(all) {
            inode::normalise(inode, number, layout.seed)
                .map_err(|_| DiskError::Attributes(number))?;
        }
        file.write_all_at(&inodes.bytes, inodes.position)
            .map_err(io_error("write"))?;
    }
    layout.forget_writes(file, offset)
}

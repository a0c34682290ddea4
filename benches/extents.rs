//! What a sparse disk holds.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Calls `found` with each aligned block of `size` bytes that is not all zeros, in order.
/// The last one may be shorter.
pub(crate) fn for_each_block(disk: &Path, size: u64, mut found: impl FnMut(&[u8])) {
    let mut file = File::open(disk).unwrap();
    let mut block = Vec::new();
    while file.by_ref().take(size).read_to_end(&mut block).unwrap() > 0 {
        if block.iter().any(|byte| *byte != 0) {
            found(&block);
        }
        block.clear();
    }
}

//! qcow2, QEMU's format of disks (<https://www.qemu.org/docs/master/interop/qcow2.html>). Numbers
//! are big-endian.
//!
//! ```text
//! header │ refcount table │ refcount blocks │ L1 table │ L2 tables │ clusters with data
//! ```
//!
//! An entry of the L1 table leads to an L2 table, an entry of that to a cluster. What is written
//! here has version 3, which every QEMU since 1.1 reads, and clusters of 64 KiB.
//!
//! | file | what it does |
//! |---|---|
//! | `whole.rs` | decides whether a file of others can be trusted to be a whole disk |
//! | `write.rs` | writes a disk, as a stream |
//! | `overlay.rs` | makes overlays over other disks |
//! | `map.rs` | reads what QEMU has written to an overlay |

mod map;
pub mod overlay;
pub(super) mod whole;
mod write;

use std::io::{self, Write};

pub use write::Qcow2;

const MAGIC: &[u8; 4] = b"QFI\xfb";
/// Length of a version 3 header without the optional fields after it.
const HEADER: u32 = 104;
/// Where a version 3 header has the features that a reader must know.
const FEATURES: usize = 72;
/// Such a feature: the data is in another file.
const DATA_FILE: u64 = 1 << 2;
/// Header extension "backing file format name".
const BACKING_FORMAT: u32 = 0xE279_2ACA;
/// The unit of a disk's size.
const SECTOR: u64 = 512;

/// Bits of the size of a cluster: 64 KiB, the usual one.
const CLUSTER_BITS: u32 = 16;
/// Bytes of a cluster.
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Entries of a table of 8 bytes each.
const TABLE: u64 = CLUSTER / 8;
/// Counts of 2 bytes each in a refcount block.
const COUNTS: u64 = CLUSTER / 2;

/// Offsets in tables: bits 9 to 55.
const OFFSET: u64 = (1 << 56) - 512;
/// In entries of L2 tables: the cluster is compressed.
const COMPRESSED: u64 = 1 << 62;
/// In such entries, but not with subclusters: the cluster reads as zeros, whatever is there.
const ZERO: u64 = 1;

/// Places of the parts of a file, in clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Places {
    refcount_blocks: u64,
    l1: u64,
    l2: u64,
    data: u64,
    end: u64,
}

impl Places {
    const REFCOUNT_TABLE: u64 = 1;

    /// For so many entries of L1, L2 tables and clusters of data.
    fn new(l1_entries: u64, l2_tables: u64, data: u64) -> Self {
        let l1 = l1_entries.div_ceil(TABLE);
        let fixed = 1 + l1 + l2_tables + data;
        let (mut blocks, mut table) = (1, 1);
        // Counts are also kept of what counts. It grows until there is room for all.
        loop {
            let end = fixed + blocks + table;
            let wanted = end.div_ceil(COUNTS);
            let wanted_table = wanted.div_ceil(TABLE);
            if (wanted, wanted_table) == (blocks, table) {
                let l1_place = 1 + table + blocks;
                return Self {
                    refcount_blocks: 1 + table,
                    l1: l1_place,
                    l2: l1_place + l1,
                    data: l1_place + l1 + l2_tables,
                    end,
                };
            }
            (blocks, table) = (wanted.max(blocks), wanted_table.max(table));
        }
    }

    /// Writes all before the L1 table: the header, and counts that say that each cluster of the
    /// file is used once. `backing` is the format and the name of what is below.
    fn write_front(
        &self,
        out: &mut dyn Write,
        size: u64,
        backing: Option<(&str, &str)>,
    ) -> io::Result<()> {
        out.write_all(&self.header(size, backing))?;
        let blocks = self.refcount_blocks..self.l1;
        write_table(out, blocks.clone().map(|block| block * CLUSTER))?;
        for number in 0..blocks.end - blocks.start {
            let clusters = number * COUNTS..(number + 1) * COUNTS;
            let counts = clusters.flat_map(|one| u16::from(one < self.end).to_be_bytes());
            out.write_all(&counts.collect::<Vec<u8>>())?;
        }
        Ok(())
    }

    /// The first cluster.
    fn header(&self, size: u64, backing: Option<(&str, &str)>) -> Vec<u8> {
        let mut extensions = Vec::new();
        let mut name = (0, "");
        if let Some((format, path)) = backing {
            extensions.extend(BACKING_FORMAT.to_be_bytes());
            extensions.extend((format.len() as u32).to_be_bytes());
            extensions.extend(format.as_bytes());
            // Padding, and the end of the extensions.
            extensions.resize(extensions.len().next_multiple_of(8) + 8, 0);
            name = (u64::from(HEADER) + extensions.len() as u64, path);
        }
        let table = self.refcount_blocks - Self::REFCOUNT_TABLE;
        let short = |header: &mut Vec<u8>, value: u32| header.extend(value.to_be_bytes());
        let long = |header: &mut Vec<u8>, value: u64| header.extend(value.to_be_bytes());
        let mut header = MAGIC.to_vec();
        short(&mut header, 3);
        long(&mut header, name.0);
        short(&mut header, name.1.len() as u32);
        short(&mut header, CLUSTER_BITS);
        long(&mut header, size.next_multiple_of(SECTOR));
        // No encryption.
        short(&mut header, 0);
        let entries = u32::try_from(l1_entries(size)).unwrap_or(u32::MAX);
        short(&mut header, entries);
        long(&mut header, self.l1 * CLUSTER);
        long(&mut header, Self::REFCOUNT_TABLE * CLUSTER);
        short(&mut header, u32::try_from(table).unwrap_or(u32::MAX));
        // No snapshots, no features.
        header.resize(96, 0);
        // Counts of 2^4 bits.
        short(&mut header, 4);
        short(&mut header, HEADER);
        header.extend(extensions);
        header.extend(name.1.as_bytes());
        header.resize(CLUSTER as usize, 0);
        header
    }
}

/// Entries of the L1 table for a disk of `size` bytes. An empty disk has a table, too.
const fn l1_entries(size: u64) -> u64 {
    let entries = size.div_ceil(CLUSTER * TABLE);
    if entries == 0 { 1 } else { entries }
}

/// Writes entries of 8 bytes, filled up to whole tables.
fn write_table(out: &mut dyn Write, entries: impl Iterator<Item = u64>) -> io::Result<()> {
    let mut bytes: Vec<u8> = entries.flat_map(u64::to_be_bytes).collect();
    bytes.resize(bytes.len().next_multiple_of(CLUSTER as usize), 0);
    out.write_all(&bytes)
}

/// Runs `qemu-img` or `qemu-io`; a host without them fails the test.
#[cfg(test)]
fn run<S: AsRef<std::ffi::OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> String {
    let run = std::process::Command::new(program).args(arguments).output();
    let run = run.expect("qemu-img and qemu-io run (package qemu-utils)");
    assert!(run.status.success(), "{program}: {run:?}");
    String::from_utf8_lossy(&run.stdout).into_owned()
}

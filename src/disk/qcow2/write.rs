//! Writing a raw disk as qcow2, as a stream: a function of the disk's content and nothing else.
//!
//! The clusters with data are in the disk's order, those of zeros are left out. `qemu-img` would
//! do, but it needs a file to write to, and gives other bytes from version to version.

use std::io::{self, Write};
use std::ops::Range;

use super::{CLUSTER, Places, TABLE, l1_entries, write_table};
use crate::disk::ReadAt;

/// Says in an entry that the cluster has no other user.
const COPIED: u64 = 1 << 63;
/// An entry of an L2 table: zeros, which take no space.
const ZEROS: u64 = 1;

/// A disk that was looked through, and where everything is in its qcow2.
pub struct Qcow2<'a> {
    disk: &'a dyn ReadAt,
    size: u64,
    /// A bit for each cluster of the disk: whether it has data.
    data: Vec<u64>,
    /// The same for clusters that are zeros whatever lies below.
    zeros: Vec<u64>,
    places: Places,
}

impl<'a> Qcow2<'a> {
    /// Looks through a disk for what is not zeros. `parts` are the parts of it that may have data,
    /// in order; the rest is not read. `pause` is asked now and then, and an error of it ends the
    /// work.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub fn scan(
        disk: &'a dyn ReadAt,
        parts: &[Range<u64>],
        pause: &dyn Fn() -> io::Result<()>,
    ) -> io::Result<Self> {
        let size = disk.size()?;
        let clusters = size.div_ceil(CLUSTER);
        let mut data = vec![0_u64; usize::try_from(clusters.div_ceil(64)).unwrap_or(usize::MAX)];
        let mut buffer = vec![0; CLUSTER as usize];
        let mut count = 0;
        let mut next = 0;
        for part in parts {
            let first = (part.start / CLUSTER).max(next);
            next = part.end.min(size).div_ceil(CLUSTER).max(first);
            for cluster in first..next {
                if cluster % 256 == 0 {
                    pause()?;
                }
                if *read(disk, size, cluster, &mut buffer)? != [0; CLUSTER as usize] {
                    data[(cluster / 64) as usize] |= 1 << (cluster % 64);
                    count += 1;
                }
            }
        }
        Ok(Self::placed(disk, size, data, count))
    }

    /// The clusters of `parts` of a disk, zeros or not, and nothing else: what is to lie over another
    /// disk. `parts` are in order.
    ///
    /// # Errors
    /// The size of the disk cannot be told.
    pub fn of_parts(disk: &'a dyn ReadAt, parts: &[Range<u64>]) -> io::Result<Self> {
        let size = disk.size()?;
        let clusters = size.div_ceil(CLUSTER);
        let words = usize::try_from(clusters.div_ceil(64)).unwrap_or(usize::MAX);
        let (mut data, mut count, mut next) = (vec![0_u64; words], 0, 0);
        for part in parts {
            let first = (part.start / CLUSTER).max(next);
            next = part.end.min(size).div_ceil(CLUSTER).max(first);
            for cluster in first..next {
                data[(cluster / 64) as usize] |= 1 << (cluster % 64);
                count += 1;
            }
        }
        Ok(Self::placed(disk, size, data, count))
    }

    /// One overlay in place of several. `extents` are those of all of them, the lowest overlay first,
    /// each with whether it has data; one without data is zeros, which hide what lies below.
    ///
    /// # Errors
    /// The size of the disk cannot be read.
    pub fn of_overlays(
        disk: &'a dyn ReadAt,
        extents: impl Iterator<Item = (Range<u64>, bool)>,
    ) -> io::Result<Self> {
        let mut made = Self::of_parts(disk, &[])?;
        made.zeros = vec![0; made.data.len()];
        for (range, has_data) in extents {
            for cluster in range.start / CLUSTER..range.end.min(made.size).div_ceil(CLUSTER) {
                let (word, bit) = ((cluster / 64) as usize, 1 << (cluster % 64));
                made.data[word] &= !bit;
                made.zeros[word] &= !bit;
                match has_data {
                    true => made.data[word] |= bit,
                    false => made.zeros[word] |= bit,
                }
            }
        }
        let count = made.data.iter().map(|word| u64::from(word.count_ones()));
        let count = count.sum();
        let placed = Self::placed_over(disk, made.size, made.data, made.zeros, count);
        Ok(placed)
    }

    /// Finds out where everything goes.
    fn placed(disk: &'a dyn ReadAt, size: u64, data: Vec<u64>, count: u64) -> Self {
        Self::placed_over(disk, size, data, Vec::new(), count)
    }

    fn placed_over(
        disk: &'a dyn ReadAt,
        size: u64,
        data: Vec<u64>,
        zeros: Vec<u64>,
        count: u64,
    ) -> Self {
        let mut scanned = Self {
            disk,
            size,
            data,
            zeros,
            places: Places::new(1, 0, count),
        };
        let entries = l1_entries(size);
        let l2_tables = (0..entries).filter(|table| scanned.has_table(*table));
        scanned.places = Places::new(entries, l2_tables.count() as u64, count);
        scanned
    }

    /// How many bytes [`write`](Self::write) gives.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.places.end * CLUSTER
    }

    fn has_data(&self, cluster: u64) -> bool {
        has(&self.data, cluster)
    }

    /// Whether an L2 table has entries: one is for a whole number of words.
    fn has_table(&self, table: u64) -> bool {
        let first = (table * TABLE / 64) as usize;
        let has = |bits: &[u64]| {
            let mut words = bits.iter().skip(first).take((TABLE / 64) as usize);
            words.any(|word| *word != 0)
        };
        has(&self.data) || has(&self.zeros)
    }

    /// Writes the qcow2.
    ///
    /// # Errors
    /// The disk cannot be read, or changed since it was looked through, or `out` fails, or `pause`
    /// does.
    pub fn write(&self, out: &mut dyn Write, pause: &dyn Fn() -> io::Result<()>) -> io::Result<()> {
        let places = &self.places;
        places.write_front(out, self.size, None)?;
        let mut l2 = places.l2;
        let entries = (0..l1_entries(self.size)).map(|number| match self.has_table(number) {
            false => 0,
            true => {
                l2 += 1;
                COPIED | ((l2 - 1) * CLUSTER)
            }
        });
        write_table(out, entries)?;
        let mut place = places.data;
        for number in (0..l1_entries(self.size)).filter(|number| self.has_table(*number)) {
            let clusters = number * TABLE..(number + 1) * TABLE;
            let entries = clusters.map(|cluster| match self.has_data(cluster) {
                false if has(&self.zeros, cluster) => ZEROS,
                false => 0,
                true => {
                    place += 1;
                    COPIED | ((place - 1) * CLUSTER)
                }
            });
            write_table(out, entries)?;
        }
        let mut buffer = vec![0; CLUSTER as usize];
        for cluster in (0..self.size.div_ceil(CLUSTER)).filter(|one| self.has_data(*one)) {
            pause()?;
            out.write_all(read(self.disk, self.size, cluster, &mut buffer)?)?;
        }
        Ok(())
    }
}

fn has(bits: &[u64], cluster: u64) -> bool {
    let word = bits.get((cluster / 64) as usize);
    word.is_some_and(|word| word >> (cluster % 64) & 1 == 1)
}

/// A cluster of a disk; what is beyond its end is zeros.
fn read<'b>(
    disk: &dyn ReadAt,
    size: u64,
    cluster: u64,
    buffer: &'b mut [u8],
) -> io::Result<&'b [u8]> {
    let start = cluster * CLUSTER;
    let length = (size - start).min(CLUSTER) as usize;
    disk.read_exact_at(&mut buffer[..length], start)?;
    buffer[length..].fill(0);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use proptest::prelude::*;

    use super::super::{COUNTS, SECTOR, run};
    use super::*;
    use crate::disk::foreign;
    use crate::image::DiskFormat;

    fn written(disk: &[u8], parts: &[Range<u64>]) -> Vec<u8> {
        let go = || Ok(());
        let disk: &dyn ReadAt = &disk;
        let scanned = Qcow2::scan(disk, parts, &go).unwrap();
        let mut out = Vec::new();
        scanned.write(&mut out, &go).unwrap();
        assert_eq!(out.len() as u64, scanned.length());
        out
    }

    /// Ones at these places, zeros else: what qemu-img reads of it is the disk, and it finds
    /// nothing wrong.
    fn check(length: u64, ones: &[u64]) {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let (made, raw) = (path("made"), path("raw"));
        let disk = File::create_new(&raw).unwrap();
        disk.set_len(length).unwrap();
        for place in ones {
            disk.write_all_at(&[1], *place).unwrap();
        }
        let disk = File::open(&raw).unwrap();
        let parts: Vec<_> = ones.iter().map(|place| *place..place + 1).collect();
        let scanned = Qcow2::scan(&disk, &parts, &|| Ok(())).unwrap();
        let mut out = File::create_new(&made).unwrap();
        scanned.write(&mut out, &|| Ok(())).unwrap();
        let out = File::open(&made).unwrap();
        assert_eq!(out.metadata().unwrap().len(), scanned.length());
        let header = foreign::check(DiskFormat::Qcow2, &out, 0).unwrap();
        assert_eq!(header.size, length.next_multiple_of(SECTOR));
        run("qemu-img", ["check", "-f", "qcow2", &made]);
        let same = run(
            "qemu-img",
            ["compare", "-f", "raw", "-F", "qcow2", &raw, &made],
        );
        assert!(same.contains("identical"), "{same}");
    }

    #[test]
    fn qemu_reads_the_disk_and_finds_nothing_wrong() {
        check(0, &[]);
        check(512, &[7]);
        check(700, &[699]);
        check(1 << 20, &[]);
        check(1 << 20, &[0, CLUSTER, 3 * CLUSTER - 1, (1 << 20) - 1]);
        // Three L2 tables, the second one empty.
        check((1 << 30) + 4 * CLUSTER, &[CLUSTER, 1 << 30]);
        // Two clusters of L1 table.
        check(5 << 40, &[5, (4 << 40) + 7, (5 << 40) - 1]);
    }

    #[test]
    fn there_is_room_for_the_counts_of_the_counts() {
        for data in [
            0,
            1,
            COUNTS - 5,
            COUNTS,
            COUNTS * TABLE,
            COUNTS * TABLE * 3 + 1,
        ] {
            let places = Places::new(data.div_ceil(TABLE), data.div_ceil(TABLE), data);
            let blocks = places.l1 - places.refcount_blocks;
            assert!(blocks * COUNTS >= places.end, "{data}");
            assert!((blocks - 1) * COUNTS < places.end, "{data}");
            let table = places.refcount_blocks - Places::REFCOUNT_TABLE;
            assert!(table * TABLE >= blocks, "{data}");
            assert_eq!(places.end - places.data, data);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]
        #[test]
        fn it_is_the_same_whatever_is_known_of_zeros(
            places in prop::collection::vec(0..(20 * CLUSTER as usize), 0..6),
            cuts in prop::collection::vec(0..(20 * CLUSTER), 0..6),
        ) {
            let mut disk = vec![0; 20 * CLUSTER as usize];
            for place in &places {
                disk[*place] = 1;
            }
            let all = 0..disk.len() as u64;
            let mut cuts: Vec<u64> = cuts.into_iter().chain([0, all.end]).collect();
            cuts.sort_unstable();
            let parts: Vec<_> = cuts.windows(2).map(|pair| pair[0]..pair[1]).collect();
            let with_data = |part: &Range<u64>| {
                disk[part.start as usize..part.end as usize].iter().any(|byte| *byte != 0)
            };
            let known: Vec<_> = parts.iter().filter(|part| with_data(part)).cloned().collect();
            let whole = written(&disk, std::slice::from_ref(&all));
            prop_assert!(written(&disk, &parts) == whole);
            prop_assert!(written(&disk, &known) == whole);
        }
    }
}

//! A FAT32 file system that is written once: known files, each in one piece, nothing left to time
//! or chance. Pure up to the last step: [`image`] gives pieces and their offsets.
//!
//! Source of the format: "Microsoft Extensible Firmware Initiative FAT32 File System
//! Specification", version 1.03.
//!
//! Not the crate `fatfs`: version 0.3.6 gives `.` and `..` long names, which `fsck.vfat` wants to
//! delete, and writes cluster by cluster. It reads what is written here in the tests.

use std::borrow::Cow;

const SECTOR: u64 = 512;
const SECTORS_PER_CLUSTER: u64 = 4;
const CLUSTER: u64 = SECTOR * SECTORS_PER_CLUSTER;
/// Sectors before the first table: boot sector, free space information, and their copies at 6.
const RESERVED: u64 = 32;
const TABLES: u64 = 2;
/// A file system with fewer clusters would be taken for FAT16.
const LEAST_CLUSTERS: u64 = 65_525;
const END_OF_CHAIN: u32 = 0x0FFF_FFFF;
const ROOT_CLUSTER: u32 = 2;

const ENTRY: usize = 32;
const DIRECTORY: u8 = 0x10;
const ARCHIVE: u8 = 0x20;
const LABEL: u8 = 0x08;
const LONG_NAME: u8 = 0x0F;
/// UTF-16 units in one long name entry.
const LONG_NAME_UNITS: usize = 13;
/// 1980-01-01, the beginning of FAT's time.
const DATE: [u8; 2] = [0x21, 0];

/// A volume to be written.
pub(super) struct Volume<'a> {
    /// Size in bytes.
    pub(super) size: u64,
    /// Bytes before it on its disk.
    pub(super) offset: u64,
    /// Volume id.
    pub(super) id: u32,
    /// Label, padded with spaces.
    pub(super) label: [u8; 11],
    /// Paths with `/` between their parts, and contents. Directories are made as needed.
    pub(super) files: Vec<(&'a str, &'a [u8])>,
}

/// Bytes at an offset in the volume. What no piece covers is zero.
pub(super) type Piece<'a> = (u64, Cow<'a, [u8]>);

/// The files do not fit, or the size is not one of a FAT32.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DoesNotFit;

/// The pieces of the volume, in no order.
pub(super) fn image<'a>(volume: &Volume<'a>) -> Result<Vec<Piece<'a>>, DoesNotFit> {
    let mut root = Directory::default();
    for (path, content) in &volume.files {
        root.insert(path, content);
    }
    let mut writer = Writer::new(volume.size)?;
    let first = writer.directory(&root, None, &volume.label)?;
    debug_assert_eq!(first, ROOT_CLUSTER);
    writer.finish(volume)
}

#[derive(Default)]
struct Directory<'a> {
    entries: Vec<(&'a str, Node<'a>)>,
}

enum Node<'a> {
    File(&'a [u8]),
    Directory(Directory<'a>),
}

impl<'a> Directory<'a> {
    fn insert(&mut self, path: &'a str, content: &'a [u8]) {
        let Some((name, rest)) = path.split_once('/') else {
            return self.entries.push((path, Node::File(content)));
        };
        let found = self.entries.iter_mut().find(|(other, _)| *other == name);
        if let Some((_, Node::Directory(directory))) = found {
            return directory.insert(rest, content);
        }
        let mut directory = Self::default();
        directory.insert(rest, content);
        self.entries.push((name, Node::Directory(directory)));
    }

    /// Entries of the table, with `.` and `..` or the label.
    fn slots(&self) -> usize {
        2 + self
            .entries
            .iter()
            .map(|(name, _)| 1 + long_name_slots(name))
            .sum::<usize>()
    }
}

struct Writer<'a> {
    table_sectors: u64,
    clusters: u64,
    /// The allocation table as far as it is used. The first two entries are no clusters.
    table: Vec<u32>,
    pieces: Vec<Piece<'a>>,
}

impl<'a> Writer<'a> {
    fn new(size: u64) -> Result<Self, DoesNotFit> {
        let sectors = u32::try_from(size / SECTOR).map_err(|_| DoesNotFit)?;
        let sectors = u64::from(sectors).checked_sub(RESERVED).ok_or(DoesNotFit)?;
        // The specification's formula: a sector of a table is for 128 clusters.
        let table_sectors = sectors.div_ceil(128 * SECTORS_PER_CLUSTER + TABLES);
        let clusters = (sectors - TABLES * table_sectors) / SECTORS_PER_CLUSTER;
        if clusters < LEAST_CLUSTERS {
            return Err(DoesNotFit);
        }
        Ok(Self {
            table_sectors,
            clusters,
            table: vec![0x0FFF_FFF8, END_OF_CHAIN],
            pieces: Vec::new(),
        })
    }

    /// A run of clusters for so many bytes; 0, which is none, for no bytes.
    fn allocate(&mut self, bytes: usize) -> Result<u32, DoesNotFit> {
        let count = (bytes as u64).div_ceil(CLUSTER);
        let first = self.table.len() as u64;
        if count == 0 {
            return Ok(0);
        }
        if first + count > self.clusters + 2 || bytes as u64 > u64::from(u32::MAX) {
            return Err(DoesNotFit);
        }
        self.table
            .extend((first + 1..first + count).map(|next| next as u32));
        self.table.push(END_OF_CHAIN);
        Ok(first as u32)
    }

    fn offset_of(&self, cluster: u32) -> u64 {
        (RESERVED + TABLES * self.table_sectors) * SECTOR + u64::from(cluster - 2) * CLUSTER
    }

    /// Places a directory with all that it holds; `parent` is its parent's cluster, absent for the
    /// root, which has the label instead.
    fn directory(
        &mut self,
        directory: &Directory<'a>,
        parent: Option<u32>,
        label: &[u8; 11],
    ) -> Result<u32, DoesNotFit> {
        let first = self.allocate(directory.slots() * ENTRY)?;
        let mut bytes = Vec::with_capacity(directory.slots() * ENTRY);
        match parent {
            None => bytes.extend(entry(label, LABEL, 0, 0)),
            Some(parent) => {
                // The root is written as 0 here.
                let up = if parent == ROOT_CLUSTER { 0 } else { parent };
                bytes.extend(entry(b".          ", DIRECTORY, first, 0));
                bytes.extend(entry(b"..         ", DIRECTORY, up, 0));
            }
        }
        let mut taken = Vec::new();
        for (name, node) in &directory.entries {
            let short = short_name(name, &taken);
            taken.push(short);
            bytes.extend(long_name(name, &short));
            bytes.extend(match node {
                Node::File(content) => {
                    let cluster = self.allocate(content.len())?;
                    if cluster != 0 {
                        self.pieces
                            .push((self.offset_of(cluster), Cow::Borrowed(*content)));
                    }
                    entry(&short, ARCHIVE, cluster, content.len() as u32)
                }
                Node::Directory(child) => {
                    let cluster = self.directory(child, Some(first), label)?;
                    entry(&short, DIRECTORY, cluster, 0)
                }
            });
        }
        self.pieces.push((self.offset_of(first), Cow::Owned(bytes)));
        Ok(first)
    }

    fn finish(mut self, volume: &Volume<'_>) -> Result<Vec<Piece<'a>>, DoesNotFit> {
        let table: Vec<u8> = self.table.iter().flat_map(|e| e.to_le_bytes()).collect();
        for copy in 0..TABLES {
            let at = (RESERVED + copy * self.table_sectors) * SECTOR;
            self.pieces.push((at, Cow::Owned(table.clone())));
        }
        let hidden = u32::try_from(volume.offset / SECTOR).map_err(|_| DoesNotFit)?;
        let mut sectors = vec![0; 2 * SECTOR as usize];
        let mut put =
            |at: usize, bytes: &[u8]| sectors[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &[0xEB, 0x58, 0x90]);
        put(3, b"vmfab   ");
        put(11, &(SECTOR as u16).to_le_bytes());
        put(13, &[SECTORS_PER_CLUSTER as u8]);
        put(14, &(RESERVED as u16).to_le_bytes());
        put(16, &[TABLES as u8]);
        put(21, &[0xF8]);
        put(24, &63_u16.to_le_bytes());
        put(26, &255_u16.to_le_bytes());
        put(28, &hidden.to_le_bytes());
        put(32, &((volume.size / SECTOR) as u32).to_le_bytes());
        put(36, &(self.table_sectors as u32).to_le_bytes());
        put(44, &ROOT_CLUSTER.to_le_bytes());
        put(48, &1_u16.to_le_bytes());
        put(50, &6_u16.to_le_bytes());
        put(64, &[0x80, 0, 0x29]);
        put(67, &volume.id.to_le_bytes());
        put(71, &volume.label);
        put(82, b"FAT32   ");
        put(510, &[0x55, 0xAA]);
        let free = self.clusters + 2 - self.table.len() as u64;
        put(512, b"RRaA");
        put(512 + 484, b"rrAa");
        put(512 + 488, &(free as u32).to_le_bytes());
        put(512 + 492, &(self.table.len() as u32).to_le_bytes());
        put(512 + 510, &[0x55, 0xAA]);
        self.pieces.push((6 * SECTOR, Cow::Owned(sectors.clone())));
        self.pieces.push((0, Cow::Owned(sectors)));
        Ok(self.pieces)
    }
}

fn entry(name: &[u8; 11], attributes: u8, cluster: u32, size: u32) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[..11].copy_from_slice(name);
    entry[11] = attributes;
    let [low_0, low_1, high_0, high_1] = cluster.to_le_bytes();
    entry[16..18].copy_from_slice(&DATE);
    entry[18..20].copy_from_slice(&DATE);
    entry[20..22].copy_from_slice(&[high_0, high_1]);
    entry[24..26].copy_from_slice(&DATE);
    entry[26..28].copy_from_slice(&[low_0, low_1]);
    entry[28..].copy_from_slice(&size.to_le_bytes());
    entry
}

/// The name as upper-case 8.3, or none when that would change it.
fn exact_short_name(name: &str) -> Option<[u8; 11]> {
    let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let plain = |part: &str| {
        part.bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
    };
    let fits = (1..=8).contains(&base.len())
        && extension.len() <= 3
        && plain(base)
        && plain(extension)
        && !name.ends_with('.');
    fits.then(|| pad(base.bytes(), extension.bytes()))
}

fn pad(base: impl Iterator<Item = u8>, extension: impl Iterator<Item = u8>) -> [u8; 11] {
    let mut short = [b' '; 11];
    for (to, from) in short[..8].iter_mut().zip(base) {
        *to = from;
    }
    for (to, from) in short[8..].iter_mut().zip(extension) {
        *to = from;
    }
    short
}

/// The short name of an entry: the name itself, or the first letters with a number that makes it
/// unlike those that are `taken`.
fn short_name(name: &str, taken: &[[u8; 11]]) -> [u8; 11] {
    if let Some(short) = exact_short_name(name)
        && !taken.contains(&short)
    {
        return short;
    }
    let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let letters = |part: &str| -> Vec<u8> {
        part.bytes()
            .filter(u8::is_ascii_alphanumeric)
            .map(|b| b.to_ascii_uppercase())
            .collect()
    };
    let (base, extension) = (letters(base), letters(extension));
    let mut number = 1;
    loop {
        let tail = format!("~{number}");
        let head = base.iter().copied().take(8 - tail.len());
        let short = pad(head.chain(tail.bytes()), extension.iter().copied());
        if !taken.contains(&short) {
            return short;
        }
        number += 1;
    }
}

fn long_name_slots(name: &str) -> usize {
    match exact_short_name(name) {
        Some(_) => 0,
        None => name.encode_utf16().count().div_ceil(LONG_NAME_UNITS),
    }
}

/// The entries with the long name, last part first, as they stand before the short one.
fn long_name(name: &str, short: &[u8; 11]) -> Vec<u8> {
    let slots = long_name_slots(name);
    let checksum = short
        .iter()
        .fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let mut units: Vec<u16> = name.encode_utf16().collect();
    if units.len() < slots * LONG_NAME_UNITS {
        units.push(0);
    }
    units.resize(slots * LONG_NAME_UNITS, 0xFFFF);
    let mut bytes = Vec::with_capacity(slots * ENTRY);
    for (index, part) in units.chunks(LONG_NAME_UNITS).enumerate().rev() {
        let last = if index + 1 == slots { 0x40 } else { 0 };
        let text: Vec<u8> = part.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        bytes.push((index as u8 + 1) | last);
        bytes.extend(&text[..10]);
        bytes.extend([LONG_NAME, 0, checksum]);
        bytes.extend(&text[10..22]);
        bytes.extend([0, 0]);
        bytes.extend(&text[22..]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read};

    use fatfs::{FatType, FileSystem, FsOptions};
    use proptest::prelude::*;

    use super::*;

    fn volume<'a>(files: Vec<(&'a str, &'a [u8])>) -> Volume<'a> {
        Volume {
            size: 136 << 20,
            offset: 1 << 20,
            id: 0x1234_5678,
            label: *b"ESP        ",
            files,
        }
    }

    fn bytes(volume: &Volume<'_>) -> Vec<u8> {
        let mut bytes = vec![0; volume.size as usize];
        for (at, piece) in image(volume).unwrap() {
            bytes[at as usize..at as usize + piece.len()].copy_from_slice(&piece);
        }
        bytes
    }

    #[test]
    fn short_names() {
        let names = |all: &[&str]| {
            let mut taken = Vec::new();
            for name in all {
                taken.push(short_name(name, &taken));
            }
            taken
                .iter()
                .map(|short| String::from_utf8(short.to_vec()).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(&[
                "BOOTX64.EFI",
                "loader.conf",
                "loader.con",
                "linux",
                "a b",
                "EFI"
            ]),
            [
                "BOOTX64 EFI",
                "LOADER~1CON",
                "LOADER~2CON",
                "LINUX~1    ",
                "AB~1       ",
                "EFI        "
            ]
        );
    }

    #[test]
    fn another_reader_finds_the_files() {
        let large = vec![9; 5_000_001];
        let volume = volume(vec![
            ("EFI/BOOT/BOOTX64.EFI", b"loader"),
            ("loader/entries/a name of some length.conf", b"entry"),
            ("loader/loader.conf", b""),
            ("large", &large),
        ]);
        let mut bytes = bytes(&volume);
        let fs = FileSystem::new(Cursor::new(&mut bytes[..]), FsOptions::new()).unwrap();
        assert_eq!(fs.fat_type(), FatType::Fat32);
        assert_eq!(fs.volume_id(), 0x1234_5678);
        assert_eq!(fs.volume_label(), "ESP");
        for (path, content) in &volume.files {
            let mut found = Vec::new();
            let mut file = fs.root_dir().open_file(path).unwrap();
            file.read_to_end(&mut found).unwrap();
            assert!(found == *content, "{path}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let large = vec![0; 140 << 20];
        assert_eq!(image(&volume(vec![("large", &large)])), Err(DoesNotFit));
        let mut small = volume(Vec::new());
        small.size = 64 << 20;
        assert_eq!(image(&small), Err(DoesNotFit));
    }

    proptest! {
        #[test]
        fn pieces_do_not_overlap(sizes in prop::collection::vec(0_usize..9000, 0..200)) {
            let contents: Vec<(String, Vec<u8>)> = sizes
                .iter()
                .enumerate()
                .map(|(n, size)| (format!("dir-{}/file-{n}", n % 7), vec![1; *size]))
                .collect();
            let files = contents.iter().map(|(path, c)| (path.as_str(), c.as_slice())).collect();
            let mut pieces = image(&volume(files)).unwrap();
            pieces.sort();
            for pair in pieces.windows(2) {
                prop_assert!(pair[0].0 + pair[0].1.len() as u64 <= pair[1].0);
            }
        }
    }
}

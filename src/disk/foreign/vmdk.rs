//! VMDK headers. Source: VMware's "Virtual Disk Format 5.0". Numbers are little-endian.
//!
//! A disk in one file begins with the header of a sparse extent, and has its descriptor, a text, in
//! the file. The other kinds are a descriptor that names the files of its extents.

use super::{ForeignError, Parts, array, malformed, part};
use crate::disk::ReadAt;
use crate::image::DiskFormat;

const FORMAT: DiskFormat = DiskFormat::Vmdk;
const SECTOR: u64 = 512;
/// Where QEMU looks for the descriptor, whatever the header says, and how much of it.
const QEMU_PLACE: (u64, u64) = (SECTOR, 20 * SECTOR);
/// No program writes longer descriptors.
const MOST: u64 = 1 << 20;
/// In the flags: all grains are compressed.
const COMPRESSED: u32 = 1 << 16;
/// In the place of the grain directory's sector.
const AT_END: u64 = u64::MAX;
/// Kinds of disks in one file.
const WHOLE: [&str; 2] = ["monolithicSparse", "streamOptimized"];

/// The size of the disk in a file that is whole.
pub(super) fn check(file: &dyn ReadAt, image_size: u64) -> Result<u64, ForeignError> {
    let mark = part(FORMAT, file, 0, 4)?;
    if mark == b"# Di" {
        return Err(ForeignError::NamesFile {
            format: FORMAT,
            what: "it is a text that names the files of its parts".to_owned(),
        });
    }
    if mark != b"KDMV" {
        return Err(malformed(FORMAT, "it does not begin as one"));
    }
    let head = part(FORMAT, file, 0, SECTOR as usize)?;
    let long = |at| u64::from_le_bytes(array(&head, at));
    let (capacity, offset, sectors) = (long(12), long(28), long(36));
    // Without a size QEMU takes the file for a descriptor that names others.
    if capacity == 0 || offset == 0 || sectors == 0 {
        return Err(malformed(FORMAT, "it has no size or no descriptor"));
    }
    let place = offset
        .checked_mul(SECTOR)
        .zip(sectors.checked_mul(SECTOR))
        .filter(|(_, length)| *length <= MOST)
        .ok_or_else(|| malformed(FORMAT, "its descriptor is too long"))?;
    let size = file.size().map_err(ForeignError::Io)?;
    for (offset, length) in [QEMU_PLACE, place] {
        let length = length.min(size.saturating_sub(offset));
        let text = part(FORMAT, file, offset, length as usize)?;
        check_descriptor(&text, offset == place.0)?;
    }
    let disk = capacity
        .checked_mul(SECTOR)
        .ok_or_else(|| malformed(FORMAT, "its size is out of range"))?;
    let directory = match long(56) {
        // A stream has its tables at its end, and the header once more behind them, before a sector
        // that says so.
        AT_END => {
            let at = size
                .checked_sub(2 * SECTOR)
                .ok_or_else(|| malformed(FORMAT, "it ends before its footer"))?;
            let footer = part(FORMAT, file, at, SECTOR as usize)?;
            if !footer.starts_with(b"KDMV") {
                return Err(malformed(FORMAT, "it ends before its footer"));
            }
            u64::from_le_bytes(array(&footer, 56))
        }
        directory => directory,
    };
    let entries = u64::from(u32::from_le_bytes(array(&head, 44)));
    let grains = Grains {
        sectors: long(20),
        compressed: u32::from_le_bytes(array(&head, 8)) & COMPRESSED != 0,
    };
    let parts = Parts::new(FORMAT, file)?.bounded(image_size);
    check_tables(parts, directory, disk, &grains, entries)?;
    Ok(disk)
}

/// The parts of a disk.
struct Grains {
    sectors: u64,
    compressed: bool,
}

/// Looks whether all grains are in the file; `directory` is the sector of the grain directory, and
/// tables have so many `entries`.
fn check_tables(
    mut parts: Parts<'_>,
    directory: u64,
    disk: u64,
    grains: &Grains,
    entries: u64,
) -> Result<(), ForeignError> {
    let bytes = |sectors: u64| sectors.saturating_mul(SECTOR);
    let grain = bytes(grains.sectors);
    let covered = grain.saturating_mul(entries);
    if covered == 0 {
        return Err(malformed(FORMAT, "its grains have no size"));
    }
    let tables = disk.div_ceil(covered);
    let directory = parts.table(bytes(directory), tables.saturating_mul(4))?;
    for (number, at) in (0_u64..).zip(directory.chunks_exact(4)) {
        let at = u64::from(u32::from_le_bytes(array(at, 0)));
        if at == 0 {
            continue;
        }
        let table = parts.table(bytes(at), entries.saturating_mul(4))?;
        for (index, at) in (0_u64..).zip(table.chunks_exact(4)) {
            // 1 is a grain of zeros.
            let at = u64::from(u32::from_le_bytes(array(at, 0)));
            if at > 1 && grains.compressed {
                parts.inside(bytes(at), SECTOR)?;
                parts.unpacks_to(grain)?;
            } else if at > 1 {
                let from = number.saturating_mul(entries).saturating_add(index);
                let used = disk.saturating_sub(from.saturating_mul(grain));
                parts.data(bytes(at), used.min(grain))?;
            }
        }
    }
    Ok(())
}

/// Refuses a descriptor that names other files. `whole` asks for one that says what the disk is.
fn check_descriptor(bytes: &[u8], whole: bool) -> Result<(), ForeignError> {
    let end = bytes.iter().position(|byte| *byte == 0);
    // QEMU goes on to look for this behind the end, too.
    let text = String::from_utf8_lossy(bytes);
    if text.contains("parentFileNameHint") {
        return Err(names("its descriptor names a parent"));
    }
    if !whole {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]);
    let values = |key: &str| {
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let values: Vec<String> = lines
            .filter(|(name, _)| name.trim().eq_ignore_ascii_case(key))
            .map(|(_, value)| value.trim().trim_matches('"').to_owned())
            .collect();
        values
    };
    if values("parentCID").iter().any(|id| id != "ffffffff") {
        return Err(names("its descriptor names a parent"));
    }
    match values("createType").as_slice() {
        [kind] if WHOLE.contains(&kind.as_str()) => {}
        [kind] => {
            return Err(names(&format!(
                "it is of the kind {kind:?}; {} and {} are in one file",
                WHOLE[0], WHOLE[1]
            )));
        }
        _ => return Err(malformed(FORMAT, "its descriptor does not say its kind")),
    }
    let extent = |line: &&str| {
        let first = line.split_whitespace().next().unwrap_or_default();
        ["RW", "RDONLY", "NOACCESS"].contains(&first)
    };
    match text.lines().filter(extent).count() {
        // Its own name when it was made.
        1 => Ok(()),
        count => Err(names(&format!("its descriptor names {count} files"))),
    }
}

fn names(what: &str) -> ForeignError {
    ForeignError::NamesFile {
        format: FORMAT,
        what: what.to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A header for a disk of 1 MiB with a descriptor of this kind.
    pub(crate) fn header(kind: &str) -> Vec<u8> {
        let mut bytes = vec![0; 65_536];
        let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
        put(0, b"KDMV");
        put(12, &2048_u64.to_le_bytes());
        put(20, &64_u64.to_le_bytes());
        put(44, &512_u32.to_le_bytes());
        put(56, &64_u64.to_le_bytes());
        put(28, &1_u64.to_le_bytes());
        put(36, &20_u64.to_le_bytes());
        let text = format!(
            "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"{kind}\"\n\
             RW 2048 SPARSE \"disk.vmdk\"\n"
        );
        put(512, text.as_bytes());
        bytes
    }

    fn edited(from: &str, to: &str) -> String {
        let bytes = header("monolithicSparse");
        let text = String::from_utf8(bytes).unwrap().replace(from, to);
        check(&text.as_bytes(), 0).unwrap_err().to_string()
    }

    #[test]
    fn what_names_files_is_refused() {
        assert_eq!(
            check(&header("monolithicSparse").as_slice(), 0).unwrap(),
            1 << 20
        );
        assert_eq!(
            check(&header("streamOptimized").as_slice(), 0).unwrap(),
            1 << 20
        );
        insta::assert_snapshot!(check(&header("twoGbMaxExtentSparse").as_slice(), 0).unwrap_err(), @r#"the vmdk file is not the whole disk: it is of the kind "twoGbMaxExtentSparse"; monolithicSparse and streamOptimized are in one file"#);
        insta::assert_snapshot!(edited("ffffffff", "12345678"), @"the vmdk file is not the whole disk: its descriptor names a parent");
        insta::assert_snapshot!(edited("CID=1\n", "parentFileNameHint=\"/etc/shadow\"\n"), @"the vmdk file is not the whole disk: its descriptor names a parent");
        insta::assert_snapshot!(edited("CID=1\n", "RW 1 FLAT \"/etc/shadow\" 0\n"), @"the vmdk file is not the whole disk: its descriptor names 2 files");
        let text = b"# Disk DescriptorFile\nRW 1 FLAT \"/etc/shadow\" 0\n";
        insta::assert_snapshot!(check(&text.as_slice(), 0).unwrap_err(), @"the vmdk file is not the whole disk: it is a text that names the files of its parts");
        let mut hidden = header("monolithicSparse");
        hidden[28] = 100;
        let descriptor = hidden[512..1024].to_vec();
        hidden[51_200..51_712].copy_from_slice(&descriptor);
        hidden[512..1024].fill(0);
        hidden[512..533].copy_from_slice(b"parentFileNameHint=\"x");
        insta::assert_snapshot!(check(&hidden.as_slice(), 0).unwrap_err(), @"the vmdk file is not the whole disk: its descriptor names a parent");
        let mut short = header("monolithicSparse");
        short[64 * 512] = 70;
        short[70 * 512 + 8] = 127;
        insta::assert_snapshot!(check(&short.as_slice(), 0).unwrap_err(), @"it is not a readable vmdk: it ends after 65536 bytes, before what its tables name");
        let mut without = header("monolithicSparse");
        without[12..20].fill(0);
        insta::assert_snapshot!(check(&without.as_slice(), 0).unwrap_err(), @"it is not a readable vmdk: it has no size or no descriptor");
    }
}

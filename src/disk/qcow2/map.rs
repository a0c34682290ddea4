//! What an overlay holds of its disk. It can be read while a QEMU has it open, when that writes to
//! another one above: then its tables do not change.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::overlay::SIZE_MAX;
use super::{
    CLUSTER, CLUSTER_BITS, COMPRESSED, FEATURES, HEADER, MAGIC, OFFSET, TABLE, ZERO, l1_entries,
};
use crate::disk::foreign::array;
use crate::failure::Failure;
use crate::host::beneath::open_unlinked;

/// A part of the disk that does not read from below the overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of the disk.
    pub range: Range<u64>,
    /// Where they are in the overlay's file; nothing for zeros.
    pub at: Option<u64>,
}

/// An overlay opened for reading.
#[derive(Debug)]
pub struct Overlay {
    file: File,
    size: u64,
    extents: Vec<Extent>,
}

impl Overlay {
    /// Reads the tables of the overlay at `path`.
    ///
    /// # Errors
    /// It cannot be read, or uses what overlays of this program do not.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |source| Failure::of_io("read the overlay", path, &source);
        let file = open_unlinked(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut header = [0; HEADER as usize];
        file.read_exact_at(&mut header, 0).map_err(failed)?;
        let tables = Tables {
            file: &file,
            path,
            length,
        };
        let size = check(&header).map_err(|why| tables.damaged(why))?;
        let l1_at = u64::from_be_bytes(array(&header, 40));
        let extents = tables.extents(l1_at, size)?;
        Ok(Self {
            file,
            size,
            extents,
        })
    }

    /// Size of the disk in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// What does not read from below, in order; neighbours that also lie together in the file are
    /// one.
    #[must_use]
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Reads bytes of the disk; `below` gives those that the overlay does not hold.
    ///
    /// # Errors
    /// The file cannot be read, or `below` fails.
    pub fn read_at(
        &self,
        offset: u64,
        buffer: &mut [u8],
        below: &mut dyn FnMut(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let first = self.extents.partition_point(|e| e.range.end <= offset);
        let mut extents = self.extents[first..].iter();
        let mut current = extents.next();
        let mut done = 0;
        while done < buffer.len() {
            let position = offset + done as u64;
            let left = (buffer.len() - done) as u64;
            let held = current.filter(|extent| extent.range.start <= position);
            let border = match (held, current) {
                (Some(extent), _) => extent.range.end,
                (None, Some(extent)) => extent.range.start,
                (None, None) => u64::MAX,
            };
            let length = left.min(border - position) as usize;
            let part = &mut buffer[done..done + length];
            match held {
                None => below(position, part)?,
                Some(Extent { at: None, .. }) => part.fill(0),
                Some(Extent {
                    at: Some(at),
                    range,
                }) => read_to_end(&self.file, part, at + (position - range.start))?,
            }
            done += length;
            if position + length as u64 == border && held.is_some() {
                current = extents.next();
            }
        }
        Ok(())
    }
}

/// Reads at `offset`; behind the end of the file there are zeros.
fn read_to_end(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.read_at(buffer, offset) {
            Ok(0) => {
                buffer.fill(0);
                return Ok(());
            }
            Ok(count) => {
                buffer = &mut buffer[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Looks whether the header is one of ours; gives the size of the disk.
fn check(header: &[u8]) -> Result<u64, &'static str> {
    let number = |at| u32::from_be_bytes(array(header, at));
    let long = |at| u64::from_be_bytes(array(header, at));
    if &header[..4] != MAGIC || number(4) != 3 {
        return Err("it is not a qcow2 of version 3");
    }
    if number(20) != CLUSTER_BITS || number(32) != 0 {
        return Err("it has clusters of another size, or encryption");
    }
    if long(FEATURES) != 0 {
        return Err("it was not closed properly, is corrupt, or uses unknown features");
    }
    let size = long(24);
    let entries = u64::from(number(36));
    if size > SIZE_MAX || size > 0 && entries < l1_entries(size) {
        return Err("its tables do not fit its size");
    }
    Ok(size)
}

struct Tables<'a> {
    file: &'a File,
    path: &'a Path,
    length: u64,
}

impl Tables<'_> {
    fn damaged(&self, why: &'static str) -> Failure {
        let path = self.path.display();
        Failure::failed(format!("the overlay {path} cannot be read: {why}"))
    }

    /// Reads `entries` numbers.
    fn read(&self, at: u64, entries: u64) -> Result<Vec<u64>, Failure> {
        let end = at.checked_add(entries * 8);
        if end.is_none_or(|end| end > self.length) {
            return Err(self.damaged("a table is behind its end"));
        }
        let mut bytes = vec![0; entries as usize * 8];
        self.file
            .read_exact_at(&mut bytes, at)
            .map_err(Failure::io("read the overlay", self.path))?;
        let (numbers, _) = bytes.as_chunks::<8>();
        Ok(numbers.iter().map(|n| u64::from_be_bytes(*n)).collect())
    }

    fn extents(&self, l1_at: u64, size: u64) -> Result<Vec<Extent>, Failure> {
        let mut extents: Vec<Extent> = Vec::new();
        let l1 = self.read(l1_at, size.div_ceil(TABLE * CLUSTER))?;
        for (number, entry) in l1.into_iter().enumerate() {
            if entry & OFFSET == 0 {
                continue;
            }
            let covered = number as u64 * TABLE * CLUSTER;
            let l2 = self.read(entry & OFFSET, TABLE)?;
            for (number, entry) in l2.into_iter().enumerate() {
                let start = covered + number as u64 * CLUSTER;
                if entry & COMPRESSED != 0 {
                    return Err(self.damaged("it has compressed clusters"));
                }
                let at = match (entry & ZERO, entry & OFFSET) {
                    (0, 0) => continue,
                    (0, offset) if offset >= self.length => {
                        return Err(self.damaged("a cluster is behind its end"));
                    }
                    (0, offset) => Some(offset),
                    _ => None,
                };
                if start >= size {
                    break;
                }
                add(&mut extents, start..(start + CLUSTER).min(size), at);
            }
        }
        Ok(extents)
    }
}

/// Adds an extent, to the one before when it goes on there.
fn add(extents: &mut Vec<Extent>, range: Range<u64>, at: Option<u64>) {
    if let Some(last) = extents.last_mut()
        && last.range.end == range.start
        && last.at.map(|at| at + (last.range.end - last.range.start)) == at
    {
        last.range.end = range.end;
        return;
    }
    extents.push(Extent { range, at });
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::super::{overlay, run};
    use super::*;

    /// What `qemu-img map` says of the overlay itself.
    fn by_qemu(path: &str) -> Vec<Extent> {
        let map = run("qemu-img", ["map", "--output=json", "-U", path]);
        let map: serde_json::Value = serde_json::from_str(&map).unwrap();
        let mut extents = Vec::new();
        for entry in map.as_array().unwrap() {
            if entry["depth"] != 0 {
                continue;
            }
            let start = entry["start"].as_u64().unwrap();
            let end = start + entry["length"].as_u64().unwrap();
            let at = match entry["data"].as_bool().unwrap() {
                true => Some(entry["offset"].as_u64().unwrap()),
                false => None,
            };
            add(&mut extents, start..end, at);
        }
        extents
    }

    /// Parts of the disk, cluster by cluster: how they are joined is no matter, nor are zeros
    /// behind the end of what is below.
    fn clusters(extents: &[Extent], below: usize) -> Vec<(u64, Option<u64>)> {
        let of = |extent: &Extent| {
            let Extent { range, at } = extent.clone();
            let start = range.start;
            let steps = range.step_by(CLUSTER as usize);
            steps.map(move |position| (position, at.map(|at| at + (position - start))))
        };
        let all = extents.iter().flat_map(of);
        all.filter(|&(at, held)| held.is_some() || at < below as u64)
            .collect()
    }

    fn request() -> impl Strategy<Value = String> {
        let place = (0_u64..15_800, 1_u64..200);
        (place, 0_u8..5, 1_u8..255).prop_map(|((at, length), kind, byte)| match kind {
            0 => format!("write -z {at}k {length}k"),
            1 => format!("write -z -u {at}k {length}k"),
            2 => format!("discard {at}k {length}k"),
            _ => format!("write -P {byte} {at}k {length}k"),
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn overlays_are_read_as_qemu_reads_them(
            requests in prop::collection::vec(request(), 1..12),
            size in (20_000_u64..40_000).prop_map(|sectors| sectors * 512),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let raw = directory.path().join("raw");
            let base: Vec<u8> = (0..10_000_000_u32).map(|n| (n >> 9) as u8).collect();
            std::fs::write(&raw, &base).unwrap();
            let path = directory.path().join("overlay");
            let size = size.max(base.len() as u64);
            overlay::create(&path, raw.to_str().unwrap(), base.len() as u64, size).unwrap();
            let path_text = path.to_str().unwrap();
            let mut arguments = vec!["-d", "unmap", "-f", "qcow2"];
            for request in &requests {
                // What is behind the end is refused, and changes nothing.
                arguments.extend(["-c", request]);
            }
            arguments.push(path_text);
            Command::new("qemu-io").args(&arguments).output().unwrap();

            let read = Overlay::open(&path).unwrap();
            prop_assert_eq!(read.size(), size);
            prop_assert_eq!(clusters(read.extents(), base.len()), clusters(&by_qemu(path_text), base.len()));

            let converted = directory.path().join("converted");
            run("qemu-img", ["convert", "-O", "raw", path_text, converted.to_str().unwrap()]);
            let expected = std::fs::read(converted).unwrap();
            let mut below = |offset: u64, buffer: &mut [u8]| {
                buffer.fill(0);
                let start = base.len().min(offset as usize);
                let end = base.len().min(start + buffer.len());
                buffer[..end - start].copy_from_slice(&base[start..end]);
                Ok(())
            };
            for step in [size as usize, 100_000] {
                let mut content = vec![0xaa; size as usize];
                for (number, part) in content.chunks_mut(step).enumerate() {
                    read.read_at((number * step) as u64, part, &mut below).unwrap();
                }
                prop_assert!(content == expected);
            }
        }
    }

    #[test]
    fn foreign_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("overlay");
        let path_text = path.to_str().unwrap();
        for (options, why) in [
            ("compat=0.10", "it is not a qcow2 of version 3"),
            ("cluster_size=4k", "clusters of another size"),
            ("extended_l2=on", "unknown features"),
        ] {
            run(
                "qemu-img",
                [
                    "create", "-q", "-f", "qcow2", "-o", options, path_text, "1M",
                ],
            );
            let error = Overlay::open(&path).unwrap_err().to_string();
            assert!(error.contains(why), "{options}: {error}");
        }
        overlay::create(&path.with_extension("cut"), "/d", 0, 3 << 30).unwrap();
        let file = File::options()
            .write(true)
            .open(path.with_extension("cut"))
            .unwrap();
        file.set_len(3 * CLUSTER).unwrap();
        let error = Overlay::open(&path.with_extension("cut")).unwrap_err();
        assert!(error.message().contains("cannot be read"), "{error}");
    }
}

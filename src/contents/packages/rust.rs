//! Crates in Rust programs that say which they are made of: those that cargo-auditable built have a
//! section `.dep-v0` with JSON, compressed by zlib.
//!
//! Sources: cargo-auditable's PARSING.md; elf(5). Only the headers and that section are read.

use std::error::Error;
use std::io::{self, Read, Seek, SeekFrom};

use ext4_view::Ext4;
use flate2::read::ZlibDecoder;
use serde::Deserialize;

use super::{LEAST_FILE, MAX_DATABASE, Package};
use crate::contents::{FileKind, Files};

pub(super) const MANAGER: &str = "cargo";

const SECTION: &[u8] = b".dep-v0";

/// The largest table of sections, table of their names, and compressed list that is read, in bytes.
const MAX_PART: u64 = 1 << 20;

/// The longest list that is read, in bytes.
const MAX_LIST: u64 = 8 << 20;

/// The crates of all programs and libraries, each once, with the first file that has it.
pub(super) fn packages(
    ext4: &Ext4,
    files: &Files,
) -> Result<Vec<Package>, Box<dyn Error + Send + Sync>> {
    let mut packages: Vec<Package> = Vec::new();
    let mut left = MAX_DATABASE;
    for (path, meta) in files.iter() {
        if meta.kind != FileKind::File || !is_code(path, meta.mode) {
            continue;
        }
        let Ok(path) = std::str::from_utf8(path) else {
            continue;
        };
        let mut file = match ext4.open(&*format!("/{path}")) {
            Ok(file) => file,
            // A later layer of a damaged image may not have it.
            Err(_) => continue,
        };
        let mut reader = Counting {
            inner: &mut file,
            read: 0,
        };
        // What is cut off or wrong is no program.
        let list = list(&mut reader).unwrap_or_default();
        let Some(rest) = left.checked_sub(reader.read.max(LEAST_FILE) + list.len() as u64) else {
            break;
        };
        left = rest;
        packages.extend(crates(&list).into_iter().map(|one| Package {
            file: Some(path.to_owned()),
            ..one
        }));
    }
    packages.sort();
    packages.dedup_by(|a, b| (&a.name, &a.version) == (&b.name, &b.version));
    Ok(packages)
}

fn is_code(path: &[u8], mode: u32) -> bool {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    mode & 0o111 != 0 || name.windows(3).any(|part| part == b".so")
}

struct Counting<'a, R> {
    inner: &'a mut R,
    read: u64,
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read += read as u64;
        Ok(read)
    }
}

impl<R: Seek> Seek for Counting<'_, R> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.inner.seek(position)
    }
}

/// The list in an ELF file; `None` when it is none, or has no list.
fn list(file: &mut (impl Read + Seek)) -> Option<Vec<u8>> {
    let mut head = [0; 64];
    // Files of 32 bits have a header of 52 bytes.
    file.read_exact(&mut head[..52]).ok()?;
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let elf = Elf {
        is_64: head[4] == 2,
        is_little: head[5] == 1,
    };
    if elf.is_64 {
        file.read_exact(&mut head[52..]).ok()?;
    }
    let (table, numbers) = if elf.is_64 {
        (0x28, 0x3a)
    } else {
        (0x20, 0x2e)
    };
    let table = elf.word(&head, table)?;
    let size = elf.number(&head, numbers, 2)?;
    let count = elf.number(&head, numbers + 2, 2)?;
    let names = elf.number(&head, numbers + 4, 2)?;
    let sections = part(file, table, size * count)?;
    let section = |at: u64| {
        let header = sections.get((at * size) as usize..)?.get(..size as usize)?;
        let (offset, length) = if elf.is_64 { (24, 32) } else { (16, 20) };
        let name = elf.number(header, 0, 4)?;
        Some((name, elf.word(header, offset)?, elf.word(header, length)?))
    };
    let (_, offset, length) = section(names)?;
    let names = part(file, offset, length)?;
    let is_named = |at: u64| {
        let name = names.get(at as usize..)?;
        let rest = name.strip_prefix(SECTION)?;
        (rest.first() == Some(&0)).then_some(())
    };
    let mut all = (0..count).filter_map(section);
    let (_, offset, length) = all.find(|(name, ..)| is_named(*name).is_some())?;
    let compressed = part(file, offset, length)?;
    let mut list = Vec::new();
    let decoder = ZlibDecoder::new(compressed.as_slice());
    decoder.take(MAX_LIST + 1).read_to_end(&mut list).ok()?;
    (list.len() as u64 <= MAX_LIST).then_some(list)
}

fn part(file: &mut (impl Read + Seek), offset: u64, length: u64) -> Option<Vec<u8>> {
    if length > MAX_PART {
        return None;
    }
    file.seek(SeekFrom::Start(offset)).ok()?;
    let mut bytes = vec![0; length as usize];
    file.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

#[derive(Clone, Copy)]
struct Elf {
    is_64: bool,
    is_little: bool,
}

impl Elf {
    /// A number of the size of an address.
    fn word(self, bytes: &[u8], at: usize) -> Option<u64> {
        self.number(bytes, at, if self.is_64 { 8 } else { 4 })
    }

    fn number(self, bytes: &[u8], at: usize, length: usize) -> Option<u64> {
        let bytes = bytes.get(at..at + length)?.iter();
        let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(match self.is_little {
            true => bytes.rev().fold(0, add),
            false => bytes.fold(0, add),
        })
    }
}

#[derive(Deserialize)]
struct List {
    packages: Vec<Crate>,
}

#[derive(Deserialize)]
struct Crate {
    name: String,
    version: String,
    /// `build` for those that are not in the program.
    #[serde(default)]
    kind: Option<String>,
}

fn crates(list: &[u8]) -> Vec<Package> {
    let Ok(list) = serde_json::from_slice::<List>(list) else {
        return Vec::new();
    };
    let all = list.packages.into_iter();
    let of_program = all.filter(|one| one.kind.as_deref() != Some("build"));
    let packages = of_program.map(|one| Package {
        name: one.name,
        version: one.version,
        architecture: String::new(),
        manager: MANAGER,
        size: 0,
        license: None,
        source: None,
        file: None,
    });
    packages.collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Cursor, Write as _};
    use std::process::Command;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    use super::*;

    /// A real program with a section such as cargo-auditable makes.
    fn program(list: &[u8]) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let (section, made) = (directory.path().join("list"), directory.path().join("made"));
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(list).unwrap();
        fs::write(&section, encoder.finish().unwrap()).unwrap();
        let output = Command::new("objcopy")
            .arg(format!("--add-section=.dep-v0={}", section.display()))
            .args(["/bin/sh".as_ref(), made.as_os_str()])
            .output()
            .expect("objcopy runs (package binutils)");
        assert!(output.status.success(), "{output:?}");
        fs::read(made).unwrap()
    }

    #[test]
    fn crates_of_a_program_are_listed() {
        let text = br#"{"packages":[
            {"name":"adler","version":"1.0.2","source":"crates.io"},
            {"name":"cc","version":"1.0.90","source":"crates.io","kind":"build"},
            {"name":"tool","version":"0.1.0","source":"local","dependencies":[0],"root":true}],
            "format":1}"#;
        let program = program(text);
        let found = crates(&list(&mut Cursor::new(&program)).unwrap());
        let found: Vec<_> = found
            .iter()
            .map(|one| (&*one.name, &*one.version))
            .collect();
        assert_eq!(found, [("adler", "1.0.2"), ("tool", "0.1.0")]);
        assert_eq!(list(&mut Cursor::new(fs::read("/bin/sh").unwrap())), None);
        assert_eq!(list(&mut Cursor::new(b"#!/bin/sh\n")), None);
        // Whatever is cut off or wrong, nothing breaks.
        for length in (0..program.len()).step_by(997) {
            let _ = list(&mut Cursor::new(&program[..length]));
        }
        let mut damaged = program.clone();
        for at in (0..64).chain(program.len().saturating_sub(4000)..program.len()) {
            damaged[at] ^= 0xff;
            let _ = list(&mut Cursor::new(&damaged));
            damaged[at] = program[at];
        }
    }

    #[test]
    fn a_list_does_not_grow_without_end() {
        let program = program(&vec![b' '; MAX_LIST as usize + 1]);
        assert_eq!(list(&mut Cursor::new(program)), None);
    }
}

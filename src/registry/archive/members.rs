//! Where the files of a tar are in it, without unpacking it.
//!
//! An archive may come from anybody. One that programs could read differently is refused: names that are absolute or
//! have `..`, links and devices, two members of one name, members with holes, and what goes beyond its end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use tar::{EntryType, Header, PaxExtensions};

/// A tar's unit, in bytes.
const BLOCK: u64 = 512;
/// The longest extended header or long name that is read, in bytes.
const MAX_EXTENSION: u64 = 64 << 10;
/// The most members that are read: 50 times what a large artifact has.
const MAX_MEMBERS: usize = 100_000;

/// What an extended header says of the member after it.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    size: Option<u64>,
}

/// The files of a tar by their names, without `./`. Directories are left out.
///
/// # Errors
/// It is no tar, or one that is not read; a phrase that goes on after its name. The outer error is one of reading.
pub(super) fn members(file: &File) -> io::Result<Result<BTreeMap<String, Range<u64>>, String>> {
    let length = file.metadata()?.len();
    let mut found = Members {
        file,
        length,
        files: BTreeMap::new(),
        extension: Extension::default(),
    };
    let mut at = 0;
    while at < length {
        match found.member(at)? {
            Ok(Some(next)) => at = next,
            Ok(None) => break,
            Err(reason) => return Ok(Err(reason)),
        }
    }
    Ok(Ok(found.files))
}

struct Members<'a> {
    file: &'a File,
    length: u64,
    files: BTreeMap<String, Range<u64>>,
    /// Read, and not yet used.
    extension: Extension,
}

impl Members<'_> {
    /// Reads the member at a place; tells where the next one is, unless it is the end.
    fn member(&mut self, at: u64) -> io::Result<Result<Option<u64>, String>> {
        let mut header = Header::new_old();
        if self.length - at < BLOCK {
            return Ok(Err("is no tar, or is cut off".to_owned()));
        }
        self.file.read_exact_at(header.as_mut_bytes(), at)?;
        let bytes = header.as_bytes();
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(Ok(None));
        }
        if at == 0
            && let Some(reason) = compressed(bytes)
        {
            return Ok(Err(reason));
        }
        // The sum is of all bytes, its own field taken as spaces.
        let sum: u32 = bytes[..148]
            .iter()
            .chain(&bytes[156..])
            .map(|byte| u32::from(*byte))
            .sum();
        if header.cksum().ok() != Some(sum + 8 * u32::from(b' ')) {
            return Ok(Err(match at {
                0 => "is no tar".to_owned(),
                _ => format!("is damaged: there is no header at byte {at}"),
            }));
        }
        let Ok(own_size) = header.entry_size() else {
            return Ok(Err(format!("is damaged: the size at byte {at} is none")));
        };
        let kind = header.entry_type();
        let extends = matches!(
            kind,
            EntryType::XHeader | EntryType::XGlobalHeader | EntryType::GNULongName
        );
        let size = match extends {
            true => own_size,
            false => self.extension.size.take().unwrap_or(own_size),
        };
        let start = at + BLOCK;
        let ends = start
            .checked_add(size)
            .filter(|end| *end <= self.length)
            .zip(size.checked_next_multiple_of(BLOCK));
        let Some((end, padded)) = ends else {
            return Ok(Err(format!("is cut off in the member at byte {at}")));
        };
        let next = start + padded;
        if extends {
            if size > MAX_EXTENSION {
                return Ok(Err(format!("has a header of {size} bytes at byte {at}")));
            }
            let mut content = vec![0; usize::try_from(size).unwrap_or(0)];
            self.file.read_exact_at(&mut content, start)?;
            return Ok(self.extend(kind, content).map(|()| Some(next)));
        }
        let path = self.extension.path.take();
        let path = path.unwrap_or_else(|| header.path_bytes().into_owned());
        Ok(self.add(kind, path, start..end).map(|()| Some(next)))
    }

    fn extend(&mut self, kind: EntryType, mut content: Vec<u8>) -> Result<(), String> {
        if kind == EntryType::GNULongName {
            let end = content.iter().position(|byte| *byte == 0);
            content.truncate(end.unwrap_or(content.len()));
            self.extension.path = Some(content);
            return Ok(());
        }
        for extension in PaxExtensions::new(&content) {
            let extension = extension.map_err(|_| "has a damaged extended header".to_owned())?;
            let (key, value) = (extension.key_bytes(), extension.value_bytes());
            match key {
                b"path" | b"size" if kind == EntryType::XGlobalHeader => {
                    return Err("gives one name or size to all its members".to_owned());
                }
                b"path" => self.extension.path = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok();
                    let size = size.and_then(|size| size.parse().ok());
                    self.extension.size = Some(size.ok_or("has a size that is no number")?);
                }
                key if key.starts_with(b"GNU.sparse.") => {
                    return Err("has a member with holes, which is not read".to_owned());
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, kind: EntryType, path: Vec<u8>, place: Range<u64>) -> Result<(), String> {
        let shown = String::from_utf8_lossy(&path).into_owned();
        let Ok(path) = String::from_utf8(path) else {
            return Err(format!("has a member {shown:?}, whose name is not UTF-8"));
        };
        if path.starts_with('/') || path.split('/').any(|part| part == "..") {
            return Err(format!("has a member {path:?}, which leads out of it"));
        }
        let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
        let name = parts.collect::<Vec<_>>().join("/");
        match kind {
            EntryType::Directory => return Ok(()),
            EntryType::Regular | EntryType::Continuous => {}
            EntryType::GNUSparse => {
                return Err(format!(
                    "has a member {path:?} with holes, which is not read"
                ));
            }
            _ => {
                return Err(format!(
                    "has a member {path:?}, which is a link or a device and no file"
                ));
            }
        }
        if self.files.len() == MAX_MEMBERS {
            return Err(format!("has more than {MAX_MEMBERS} members"));
        }
        match self.files.insert(name, place) {
            None => Ok(()),
            Some(_) => Err(format!("has two members {path:?}")),
        }
    }
}

/// What to say of a compressed file.
fn compressed(head: &[u8]) -> Option<String> {
    let (program, _) = [
        ("gzip", &[0x1f, 0x8b][..]),
        ("zstd", &[0x28, 0xb5, 0x2f, 0xfd]),
        ("xz", &[0xfd, b'7', b'z', b'X', b'Z']),
        ("bzip2", b"BZh"),
    ]
    .into_iter()
    .find(|(_, magic)| head.starts_with(magic))?;
    Some(format!(
        "is compressed: uncompress it first, as with \"{program} -d\""
    ))
}

//! Where the files of a tar are in it, without unpacking it.
//!
//! An archive may come from anybody. One that programs could read differently is refused: names
//! that are absolute or have `..`, links and devices, two members of one name, members with holes,
//! and what goes beyond its end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::tarball::{Kind, Member, Reader};

/// The most members that are read: 50 times what a large artifact has.
const MAX_MEMBERS: usize = 100_000;

/// Files by their names, without `./`.
type Files = BTreeMap<String, Range<u64>>;

/// The files of a tar. Directories are left out.
///
/// # Errors
/// It is no tar, or one that is not read; a phrase that goes on after its name. The outer error is
/// one of reading.
pub(super) fn members(file: &File) -> io::Result<Result<Files, String>> {
    let length = file.metadata()?.len();
    let mut head = [0; 6];
    let count = file.read_at(&mut head, 0)?;
    if let Some(reason) = compressed(&head[..count]) {
        return Ok(Err(reason));
    }
    let mut files = Files::new();
    let mut archive = Reader::seekable(BufReader::new(file));
    loop {
        let member = match archive.member() {
            Ok(Some(member)) => member,
            Ok(None) => return Ok(Ok(files)),
            Err(error) => return damage(error).map(Err),
        };
        let place = archive.place();
        if place.end > length {
            return Ok(Err(format!("is cut off in the member {:?}", member.name())));
        }
        if let Err(reason) = add(&mut files, member, place) {
            return Ok(Err(reason));
        }
    }
}

/// What to say of an archive that cannot be read, unless it is the file system's fault.
fn damage(error: io::Error) -> io::Result<String> {
    use io::ErrorKind::{InvalidData, UnexpectedEof};
    if !matches!(error.kind(), InvalidData | UnexpectedEof) {
        return Err(error);
    }
    let text = error.to_string();
    Ok(match text.strip_prefix("it ") {
        Some(phrase) => phrase.to_owned(),
        None => format!("is damaged: {text}"),
    })
}

fn add(files: &mut Files, member: Member, place: Range<u64>) -> Result<(), String> {
    let shown = member.name();
    let Ok(path) = String::from_utf8(member.path) else {
        return Err(format!("has a member {shown:?}, whose name is not UTF-8"));
    };
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(format!("has a member {path:?}, which leads out of it"));
    }
    match member.kind {
        Kind::Directory => return Ok(()),
        Kind::File if member.data.is_none() => {}
        Kind::File => {
            return Err(format!(
                "has a member {path:?} with holes, which is not read"
            ));
        }
        _ => {
            let what = "which is a link or a device and no file";
            return Err(format!("has a member {path:?}, {what}"));
        }
    }
    if files.len() == MAX_MEMBERS {
        return Err(format!("has more than {MAX_MEMBERS} members"));
    }
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    match files.insert(parts.collect::<Vec<_>>().join("/"), place) {
        None => Ok(()),
        Some(_) => Err(format!("has two members {path:?}")),
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

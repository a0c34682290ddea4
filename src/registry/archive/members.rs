//! Where the files of a tar are in it, without unpacking it.
//!
//! An archive may come from anybody. One that programs could read differently is refused: names
//! that are absolute or have `..`, links and devices, two members of one name, members with holes,
//! and what goes beyond its end. Archives of docker have symbolic links: they lead to other members,
//! and nowhere else.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::super::layout::Part;
use crate::tarball::{Kind, Member, Reader};

/// The most members that are read: 50 times what a large artifact has.
const MAX_MEMBERS: usize = 100_000;

/// The files of a tar by their names, without `./`.
#[derive(Debug, Default)]
pub(super) struct Members {
    files: BTreeMap<String, Range<u64>>,
    /// What symbolic links lead to, by their own names.
    links: BTreeMap<String, String>,
}

impl Members {
    /// The files of a tar in `file`.
    pub(super) fn parts(&self, file: &Arc<File>) -> BTreeMap<String, Part> {
        let part = |place: &Range<u64>| part(file, place.clone());
        let files = self.files.iter();
        files
            .map(|(name, place)| (name.clone(), part(place)))
            .collect()
    }

    /// Where a file is; a link is followed, once.
    pub(super) fn find(&self, name: &str) -> Option<Range<u64>> {
        let name = normal(name)?;
        let found = self.files.get(&name).or_else(|| {
            let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
            let target = normal(&format!("{directory}/{}", self.links.get(&name)?))?;
            self.files.get(&target)
        });
        found.cloned()
    }
}

/// A place in a file.
pub(super) fn part(file: &Arc<File>, place: Range<u64>) -> Part {
    Part {
        file: Arc::clone(file),
        start: place.start,
        length: place.end - place.start,
    }
}

/// A path without `.` and `..`; nothing if it leads out.
fn normal(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The files of a tar. Directories are left out, and symbolic links are refused unless there may be
/// some.
///
/// # Errors
/// It is no tar, or one that is not read; a phrase that goes on after its name. The outer error is
/// one of reading.
pub(super) fn members(file: &File, links: bool) -> io::Result<Result<Members, String>> {
    let length = file.metadata()?.len();
    let mut head = [0; 6];
    let count = file.read_at(&mut head, 0)?;
    if let Some(reason) = compressed(&head[..count]) {
        return Ok(Err(reason));
    }
    let mut members = Members::default();
    let mut archive = Reader::seekable(BufReader::new(file));
    loop {
        let member = match archive.member() {
            Ok(Some(member)) => member,
            Ok(None) => return Ok(Ok(members)),
            Err(error) => return damage(error).map(Err),
        };
        let place = archive.place();
        if place.end > length {
            return Ok(Err(format!("is cut off in the member {:?}", member.name())));
        }
        if let Err(reason) = add(&mut members, member, place, links) {
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

fn add(
    members: &mut Members,
    member: Member,
    place: Range<u64>,
    links: bool,
) -> Result<(), String> {
    let shown = member.name();
    let Ok(path) = String::from_utf8(member.path) else {
        return Err(format!("has a member {shown:?}, whose name is not UTF-8"));
    };
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(format!("has a member {path:?}, which leads out of it"));
    }
    match member.kind {
        Kind::Directory => return Ok(()),
        Kind::Symlink if links && members.links.len() < MAX_MEMBERS => {
            let target = String::from_utf8(member.link);
            let target = target.map_err(|_| format!("has a link {shown:?} to a strange name"))?;
            if let Some(path) = normal(&path) {
                members.links.insert(path, target);
            }
            return Ok(());
        }
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
    if members.files.len() == MAX_MEMBERS {
        return Err(format!("has more than {MAX_MEMBERS} members"));
    }
    let name = normal(&path).unwrap_or_default();
    match members.files.insert(name, place) {
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

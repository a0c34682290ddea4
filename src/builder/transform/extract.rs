//! One member of an archive: tar, compressed or not, or zip.

use std::io::{self, BufReader, Read};
use std::path::{Component, Path};

use super::{BUFFER, Work, bytes, decompress, looks_like, unusable};
use crate::digest::ObjectRef;
use crate::failure::Failure;
use crate::tarball::{Compression, Kind, Reader, is_header};

/// How many links may lead from one to the next.
const LINKS: usize = 8;
/// Names that are suggested when there is no such member.
const SUGGESTIONS: usize = 3;

/// A tar archive as a stream, and how it is compressed.
pub(super) struct Tar {
    pub(super) stream: Box<dyn Read>,
    compression: Option<Compression>,
}

/// What became of a member that was looked for.
enum Member {
    File(ObjectRef),
    /// Another member, by its path.
    Link(String),
    /// Another member that is not in the archive.
    LinkOut(String),
    Directory,
    Special,
    Nothing(Similar),
}

impl Work<'_> {
    /// A member of an archive; links are followed inside of it.
    pub(super) fn extract(&self, member: &str) -> Result<ObjectRef, Failure> {
        let zip = is_zip(&self.head()?);
        let mut wanted = normal(member);
        for _ in 0..LINKS {
            let found = match zip {
                true => self.find_in_zip(&wanted)?,
                false => self.find_in_tar(&wanted)?,
            };
            wanted = match found {
                Member::File(object) => {
                    self.say(&format!("{wanted}: {}", bytes(object.size)))?;
                    return Ok(object);
                }
                Member::Link(target) => {
                    self.say(&format!("{wanted} is a link to {target}"))?;
                    target
                }
                Member::LinkOut(target) => {
                    return Err(unusable(
                        format!("{wanted} is a link to {target}, outside of the archive"),
                        "name the member with the content",
                    ));
                }
                Member::Directory => {
                    return Err(unusable(
                        format!("{wanted} is a directory"),
                        "name a file in it, or `unpack` the archive",
                    ));
                }
                Member::Special => {
                    return Err(unusable(
                        format!("{wanted} is not a regular file"),
                        "name a file of the archive",
                    ));
                }
                Member::Nothing(similar) => {
                    return Err(unusable(
                        format!("no {wanted} found in the archive"),
                        similar.help(),
                    ));
                }
            };
        }
        Err(unusable(
            format!("{member} is a link that leads to more than {LINKS} others"),
            "name the member with the content",
        ))
    }

    /// The disk of a containerdisk: the one file below `disk/`.
    pub(super) fn containerdisk(&self) -> Result<ObjectRef, Failure> {
        let tar = self.tar()?;
        let (stream, compression) = (tar.stream, tar.compression);
        let tar = Tar {
            stream: Box::new(io::empty()),
            compression,
        };
        let failed = |error| tar.damaged(&error);
        let mut archive = Reader::new(stream);
        let mut found: Option<(String, ObjectRef)> = None;
        while let Some(member) = archive
            .member()
            .map_err(|error| self.read_error(error, failed))?
        {
            let path = normal(&member.name());
            let name = path.strip_prefix("disk/");
            if !member.is_file()
                || name.is_none_or(|name| name.contains('/') || name.starts_with(".wh."))
            {
                continue;
            }
            if let Some((other, _)) = found.filter(|(other, _)| *other != path) {
                return Err(unusable(
                    format!("it has two disks: {other} and {path}"),
                    "a containerdisk has one file in its directory disk",
                ));
            }
            let object = self.put(&mut archive, |error| tar.damaged(&error))?;
            self.say(&format!("{path}: {}", bytes(object.size)))?;
            found = Some((path, object));
        }
        found.map(|(_, object)| object).ok_or_else(|| {
            unusable(
                "no file in the directory disk of its last layer",
                "a containerdisk has one file in its directory disk",
            )
        })
    }

    /// The input as a tar archive.
    pub(super) fn tar(&self) -> Result<Tar, Failure> {
        let compression = Compression::of(&self.head()?);
        let mut stream: Box<dyn Read> = match compression {
            Some(format) => self.decompressed(format)?,
            None => Box::new(BufReader::with_capacity(BUFFER, self.open()?)),
        };
        let mut head = Vec::new();
        let tar = Tar {
            stream: Box::new(io::empty()),
            compression,
        };
        let read = stream.by_ref().take(512).read_to_end(&mut head);
        read.map_err(|error| self.read_error(error, |error| tar.damaged(&error)))?;
        // An archive without members is only zeros.
        let empty = head.len() == 512 && head.iter().all(|byte| *byte == 0);
        if !is_header(&head) && !empty {
            let looks = looks_like(&head);
            let what = match compression {
                Some(format) => format!("the {} data in it looks like {looks}", format.name()),
                None => format!("it looks like {looks}"),
            };
            return Err(unusable(
                format!("it is not a tar archive: {what}"),
                "vmfab supports tar archives, also compressed with gz, xz, zst or bz2, and zip for `extract`",
            ));
        }
        Ok(Tar {
            stream: Box::new(io::Cursor::new(head).chain(stream)),
            compression,
        })
    }

    /// Looks for a member to the end of the archive: of several with one name the last counts.
    fn find_in_tar(&self, wanted: &str) -> Result<Member, Failure> {
        let Tar {
            stream,
            compression,
        } = self.tar()?;
        let tar = Tar {
            stream: Box::new(io::empty()),
            compression,
        };
        let failed = |error| tar.damaged(&error);
        let mut archive = Reader::new(stream);
        let mut found = Member::Nothing(Similar::new(wanted));
        while let Some(member) = archive
            .member()
            .map_err(|error| self.read_error(error, failed))?
        {
            let path = normal(&member.name());
            if path != wanted {
                if let Member::Nothing(similar) = &mut found {
                    similar.add(&path);
                }
                continue;
            }
            let target = String::from_utf8_lossy(&member.link);
            found = match member.kind {
                Kind::File => Member::File(self.put(&mut archive, |error| tar.damaged(&error))?),
                Kind::Directory => Member::Directory,
                Kind::Symlink => link(Some(&path), &target),
                Kind::Link => link(None, &target),
                _ => Member::Special,
            };
        }
        Ok(found)
    }

    fn find_in_zip(&self, wanted: &str) -> Result<Member, Failure> {
        let failed = |error: zip::result::ZipError| match error {
            zip::result::ZipError::Io(error) => self.read_error(error, |error| zip_damaged(&error)),
            error => zip_damaged(&error),
        };
        let stream = BufReader::with_capacity(BUFFER, self.open()?);
        let mut archive = zip::ZipArchive::new(stream).map_err(failed)?;
        let mut similar = Similar::new(wanted);
        let mut index = None;
        for (number, name) in archive.file_names_raw().enumerate() {
            let path = normal(&String::from_utf8_lossy(name));
            if path == wanted {
                index = Some(number);
            }
            similar.add(&path);
        }
        let Some(index) = index else {
            return Ok(Member::Nothing(similar));
        };
        let mut member = archive.by_index(index).map_err(failed)?;
        if member.is_dir() {
            return Ok(Member::Directory);
        }
        if member.is_symlink() {
            let mut target = String::new();
            let read = member.by_ref().take(4096).read_to_string(&mut target);
            read.map_err(|error| self.read_error(error, |error| zip_damaged(&error)))?;
            return Ok(link(Some(wanted), &target));
        }
        self.put(&mut member, |error| zip_damaged(&error))
            .map(Member::File)
    }
}

impl Tar {
    /// The archive cannot be read.
    pub(super) fn damaged(&self, error: &io::Error) -> Failure {
        // A mistake in the compression shows as one of the archive.
        match self.compression {
            Some(format) => decompress::damaged(format, error),
            None => unusable(
                format!("the tar archive is damaged: {error}"),
                "check whether the file is complete at its origin",
            ),
        }
    }
}

fn zip_damaged(error: &dyn std::fmt::Display) -> Failure {
    unusable(
        format!("the zip archive cannot be read: {error}"),
        "check whether the file is complete at its origin; members are stored or deflated, and not \
         encrypted",
    )
}

/// A path as members of archives are compared: without `./` and `/` at its start and `/` at its
/// end.
fn normal(path: &str) -> String {
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    parts.collect::<Vec<_>>().join("/")
}

/// What a link leads to: from the directory of the link at `from`, or from the top of the archive.
fn link(from: Option<&str>, target: &str) -> Member {
    let start = match from {
        Some(from) if !target.starts_with('/') => Path::new(from).parent(),
        _ => None,
    };
    let mut path = start.unwrap_or(Path::new("")).to_owned();
    for part in Path::new(target).components() {
        let inside = match part {
            Component::Normal(name) => {
                path.push(name);
                true
            }
            Component::ParentDir => path.pop(),
            _ => true,
        };
        if !inside {
            return Member::LinkOut(target.to_owned());
        }
    }
    Member::Link(normal(&path.to_string_lossy()))
}

/// Names that are like the one that is looked for.
struct Similar {
    wanted: String,
    best: Vec<(f64, String)>,
}

impl Similar {
    fn new(wanted: &str) -> Self {
        Self {
            wanted: wanted.to_owned(),
            best: Vec::new(),
        }
    }

    fn add(&mut self, path: &str) {
        let name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
        let whole = strsim::jaro_winkler(&self.wanted, path);
        let last = strsim::jaro_winkler(&name(&self.wanted), &name(path));
        let likeness = whole.max(last);
        if likeness < 0.75 || path.is_empty() {
            return;
        }
        self.best.push((likeness, path.to_owned()));
        self.best.sort_by(|a, b| b.0.total_cmp(&a.0));
        self.best.truncate(SUGGESTIONS);
    }

    fn help(&self) -> String {
        if self.best.is_empty() {
            return "list its members: tar -tf FILE, or unzip -l FILE".to_owned();
        }
        let names: Vec<&str> = self.best.iter().map(|(_, name)| name.as_str()).collect();
        format!("there is {}", names.join(", "))
    }
}

/// Whether a zip archive begins so: with a member, or, when it has none, with its end.
fn is_zip(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06")
}

//! Files put into a tree by docker's rules: `COPY` and `ADD`.
//!
//! Source: BuildKit's `solver/llbsolver/file/backend.go`, and `copy` of tonistiigi/fsutil.
//!
//! | source | destination | what happens |
//! |---|---|---|
//! | file | ends in `/`, or is a directory | goes into it under its name |
//! | file | anything else | takes this path; what is there is replaced, a directory refused |
//! | directory | any | its content goes into it; made if it does not exist |
//! | tar that is unpacked | any | its files go into it |
//!
//! Directories merge. The destination keeps its metadata; directories below it take those of the
//! source. Links are followed in the path of a source and in the
//! destination, both inside their trees; links in a directory are put as links.

mod content;
mod source;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use self::content::Changed;
pub use self::content::read_content;
use self::source::Content;
pub(super) use self::source::{Index, Source};
use super::beside::Beside;
use super::edit::owner_ids;
use super::layer::{self, Form, set_metadata, set_time};
use super::request::{AddFiles, Put, Request};
use super::root::Root;
use super::worker::WorkerError;
use crate::dockerfile::{Ignore, Ignored};
use crate::instruction::{ModeChange, SourcePath};
use crate::tarball::{Compression, Kind, Member, Reader, Time};

/// Puts files into `tree`.
pub(super) fn add(
    files: &AddFiles,
    request: &Request,
    tree: &Path,
    beside: &[Beside],
) -> Result<(), WorkerError> {
    let owner = match &files.owner {
        Some(owner) => Some(owner_of(owner, files.names, tree, beside)?),
        None => None,
    };
    let mut adder = Adder {
        root: Root::new(tree).map_err(WorkerError::io("open the tree"))?,
        destination: PathBuf::from(&files.destination),
        is_directory: files.destination.ends_with('/'),
        whole: files.whole,
        owner,
        mode: files
            .mode
            .as_deref()
            .map(ModeChange::parse)
            .transpose()
            .map_err(|e| wrong(&e))?,
        exclude: Ignore::of(files.exclude.iter().map(String::as_str)).map_err(|e| wrong(&e))?,
        times: Vec::new(),
        links: HashMap::new(),
    };
    // A tree may be named often, and is read once.
    let mut trees: HashMap<usize, Source> = HashMap::new();
    for put in &files.sources {
        let (path, done) = match put {
            Put::Path { tree, path, unpack } => {
                let missing = || WorkerError::Plain(format!("tree {tree} is missing"));
                let source = match trees.entry(*tree) {
                    Entry::Occupied(known) => &*known.into_mut(),
                    Entry::Vacant(new) => {
                        new.insert(beside.get(*tree).ok_or_else(missing)?.source()?)
                    }
                };
                let done = if files.parents {
                    adder.with_parents(source, path)
                } else if files.keep_paths {
                    adder.in_place(source, path, &files.destination)
                } else {
                    adder.pattern(source, path, *unpack)
                };
                (path, done)
            }
            Put::File {
                file,
                name,
                mode,
                time,
                unpack,
            } => {
                let member = Member {
                    path: name.as_bytes().to_vec(),
                    mode: *mode,
                    time: Time {
                        seconds: *time,
                        nanoseconds: 0,
                    },
                    ..Member::default()
                };
                let path = request.path(file);
                let source = Source::File { path, member };
                (name, adder.matched(&source, Path::new(name), *unpack))
            }
        };
        done.map_err(|error| failed(path, error))?;
    }
    // What is put into a directory changes its time.
    for (path, time) in adder.times.iter().rev() {
        set_time(path, *time).map_err(WorkerError::io("set the time of a directory"))?;
    }
    Ok(())
}

/// Copies a directory of a tree, with owners and modes, into an existing one of the host.
pub(super) fn copy_directory(tree: &Path, source: &Path, to: &Path) -> io::Result<()> {
    copy(&Source::Directory(Root::new(tree)?), source, to, false)
}

/// Copies all files into an existing directory, which becomes as their root is.
pub(super) fn copy_all(files: &Source, to: &Path) -> io::Result<()> {
    copy(files, Path::new(""), to, true)
}

fn copy(files: &Source, source: &Path, to: &Path, whole: bool) -> io::Result<()> {
    let mut adder = Adder {
        root: Root::new(to)?,
        destination: PathBuf::from("/"),
        is_directory: true,
        whole,
        owner: None,
        mode: None,
        exclude: Ignore::default(),
        times: Vec::new(),
        links: HashMap::new(),
    };
    adder.matched(files, source, false)?;
    let times = std::mem::take(&mut adder.times);
    times
        .iter()
        .rev()
        .try_for_each(|(path, time)| set_time(path, *time))
}

fn owner_of(
    owner: &str,
    names: Option<usize>,
    tree: &Path,
    beside: &[Beside],
) -> Result<(u32, u32), WorkerError> {
    let tree = match names.and_then(|number| beside.get(number)) {
        Some(beside) => beside.directory()?,
        None => tree,
    };
    let texts =
        Root::new(tree).and_then(|root| Ok((root.text("/etc/passwd")?, root.text("/etc/group")?)));
    let (passwd, group) = texts.map_err(WorkerError::io("read the users of the image"))?;
    owner_ids(owner, &passwd, &group).map_err(|message| WorkerError::Unsatisfiable {
        message,
        help: "name one that exists at this step, or give the numeric id".to_owned(),
    })
}

/// What a Dockerfile says and cannot be.
fn wrong(error: &dyn std::fmt::Display) -> WorkerError {
    WorkerError::Unsatisfiable {
        message: error.to_string(),
        help: "change the instruction".to_owned(),
    }
}

pub(super) fn failed(path: &str, error: io::Error) -> WorkerError {
    use io::ErrorKind::{
        InvalidData, InvalidInput, IsADirectory, NotADirectory, NotFound, Unsupported,
    };
    if Changed::is(&error) {
        return WorkerError::Unsatisfiable {
            message: format!("{path} changed while it was read"),
            help: "build again".to_owned(),
        };
    }
    match error.kind() {
        NotFound | InvalidInput | InvalidData | IsADirectory | NotADirectory | Unsupported => {
            WorkerError::Unsatisfiable {
                message: format!("cannot copy {path}: {error}"),
                help: "check the source and the destination of the instruction".to_owned(),
            }
        }
        _ => WorkerError::io(format!("copy {path}"))(error),
    }
}

fn refused(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

struct Adder {
    root: Root,
    destination: PathBuf,
    /// Whether the destination is a directory, whatever is there.
    is_directory: bool,
    /// Whether a directory gives its metadata to the destination.
    whole: bool,
    owner: Option<(u32, u32)>,
    mode: Option<ModeChange>,
    exclude: Ignore,
    /// Those of directories that are as directories of a source.
    times: Vec<(PathBuf, Time)>,
    /// Where the first name of a file with several was put.
    links: HashMap<(u64, u64), PathBuf>,
}

/// A directory that is made once something is put into it.
struct Pending {
    target: PathBuf,
    member: Member,
    is_made: bool,
}

/// A place while a directory is walked.
struct Place<'a> {
    /// In the source.
    from: &'a Path,
    to: &'a Path,
    /// Below the directory that is put.
    inside: &'a str,
    excluded: &'a Ignored,
    included: Option<&'a Ignored>,
}

impl Adder {
    /// Everything that a path or pattern stands for.
    fn pattern(&mut self, source: &Source, path: &str, unpack: bool) -> io::Result<()> {
        expand(source, path)?
            .iter()
            .try_for_each(|path| self.matched(source, path, unpack))
    }

    /// Everything that a path or pattern stands for, under its own path below `base`.
    fn in_place(&mut self, source: &Source, path: &str, base: &str) -> io::Result<()> {
        self.is_directory = false;
        for path in expand(source, path)? {
            self.destination = Path::new(base).join(&path);
            self.matched(source, &path, false)?;
        }
        Ok(())
    }

    fn matched(&mut self, source: &Source, path: &Path, unpack: bool) -> io::Result<()> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "it does not exist");
        let real = source.resolve(path)?.ok_or_else(missing)?;
        let member = source.member(&real)?.ok_or_else(missing)?;
        // Each source is copied by itself: names of one file are links within a directory.
        self.links.clear();
        if member.kind == Kind::Directory {
            let to = self.make(&self.destination)?;
            if self.whole {
                self.finish(&member, &to)?;
                self.times.push((to.clone(), member.time));
            }
            let excluded = self.exclude.root();
            let place = Place {
                from: &real,
                to: &to,
                inside: "",
                excluded: &excluded,
                included: None,
            };
            return self.content(source, &place, &Ignore::default(), &mut Vec::new());
        }
        let name = path.file_name().unwrap_or_default();
        if self.exclude.ignores(&name.to_string_lossy()) {
            return Ok(());
        }
        if unpack && member.is_file() && self.unpacked(source, &real)? {
            return Ok(());
        }
        let destination = self.destination.as_path();
        match self.is_directory {
            true => self.make(destination)?,
            false => self.make(destination.parent().unwrap_or(destination))?,
        };
        let mut target = self.root.resolve(destination)?;
        if fs::symlink_metadata(&target).is_ok_and(|meta| meta.is_dir()) {
            target.push(name);
        }
        self.one(source, &real, &member, &target)
    }

    /// What a pattern stands for, below the directories that it is in.
    fn with_parents(&mut self, source: &Source, path: &str) -> io::Result<()> {
        let (pivot, pattern) = path.split_once("/./").unwrap_or(("", path));
        let pattern: Vec<&str> = pattern
            .split('/')
            .filter(|part| !matches!(*part, "" | "."))
            .collect();
        let pattern = match pattern.is_empty() {
            true => "**".to_owned(),
            false => pattern.join("/"),
        };
        let include = Ignore::of([pattern.as_str()]).map_err(|error| refused(error.to_string()))?;
        for pivot in expand(source, pivot)? {
            let missing = || io::Error::new(io::ErrorKind::NotFound, "it does not exist");
            let real = source.resolve(&pivot)?.ok_or_else(missing)?;
            let to = self.make(&self.destination)?;
            let (excluded, included) = (self.exclude.root(), include.root());
            let place = Place {
                from: &real,
                to: &to,
                inside: "",
                excluded: &excluded,
                included: Some(&included),
            };
            self.content(source, &place, &include, &mut Vec::new())?;
        }
        Ok(())
    }

    /// The content of a directory, or what of it is included.
    fn content(
        &mut self,
        source: &Source,
        place: &Place<'_>,
        include: &Ignore,
        pending: &mut Vec<Pending>,
    ) -> io::Result<()> {
        for name in source.names(place.from)? {
            let path = place.from.join(&name);
            let Some(member) = source.member(&path)? else {
                continue;
            };
            let target = place.to.join(&name);
            let inside = match place.inside {
                "" => name.to_string_lossy().into_owned(),
                above => format!("{above}/{}", name.to_string_lossy()),
            };
            let excluded = self.exclude.below(place.excluded, &inside);
            let included = place.included.map(|above| include.below(above, &inside));
            let is_included = included.as_ref().is_none_or(Ignored::is_ignored);
            let is_wanted = is_included && !excluded.is_ignored();
            if member.kind != Kind::Directory {
                if is_wanted {
                    self.make_pending(pending)?;
                    self.one(source, &path, &member, &target)?;
                }
                continue;
            }
            pending.push(Pending {
                target: target.clone(),
                member,
                is_made: false,
            });
            if is_wanted {
                self.make_pending(pending)?;
            }
            if !excluded.is_ignored() || self.exclude.may_keep_below(&inside) {
                let place = Place {
                    from: &path,
                    to: &target,
                    inside: &inside,
                    excluded: &excluded,
                    included: included.as_ref(),
                };
                self.content(source, &place, include, pending)?;
            }
            pending.pop();
        }
        Ok(())
    }

    fn make_pending(&mut self, pending: &mut [Pending]) -> io::Result<()> {
        for directory in pending.iter_mut().filter(|directory| !directory.is_made) {
            directory.is_made = true;
            let target = &directory.target;
            match fs::symlink_metadata(target) {
                Ok(meta) if meta.is_dir() => {}
                Ok(_) => {
                    return Err(refused(format!(
                        "the destination {} exists and is no directory",
                        self.shown(target)
                    )));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    fs::DirBuilder::new().mode(0o700).create(target)?;
                }
                Err(error) => return Err(error),
            }
            self.finish(&directory.member, target)?;
            self.times.push((target.clone(), directory.member.time));
        }
        Ok(())
    }

    /// Anything but a directory.
    fn one(
        &mut self,
        source: &Source,
        path: &Path,
        member: &Member,
        target: &Path,
    ) -> io::Result<()> {
        match fs::symlink_metadata(target) {
            Ok(meta) if meta.is_dir() => {
                return Err(refused(format!(
                    "the destination {} is a directory",
                    self.shown(target)
                )));
            }
            Ok(_) => fs::remove_file(target)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        match member.kind {
            Kind::Symlink => symlink(OsStr::from_bytes(&member.link), target)?,
            Kind::Fifo => mknodat(CWD, target, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?,
            _ => {
                if let Some(identity) = source.identity(path)? {
                    if let Some(first) = self.links.get(&identity)
                        && fs::hard_link(first, target).is_ok()
                    {
                        return Ok(());
                    }
                    self.links.insert(identity, target.to_owned());
                }
                let mut options = OpenOptions::new();
                let file = options
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(target)?;
                source.write_to(path, &file)?;
            }
        }
        self.finish(member, target)?;
        set_time(target, member.time)
    }

    /// Owner, mode and attributes.
    fn finish(&self, member: &Member, target: &Path) -> io::Result<()> {
        let mut member = member.clone();
        if let Some((uid, gid)) = self.owner {
            (member.uid, member.gid) = (uid.into(), gid.into());
        }
        if let Some(change) = &self.mode {
            member.mode = change.apply(member.mode, member.kind == Kind::Directory);
        }
        set_metadata(&member, target)
    }

    /// A directory of the tree with all above it. New ones have the mode 0755 and the owner of the
    /// files.
    fn make(&self, inside: &Path) -> io::Result<PathBuf> {
        let owner = self.owner.unwrap_or((0, 0));
        let made = self.root.make_directory(inside, &mut |path| {
            chown(path, Some(owner.0), Some(owner.1))
        });
        made.map_err(|error| match error.kind() {
            io::ErrorKind::NotADirectory => refused(format!(
                "the destination {} goes through something that is no directory",
                self.destination.display()
            )),
            _ => error,
        })
    }

    /// Unpacks a tar, compressed or not; `false` when it is none.
    fn unpacked(&self, source: &Source, path: &Path) -> io::Result<bool> {
        let is_tar = decompressed(&mut source.read(path)?)
            .and_then(|stream| Reader::new(stream).member())
            .is_ok_and(|member| member.is_some());
        if is_tar {
            let to = self.make(&self.destination)?;
            let mut content = source.read(path)?;
            layer::apply(&mut decompressed(&mut content)?, Form::Files, &to)?;
            content.finish()?;
        }
        Ok(is_tar)
    }

    /// A path of the tree for people.
    fn shown(&self, path: &Path) -> String {
        let inside = path.strip_prefix(self.root.path()).unwrap_or(path);
        format!("/{}", inside.display())
    }
}

fn decompressed<'a>(content: &'a mut Content<'_>) -> io::Result<Box<dyn Read + 'a>> {
    let mut stream = BufReader::with_capacity(1 << 16, content);
    match Compression::of(stream.fill_buf()?) {
        Some(compression) => compression.reader(stream),
        None => Ok(Box::new(stream)),
    }
}

/// The paths that a path or pattern stands for.
fn expand(source: &Source, path: &str) -> io::Result<Vec<PathBuf>> {
    let pattern = SourcePath::parse(path).map_err(|error| refused(error.to_string()))?;
    pattern.expand(&mut |directory| match source.resolve(directory)? {
        Some(real) if is_directory(source, &real)? => source.names(&real),
        _ => Ok(Vec::new()),
    })
}

fn is_directory(source: &Source, path: &Path) -> io::Result<bool> {
    let member = source.member(path)?;
    Ok(member.is_some_and(|member| member.kind == Kind::Directory))
}

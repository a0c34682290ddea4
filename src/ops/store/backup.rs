//! A copy of the store in another directory, as a store of the same format.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::Context;
use super::{parts, watched};
use crate::digest::ObjectId;
use crate::failure::Failure;
use crate::store::{Place, Store, StoreError, TagName, Transferred};
use crate::world::image_config;

/// How often names that move meanwhile are followed.
const TRIES: usize = 4;

/// Where a backup goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupOptions {
    /// A backup, or where one is to be made.
    pub directory: PathBuf,
    /// Whether tags and roots that are gone go from the backup, too.
    pub prune: bool,
}

/// A finished backup.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackedUp {
    /// Where it is.
    pub directory: PathBuf,
    /// What was copied.
    #[serde(flatten)]
    pub transferred: Transferred,
    pub tags: Names,
    pub roots: Names,
    /// Wall time in seconds.
    pub seconds: f64,
}

/// What became of names; tags are without `@`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Names {
    /// New or changed.
    pub written: Vec<String>,
    /// They were as they are.
    pub unchanged: usize,
    /// They name something else in the target, and were left as they are.
    pub kept: Vec<String>,
    /// What they name is damaged or moved meanwhile; they were left out.
    pub left_out: Vec<String>,
    /// They were removed.
    pub removed: Vec<String>,
}

/// What is named in a store: tags name one object, roots several.
pub(super) type Named = BTreeMap<TagName, Vec<ObjectId>>;

/// A kind of name, and how it is read and written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tags,
    Roots,
}

impl Kind {
    pub(super) fn read(self, store: &Store) -> Result<Named, StoreError> {
        Ok(match self {
            Self::Tags => {
                let tags = store.tags()?.into_iter();
                tags.map(|(name, image)| (name, vec![image])).collect()
            }
            Self::Roots => store.roots()?.into_iter().collect(),
        })
    }

    fn put(self, store: &Store, name: &TagName, objects: &[ObjectId]) -> Result<(), StoreError> {
        match (self, objects) {
            (Self::Tags, [image]) => store.put_tag(name, image),
            (Self::Tags, _) => Ok(()),
            (Self::Roots, _) => store.put_root(name, objects),
        }
    }

    fn remove(self, store: &Store, name: &TagName) -> Result<bool, StoreError> {
        match self {
            Self::Tags => store.remove_tag(name),
            Self::Roots => store.remove_root(name),
        }
    }
}

/// Copies what is new in the store to a backup.
///
/// # Errors
/// The directory is something else than a backup, one of the stores fails, or the user gave up:
/// then the same backup goes on where this one ended.
pub fn backup(context: &Context, options: &BackupOptions) -> Result<BackedUp, Failure> {
    let source = context.store()?;
    let directory = options.directory.as_path();
    check_target(&source, directory)?;
    let target = Store::open(directory)?;
    // Before what is in the store is looked at; they stay until it was copied.
    let _snapshots = super::super::snapshot::store_all(context, &source)?;
    let task = format!("back up to {}", directory.display());
    let ((transferred, settled), seconds) = watched(context, &task, |watch| {
        let read = || -> Result<[Named; 2], StoreError> {
            Ok([Kind::Tags.read(&source)?, Kind::Roots.read(&source)?])
        };
        let mut total = Transferred::default();
        let mut before = read()?;
        for _ in 0..TRIES {
            let brought = target.bring(&source, false, watch)?;
            total = Transferred {
                packs: total.packs + brought.packs,
                bytes: total.bytes + brought.bytes,
                records: total.records + brought.records,
                present: brought.present - total.packs.min(brought.present),
                ..brought
            };
            // What had its name before and after was in the store all the while, and was brought.
            let after = read()?;
            if before == after {
                break;
            }
            before = after;
        }
        Ok((total, before))
    })?;
    let [tags, roots] = settled;
    let after = [Kind::Tags.read(&source)?, Kind::Roots.read(&source)?];
    let write = |kind, named: &Named, after: &Named| {
        let stays = |name: &TagName| after.get(name) == named.get(name);
        write_names(kind, &target, named, &transferred, true, stays)
    };
    let mut tags_written = write(Kind::Tags, &tags, &after[0])?;
    let mut roots_written = write(Kind::Roots, &roots, &after[1])?;
    if options.prune {
        tags_written.removed = prune(Kind::Tags, &target, &after[0])?;
        roots_written.removed = prune(Kind::Roots, &target, &after[1])?;
    }
    Ok(BackedUp {
        directory: directory.to_owned(),
        transferred,
        tags: tags_written,
        roots: roots_written,
        seconds,
    })
}

/// Writes names that are new or changed to `target`, where what they name is by now. `replace`:
/// also those that name something else there. `allowed` says which may be written at all.
pub(super) fn write_names(
    kind: Kind,
    target: &Store,
    named: &Named,
    transferred: &Transferred,
    replace: bool,
    allowed: impl Fn(&TagName) -> bool,
) -> Result<Names, StoreError> {
    let there = kind.read(target)?;
    let mut names = Names::default();
    for (name, objects) in named {
        let text = name.as_str().to_owned();
        match there.get(name) {
            Some(other) if other == objects => names.unchanged += 1,
            Some(_) if !replace => names.kept.push(text),
            _ => {
                let whole = transferred.damaged.is_empty()
                    || objects.iter().all(|object| is_readable(target, object));
                if allowed(name) && whole && objects.iter().all(|object| target.knows(object)) {
                    kind.put(target, name, objects)?;
                    names.written.push(text);
                } else {
                    names.left_out.push(text);
                }
            }
        }
    }
    Ok(names)
}

/// Whether an object, and all that it refers to when it is an image config, is there.
fn is_readable(store: &Store, object: &ObjectId) -> bool {
    store.is_complete(object)
        && image_config(store, object).map_or(true, |config| {
            let mut parts = parts(&config).into_iter();
            parts.all(|(_, part)| store.is_complete(&part))
        })
}

fn prune(kind: Kind, target: &Store, named: &Named) -> Result<Vec<String>, StoreError> {
    let mut removed = Vec::new();
    for name in kind.read(target)?.into_keys() {
        if !named.contains_key(&name) && kind.remove(target, &name)? {
            removed.push(name.as_str().to_owned());
        }
    }
    Ok(removed)
}

/// Whether a backup can be at `directory`, which is made.
fn check_target(source: &Store, directory: &Path) -> Result<(), Failure> {
    let refuse = |message: String, help: &str| Failure::usage(message).with_help(help.to_owned());
    let shown = directory.display();
    match Store::place(directory)? {
        Place::Other => {
            return Err(refuse(
                format!("{shown} is not empty, and not a backup"),
                "give a backup, an empty directory, or a new name in an existing directory",
            ));
        }
        Place::Store => {}
        Place::Free => match fs::create_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(refuse(
                    format!("the parent directory of {shown} does not exist"),
                    "create it first; is the disk mounted?",
                ));
            }
            result => result.map_err(Failure::io("create", directory))?,
        },
    }
    if is_within(directory, source.root())? {
        // When it was made just now.
        let _ = fs::remove_dir(directory);
        return Err(refuse(
            format!("{shown} is inside the store itself"),
            "give a directory elsewhere, best on another disk",
        ));
    }
    Ok(())
}

/// Whether a directory is another one, or in it, whatever links lead there.
pub(super) fn is_within(directory: &Path, other: &Path) -> Result<bool, Failure> {
    let real = |path: &Path| fs::canonicalize(path).map_err(Failure::io("look at", path));
    Ok(real(directory)?.starts_with(real(other)?))
}

//! What a backup has, back in the store.

use std::path::PathBuf;

use serde::Serialize;

use super::super::Context;
use super::backup::{Kind, Named, Names, is_within, write_names};
use super::{parts, watched};
use crate::failure::Failure;
use crate::image::ImageConfig;
use crate::store::{Place, Store, StoreError, TagName, Transferred};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreOptions {
    pub directory: PathBuf,
    /// Only the images of these tags; everything when there are none.
    pub tags: Vec<TagName>,
    /// Whether nothing is changed.
    pub dry_run: bool,
    /// Whether tags and roots that name something else now are replaced.
    pub force: bool,
}

/// What was restored, or would be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Restored {
    pub directory: PathBuf,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// What was copied.
    #[serde(flatten)]
    pub transferred: Transferred,
    pub tags: Names,
    pub roots: Names,
    /// Snapshots of machines that are there again.
    pub snapshots: Vec<String>,
    /// Wall time in seconds.
    pub seconds: f64,
}

/// Brings what is missing back from a backup.
///
/// # Errors
/// The directory is no backup, it does not have a tag, one of the stores fails, or the user gave
/// up.
pub fn restore(context: &Context, options: &RestoreOptions) -> Result<Restored, Failure> {
    let directory = options.directory.as_path();
    check_source(directory)?;
    let source = Store::open(directory)?;
    let target = context.store()?;
    if is_within(directory, target.root())? {
        return Err(
            Failure::usage(format!("{} is the store itself", directory.display()))
                .with_help("give the directory of a backup"),
        );
    }
    let (mut tags, mut roots) = (Kind::Tags.read(&source)?, Kind::Roots.read(&source)?);
    if !options.tags.is_empty() {
        for tag in &options.tags {
            if !tags.contains_key(tag) {
                let known = tags.keys().map(TagName::as_str);
                return Err(Failure::not_found("tag", tag.as_str(), known));
            }
        }
        tags.retain(|tag, _| options.tags.contains(tag));
        roots = Named::new();
    }
    let task = format!("restore from {}", directory.display());
    let (transferred, seconds) = watched(context, &task, |watch| {
        if options.tags.is_empty() {
            target.bring(&source, options.dry_run, watch)
        } else if options.dry_run {
            Ok(Transferred::default())
        } else {
            bring_images(context, &target, &source, &tags)
        }
    })?;
    let write = |kind: Kind, named: &Named| -> Result<Names, StoreError> {
        if options.dry_run {
            would_write(kind, &target, named, options.force)
        } else {
            write_names(kind, &target, named, &transferred, options.force, |_| true)
        }
    };
    let (tags, roots) = (write(Kind::Tags, &tags)?, write(Kind::Roots, &roots)?);
    let snapshots = match options.dry_run {
        true => Vec::new(),
        false => super::super::snapshot::adopt_all(context, &target)?,
    };
    Ok(Restored {
        directory: directory.to_owned(),
        dry_run: options.dry_run,
        tags,
        roots,
        snapshots,
        transferred,
        seconds,
    })
}

fn check_source(directory: &std::path::Path) -> Result<(), Failure> {
    if Store::place(directory)? == Place::Store {
        return Ok(());
    }
    let inside = directory.join("store");
    let help = match Store::place(&inside) {
        Ok(Place::Store) => format!("did you mean {}?", inside.display()),
        _ => "give the directory of a backup; is the disk mounted?".to_owned(),
    };
    Err(Failure::usage(format!("{} is not a backup", directory.display())).with_help(help))
}

/// Brings the objects of images, each config after what it refers to.
fn bring_images(
    context: &Context,
    target: &Store,
    source: &Store,
    tags: &Named,
) -> Result<Transferred, StoreError> {
    for image in tags.values().flatten() {
        let config = ImageConfig::from_bytes(&source.read_object(image)?)
            .map_err(|error| StoreError::Refused(format!("object {} is {error}", image.short())))?;
        let parts = parts(&config).into_iter().map(|(_, part)| part);
        for object in parts.chain([*image]) {
            if context.interrupt.requested() {
                return Err(StoreError::Interrupted);
            }
            if !target.is_complete(&object) {
                target.bring_object(source, &object)?;
            }
        }
    }
    Ok(Transferred::default())
}

fn would_write(
    kind: Kind,
    target: &Store,
    named: &Named,
    force: bool,
) -> Result<Names, StoreError> {
    let there = kind.read(target)?;
    let mut names = Names::default();
    for (name, objects) in named {
        let text = name.as_str().to_owned();
        match there.get(name) {
            Some(other) if other == objects => names.unchanged += 1,
            Some(_) if !force => names.kept.push(text),
            _ => names.written.push(text),
        }
    }
    Ok(names)
}

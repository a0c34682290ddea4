//! Objects as files of the user.

use std::fs::File;
use std::path::PathBuf;

use serde::Serialize;

use super::super::Context;
use super::super::export;
use crate::digest::ObjectId;
use crate::failure::Failure;
use crate::image::DiskFormat;
use crate::store::{ObjectReader, Store};
use crate::world::image_config;

/// The fewest digits of an object's id that name it.
const SHORTEST: usize = 6;
/// So many objects with the same first digits are told.
const TOLD: usize = 5;

/// What to get, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetOptions {
    /// An id, its first digits, or `@TAG` for the disk of an image.
    pub object: String,
    pub target: PathBuf,
    /// Whether an existing file is replaced.
    pub force: bool,
}

/// An object that was written to a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Got {
    pub object: ObjectId,
    /// Its size in bytes.
    pub size: u64,
    pub path: String,
}

/// Writes an object to a file, which appears when it is complete, or not at all.
///
/// # Errors
/// There is no such object, the file exists or cannot be written, or the store fails.
pub fn get(context: &Context, options: &GetOptions) -> Result<Got, Failure> {
    let store = context.store()?;
    let object = find(&store, &options.object)?;
    let target = options.target.as_path();
    export::check(target, DiskFormat::Raw, options.force)?;
    let (directory, name) = export::split(target)?;
    let scratch = tempfile::Builder::new()
        .prefix(".vmfab-")
        .tempdir_in(directory)
        .map_err(Failure::io("create a directory in", directory))?;
    let partial = scratch.path().join(name);
    let file = File::create(&partial).map_err(Failure::io("create", &partial))?;
    store.write_to(&object, &file, &partial)?;
    if context.interrupt.requested() {
        return Err(Failure::interrupted());
    }
    export::publish(&partial, target, options.force)
        .map_err(|failure| export::full(failure, target))?;
    let meta = file.metadata().map_err(Failure::io("look at", target))?;
    Ok(Got {
        object,
        size: meta.len(),
        path: target.to_string_lossy().into_owned(),
    })
}

/// Opens an object for reading.
///
/// # Errors
/// There is no such object, or it is damaged.
pub fn open(context: &Context, name: &str) -> Result<ObjectReader, Failure> {
    let store = context.store()?;
    let object = find(&store, name)?;
    Ok(store.open_object(&object)?)
}

/// The object that a user named.
fn find(store: &Store, name: &str) -> Result<ObjectId, Failure> {
    if let Some(tag) = name.strip_prefix('@') {
        let tags = store.tags()?;
        let Some((_, image)) = tags.iter().find(|(other, _)| other.as_str() == tag) else {
            let known = tags.iter().map(|(other, _)| other.as_str());
            return Err(Failure::not_found("image", tag, known));
        };
        return Ok(image_config(store, image)?.disk.id);
    }
    let digits = name.to_ascii_lowercase();
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let unknown = |help: &str| Failure::unknown("object", name).with_help(help.to_owned());
    if !is_hex || digits.is_empty() || digits.len() > 64 {
        return Err(unknown(
            "give an object's id, its first digits, or @TAG for the disk of an image",
        ));
    }
    if digits.len() < SHORTEST {
        return Err(
            Failure::usage(format!("\"{name}\" is too short for an object's id"))
                .with_help(format!("give at least {SHORTEST} digits of its id")),
        );
    }
    let mut found = store.objects_beginning(&digits, TOLD + 1)?;
    match found.len() {
        0 => Err(unknown("`vmfab store roots` lists the kept files")),
        1 => Ok(found.remove(0)),
        _ => {
            let more = if found.len() > TOLD { ", …" } else { "" };
            let ids: Vec<String> = found
                .iter()
                .take(TOLD)
                .map(|id| id.to_string()[..digits.len().max(12) + 4].to_owned())
                .collect();
            Err(
                Failure::usage(format!("several objects begin with \"{name}\""))
                    .with_help(format!("give more digits: {}{more}", ids.join(", "))),
            )
        }
    }
}

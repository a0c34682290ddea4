//! Which image came from where: what a reference of a registry stands for when the registry cannot be asked.
//!
//! One small JSON file for each reference and platform, below `cache/pulled`. Without it an image that is here is found
//! by its tag only.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::super::images::{self, FoundImage};
use super::super::{Context, Error, Failure};
use crate::digest::{Hasher, ObjectId, Sha256};
use crate::event::Event;
use crate::registry::{Location, Platform, Reference, Version};

/// What a reference stood for when it was pulled last.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    /// The tag or digest.
    reference: String,
    /// The image.
    image: ObjectId,
    /// The digest of its manifest.
    digest: String,
}

/// Notes that an image came from a version of a registry's repository, and from its digest. What cannot be noted is not
/// found offline, and no more.
pub(super) fn note(
    context: &Context,
    from: &Location,
    version: &Version,
    digest: Sha256,
    platform: &Platform,
    image: ObjectId,
) {
    let Location::Registry(reference) = from else {
        return;
    };
    for version in [version, &Version::Digest(digest)] {
        let origin = Origin {
            reference: reference.with(version).to_string(),
            image,
            digest: format!("sha256:{digest}"),
        };
        let _ = write(context, platform, &origin);
    }
}

/// The image that came from a reference before, for who does not use the network.
///
/// # Errors
/// None did, or it is not here any more.
pub(super) fn find(
    context: &Context,
    reference: &Reference,
    platform: &Platform,
) -> Result<FoundImage, Error> {
    let name = reference.with(&reference.version()).to_string();
    let Some(origin) = read(context, platform, &name) else {
        return Err(absent(&name, "no image was pulled from it before"));
    };
    let found = images::find(context, &origin.image.to_string());
    let store = context.store()?;
    let whole = |found: &FoundImage| {
        let mut objects = found.config.boot_objects().into_iter();
        objects.all(|object| store.has_object(&object))
    };
    let Ok(found) = found.and_then(|found| match whole(&found) {
        true => Ok(found),
        false => Err(absent(&name, "")),
    }) else {
        let why = format!(
            "image {}, which came from it, is not here any more",
            origin.image.short()
        );
        return Err(absent(&name, &why));
    };
    context.emit(Event::Note {
        message: format!(
            "offline: {name} is image {}, as when it was pulled",
            origin.image.short()
        ),
    });
    Ok(found)
}

fn absent(name: &str, why: &str) -> Error {
    Error::Failed(Failure {
        message: format!("offline, and {name} is not here: {why}"),
        help: Some(format!(
            "run \"vmfab pull {name}\" once without --offline; \"vmfab images\" lists what is here, to be named by its tag"
        )),
        ..Failure::default()
    })
}

fn path(context: &Context, platform: &Platform, reference: &str) -> PathBuf {
    let mut hasher = Hasher::new("vmfab pulled reference v1");
    hasher.update_field(reference.as_bytes());
    hasher.update_field(platform.os.as_bytes());
    hasher.update_field(platform.architecture.as_bytes());
    hasher.update_field(platform.variant.as_deref().unwrap_or_default().as_bytes());
    let name = format!("{}.json", hasher.finish().short());
    context.home.pulled().join(name)
}

fn read(context: &Context, platform: &Platform, reference: &str) -> Option<Origin> {
    let bytes = fs::read(path(context, platform, reference)).ok()?;
    let origin: Origin = serde_json::from_slice(&bytes).ok()?;
    (origin.reference == reference).then_some(origin)
}

fn write(context: &Context, platform: &Platform, origin: &Origin) -> io::Result<()> {
    let directory = context.home.pulled();
    fs::create_dir_all(&directory)?;
    let mut file = tempfile::NamedTempFile::new_in(&directory)?;
    file.write_all(&serde_json::to_vec(origin)?)?;
    let path = path(context, platform, &origin.reference);
    file.persist(path).map(drop).map_err(|error| error.error)
}

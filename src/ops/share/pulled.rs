//! Which image a reference stood for: what is taken for it when its registry cannot be asked.
//!
//! One small JSON file for each reference and platform, below `cache/pulled`. Without it an image
//! that is here is found by its tag only.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::Context;
use super::super::images::{self, FoundImage};
use crate::digest::{Hasher, ObjectId, Sha256};
use crate::event::Event;
use crate::failure::{Failure, Kind};
use crate::host::file;
use crate::registry::{Location, Platform, Reference, Version};

/// What a reference stood for when it was pulled last.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PulledReference {
    /// With its tag or digest.
    reference: String,
    image: ObjectId,
}

/// Notes that an image was pulled from a version of a registry's repository, and by its digest.
/// What cannot be noted is not found offline, and no more.
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
    for reference in names(reference, version, digest) {
        let pulled = PulledReference { reference, image };
        let _ = write(&context.home.pulled(), platform, &pulled);
    }
}

/// The image that was pulled from a reference before, for who does not use the network.
///
/// # Errors
/// None was, it is not here any more, or the store fails.
pub(super) fn find(
    context: &Context,
    reference: &Reference,
    platform: &Platform,
) -> Result<FoundImage, Failure> {
    let name = reference.with(&reference.version()).to_string();
    let Some(pulled) = read(&context.home.pulled(), platform, &name) else {
        return Err(absent(&name, "vmfab has not pulled it before"));
    };
    let store = context.store()?;
    let whole = |found: &FoundImage| {
        let mut objects = found.config.boot_objects().into_iter();
        objects.all(|object| store.has_object(&object))
    };
    let found = match images::find(context, &pulled.image.to_string()) {
        Ok(found) => Some(found).filter(whole),
        Err(error) if error.is(Kind::NotFound) => None,
        Err(error) => return Err(error),
    };
    let Some(found) = found else {
        let why = format!(
            "image {}, which vmfab pulled from it, is no longer in the store",
            pulled.image.short()
        );
        return Err(absent(&name, &why));
    };
    context.emit(Event::Note {
        message: format!(
            "offline: {name} is image {}, as when it was pulled",
            pulled.image.short()
        ),
    });
    Ok(found)
}

fn absent(name: &str, why: &str) -> Failure {
    Failure::failed(format!("offline, and {name} is not in the store: {why}")).with_help(format!(
            "run \"vmfab pull {name}\" once without --offline; \"vmfab images\" lists what is here, to be named by its tag"
        ))
}

/// What an image can be asked for by, after it was pulled.
fn names(reference: &Reference, version: &Version, digest: Sha256) -> BTreeSet<String> {
    let versions = [version, &Version::Digest(digest)];
    let names = versions.map(|version| reference.with(version).to_string());
    names.into()
}

fn path(directory: &Path, platform: &Platform, reference: &str) -> PathBuf {
    let mut hasher = Hasher::new("vmfab pulled reference v1");
    hasher.update_field(reference.as_bytes());
    hasher.update_field(platform.os.as_bytes());
    hasher.update_field(platform.architecture.as_bytes());
    hasher.update_field(platform.more_than_usual().unwrap_or_default().as_bytes());
    directory.join(format!("{}.json", hasher.finish().short()))
}

fn read(directory: &Path, platform: &Platform, reference: &str) -> Option<PulledReference> {
    let bytes = fs::read(path(directory, platform, reference)).ok()?;
    let pulled: PulledReference = serde_json::from_slice(&bytes).ok()?;
    (pulled.reference == reference).then_some(pulled)
}

fn write(directory: &Path, platform: &Platform, pulled: &PulledReference) -> io::Result<()> {
    let path = path(directory, platform, &pulled.reference);
    file::cache(&path, &serde_json::to_vec(pulled)?)
}

#[cfg(test)]
mod tests {
    use super::super::parse_platform;
    use super::*;

    const NAME: &str = "registry.example/web:1";

    fn image() -> ObjectId {
        "5".repeat(64).parse().unwrap()
    }

    #[test]
    fn the_usual_variant_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let platform = |text| parse_platform(text).unwrap();
        let pulled = PulledReference {
            reference: NAME.to_owned(),
            image: image(),
        };
        write(directory.path(), &platform("linux/arm64/v8"), &pulled).unwrap();
        let found = |text| read(directory.path(), &platform(text), NAME);
        assert_eq!(found("aarch64"), Some(pulled));
        for other in ["linux/arm64/v9", "linux/arm/v8", "amd64"] {
            assert_eq!(found(other), None, "{other}");
        }
    }

    #[test]
    fn a_digest_is_noted_once() {
        let digest: Sha256 = "a".repeat(64).parse().unwrap();
        let reference: Reference = NAME.parse().unwrap();
        let noted = |version: &Version| Vec::from_iter(names(&reference, version, digest));
        let by_digest = format!("registry.example/web@sha256:{digest}");
        assert_eq!(
            noted(&Version::Digest(digest)),
            std::slice::from_ref(&by_digest)
        );
        let tag = Version::tag("1").unwrap();
        assert_eq!(noted(&tag), [NAME.to_owned(), by_digest]);
    }
}

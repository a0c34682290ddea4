//! Machines that start before their image is here.
//!
//! `boot REF` of an image that the store does not have fetches its config, kernel and initrd, notes
//! below `pending/` where the rest is, and starts the machine: its disk is served by a process of
//! its own (`serve.rs`), which pulls the image meanwhile. Once the store has all of it the note
//! goes, the image gets its tag, and machines start from the plain disk.

pub(super) mod order;
mod serve;

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use order::{RecordOptions, RecordedBoot, is_recorded, record_boot};
pub use serve::disk_main;

use super::images::{self, FoundImage};
use super::{Context, share};
use crate::config::TrustedUse;
use crate::digest::{ObjectId, Sha256};
use crate::event::Event;
use crate::failure::Failure;
use crate::host::file;
use crate::image::ImageConfig;
use crate::machine::pending_image;
use crate::registry::{Access, Location, Parsed, Platform, media, parse_manifest, to_bytes};
use crate::share::{Artifact, IMAGE};
use crate::store::Store;
use crate::text::shown_size;
use crate::world::{image_config, signatures};

/// The longest note: the manifest is in it.
const LONGEST: u64 = 8 << 20;

/// Where the rest of an image is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    /// As the user named it.
    pub(super) reference: String,
    /// The digest of its manifest.
    pub(super) digest: Sha256,
    /// The manifest, so that nobody has to be asked for it.
    manifest: String,
    /// How the registry was reached.
    plain_http: bool,
    insecure: bool,
}

impl Pending {
    /// The note of an image; nothing when all of it is here, or was never asked for.
    pub(super) fn read(context: &Context, image: &ObjectId) -> Result<Option<Self>, Failure> {
        let path = pending_image(&context.home, image);
        match file::read_text(&path, LONGEST) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            read => {
                let text = read.map_err(Failure::io("read", &path))?;
                let note = serde_json::from_str(&text).map_err(|error| {
                    Failure::failed(format!("{} is damaged: {error}", path.display()))
                        .with_help("remove the file, and pull the image")
                })?;
                Ok(Some(note))
            }
        }
    }

    /// All notes with their images. Those that cannot be read are left out.
    fn all(context: &Context) -> Vec<(ObjectId, Self)> {
        let entries = fs::read_dir(context.home.pending());
        let names = entries.into_iter().flatten().flatten();
        let note = |name: &str| {
            let image = name.strip_suffix(".json")?.parse().ok()?;
            Some((image, Self::read(context, &image).ok()??))
        };
        names
            .filter_map(|entry| note(entry.file_name().to_str()?))
            .collect()
    }

    fn write(&self, context: &Context, image: &ObjectId) -> Result<(), Failure> {
        let path = pending_image(&context.home, image);
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        file::cache(&path, &bytes).map_err(Failure::io("write", &path))
    }

    /// The artifact of the image.
    pub(super) fn artifact(&self) -> Option<Artifact> {
        match parse_manifest(self.manifest.as_bytes(), media::MANIFEST).ok()? {
            Parsed::Manifest(manifest) => Artifact::of_manifest(&manifest).ok()?,
            Parsed::Index(_) => None,
        }
    }

    pub(super) const fn access(&self) -> Access {
        Access {
            plain_http: self.plain_http,
            insecure: self.insecure,
        }
    }
}

/// Prepares to boot an image of a registry before it is here: what QEMU itself needs is fetched.
/// Nothing when all of it is here, or when it can only be pulled whole: it is none of vmfab's, or
/// the registry gives no parts of blobs.
///
/// # Errors
/// The registry fails, the image is not signed as it must be, or it is not what its digests say.
pub(super) fn begin(context: &Context, from: &Location) -> Result<Option<FoundImage>, Failure> {
    let Location::Registry(reference) = from else {
        return Ok(None);
    };
    let repository = context.registries().open(from)?;
    let store = context.store()?;
    let sharing = share::sharing(context, &store);
    let version = reference.version();
    let found = sharing.find(&*repository, &version, &Platform::host());
    // What is wrong is said by who pulls it.
    let Ok(Some(found)) = found else {
        return Ok(None);
    };
    let artifact = found.artifact.as_ref();
    let Some(artifact) = artifact.filter(|artifact| artifact.kind == IMAGE) else {
        return Ok(None);
    };
    let bytes = sharing.config(&*repository, artifact)?;
    let Ok(config) = ImageConfig::from_bytes(&bytes) else {
        return Ok(None);
    };
    if store.has_object(&config.disk) {
        return Ok(None);
    }
    signatures::check(context, from, &found.signed_digests(), TrustedUse::Boot)?;
    if !sharing.gives_parts(&*repository, artifact, &config.disk)? {
        return Ok(None);
    }
    let name = from.to_string();
    let first = [config.kernel, config.initrd].into_iter().flatten();
    let first: Vec<_> = first.collect();
    let wanted: HashSet<ObjectId> = first.iter().map(|object| object.id).collect();
    sharing.pull(&*repository, artifact, Some(&wanted), &name)?;
    if let Some(object) = first.iter().find(|object| !store.has_object(object)) {
        let object = object.id.short();
        let message = format!("{name}: its object {object} is not in the artifact");
        return Err(Failure::verification(message));
    }
    let manifest = String::from_utf8_lossy(&to_bytes(&found.manifest)).into_owned();
    let pending = Pending {
        reference: name.clone(),
        digest: found.digest,
        manifest,
        plain_http: context.access.plain_http,
        insecure: context.access.insecure,
    };
    let image = store.put_bytes(&bytes)?.id;
    pending.write(context, &image)?;
    context.emit(Event::Note {
        message: format!("booting {name} while vmfab pulls it; --eager pulls all of it first"),
    });
    images::find(context, &image.to_string()).map(Some)
}

/// The error when the rest of an image is in a registry and the network is not to be used.
///
/// # Errors
/// It is.
pub(super) fn check_offline(context: &Context, image: &FoundImage) -> Result<(), Failure> {
    if !context.offline || context.store()?.has_object(&image.config.disk) {
        return Ok(());
    }
    match Pending::read(context, &image.image)? {
        Some(pending) => Err(missing(context, &pending)),
        None => Ok(()),
    }
}

/// The same for an image that is named by where it lies.
pub(super) fn missing_of(context: &Context, from: &Location) -> Option<Failure> {
    let name = from.to_string();
    let mut all = Pending::all(context).into_iter();
    let (_, pending) = all.find(|(_, pending)| pending.reference == name)?;
    Some(missing(context, &pending))
}

/// Says how much of an image is not here.
fn missing(context: &Context, pending: &Pending) -> Failure {
    let name = &pending.reference;
    let packs = pending
        .artifact()
        .map_or(Vec::new(), |artifact| artifact.packs);
    let total: u64 = packs.iter().map(|pack| pack.blob.size).sum();
    let here = |path: &Path| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).map_or(0, |meta| meta.blocks() * 512)
    };
    let here: u64 = packs
        .iter()
        .map(|pack| {
            here(&context.home.shelf().join(pack.blob.digest.to_string())).min(pack.blob.size)
        })
        .sum();
    Failure::failed(format!(
        "offline, and the disk of {name} is not all in the store: about {} of {} are missing",
        shown_size(total - here),
        shown_size(total)
    ))
    .with_help(format!("run \"vmfab pull {name}\" once without --offline"))
}

/// Removes notes of images that are in the store, or that nobody needs any more, parts of disks
/// that no note needs, and boot orders of disks that are gone.
pub(super) fn sweep(context: &Context, store: &Store) {
    order::sweep(context, store);
    let mut needed = HashSet::new();
    let is_pending = |image: &ObjectId| {
        image_config(store, image).is_ok_and(|config| !store.has_object(&config.disk))
    };
    for (image, pending) in Pending::all(context) {
        if !is_pending(&image) {
            let _ = fs::remove_file(pending_image(&context.home, &image));
            continue;
        }
        let artifact = pending.artifact();
        needed.extend(
            artifact
                .iter()
                .flat_map(|artifact| &artifact.objects)
                .map(|blob| blob.digest),
        );
        needed.extend(
            artifact
                .iter()
                .flat_map(|artifact| &artifact.packs)
                .map(|pack| pack.blob.digest),
        );
    }
    for entry in fs::read_dir(context.home.shelf())
        .into_iter()
        .flatten()
        .flatten()
    {
        let digest = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        if digest.is_none_or(|digest| !needed.contains(&digest)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

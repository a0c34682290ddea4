//! Images in registries and layouts that recipes start from: which one a name stands for, and what
//! it is.
//!
//! ```text
//! name ── tag (pinned, locked) ──► digest ──► manifest or index ── platform ──► manifest ──► config ──► Remote
//!                                             (kept by digest: a second plan asks nobody)
//! ```

mod container;
mod kept;
mod platform;

use std::path::Path;
use std::sync::Arc;

use kept::Kept;

use super::{Context, signatures};
use crate::config::TrustedUse;
use crate::digest::Sha256;
use crate::failure::{Failure, Kind};
use crate::image::ImageConfig;
use crate::plan::{BlobPlace, ContainerLayer, Remote, RemoteDisk};
use crate::registry::{
    Blob, Described, Descriptor, Fetched, Location, MAX_MANIFEST, Manifest, Platform,
    ReadBlobError, Reference, RegistryError, Repository, ResolveError, Silent, Version, read_small,
    resolve,
};
use crate::share::published::{self, What};
use crate::share::{Artifact, IMAGE};

/// Bytes at the beginning of a layer in which a containerdisk shows itself.
const BEGINNING: u64 = 256 << 10;

/// An image of which it is known which one it is.
pub(crate) struct Identified<'a> {
    context: &'a Context,
    /// Where it is.
    location: &'a Location,
    /// What it is called in messages and labels.
    shown: String,
}

/// The repository that a text names, and the version in it.
///
/// # Errors
/// It is no name of an image.
pub(crate) fn parse(text: &str) -> Result<Location, Failure> {
    text.parse().map_err(|error| {
        wrong(
            format!("{error}"),
            "names are written as in registry.example/name:tag, oci:DIR:TAG is a layout",
        )
    })
}

/// Makes sure that a layout or archive lies in the build context, also if it is a link. A Dockerfile
/// may come from anywhere, and must read nothing else of this host.
///
/// # Errors
/// It lies elsewhere.
pub(crate) fn check_within(location: &Location, context: &Path) -> Result<(), Failure> {
    let path = match location {
        Location::Registry(_) => return Ok(()),
        Location::Storage(_) => {
            return Err(wrong(
                "a Dockerfile cannot read the storage of podman".to_owned(),
                "give the image a name: context \"base\" \"containers-storage:IMAGE\" in the \
                 dockerfile node; then write FROM base",
            ));
        }
        Location::Layout { path, .. }
        | Location::Archive { path, .. }
        | Location::DockerArchive { path, .. } => path,
    };
    match (path.canonicalize(), context.canonicalize()) {
        (Ok(path), Ok(context)) if !path.starts_with(&context) => Err(wrong(
            format!("{} lies outside of the build context", path.display()),
            "give it a name: --build-context NAME=oci-layout://DIRECTORY, or a context node in \
             the recipe; then write NAME",
        )),
        // If it is missing, reading it fails later.
        _ => Ok(()),
    }
}

/// What the lock and the pins call a tag.
pub(crate) fn address(reference: &Reference) -> String {
    format!("oci://{reference}")
}

/// The digest of what a tag stands for today: a manifest, or the index of several.
///
/// # Errors
/// There is no such tag, or the registry cannot be asked.
pub(crate) fn look_up(context: &Context, reference: &Reference) -> Result<Sha256, Failure> {
    let location = Location::Registry(reference.clone());
    let found = Identified::new(context, &location);
    let fetched = found.fetch(&reference.version())?;
    Ok(fetched.digest)
}

/// What an image is. `digest` says what its tag stands for, when it has one.
///
/// # Errors
/// It cannot be had, is damaged, or is nothing that an image can start from.
pub(crate) fn find(
    context: &Context,
    location: &Location,
    digest: Option<Sha256>,
    architecture: &str,
) -> Result<Remote, Failure> {
    if let Location::Layout { path, .. }
    | Location::Archive { path, .. }
    | Location::DockerArchive { path, .. } = location
        && !path.exists()
    {
        return Err(wrong(
            format!("there is no {}", path.display()),
            "paths are relative to the directory of the recipe file",
        ));
    }
    // By its id: the name may get another image before its layers are read.
    let pinned = context.registries().pinned(location).map_err(outage)?;
    let found = Identified {
        location: &pinned,
        ..Identified::new(context, location)
    };
    let version = match (digest, location.version()) {
        (Some(digest), _) => Version::Digest(digest),
        (None, Some(version)) => version,
        (None, None) => found.only_version()?,
    };
    let (manifest, of) = found.manifest(&version, architecture)?;
    found.classify(&manifest, &of, architecture)
}

impl<'a> Identified<'a> {
    fn new(context: &'a Context, location: &'a Location) -> Self {
        Self {
            context,
            location,
            shown: match location {
                Location::Registry(reference) => familiar(reference),
                other => other.to_string(),
            },
        }
    }

    fn repository(&self) -> Result<Arc<dyn Repository>, Failure> {
        let repository = self.context.registries().open(self.location);
        repository.map_err(outage)
    }

    /// The repository without tag and digest, as places of blobs name it.
    fn place(&self) -> String {
        match self.location {
            Location::Registry(reference) => reference.name(),
            Location::Layout { path, .. } => format!("oci:{}", path.display()),
            Location::Archive { path, .. } => format!("oci-archive:{}", path.display()),
            Location::DockerArchive { path, .. } => format!("docker-archive:{}", path.display()),
            Location::Storage(image) => format!("containers-storage:{image}"),
        }
    }

    /// The only image of a layout.
    fn only_version(&self) -> Result<Version, Failure> {
        let version = self.repository()?.only_version();
        version.map_err(outage)
    }

    /// The manifest of a version for an architecture, through indexes.
    fn manifest(
        &self,
        version: &Version,
        architecture: &str,
    ) -> Result<(Manifest, Sha256), Failure> {
        let wanted = Platform::linux(architecture);
        let fetch = |version: &Version| self.fetch(version).map(Some);
        let resolved = resolve(version, &wanted, Silent::Taken, fetch);
        let resolved = resolved.map_err(|error| match error {
            ResolveError::Fetch(error) => error,
            ResolveError::Invalid(what, why) => self.damaged(&format!("{what} {why}")),
            ResolveError::Platform(there) => platform::none(&wanted, &there),
        })?;
        let resolved = resolved.ok_or_else(|| self.unknown(version))?;
        let mut digests = resolved.through;
        digests.push(resolved.digest);
        signatures::check(self.context, self.location, &digests, TrustedUse::From)?;
        Ok((resolved.manifest, resolved.digest))
    }

    /// A manifest or index; what is known by its digest and was had before is not asked for.
    fn fetch(&self, version: &Version) -> Result<Fetched, Failure> {
        let kept = Kept::new(self.context);
        if let Version::Digest(digest) = version
            && let Some(fetched) = kept.manifest(digest)
        {
            return Ok(fetched);
        }
        let fetched = self.repository()?.manifest(version);
        let Some(fetched) = fetched.map_err(outage)? else {
            return Err(self.unknown(version));
        };
        // What cannot be kept is asked for again.
        let _ = kept.keep_manifest(&fetched);
        Ok(fetched)
    }

    fn unknown(&self, version: &Version) -> Failure {
        let place = self.place();
        if let (Version::Digest(digest), Location::Registry(reference)) = (version, self.location)
            && reference.digest.is_none()
        {
            return wrong(
                format!("{place} no longer has manifest sha256:{digest}, which {reference} named"),
                "\"vmfab update\" resolves it again",
            );
        }
        let message = match version {
            Version::Tag(tag) => format!("{place} has no tag \"{tag}\""),
            Version::Digest(digest) => format!("{place} has no manifest sha256:{digest}"),
        };
        wrong(message, &format!("\"vmfab tags {place}\" lists the tags"))
    }

    /// A small blob as a whole.
    fn small(&self, blob: &Blob, what: &str) -> Result<Vec<u8>, Failure> {
        if blob.size > MAX_MANIFEST as u64 {
            return Err(self.damaged(&format!("{what} has {} bytes", blob.size)));
        }
        let kept = Kept::new(self.context);
        if let Some(bytes) = kept.blob(&blob.digest) {
            return Ok(bytes);
        }
        let bytes = read_small(&*self.repository()?, blob);
        let bytes = bytes.map_err(|error| self.unread(what, error))?;
        let _ = kept.keep_blob(&blob.digest, &bytes);
        Ok(bytes)
    }

    /// A blob could not be read.
    fn unread(&self, what: &str, error: ReadBlobError) -> Failure {
        match error {
            ReadBlobError::Registry(error) => outage(error),
            ReadBlobError::Wrong(reason) => self.damaged(&format!("{what} {reason}")),
        }
    }

    fn classify(
        &self,
        manifest: &Manifest,
        of: &Sha256,
        architecture: &str,
    ) -> Result<Remote, Failure> {
        // Whether it is a container image its config need not tell, only what it is for.
        let disk = match published::what(manifest, None) {
            What::Vmfab(_) => {
                let config = self.own_artifact(manifest)?;
                let place = BlobPlace {
                    name: self.shown.clone(),
                    repository: self.place(),
                    digest: *of,
                    size: 0,
                };
                return Ok(Remote::Image(place, Box::new(config)));
            }
            What::Container { .. } => return self.container(manifest, of, architecture),
            What::Disk(disk) => disk,
            What::Other(phrase) => {
                return Err(wrong(
                    format!("it is {phrase}"),
                    "an image can start from a container image, a disk, or a vmfab image",
                ));
            }
        };
        for layer in manifest.layers() {
            container::check_layer(layer)?;
        }
        Ok(Remote::Disk(RemoteDisk::Blob(BlobPlace {
            name: self.shown.clone(),
            repository: self.place(),
            digest: disk.blob.digest,
            size: disk.blob.size,
        })))
    }

    /// Where a layer can be had.
    fn blob_place(&self, layer: &Descriptor, name: String) -> Result<BlobPlace, Failure> {
        let blob = layer.blob();
        let blob = blob.map_err(|why| self.damaged(&format!("a layer {why}")))?;
        Ok(BlobPlace {
            name,
            repository: self.place(),
            digest: blob.digest,
            size: blob.size,
        })
    }

    fn container(
        &self,
        manifest: &Manifest,
        of: &Sha256,
        architecture: &str,
    ) -> Result<Remote, Failure> {
        let blob = manifest.config().blob();
        let blob = blob.map_err(|why| self.damaged(&format!("its config {why}")))?;
        let bytes = self.small(&blob, "its config")?;
        let config = container::Config::read(&bytes).map_err(|why| self.damaged(&why))?;
        platform::check(&config.platform(), architecture)?;
        let mut container = config.container(self, manifest)?;
        container.digest = Some(*of);
        let what = published::what(manifest, Some(&bytes));
        let perhaps = matches!(
            what,
            What::Container {
                looks_like_disk: true
            }
        );
        match container.layers.pop() {
            None => Err(wrong(
                "it has no layers".to_owned(),
                "start from an image that has a root file system",
            )),
            Some(layer) if perhaps && self.has_disk(&layer)? => {
                Ok(Remote::Disk(RemoteDisk::Containerdisk(layer)))
            }
            Some(layer) => {
                container.layers.push(layer);
                Ok(Remote::Container(container))
            }
        }
    }

    /// Whether a layer begins with the disk of a containerdisk. Only its beginning is fetched, and
    /// only once.
    fn has_disk(&self, layer: &ContainerLayer) -> Result<bool, Failure> {
        let kept = Kept::new(self.context);
        if let Some(known) = kept.has_disk(&layer.diff_id) {
            return Ok(known);
        }
        let blob = Blob {
            digest: layer.place.digest,
            size: layer.place.size,
        };
        let range = (blob.size > BEGINNING).then_some(0..BEGINNING);
        let reader = self.repository()?.read_blob(&blob, range);
        let reader = reader.map_err(outage)?;
        // What is wrong about the blob is told when it is fetched as a whole.
        let head = reader.up_to(BEGINNING);
        let head = head.map_err(|error| self.unread("its layer", error))?;
        let has_disk = container::begins_with_disk(&head);
        let _ = kept.keep_has_disk(&layer.diff_id, has_disk);
        Ok(has_disk)
    }

    /// The config of an image of vmfab's own. Its objects are brought when they are needed.
    fn own_artifact(&self, manifest: &Manifest) -> Result<ImageConfig, Failure> {
        let artifact = Artifact::of_manifest(manifest);
        let artifact = artifact.map_err(|why| self.damaged(&format!("the manifest {why}")))?;
        let artifact = artifact.filter(|artifact| artifact.kind == IMAGE);
        let artifact = artifact.ok_or_else(|| {
            wrong(
                "it is the result of a step in a build cache".to_owned(),
                "start from an image that was pushed with \"vmfab push\"",
            )
        })?;
        let bytes = match &artifact.config_data {
            Some(bytes) => bytes.clone(),
            None => self.small(&artifact.config, "its config")?,
        };
        let mut config = ImageConfig::from_bytes(&bytes)
            .map_err(|error| self.damaged(&format!("its config is {error}")))?;
        if !artifact.has_layers() {
            // Then it is a disk as others are.
            config.layers.clear();
        }
        Ok(config)
    }

    /// What was pushed is not in order.
    fn damaged(&self, why: &str) -> Failure {
        Failure::failed(format!("{}: {why}", self.place()))
            .with_help("the image was pushed wrongly: push it again, or use another version")
    }
}

/// The name as people write it: without Docker Hub's host, and of a digest only the beginning.
fn familiar(reference: &Reference) -> String {
    let mut text = reference.to_string();
    if reference.digest.is_some() {
        // 52 digits of 64 go.
        text.truncate(text.len() - 52);
    }
    let text = text.strip_prefix("docker.io/").unwrap_or(&text);
    text.strip_prefix("library/").unwrap_or(text).to_owned()
}

/// The recipe asks for what it should not.
fn wrong(message: String, help: &str) -> Failure {
    Failure::new(Kind::Recipe, message).with_help(help)
}

/// A registry fails, or this host.
fn outage(error: RegistryError) -> Failure {
    // What is not there, and what is not said, the recipe asks for.
    let of_recipe = matches!(
        error,
        RegistryError::Missing { .. }
            | RegistryError::Several { .. }
            | RegistryError::Unknown { .. }
    );
    let network = matches!(error, RegistryError::Http { .. });
    let failure = Failure::from(error);
    match failure.kind() {
        Kind::Interrupted => failure,
        _ if of_recipe => failure.with_kind(Kind::Recipe),
        _ if network => failure.or_help("check the network, and the name of the registry"),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_people_write_them() {
        let shown = |text: &str| familiar(&text.parse().unwrap());
        assert_eq!(shown("debian:12"), "debian:12");
        assert_eq!(shown("me/vm"), "me/vm:latest");
        assert_eq!(shown("ghcr.io/me/vm:1"), "ghcr.io/me/vm:1");
        let digest = "0123456789abcdef".repeat(4);
        let text = format!("ghcr.io/me/vm@sha256:{digest}");
        assert_eq!(shown(&text), "ghcr.io/me/vm@sha256:0123456789ab");
    }
}

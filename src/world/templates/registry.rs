//! Registries: a template is an artifact, and the index of a repository is one, too.
//!
//! The index has the tag `index` of `HOST/REPOSITORY`; version 1.2.0 of the template `web` has the
//! tag `1.2.0` of `HOST/REPOSITORY/web`.

use std::collections::BTreeMap;

use super::super::Context;
use super::super::signatures::Evidence;
use super::{Put, taken};
use crate::digest::Sha256;
use crate::failure::{Failure, Kind};
use crate::registry::{
    Blob, Described, Descriptor, Location, Manifest, Parsed, Repository, Version, descriptor,
    manifest, media, parse_manifest, read_small, to_bytes,
};
use crate::share::{Attachment, SIGNATURE, SSH_SIGNATURE, attach};
use crate::template::index::MOST_BYTES as MOST_INDEX;
use crate::template::package::MOST_BYTES;
use crate::template::{Entry, Index, Package, TemplateName, TemplateRepository};
use crate::trust::OwnKey;

/// The artifact type of a template.
const TEMPLATE: &str = "application/vnd.vmfab.template.v1";
/// The media type of its layer.
const PACKAGE: &str = "application/vnd.vmfab.template.package.v1.tar";
/// The artifact type of an index.
const INDEX: &str = "application/vnd.vmfab.template.index.v1";
/// The media type of its layer: lines of JSON.
const LINES: &str = "application/vnd.vmfab.template.index.v1.jsonl";
/// The tag of an index.
const TAG_OF_INDEX: &str = "index";
/// How often an index is written anew when another one was faster.
const TRIES: usize = 5;

type Opened = std::sync::Arc<dyn Repository>;

fn open(context: &Context, place: &str) -> Result<Opened, Failure> {
    let location: Location = format!("oci://{place}").parse().map_err(Failure::other)?;
    Ok(context.registries().open(&location)?)
}

/// The tag of a version: tags have no `+`.
fn tag_of(version: &semver::Version) -> Result<Version, Failure> {
    Version::tag(&version.to_string().replace('+', "_")).map_err(Failure::other)
}

/// The manifest of a tag, its descriptor, and the bytes of its layer of a type.
struct Artifact {
    descriptor: Descriptor,
    digest: Sha256,
    bytes: Vec<u8>,
}

fn artifact(
    repository: &dyn Repository,
    tag: &Version,
    kind: &str,
    layer_type: &str,
    most: u64,
) -> Result<Option<Artifact>, Failure> {
    let Some(fetched) = repository.manifest(tag)? else {
        return Ok(None);
    };
    let wrong = |why: &str| {
        let place = repository.name();
        Failure::verification(format!("what is at {place}:{tag} {why}"))
    };
    let parsed = parse_manifest(&fetched.bytes, &fetched.media_type).map_err(|why| wrong(&why))?;
    let Parsed::Manifest(manifest) = parsed else {
        return Err(wrong("is an index of several images"));
    };
    let told = manifest.artifact_type().as_ref().map(ToString::to_string);
    if told.as_deref() != Some(kind) {
        return Err(wrong("is something else than a template"));
    }
    let layers = manifest.layers();
    let layer = layers
        .iter()
        .find(|layer| layer.media_type().to_string() == layer_type);
    let layer = layer.ok_or_else(|| wrong("has no content"))?;
    let blob = layer.blob().map_err(|why| wrong(&why))?;
    if blob.size > most {
        return Err(wrong(&format!("has more than {} MiB", most >> 20)));
    }
    let bytes = read_small(repository, &blob).map_err(|error| match error {
        crate::registry::ReadBlobError::Registry(error) => error.into(),
        crate::registry::ReadBlobError::Wrong(why) => wrong(&format!("has content that {why}")),
    })?;
    let mut descriptor = descriptor(&fetched.media_type, &Blob::of(&fetched.bytes));
    descriptor.set_artifact_type(manifest.artifact_type().clone());
    Ok(Some(Artifact {
        descriptor,
        digest: fetched.digest,
        bytes,
    }))
}

fn put_artifact(
    repository: &dyn Repository,
    tag: &Version,
    kind: &str,
    layer_type: &str,
    bytes: &[u8],
    annotations: BTreeMap<String, String>,
) -> Result<Descriptor, Failure> {
    let (empty, bytes) = (b"{}".to_vec(), bytes.to_vec());
    for bytes in [&empty, &bytes] {
        repository.put_blob(&Blob::of(bytes), bytes, &[], &|_| ())?;
    }
    let manifest: Manifest = manifest(
        Some(kind),
        descriptor(media::EMPTY, &Blob::of(&empty)),
        vec![descriptor(layer_type, &Blob::of(&bytes))],
        annotations,
    );
    let written = to_bytes(&manifest);
    repository.put_manifest(tag, media::MANIFEST, &written)?;
    let mut described = descriptor(media::MANIFEST, &Blob::of(&written));
    described.set_artifact_type(manifest.artifact_type().clone());
    Ok(described)
}

/// What a repository has. One without an index has nothing.
pub(super) fn index(context: &Context, place: &str, whose: &str) -> Result<Index, Failure> {
    let repository = open(context, place)?;
    read_index(&*repository, whose)
}

fn read_index(repository: &dyn Repository, whose: &str) -> Result<Index, Failure> {
    let tag = Version::tag(TAG_OF_INDEX).map_err(Failure::other)?;
    let Some(found) = artifact(repository, &tag, INDEX, LINES, MOST_INDEX)? else {
        return Ok(Index::default());
    };
    let text = String::from_utf8(found.bytes)
        .map_err(|_| Failure::verification(format!("the index of {whose} is not UTF-8 text")))?;
    let mut index = Index::parse(whose, &text)?;
    // Only this host says where something is, and what was seen.
    let names: Vec<_> = index.iter().map(|(name, _)| name.clone()).collect();
    for name in names {
        for entry in index.versions_mut(&name).into_iter().flatten() {
            entry.place = None;
            entry.references.clear();
            entry.moving = false;
            entry.hidden = None;
        }
    }
    Ok(index)
}

/// The bytes of a version, and its signatures.
pub(super) fn fetch(
    context: &Context,
    place: &str,
    name: &TemplateName,
    entry: &Entry,
) -> Result<(Vec<u8>, Evidence), Failure> {
    let repository = open(context, &format!("{place}/{}", name.name))?;
    let tag = tag_of(&entry.version)?;
    let found = artifact(&*repository, &tag, TEMPLATE, PACKAGE, MOST_BYTES)?;
    let Some(found) = found else {
        let message = format!(
            "{} has no tag {tag}, which its index lists",
            repository.name()
        );
        return Err(Failure::new(Kind::NotFound, message)
            .with_help("\"vmfab template repo update\" asks for the index again"));
    };
    let evidence = Evidence::of(&*repository, &[found.digest])?;
    Ok((found.bytes, evidence))
}

/// Puts a package there, then its signature, then its line in the index.
pub(super) fn put(
    context: &Context,
    into: &TemplateRepository,
    place: &str,
    package: &Package,
    key: Option<&OwnKey>,
) -> Result<Put, Failure> {
    let repository = open(context, &format!("{place}/{}", package.name()))?;
    let tag = tag_of(package.version())?;
    let known = artifact(&*repository, &tag, TEMPLATE, PACKAGE, MOST_BYTES)?;
    let present = known.is_some();
    let manifest = match known {
        Some(known) if known.bytes == package.bytes() => known.descriptor,
        Some(known) => return Err(taken(package, &Sha256::of(&known.bytes))),
        None => {
            let annotations = annotations(package);
            let bytes = package.bytes();
            put_artifact(&*repository, &tag, TEMPLATE, PACKAGE, bytes, annotations)?
        }
    };
    if let Some(key) = key {
        let wrong = |why| Failure::verification(format!("the manifest {why}"));
        let digest = manifest.blob().map_err(wrong)?.digest;
        let document = Attachment {
            artifact_type: SIGNATURE,
            media_type: SSH_SIGNATURE,
            bytes: key.sign(&digest)?.into_bytes(),
            annotations: BTreeMap::new(),
        };
        attach(&*repository, &manifest, &document)?;
    }
    repository.finish()?;
    add_to_index(context, into, place, package)?;
    Ok(Put {
        place: format!("{}:{tag}", repository.name()),
        present,
    })
}

fn annotations(package: &Package) -> BTreeMap<String, String> {
    let outline = package.outline();
    let mut annotations = BTreeMap::from([
        (
            "org.opencontainers.image.title".to_owned(),
            outline.name.to_string(),
        ),
        (
            "org.opencontainers.image.version".to_owned(),
            outline.version.to_string(),
        ),
    ]);
    for (key, value) in [
        ("description", &outline.description),
        ("authors", &outline.author),
        ("licenses", &outline.license),
    ] {
        if let Some(value) = value {
            annotations.insert(format!("org.opencontainers.image.{key}"), value.to_string());
        }
    }
    annotations
}

/// Registries have no lock: the index is read again after it was written, until the line is in it.
fn add_to_index(
    context: &Context,
    into: &TemplateRepository,
    place: &str,
    package: &Package,
) -> Result<(), Failure> {
    let repository = open(context, place)?;
    let tag = Version::tag(TAG_OF_INDEX).map_err(Failure::other)?;
    for _ in 0..TRIES {
        let mut index = read_index(&*repository, &into.namespace)?;
        let entry = Entry::of(package);
        let known = index.versions(package.name()).iter();
        match known.into_iter().find(|one| one.version == entry.version) {
            Some(known) if known.digest == entry.digest => return Ok(()),
            Some(known) => return Err(taken(package, &known.digest)),
            None => {}
        }
        index.put(package.name().clone(), entry);
        let text = index.to_public_text();
        put_artifact(
            &*repository,
            &tag,
            INDEX,
            LINES,
            text.as_bytes(),
            BTreeMap::new(),
        )?;
        repository.finish()?;
    }
    let message = format!("the index of {place} changed while it was written, {TRIES} times");
    Err(Failure::failed(message).with_help("push again when nobody else does"))
}

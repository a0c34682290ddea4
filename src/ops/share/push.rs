//! Pushing an image.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::images::{self, FoundImage};
use super::super::signatures::Signed;
use super::super::{Context, lazy};
use super::sharing;
use crate::audit::Deed;
use crate::digest::{Checksum, ObjectId, ObjectRef};
use crate::failure::Failure;
use crate::image::ImageConfig;
use crate::registry::{
    Described, Location, Parsed, Platform, Repository, Version, descriptor, media, parse_manifest,
};
use crate::share::{Bundle, CREATED, IMAGE, LAYERS, PushOptions, Target};
use crate::store::Store;

/// What a recipe's metadata of these names becomes (OCI image specification, annotations).
const KNOWN: [&str; 8] = [
    "authors",
    "documentation",
    "licenses",
    "revision",
    "source",
    "url",
    "vendor",
    "base.digest",
];

/// What to push, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushImage {
    /// The image, as users name it.
    pub image: String,
    /// Where to.
    pub to: Location,
    /// Whether packs that are there are left out of account.
    pub full: bool,
    /// Whether the tag is to be an index of several architectures, which this image is put into.
    pub index: bool,
    /// Whether the layers that the disk was made from go along.
    pub layers: bool,
    /// More annotations.
    pub annotations: BTreeMap<String, String>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PushedImage {
    pub image: ObjectId,
    /// Where it is.
    pub reference: String,
    /// The digest of what the tag names.
    pub digest: Checksum,
    /// The digest of the image's manifest.
    pub manifest: Checksum,
    /// Whether it was there.
    pub present: bool,
    /// Bytes that were sent.
    pub sent: u64,
    pub packs: usize,
    /// Packs that were made for it.
    pub new_packs: usize,
    /// Packs that were linked from another repository of the registry.
    pub mounted_packs: usize,
}

impl PushedImage {
    /// The same, recorded.
    pub(super) fn recorded(self, context: &Context) -> Self {
        context.record(&Deed::ImagePushed {
            image: self.image.to_string(),
            to: self.reference.clone(),
            digest: self.digest.to_string(),
        });
        self
    }

    /// What there is to sign: what was pushed, whatever has its tag by now.
    #[must_use]
    pub fn signed(&self, to: &Location) -> Signed {
        Signed::Place(match (to, self.digest.sha256()) {
            (Location::Registry(reference), Some(digest)) => {
                Location::Registry(reference.with(&Version::Digest(digest)))
            }
            _ => to.clone(),
        })
    }
}

/// Pushes an image of the store.
///
/// # Errors
/// There is no such image, a part of it is missing, or the registry does not take it.
pub fn push(context: &Context, options: &PushImage) -> Result<PushedImage, Failure> {
    let found = images::find(context, &options.image)?;
    let store = context.store()?;
    check_whole(&store, &found, options.layers)?;
    let tag = tag(&options.to)?;
    let target = tag.clone().map_or(Target::Unnamed, Target::Tag);
    let repository = context.registries().open(&options.to)?;
    let sharing = sharing(context, &store);
    // As it is, for its digest: another program may have written it otherwise.
    let config = store.read_object(&found.image)?;
    let mut bundle = bundle(&found.config, config, options);
    let order = lazy::order::find(context, &found.config.disk);
    bundle.boot_order = order.map(|order| order.to_bytes());
    let index = index_of(&*repository, options, tag.as_deref())?;
    let platform = Platform::linux(&found.config.template.architecture);
    let push = PushOptions {
        target: match index {
            Some(_) => Target::Digest,
            None => target,
        },
        full: options.full,
        index: index.clone().map(|version| (version, platform.clone())),
        name: options.image.clone(),
    };
    let pushed = sharing.push(&*repository, &bundle, &push)?;
    let mut digest = pushed.manifest;
    if let Some(version) = index {
        let mut manifest = descriptor(media::MANIFEST, &pushed.manifest);
        manifest.set_artifact_type(Some(IMAGE.into()));
        manifest.set_for(&platform);
        digest = sharing.index(&*repository, &version, manifest)?;
    }
    repository.finish()?;
    Ok(PushedImage {
        image: found.image,
        reference: options.to.to_string(),
        digest: digest.digest.into(),
        manifest: pushed.manifest.digest.into(),
        present: pushed.present,
        sent: pushed.sent,
        packs: pushed.packs,
        new_packs: pushed.new,
        mounted_packs: pushed.mounted,
    }
    .recorded(context))
}

/// The index that an image goes into: the tag is one, or is to be one.
///
/// # Errors
/// There is no tag for it, or the repository fails.
pub(super) fn index_of(
    repository: &dyn Repository,
    options: &PushImage,
    tag: Option<&str>,
) -> Result<Option<Version>, Failure> {
    match tag {
        Some(tag) if options.index || is_index(repository, tag)? => {
            Ok(Some(Version::Tag(tag.to_owned())))
        }
        None if options.index => {
            Err(Failure::usage("an index needs a tag").with_help("give one, as in oci:DIR:TAG"))
        }
        _ => Ok(None),
    }
}

/// Whether a tag names an index.
///
/// # Errors
/// The repository fails.
pub(super) fn is_index(repository: &dyn Repository, tag: &str) -> Result<bool, Failure> {
    let there = repository.manifest(&Version::Tag(tag.to_owned()))?;
    let parsed = there.map(|there| parse_manifest(&there.bytes, &there.media_type));
    Ok(matches!(parsed, Some(Ok(Parsed::Index(_)))))
}

/// The tag to push to; nothing for the nameless one of a layout or archive.
///
/// # Errors
/// A digest is named instead.
pub(super) fn tag(to: &Location) -> Result<Option<String>, Failure> {
    match (to, to.version()) {
        (Location::Registry(reference), _) if reference.digest.is_some() => {
            Err(Failure::usage(format!(
                "{reference} names a digest, but the digest of a push follows from its content"
            ))
            .with_help("give a tag, as in registry.example/name:tag"))
        }
        (_, Some(Version::Tag(tag))) => Ok(Some(tag)),
        _ => Ok(None),
    }
}

fn check_whole(store: &Store, found: &FoundImage, layers: bool) -> Result<(), Failure> {
    let missing = objects(&found.config, layers)
        .into_iter()
        .filter(|object| !store.has_object(object))
        .count();
    if missing == 0 {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "{missing} of the objects of image {} are not in the store",
        found.image.short()
    ))
    .with_help(match layers {
        true => "push it without --layers, or build it again".to_owned(),
        false => "build it again, or pull it".to_owned(),
    }))
}

/// The objects that are pushed.
fn objects(config: &ImageConfig, layers: bool) -> Vec<ObjectRef> {
    match layers {
        true => config.objects(),
        false => config.boot_objects(),
    }
}

/// An image as it is pushed.
fn bundle(config: &ImageConfig, bytes: Vec<u8>, options: &PushImage) -> Bundle {
    let mut annotations = annotations(config, &options.annotations);
    if options.layers {
        annotations.insert(LAYERS.to_owned(), "true".to_owned());
    }
    Bundle {
        kind: IMAGE,
        config: bytes,
        objects: objects(config, options.layers),
        boot_order: None,
        annotations,
    }
}

/// Annotations depend on nothing but the image and what the user adds: the same image has the same
/// everywhere.
fn annotations(config: &ImageConfig, more: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let template = &config.template;
    let mut annotations = BTreeMap::new();
    let mut add = |name: &str, value: &str| {
        annotations.insert(format!("org.opencontainers.image.{name}"), value.to_owned());
    };
    add("title", &template.name);
    add("created", CREATED);
    if let Some(description) = &template.description {
        add("description", description);
    }
    if let Some(version) = &template.recipe.version {
        add("version", version);
    }
    for (name, value) in &template.metadata {
        if KNOWN.contains(&&**name) {
            add(name, value);
        }
    }
    let own = |name: &str| name.contains('.') && !KNOWN.contains(&name);
    let named = template.metadata.iter().filter(|(name, _)| own(name));
    annotations.extend(named.map(|(name, value)| (name.to_string(), value.to_string())));
    annotations.insert(
        "org.vmfab.version".to_owned(),
        env!("CARGO_PKG_VERSION").to_owned(),
    );
    annotations.insert(
        "org.vmfab.recipe".to_owned(),
        template.recipe.name.to_string(),
    );
    annotations.extend(more.clone());
    annotations
}

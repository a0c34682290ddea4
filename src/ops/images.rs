//! Images in the store: listing, finding, tagging.

use serde::Serialize;

use super::Context;
use super::image_record::ImageRecord;
pub use super::image_record::ImageSource;
use super::image_record::LayerStep;
use crate::audit::Deed;
use crate::digest::{ObjectId, ObjectRef};
use crate::event::Event;
use crate::failure::Failure;
use crate::image::ImageConfig;
use crate::store::{Store, StoreError, TagName};
use crate::world::image_config;

/// The largest config of an image, in bytes.
const MAX_CONFIG: u64 = 1 << 20;
/// The fewest digits of an image's id that name it.
const SHORTEST_ID: usize = 4;

/// An image of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageEntry {
    /// The tag, without `@`.
    pub tag: String,
    pub image: ObjectId,
    /// Its name in the recipe.
    pub name: String,
    pub recipe: String,
    pub recipe_version: Option<String>,
    /// What the recipe says about it.
    pub description: Option<String>,
    /// `x86_64` or `aarch64`.
    pub architecture: String,
    /// Size of the disk as the guest sees it, in bytes.
    pub disk_size: u64,
    /// Bytes that disk, kernel and initrd take on this host; layers are left out, for other images
    /// share them.
    pub stored_size: u64,
    /// When it came to this host, in seconds since 1970, when that is known.
    pub created: Option<u64>,
    /// How it came to this host, when that is known.
    pub source: Option<ImageSource>,
}

/// The tags of the store with the images that they name, sorted by tag. A tag whose image is
/// damaged or gone is left out, with a warning.
///
/// # Errors
/// The store fails.
pub fn list(context: &Context) -> Result<Vec<ImageEntry>, Failure> {
    let store = context.store()?;
    store
        .tags()?
        .into_iter()
        .filter_map(|(tag, image)| match image_config(&store, &image) {
            Ok(config) => Some((tag, image, config)),
            Err(error) => {
                let message =
                    format!("{tag} cannot be read: {error}; build it again, or remove it");
                context.emit(Event::Warning { message });
                None
            }
        })
        .map(|(tag, image, config)| {
            let record = ImageRecord::of(context, &image);
            Ok(ImageEntry {
                created: record.as_ref().map(|record| record.created),
                source: record.map(|record| record.source),
                tag: tag.as_str().to_owned(),
                image,
                stored_size: stored_size(&store, &config),
                name: config.template.name.into(),
                recipe: config.template.recipe.name.into(),
                recipe_version: config.template.recipe.version.map(Into::into),
                description: config.template.description.map(Into::into),
                architecture: config.template.architecture.into(),
                disk_size: config.disk.size,
            })
        })
        .collect()
}

/// The tags of the store, sorted.
///
/// # Errors
/// The store fails.
pub fn tags(context: &Context) -> Result<Vec<TagName>, Failure> {
    let tags = context.store()?.tags()?.into_iter();
    Ok(tags.map(|(tag, _)| tag).collect())
}

/// An image that a user named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundImage {
    pub image: ObjectId,
    /// All tags that name it, without `@`.
    pub tags: Vec<String>,
    pub config: ImageConfig,
    /// See [`ImageEntry::stored_size`].
    pub stored_size: u64,
    /// See [`ImageEntry::created`].
    pub created: Option<u64>,
    /// See [`ImageEntry::source`].
    pub source: Option<ImageSource>,
}

impl FoundImage {
    /// What people call it: its first tag, or the first digits of its id.
    #[must_use]
    pub fn display_name(&self) -> String {
        let tag = self.tags.first();
        tag.map_or_else(|| self.image.short(), |tag| format!("@{tag}"))
    }
}

/// Finds an image by `@tag`, `tag`, or the first digits of its id. Of images that begin alike those
/// with tags are meant.
///
/// # Errors
/// There is none, or there are several.
pub fn find(context: &Context, name: &str) -> Result<FoundImage, Failure> {
    let store = context.store()?;
    let tags = store.tags()?;
    let image = resolve(&store, &tags, name)?;
    let config = image_config(&store, &image)?;
    let record = ImageRecord::of(context, &image);
    Ok(FoundImage {
        image,
        created: record.as_ref().map(|record| record.created),
        source: record.map(|record| record.source),
        tags: tags
            .iter()
            .filter(|(_, other)| *other == image)
            .map(|(tag, _)| tag.as_str().to_owned())
            .collect(),
        stored_size: stored_size(&store, &config),
        config,
    })
}

fn resolve(store: &Store, tags: &[(TagName, ObjectId)], name: &str) -> Result<ObjectId, Failure> {
    let bare = name.strip_prefix('@').unwrap_or(name);
    if let Some((_, image)) = tags.iter().find(|(tag, _)| tag.as_str() == bare) {
        return Ok(*image);
    }
    let is_id = !name.starts_with('@')
        && name.len() >= SHORTEST_ID
        && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id {
        let digits = name.to_ascii_lowercase();
        let mut matches: Vec<ObjectId> = tags
            .iter()
            .map(|(_, image)| *image)
            .filter(|image| image.to_string().starts_with(&digits))
            .collect();
        if matches.is_empty() {
            matches = untagged(store, &digits)?;
        }
        matches.sort_unstable();
        matches.dedup();
        match (matches.as_slice(), digits.parse::<ObjectId>()) {
            ([one], _) => return Ok(*one),
            // One that is damaged is not one that is gone.
            ([], Ok(id)) => match store.open_object(&id) {
                Ok(_) => return Ok(id),
                Err(StoreError::NoObject(_)) => {}
                Err(error) => return Err(error.into()),
            },
            ([], Err(_)) => {}
            (several, _) => {
                let ids: Vec<_> = several.iter().map(ObjectId::short).collect();
                return Err(
                    Failure::usage(format!("several images begin with \"{name}\""))
                        .with_help(format!("give more digits: {}", ids.join(", "))),
                );
            }
        }
    }
    let known = tags.iter().map(|(tag, _)| tag.as_str());
    Err(Failure::not_found("image", bare, known).or_help("vmfab images lists the images"))
}

/// The images in the store whose ids begin with these digits, whether they have tags or not:
/// objects that are configs.
fn untagged(store: &Store, digits: &str) -> Result<Vec<ObjectId>, Failure> {
    let mut images = Vec::new();
    for id in store.objects_beginning(digits, usize::MAX)? {
        let small = store
            .open_object(&id)
            .is_ok_and(|object| object.size() <= MAX_CONFIG);
        // A damaged one is named by its digits, too: what is wrong with it is said when it is read.
        if small && image_config(store, &id).is_ok() || digits.len() == id.to_string().len() {
            images.push(id);
        }
    }
    Ok(images)
}

/// Makes tags name an image.
///
/// # Errors
/// The image is not there, or the store fails.
pub fn tag(context: &Context, name: &str, tags: &[TagName]) -> Result<FoundImage, Failure> {
    let found = find(context, name)?;
    let store = context.store()?;
    for tag in tags {
        store.put_tag(tag, &found.image)?;
    }
    context.record(&Deed::ImageTagged {
        image: found.image.to_string(),
        tags: tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
    });
    find(context, &found.image.to_string())
}

/// Removes tags; the images stay in the store. All of them or none.
///
/// # Errors
/// One of them is not there, or the store fails.
pub fn untag(context: &Context, tags: &[TagName]) -> Result<Vec<(TagName, ObjectId)>, Failure> {
    let store = context.store()?;
    let all = store.tags()?;
    let removed: Vec<_> = tags
        .iter()
        .map(|tag| {
            let image = all.iter().find(|(other, _)| other == tag);
            image.cloned().ok_or_else(|| {
                let known = all.iter().map(|(other, _)| other.as_str());
                Failure::not_found("tag", tag.as_str(), known)
            })
        })
        .collect::<Result<_, _>>()?;
    for (tag, image) in &removed {
        store.remove_tag(tag)?;
        context.record(&Deed::ImageUntagged {
            image: image.to_string(),
            tag: tag.as_str().to_owned(),
        });
    }
    Ok(removed)
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerEntry {
    pub layer: ObjectId,
    /// The step that made it, when a build on this host did.
    pub step: Option<String>,
    /// Its size in bytes, as a tar.
    pub size: u64,
    /// Whether it is in the store.
    pub present: bool,
}

/// The layers of an image, lowest first.
///
/// # Errors
/// The image is not there, or the store fails.
pub fn history(context: &Context, name: &str) -> Result<Vec<LayerEntry>, Failure> {
    layers(context, &find(context, name)?)
}

/// The same of an image that was found.
pub(super) fn layers(context: &Context, found: &FoundImage) -> Result<Vec<LayerEntry>, Failure> {
    let store = context.store()?;
    // Layers of a base that has a tag were made by the build of that one.
    let own = ImageRecord::of(context, &found.image);
    let steps = own.into_iter().chain(ImageRecord::all(context));
    let steps: Vec<LayerStep> = steps.flat_map(|record| record.steps).collect();
    let step = |layer: &ObjectId| steps.iter().find(|step| step.layer == *layer);
    let layers = found.config.layers.iter();
    Ok(layers
        .map(|layer| LayerEntry {
            step: step(&layer.id).map(|step| step.step.clone()),
            layer: layer.id,
            size: layer.size,
            present: store.has_object(layer),
        })
        .collect())
}

fn stored_size(store: &Store, config: &ImageConfig) -> u64 {
    let objects = [
        Some(&config.disk),
        config.kernel.as_ref(),
        config.initrd.as_ref(),
    ];
    objects
        .into_iter()
        .flatten()
        .map(|object: &ObjectRef| store.stored_size(&object.id).unwrap_or(0))
        .sum()
}

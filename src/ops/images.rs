//! Images in the store: listing, finding, tagging.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::{Context, Error, recipes};
use crate::digest::{ObjectId, ObjectRef};
use crate::event::Event;
use crate::image::ImageConfig;
use crate::recipe::{self, Files as _};
use crate::store::{Store, StoreError, TagName};

/// The fewest digits of an image's id that name it.
const SHORTEST_ID: usize = 4;

/// An image of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageEntry {
    /// The tag, without `@`.
    pub tag: String,
    /// The image.
    pub image: ObjectId,
    /// Its name in the recipe.
    pub name: String,
    /// The recipe.
    pub recipe: String,
    /// The recipe's version.
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
}

/// The tags of the store with the images that they name, sorted by tag. A tag whose image is damaged
/// or gone is left out, with a warning.
///
/// # Errors
/// The store fails.
pub fn list(context: &Context) -> Result<Vec<ImageEntry>, Error> {
    let store = context.store()?;
    store
        .tags()?
        .into_iter()
        .filter_map(|(tag, image)| match config(&store, &image) {
            Ok(config) => Some((tag, image, config)),
            Err(error) => {
                let message =
                    format!("{tag} cannot be read: {error}; build it again, or remove it");
                context.emit(Event::Warning { message });
                None
            }
        })
        .map(|(tag, image, config)| {
            Ok(ImageEntry {
                tag: tag.as_str().to_owned(),
                image,
                name: config.template.name.clone(),
                recipe: config.template.recipe.name.clone(),
                recipe_version: config.template.recipe.version.clone(),
                description: config.template.description.clone(),
                architecture: config.template.architecture.clone(),
                disk_size: config.disk.size,
                stored_size: stored_size(&store, &config),
            })
        })
        .collect()
}

/// A recipe of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AvailableRecipe {
    /// The name to build it by.
    pub name: String,
    /// What it is.
    pub description: String,
    /// Its file, when it is one of the user's and not built in.
    pub file: Option<PathBuf>,
}

/// The recipes of the catalogue, sorted by name: those of the user's directory, and the built-in ones
/// that none of them stands before.
///
/// # Errors
/// A recipe of the user's is wrong.
pub fn available(context: &Context) -> Result<Vec<AvailableRecipe>, Error> {
    let files = recipes::files(context);
    let mut found = BTreeMap::new();
    for built_in in recipe::catalogue() {
        let available = AvailableRecipe {
            name: built_in.name.to_owned(),
            description: built_in.description.to_owned(),
            file: None,
        };
        found.insert(built_in.name.to_owned(), available);
    }
    for (name, path) in files.catalogue() {
        let loaded = recipe::load(&path, &files, &BTreeMap::new()).map_err(Error::recipe)?;
        let available = AvailableRecipe {
            name: name.clone(),
            description: loaded.recipe.description.clone().unwrap_or_default(),
            file: Some(path),
        };
        found.insert(name, available);
    }
    Ok(found.into_values().collect())
}

/// An image that a user named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundImage {
    /// The image.
    pub image: ObjectId,
    /// All tags that name it, without `@`.
    pub tags: Vec<String>,
    /// Its config.
    pub config: ImageConfig,
    /// See [`ImageEntry::stored_size`].
    pub stored_size: u64,
}

/// Finds an image by `@tag`, `tag`, or the first digits of the id of a tagged image (or all of any
/// image's).
///
/// # Errors
/// There is none, or there are several.
pub fn find(context: &Context, name: &str) -> Result<FoundImage, Error> {
    let store = context.store()?;
    let tags = store.tags()?;
    let image = resolve(&store, &tags, name)?;
    let config = config(&store, &image)?;
    Ok(FoundImage {
        image,
        tags: tags
            .iter()
            .filter(|(_, other)| *other == image)
            .map(|(tag, _)| tag.as_str().to_owned())
            .collect(),
        stored_size: stored_size(&store, &config),
        config,
    })
}

fn resolve(store: &Store, tags: &[(TagName, ObjectId)], name: &str) -> Result<ObjectId, Error> {
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
        matches.sort_unstable();
        matches.dedup();
        match (matches.as_slice(), digits.parse::<ObjectId>()) {
            ([one], _) => return Ok(*one),
            ([], Ok(id)) => match store.open_object(&id) {
                Ok(_) => return Ok(id),
                Err(StoreError::NoObject(_)) => {}
                Err(error) => return Err(error.into()),
            },
            ([], Err(_)) => {}
            (several, _) => {
                let ids: Vec<_> = several.iter().map(ObjectId::short).collect();
                return Err(Error::Usage {
                    message: format!("\"{name}\" is the beginning of several images"),
                    help: Some(format!("give more digits: {}", ids.join(", "))),
                });
            }
        }
    }
    let known = tags.iter().map(|(tag, _)| tag.as_str());
    Err(match Error::not_found("image", bare, known) {
        Error::NotFound {
            noun,
            name,
            help: None,
        } => Error::NotFound {
            noun,
            name,
            help: Some("vmfab images lists what there is".to_owned()),
        },
        other => other,
    })
}

/// Makes tags name an image.
///
/// # Errors
/// The image is not there, or the store fails.
pub fn tag(context: &Context, name: &str, tags: &[TagName]) -> Result<FoundImage, Error> {
    let found = find(context, name)?;
    let store = context.store()?;
    for tag in tags {
        store.put_tag(tag, &found.image)?;
    }
    find(context, &found.image.to_string())
}

/// Removes tags; the images stay in the store. All of them or none.
///
/// # Errors
/// One of them is not there, or the store fails.
pub fn untag(context: &Context, tags: &[TagName]) -> Result<Vec<(TagName, ObjectId)>, Error> {
    let store = context.store()?;
    let all = store.tags()?;
    let removed: Vec<_> = tags
        .iter()
        .map(|tag| {
            let image = all.iter().find(|(other, _)| other == tag);
            image.cloned().ok_or_else(|| {
                let known = all.iter().map(|(other, _)| other.as_str());
                Error::not_found("tag", tag.as_str(), known)
            })
        })
        .collect::<Result<_, _>>()?;
    for (tag, _) in &removed {
        store.remove_tag(tag)?;
    }
    Ok(removed)
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerEntry {
    /// The layer.
    pub layer: ObjectId,
    /// Its size in bytes, as a tar.
    pub size: u64,
    /// Whether it is in the store.
    pub present: bool,
}

/// The layers of an image, lowest first.
///
/// # Errors
/// The image is not there, or the store fails.
pub fn history(context: &Context, name: &str) -> Result<Vec<LayerEntry>, Error> {
    let store = context.store()?;
    let layers = find(context, name)?.config.layers;
    Ok(layers
        .iter()
        .map(|layer| LayerEntry {
            layer: layer.id,
            size: layer.size,
            present: store.has_object(layer),
        })
        .collect())
}

/// The config of an image.
pub(super) fn config(store: &Store, image: &ObjectId) -> Result<ImageConfig, Error> {
    let bytes = store.read_object(image)?;
    ImageConfig::from_bytes(&bytes).map_err(|error| Error::Verification {
        message: format!("object {} is {error}", image.short()),
        help: None,
    })
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

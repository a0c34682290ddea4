//! What takes space.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::Context;
use super::{Part, parts, stale};
use crate::digest::ObjectId;
use crate::failure::Failure;
use crate::store::{GroupUsage, Store, Usage};
use crate::world::image_config;

/// What takes space in a home. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stat {
    pub store: PathBuf,
    #[serde(flatten)]
    pub usage: Usage,
    /// Images that tags name, by their first tag.
    pub images: Vec<ImageUsage>,
    pub roots: Vec<RootUsage>,
    /// What can be deleted and made again.
    pub caches: Caches,
}

/// What an image takes: config, disk, kernel, initrd and layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageUsage {
    /// Its tags, without `@`.
    pub tags: Vec<String>,
    pub image: ObjectId,
    /// What it takes.
    #[serde(flatten)]
    pub usage: GroupUsage,
    /// How many of its layers are not here: those of an image that was pulled usually are not, and
    /// it boots all the same.
    pub without_layers: usize,
}

/// What a root keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RootUsage {
    pub name: String,
    /// How many objects it keeps.
    pub objects: usize,
    /// What they take.
    #[serde(flatten)]
    pub usage: GroupUsage,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Caches {
    /// Disks of images as files.
    pub disks: CacheUsage,
    /// Unpacked layers. Files that this user may not see are left out.
    pub layers: CacheUsage,
    /// Directories that steps of Dockerfiles share. Files that this user may not see are left out.
    pub mounts: CacheUsage,
    /// Downloads that are not finished, of pulls and builds.
    pub downloads: Downloads,
}

/// What pulls and builds have fetched in part, or made to be sent. The same command goes on from
/// downloads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Downloads {
    /// Where they are.
    pub directory: PathBuf,
    /// What they take.
    #[serde(flatten)]
    pub usage: CacheUsage,
    /// Bytes of it that `store gc` would remove: nobody went on with them for long.
    pub old: u64,
}

/// What a cache takes on the host's disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CacheUsage {
    pub files: u64,
    /// Bytes that are allocated.
    pub bytes: u64,
}

/// What takes space in the store and in the caches.
///
/// # Errors
/// The store fails.
pub fn stat(context: &Context) -> Result<Stat, Failure> {
    let store = context.store()?;
    let mut images: BTreeMap<ObjectId, Vec<String>> = BTreeMap::new();
    for (tag, image) in store.tags()? {
        images
            .entry(image)
            .or_default()
            .push(tag.as_str().to_owned());
    }
    let roots = store.roots()?;
    let (members, without_layers): (Vec<_>, Vec<_>) =
        images.keys().map(|image| members(&store, image)).unzip();
    let roots_of = roots.iter().map(|(_, objects)| objects.clone());
    let groups: Vec<Vec<ObjectId>> = members.into_iter().chain(roots_of).collect();
    let (usage, groups) = store.usage(&groups)?;
    let mut groups = groups.into_iter();
    let mut images: Vec<ImageUsage> = images
        .into_iter()
        .zip(&mut groups)
        .zip(without_layers)
        .map(|(((image, tags), usage), without_layers)| ImageUsage {
            tags,
            image,
            usage,
            without_layers,
        })
        .collect();
    images.sort_by(|a, b| a.tags.cmp(&b.tags));
    Ok(Stat {
        store: store.root().to_owned(),
        usage,
        images,
        roots: roots
            .into_iter()
            .zip(groups)
            .map(|((name, objects), usage)| RootUsage {
                name: name.as_str().to_owned(),
                objects: objects.len(),
                usage,
            })
            .collect(),
        caches: Caches {
            disks: cache(&context.home.disk_cache()),
            layers: cache(&context.home.layer_cache()),
            mounts: cache(&context.home.cache_mounts()),
            downloads: stale::downloads(context.home.downloads()),
        },
    })
}

/// The objects of an image, as far as its config can be read, but for layers that are not here; and
/// how many those are.
fn members(store: &Store, image: &ObjectId) -> (Vec<ObjectId>, usize) {
    let mut members = vec![*image];
    let Ok(config) = image_config(store, image) else {
        return (members, 0);
    };
    let layers = config.layers.iter();
    let absent: Vec<ObjectId> = layers
        .filter(|layer| !store.has_object(layer))
        .map(|layer| layer.id)
        .collect();
    let all = parts(&config).into_iter();
    members.extend(all.filter_map(|(part, object)| {
        let left_out = part == Part::Layer && absent.contains(&object);
        (!left_out).then_some(object)
    }));
    (members, absent.len())
}

/// What is below a directory. What cannot be seen counts nothing.
fn cache(directory: &Path) -> CacheUsage {
    let mut usage = CacheUsage::default();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else {
                continue;
            };
            usage.bytes += allocated(&meta);
            if meta.is_dir() {
                directories.push(entry.path());
            } else {
                usage.files += 1;
            }
        }
    }
    usage
}

/// Bytes that a file takes on the host's disk.
pub(super) fn allocated(meta: &Metadata) -> u64 {
    meta.blocks() * 512
}

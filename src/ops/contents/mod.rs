//! What takes the space of an image, and what differs between two.

mod diff;
mod sbom;
mod updates;

use ext4_view::Ext4;
use serde::Serialize;

use super::Context;
use super::images::{self, FoundImage};
use crate::checked::GuestPath;
use crate::contents::{
    Files, LayerUse, Layers, Limits, Node, Package, Wasted, of_disk, packages_of,
};
use crate::digest::ObjectId;
use crate::disk::open_root;
use crate::failure::Failure;

pub use sbom::{BillFormat, BillOfMaterials, Material, sbom};

pub use updates::{Update, Updates, updates};

pub use diff::{ImageDiff, PackageChange, SideOfDiff, diff};

/// What to show of an image.
#[derive(Debug, Clone)]
pub struct TreeOptions {
    /// Tag, or first digits of an id.
    pub image: String,
    /// The directory to begin with.
    pub directory: Option<GuestPath>,
    /// How much of it; `top` is also that of packages and wasted files.
    pub limits: Limits,
}

/// What takes the space of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageTree {
    pub image: ObjectId,
    /// Its tag, or the first digits of its id.
    pub name: String,
    /// The directory that was asked for, the largest entries first.
    pub tree: Node,
    /// The lowest first; empty when the image has none, or not all are in the store.
    pub layers: Vec<LayerSize>,
    /// Bytes of files that later layers remove or replace.
    pub wasted_size: u64,
    /// How many such files there are.
    pub wasted_count: usize,
    /// The largest of them.
    pub wasted: Vec<Wasted>,
    /// Bytes of all packages, as their databases say.
    pub packages_size: u64,
    pub packages_count: usize,
    /// The largest of them.
    pub packages: Vec<Package>,
    /// What is not shown, and why.
    pub notes: Vec<String>,
}

/// A layer, and what it brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerSize {
    pub layer: ObjectId,
    /// The step that made it, when a build on this host did.
    pub step: Option<String>,
    #[serde(flatten)]
    pub uses: LayerUse,
}

/// Adds up what takes the space of an image.
///
/// # Errors
/// The image or directory does not exist, a layer is damaged, or the image has neither layers nor
/// an ext4 file system.
pub fn tree(context: &Context, options: &TreeOptions) -> Result<ImageTree, Failure> {
    let found = images::find(context, &options.image)?;
    let name = found.display_name();
    let mut notes = Vec::new();
    let layers = of_layers(context, &found, &mut notes)?;
    let root = root(context, &found)?;
    let on_disk;
    let files = match (&layers, &root) {
        (Some((layers, _)), _) => layers.files(),
        (None, Some(root)) => {
            on_disk = of_disk(root).map_err(unreadable(&name))?;
            &on_disk
        }
        (None, None) => return Err(no_ext4(&name)),
    };
    let packages = match &root {
        Some(root) => {
            let (packages, more) = packages_of(root).map_err(unreadable(&name))?;
            notes.extend(more);
            packages
        }
        None => {
            notes.push("packages are unknown: the disk has no ext4 file system".to_owned());
            Vec::new()
        }
    };
    let wasted = layers
        .as_ref()
        .map_or_else(Vec::new, |(layers, _)| layers.wasted());
    let mut tree = ImageTree {
        image: found.image,
        tree: directory(files, options, &name)?,
        wasted_size: wasted.iter().map(|one| one.size).sum(),
        wasted_count: wasted.len(),
        wasted,
        packages_size: packages.iter().map(|one| one.size).sum(),
        packages_count: packages.len(),
        packages,
        layers: layers.map_or_else(Vec::new, |(_, sizes)| sizes),
        name,
        notes,
    };
    tree.packages.sort_by_key(|one| std::cmp::Reverse(one.size));
    tree.packages.truncate(options.limits.top);
    tree.wasted.truncate(options.limits.top);
    Ok(tree)
}

fn directory(files: &Files, options: &TreeOptions, name: &str) -> Result<Node, Failure> {
    let path = options.directory.as_deref().unwrap_or("/");
    let bytes = path.trim_matches('/').as_bytes();
    let node = files.tree(bytes, options.limits);
    let node = node.ok_or_else(|| Failure::unknown(&format!("path in {name}"), path))?;
    Ok(Node {
        name: path.to_owned(),
        ..node
    })
}

/// The layers of an image over each other; nothing when it has none, or not all of them are there.
fn of_layers(
    context: &Context,
    found: &FoundImage,
    notes: &mut Vec<String>,
) -> Result<Option<(Layers, Vec<LayerSize>)>, Failure> {
    let store = context.store()?;
    let entries = images::layers(context, found)?;
    if entries.is_empty() {
        notes.push(
            "the disk was made elsewhere: there are no layers, so wasted space is unknown"
                .to_owned(),
        );
        return Ok(None);
    }
    let missing = entries.iter().filter(|layer| !layer.present).count();
    if missing > 0 {
        notes.push(format!(
            "{missing} of {} layers are not in the store: sizes are those of the disk, and wasted \
             space is unknown",
            entries.len()
        ));
        return Ok(None);
    }
    let mut layers = Layers::default();
    for entry in &entries {
        layers
            .put(store.open_object(&entry.layer)?)
            .map_err(|error| {
                Failure::failed(format!("read layer {}: {error}", entry.layer.short()))
            })?;
    }
    let sizes = entries.into_iter().zip(layers.layers());
    let sizes = sizes
        .map(|(entry, uses)| LayerSize {
            layer: entry.layer,
            step: entry.step,
            uses: *uses,
        })
        .collect();
    Ok(Some((layers, sizes)))
}

/// The root file system of an image; nothing when it is not ext4.
fn root(context: &Context, found: &FoundImage) -> Result<Option<Ext4>, Failure> {
    let disk = context.store()?.open_object(&found.config.disk.id)?;
    open_root(disk).map_err(|error| {
        Failure::failed(format!(
            "read the disk of {}: {error}",
            found.display_name()
        ))
    })
}

fn unreadable(name: &str) -> impl Fn(Box<dyn std::error::Error + Send + Sync>) -> Failure {
    move |error| Failure::failed(format!("read the files of {name}: {error}"))
}

fn no_ext4(name: &str) -> Failure {
    Failure::failed(format!("the disk of {name} has no ext4 file system")).with_help(format!(
        "vmfab reads files and packages of ext2, ext3 and ext4 only; vmfab image inspect {name} \
         shows the sizes of the disk"
    ))
}

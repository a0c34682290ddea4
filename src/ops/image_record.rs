//! When and how each image came to this host: what is kept beside an image, outside its id.
//!
//! One small JSON file for each image below `log/images`. Equal images have one id, however they
//! were made; what differs between them is here. A lost file loses dates and names of steps, and
//! nothing else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::Context;
use crate::derivation::{Graph, Outputs};
use crate::digest::ObjectId;
use crate::host::file;
use crate::image::ContainerRef;
use crate::registry::Location;

/// What is known of an image on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ImageRecord {
    /// When the image came to this host, in seconds since 1970.
    pub(super) created: u64,
    /// How it came.
    pub(super) source: ImageSource,
    /// The container image that it was made of, if its user asked for it as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) container: Option<ContainerRef>,
    /// The steps that made its layers; empty for images that were not built here.
    #[serde(default)]
    pub(super) steps: Vec<LayerStep>,
}

/// How an image came to this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum ImageSource {
    /// It was built here.
    Built {
        /// Path of the recipe, or the name of a built-in one.
        recipe: String,
    },
    /// It was pulled from a registry.
    Pulled {
        /// The registry, repository and tag or digest.
        reference: String,
    },
    /// It was made of a machine.
    Committed {
        /// The machine's name.
        machine: String,
        /// The image that the machine was of.
        base: ObjectId,
    },
    /// It was pulled from a local layout or archive.
    Imported {
        /// The layout or archive.
        from: String,
    },
}

/// The step that made a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LayerStep {
    pub(super) layer: ObjectId,
    /// The label of the step.
    pub(super) step: String,
}

impl ImageSource {
    /// The source of an image that was pulled from `location`, which users know as `name`.
    pub(super) fn pulled(location: &Location, name: &str) -> Self {
        match location {
            Location::Registry(_) => Self::Pulled {
                reference: name.to_owned(),
            },
            _ => Self::Imported {
                from: name.to_owned(),
            },
        }
    }
}

impl ImageRecord {
    /// The record of an image that came to this host now.
    pub(super) fn now(source: ImageSource) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            created: now.map_or(0, |now| now.as_secs()),
            source,
            container: None,
            steps: Vec::new(),
        }
    }

    /// The same with the steps of a graph that made layers; `outputs` by index.
    pub(super) fn with_steps(mut self, graph: &Graph, outputs: &[Option<Outputs>]) -> Self {
        for (derivation, outputs) in graph.nodes().iter().zip(outputs) {
            if let Some(layer) = outputs.as_ref().and_then(|outputs| outputs.get("layer")) {
                self.steps.push(LayerStep {
                    layer: layer.id,
                    step: derivation.name.clone(),
                });
            }
        }
        self
    }

    /// Keeps this record of an image unless there is an older one. What cannot be written is not
    /// known later, and no more.
    pub(super) fn keep(&self, context: &Context, image: &ObjectId) {
        if Self::of(context, image).is_none() {
            self.replace(context, image);
        }
    }

    /// Keeps this record of an image in place of an older one.
    pub(super) fn replace(&self, context: &Context, image: &ObjectId) {
        let _ = self.write(&path(context, image));
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        file::cache(path, &serde_json::to_vec(self)?)
    }

    /// The record of an image; `None` when there is none that can be read.
    pub(super) fn of(context: &Context, image: &ObjectId) -> Option<Self> {
        read(&path(context, image))
    }

    /// The records of all images.
    pub(super) fn all(context: &Context) -> Vec<Self> {
        let entries = fs::read_dir(context.home.image_records());
        let paths = entries.into_iter().flatten().flatten();
        paths.filter_map(|entry| read(&entry.path())).collect()
    }
}

/// The images that have a record.
pub(super) fn images(context: &Context) -> impl Iterator<Item = ObjectId> {
    let entries = fs::read_dir(context.home.image_records());
    let paths = entries.into_iter().flatten().flatten().map(|e| e.path());
    paths.filter_map(|path| path.file_stem()?.to_str()?.parse().ok())
}

fn read(path: &Path) -> Option<ImageRecord> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn path(context: &Context, image: &ObjectId) -> PathBuf {
    context.home.image_records().join(format!("{image}.json"))
}

/// Removes the records of images for which `gone` holds.
pub(super) fn sweep(context: &Context, gone: impl Fn(&ObjectId) -> bool) {
    for image in images(context).filter(gone) {
        let _ = fs::remove_file(path(context, &image));
    }
}

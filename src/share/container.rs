//! The tree of an image as an ordinary container image, which container engines run.
//!
//! ```text
//! config     architecture, what to run and how, rootfs, history
//! layers     those of the image that are its container's, gzip-compressed tars
//! ```
//!
//! An image that was no container gives all its layers but that of the `system` step, which is for
//! machines only. All bytes follow from the image.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;

use serde_json::json;

use super::containerdisk::about;
use super::layer_file::{CREATED, LAYER, LayerFile, not_written};
use crate::digest::{ObjectRef, Sha256};
use crate::failure::Failure;
use crate::host::Interrupt;
use crate::image::{ContainerConfig, ContainerTree, HistoryEntry, ImageConfig, MadeFrom};
use crate::registry::{self, Blob, Descriptor, Manifest, Platform, media};
use crate::store::Store;
use crate::tarball;

/// A container image whose layers are being made.
pub struct Container<'a> {
    image: &'a ImageConfig,
    tree: ContainerTree,
    diff_ids: Vec<String>,
    layers: Vec<Descriptor>,
}

impl<'a> Container<'a> {
    /// The container of an image; `None` when it has no layers.
    #[must_use]
    pub fn of(image: &'a ImageConfig) -> Option<Self> {
        if image.made_from() == MadeFrom::Disk {
            return None;
        }
        let own = image.template.container.clone();
        let tree = own.unwrap_or_else(|| whole_tree(image));
        // The config may come from anywhere.
        (tree.layers <= image.layers.len()).then(|| Self {
            image,
            tree,
            diff_ids: Vec::new(),
            layers: Vec::new(),
        })
    }

    /// The objects of its layers, lowest first.
    #[must_use]
    pub fn objects(&self) -> &'a [ObjectRef] {
        &self.image.layers[..self.tree.layers]
    }

    /// Adds the next layer, which [`layer`] made.
    pub fn add(&mut self, blob: &Blob, diff_id: &Sha256) {
        self.layers.push(registry::descriptor(LAYER, blob));
        self.diff_ids.push(format!("sha256:{diff_id}"));
    }

    /// The manifest and the config, after all layers.
    #[must_use]
    pub fn finish(self, annotations: &BTreeMap<String, String>) -> (Manifest, Vec<u8>) {
        let config = config(
            &self.image.template.architecture,
            &self.tree,
            &self.diff_ids,
        );
        let mut about = about(self.image);
        about.extend(annotations.clone());
        let descriptor = registry::descriptor(media::CONFIG, &Blob::of(&config));
        let manifest = registry::manifest(None, descriptor, self.layers, about);
        (manifest, config)
    }
}

/// The config of a container image with these layers. All bytes follow from the arguments.
#[must_use]
pub fn config(architecture: &str, tree: &ContainerTree, diff_ids: &[String]) -> Vec<u8> {
    let platform = Platform::linux(architecture);
    let of_layers = tree.history.iter().filter(|entry| !entry.empty_layer);
    let history = match of_layers.count() == diff_ids.len() {
        true => tree.history.clone(),
        false => vec![HistoryEntry::layer("vmfab"); diff_ids.len()],
    };
    let history = history.iter().map(|entry| {
        let mut entry = serde_json::to_value(entry).expect("history serialises to JSON");
        entry["created"] = CREATED.into();
        entry
    });
    let mut config = json!({
        "created": CREATED,
        "architecture": platform.architecture,
        "os": platform.os,
        "config": tree.config,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": history.collect::<Vec<_>>(),
    });
    if let Some(author) = &tree.author {
        config["author"] = author.to_string().into();
    }
    config.to_string().into_bytes()
}

/// The tree of an image that was no container, without the layer of `system`.
fn whole_tree(image: &ImageConfig) -> ContainerTree {
    let mut config = ContainerConfig::default();
    for (name, value) in &image.template.env {
        config.set_env(name, value);
    }
    ContainerTree {
        config,
        author: None,
        layers: image.layers.len() - 1,
        history: Vec::new(),
    }
}

/// Makes a layer of an object, in a file below `directory`, and gives the SHA-256 of its tar.
///
/// # Errors
/// The object is not in the store, has names that container images cannot hold, the file cannot be
/// written, or the user gives up.
pub fn layer(
    store: &Store,
    object: &ObjectRef,
    directory: &Path,
    interrupt: &Interrupt,
) -> Result<(LayerFile, Sha256), Failure> {
    LayerFile::make(directory, interrupt, |mut out| {
        let reader = store.open_object(&object.id)?;
        copy(reader, &mut out, interrupt)?;
        Ok(out)
    })
}

/// Copies a tar as it is, and looks at its members on the way.
///
/// # Errors
/// It has names that container images cannot hold, it cannot be read or written, or the user gives up.
pub fn copy<W: Write>(
    reader: impl Read,
    out: &mut W,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let mut copy = Copying {
        reader,
        out,
        interrupt,
    };
    let mut archive = tarball::Reader::new(&mut copy);
    while let Some(member) = archive.member().map_err(not_written)? {
        // What vmfab's own layers say of such names, other readers do not know.
        if !member.note.is_empty() {
            return Err(Failure::failed(format!(
                "the tree has a file called {}, which container images take for the removal of one",
                member.name()
            )));
        }
    }
    io::copy(&mut copy, &mut io::sink()).map_err(not_written)?;
    Ok(())
}

/// Gives what it reads, and writes it.
struct Copying<'a, R, W> {
    reader: R,
    out: &'a mut W,
    interrupt: &'a Interrupt,
}

impl<R: Read, W: Write> Read for Copying<'_, R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.interrupt.requested() {
            return Err(io::Error::other("interrupted"));
        }
        let count = self.reader.read(buffer)?;
        self.out.write_all(&buffer[..count])?;
        Ok(count)
    }
}

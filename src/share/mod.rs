//! Images and results of steps as OCI artifacts: pushed, pulled, found again
//! (`store-format/oci-mapping.md`).
//!
//! ```text
//! objects ── layout ──► packs, list of objects ── artifact ──► manifest ──► Repository     push/
//!  store ◄── packs, ranges ◄── objects ◄── artifact ◄── manifest ◄────────── Repository     pull.rs
//! ```
//!
//! `find.rs` tells what is under a tag. `distribution.rs` decides which chunks go into which packs,
//! `objects.rs` and `artifact.rs` are the formats (all pure); `memory.rs` remembers which packs are
//! in which repository. `lazy/` reads a disk that is only partly here, in the order of `boot_order.rs`. `attached.rs` publishes
//! documents about a manifest. `published/` tells what others publish, `container.rs` makes of an image
//! what container engines run, `containerdisk.rs` what KubeVirt runs.

mod artifact;
mod attached;
mod boot_order;
pub mod container;
pub mod containerdisk;
mod distribution;
mod error;
mod find;
mod layer_file;
mod lazy;
mod memory;
mod objects;
mod parts;
pub mod published;
mod pull;
mod push;
mod results;
mod snapshot_file;
mod tables;
#[cfg(test)]
mod tests;
mod work;

use std::path::PathBuf;

pub use artifact::{Artifact, IMAGE, LAYERS, PackRef, RESULT};
pub use attached::{
    ATTESTATION, Attachment, ENVELOPE, SIGNATURE, SSH_SIGNATURE, attach, attached,
    cosign_signatures,
};
pub use boot_order::{BootOrder, Reads};
pub use error::ShareError;
pub use find::Published;
pub use layer_file::{CREATED, Hashing, LayerFile};
pub use lazy::{PartialDisk, Shelf};
pub use memory::Memory;
pub use pull::Pulled;
pub use push::{Bundle, PushOptions, Pushed, RESULT_TAG, Target};
pub use results::{Results, ResultsOptions};
pub use snapshot_file::{
    SnapshotContent, SnapshotFile, SnapshotKind, SnapshotManifest, read_snapshot,
};
pub use work::Task;

use crate::event::Sink;
use crate::host::Interrupt;
use crate::store::Store;

/// Who pushes and pulls.
pub struct Sharing<'a> {
    /// Where objects are and go.
    pub store: &'a Store,
    /// Where packs are while they are received.
    pub downloads: PathBuf,
    /// What was seen of repositories.
    pub memory: Memory,
    /// Where progress goes.
    pub sink: &'a dyn Sink,
    /// Tells when the user gave up.
    pub interrupt: &'a Interrupt,
    /// How many blobs are moved at once.
    pub parallel: usize,
}

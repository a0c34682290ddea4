//! What is recorded.

use serde::Serialize;

/// Something that was done in a home. Ids and digests are written in full; there is no place here
/// for a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "deed", rename_all = "kebab-case")]
pub enum Deed {
    /// A build ran steps, or moved a tag.
    ImageBuilt {
        image: String,
        /// The recipe's file, or the name of one that comes with vmfab.
        recipe: String,
        tags: Vec<String>,
        /// Steps that ran.
        steps: usize,
    },
    ImagePulled {
        image: String,
        from: String,
        /// Of the manifest.
        digest: String,
        tags: Vec<String>,
    },
    /// To a registry, a layout or an archive.
    ImagePushed {
        image: String,
        to: String,
        /// Of what the tag names now.
        digest: String,
    },
    /// A disk was written to a file.
    DiskExported {
        /// The disk's object.
        disk: String,
        to: String,
        format: String,
    },
    /// An image was made of a machine.
    ImageCommitted {
        image: String,
        machine: String,
        base: String,
        tag: String,
    },
    ImageTagged {
        image: String,
        tags: Vec<String>,
    },
    ImageUntagged {
        image: String,
        tag: String,
    },
    SnapshotExported {
        snapshot: String,
        to: String,
    },
    SnapshotImported {
        snapshot: String,
        from: String,
        image: String,
    },
    SnapshotDeleted {
        snapshot: String,
    },
    /// A machine was started.
    MachineStarted {
        machine: String,
        image: String,
    },
    MachineRemoved {
        machine: String,
    },
    VolumeRemoved {
        volume: String,
    },
    GarbageCollected {
        /// Objects that are gone.
        objects: u64,
        /// Results of steps that are gone.
        results: u64,
    },
    KeyMade {
        key: String,
    },
    KeyTrusted {
        key: String,
        /// Patterns of names that it may sign.
        names: String,
    },
    KeyRevoked {
        key: String,
    },
    Signed {
        what: String,
        digest: String,
        key: String,
    },
    /// Statements about an image were signed and pushed.
    Attested {
        what: String,
        /// Of the manifest.
        digest: String,
        key: String,
        /// Types of predicates.
        said: Vec<String>,
    },
    /// Something was not used, because no trusted key signed it.
    SignatureRefused {
        what: String,
        reason: String,
    },
    /// Something was used although no trusted key signed it.
    SignatureMissing {
        what: String,
        reason: String,
    },
    /// A template of others was built for the first time, or asked for more than before.
    TemplateAccepted {
        template: String,
        version: String,
        /// Of the package.
        digest: String,
        /// By whom, a phrase.
        signed: String,
    },
    /// A process was killed while it wrote an entry; what it left of that is gone.
    LogRepaired {
        /// How much that was.
        bytes: u64,
    },
}

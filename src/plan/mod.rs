//! Recipe model to derivation graph: the one place of lowering. Pure: what it must know from
//! outside it asks a [`World`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::derivation::{Graph, NodeId};
use crate::digest::{Digest, ObjectId};
use crate::host::Program;
use crate::image::{ImageConfig, ImageTemplate};

/// Why the world could not answer.
pub type WorldError = Box<dyn std::error::Error + Send + Sync>;

/// What planning must know from outside.
pub trait World {
    /// The digest of a local file or directory tree (see [`Local`](crate::derivation::step::Local)).
    ///
    /// # Errors
    /// It cannot be read.
    fn local(&self, path: &Path) -> Result<Digest, WorldError>;

    /// The image under a tag, without `@`; `None` when there is no such tag.
    ///
    /// # Errors
    /// The store cannot be read.
    fn tag(&self, name: &str) -> Result<Option<(ObjectId, ImageConfig)>, WorldError>;
}

/// All that is to be done for one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The steps, inputs before those that read them.
    pub graph: Graph,
    /// The step whose output `config` is the image.
    pub image: NodeId,
    /// The image's name in the recipe.
    pub image_name: String,
    /// The image config as far as it is known before anything is built.
    pub template: ImageTemplate,
    /// Where the local files of `local` steps are, by the digest in their parameters.
    pub locals: BTreeMap<Digest, PathBuf>,
    /// The programs of this host that the steps call.
    pub programs: BTreeSet<Program>,
}

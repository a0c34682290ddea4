//! Recipe model to derivation graph: the one place of lowering. Pure: what it must know from
//! outside it asks a [`World`].

mod label;
mod local;
mod locking;
mod lower;
mod remote;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

pub use local::{LocalFiles, LocalTree, Selection};
pub use locking::PackageStep;
use remote::USUAL_PATH;
pub use remote::{BlobPlace, Container, ContainerLayer, Remote, RemoteDisk, login_env};

use crate::checked::Unfit;
use crate::derivation::{Graph, Listing, NodeId};
use crate::digest::{Checksum, Digest, ObjectId, ObjectRef};
use crate::failure::{Failure, Kind};
use crate::host::{Login, Program};
use crate::image::{DiskFormat, ImageConfig, ImageTemplate, Process};
use crate::instruction::Address;
use crate::lock::PackageSet;
use crate::recipe::{self, Fetch, Image, Loaded, Problem, RecipeError, RegistryImage, Span};

/// A value of the recipe, or of the image that it starts from, as images have it.
fn fit<T: FromStr<Err = Unfit>>(text: &str) -> Result<T, PlanError> {
    text.parse().map_err(|unfit: Unfit| {
        let problem = Problem::without_place(unfit.to_string());
        problem.with_help(unfit.help()).into()
    })
}

/// Why the world could not answer.
pub type WorldError = Box<dyn std::error::Error + Send + Sync>;

/// What planning must know from outside.
pub trait World {
    /// The list of local files.
    ///
    /// # Errors
    /// They cannot be read.
    fn local(&self, files: &LocalFiles) -> Result<Listing, WorldError>;

    /// The image under a tag, without `@`; `None` when there is no such tag.
    ///
    /// # Errors
    /// The store cannot be read.
    fn tag(&self, name: &str) -> Result<Option<(ObjectId, ImageConfig)>, WorldError>;

    /// A disk that is a local file: its bytes as an object of the store, and its format, which the
    /// recipe says or which is recognised by content.
    ///
    /// # Errors
    /// It cannot be read or stored, or is not to be used as a disk:
    /// [`NotADisk`](crate::disk::NotADisk).
    fn disk(
        &self,
        path: &Path,
        format: Option<DiskFormat>,
    ) -> Result<(ObjectRef, DiskFormat), WorldError>;

    /// The content that an address stands for when the recipe has no checksum of it.
    ///
    /// # Errors
    /// Neither a lock nor the network tells. Those of kind [`Recipe`](Kind::Recipe) are the recipe's
    /// fault, here and below.
    fn pin(&self, fetch: &Fetch) -> Result<Pinned, Failure>;

    /// What an image in a registry or a layout is, for an architecture. Its location is
    /// `HOST/NAME:TAG`, `HOST/NAME@sha256:…`, or one of this host, such as `oci:DIR:TAG`.
    ///
    /// # Errors
    /// It cannot be had, or is nothing that an image can start from.
    fn remote(&self, image: &RegistryImage, architecture: &str) -> Result<Remote, Failure>;

    /// The commit of a git repository that a branch, a tag or `HEAD` stands for; all of its digits.
    ///
    /// # Errors
    /// Neither a lock nor the network tells.
    fn commit(&self, repository: &Address, reference: &str) -> Result<String, Failure>;

    /// The architecture of this host, as `uname -m` has it.
    fn architecture(&self) -> &str {
        std::env::consts::ARCH
    }

    /// Whether this host runs programs for an architecture.
    fn runs(&self, architecture: &str) -> bool {
        architecture == self.architecture()
    }

    /// The time that the user chose for files that recipes bring, in seconds since 1970.
    fn file_time(&self) -> Option<i64> {
        None
    }
}

/// Content from outside that is known by its checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    pub checksum: Checksum,
    /// Its size in bytes, when that is known.
    pub size: Option<u64>,
}

/// Where content from outside can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// URLs, the first one first; never empty.
    pub urls: Vec<String>,
    /// Its size in bytes, when that is known.
    pub size: Option<u64>,
    /// Whether the recipe gives the size: what has another is wrong.
    pub exact: bool,
}

impl Place {
    /// The last part of the path, for people.
    #[must_use]
    pub fn name(&self) -> &str {
        let url = self.urls.first().map_or("", String::as_str);
        let path = url.split(['?', '#']).next().unwrap_or(url);
        path.rsplit('/')
            .find(|part| !part.is_empty())
            .unwrap_or(url)
    }
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
    pub locals: BTreeMap<Digest, Arc<LocalTree>>,
    /// Where content from outside can be had, by the checksum in the parameters of `fetch` steps.
    pub places: BTreeMap<Checksum, Place>,
    /// Where blobs of registries can be had, by the checksum in the parameters of `fetch` steps and
    /// the digest in those of `oci-layer` steps.
    pub blobs: BTreeMap<Checksum, BlobPlace>,
    /// The manifests of images in registries that have objects of `object` steps.
    pub artifacts: BTreeMap<ObjectId, BlobPlace>,
    /// User names and passwords for git servers, by the address in the parameters of `git` steps.
    pub logins: BTreeMap<String, Login>,
    /// The packages of locked steps, by the digest in their parameters.
    pub locked: BTreeMap<Digest, PackageSet>,
    /// The files of the recipe.
    pub recipes: Vec<PathBuf>,
    /// The programs of this host that the steps call.
    pub programs: BTreeSet<Program>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
enum PlanError {
    /// The recipe asks for what cannot be. Those of a Dockerfile are collected.
    #[error(transparent)]
    Recipe(#[from] Box<Problem>),
    /// Nothing else needs to be planned: the image needs parameters that have no value, or what an
    /// address stands for could not be found out.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl PlanError {
    /// What was asked about a place of the recipe failed. The recipe may be to blame: then `usual`
    /// is the advice where there is none.
    fn asked(
        failure: Failure,
        span: &Span,
        message: String,
        label: &str,
        usual: Option<&str>,
    ) -> Self {
        match failure.kind() {
            Kind::Recipe => {}
            Kind::Interrupted => return failure.into(),
            _ => return failure.with_message(message).into(),
        }
        let problem = Problem::new(span, message, label);
        match (failure.help(), usual) {
            ([], None) => problem.into(),
            ([], Some(usual)) => problem.with_help(usual).into(),
            (help, _) => problem.with_help(help.join("; ")).into(),
        }
    }
}

impl From<RecipeError> for PlanError {
    fn from(problems: RecipeError) -> Self {
        Self::Failed(Failure::recipe(problems))
    }
}

impl From<Problem> for PlanError {
    fn from(problem: Problem) -> Self {
        Self::Recipe(Box::new(problem))
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Recipe(problem) => Self::recipe(*problem),
            PlanError::Failed(failure) => failure,
        }
    }
}

/// Plans an image of a recipe for an architecture, `x86_64` or `aarch64`. Without a name, it is the
/// image with the recipe's name, else the only one.
///
/// `process` is what the image is to run otherwise than it says.
///
/// # Errors
/// The recipe has no such image, or asks for what cannot be; or the world does not answer.
pub fn plan(
    loaded: &Loaded,
    image: Option<&str>,
    world: &dyn World,
    architecture: &str,
    process: &Process,
) -> Result<Plan, Failure> {
    let image = chosen(loaded, image)?;
    lower::debian_architecture(architecture)?;
    Ok(lower::lower(image, world, architecture, process)?)
}

/// The image of that name, or the one that needs none.
fn chosen<'a>(loaded: &'a Loaded, image: Option<&str>) -> Result<&'a Arc<Image>, PlanError> {
    let complete = loaded.images.iter().map(|image| &image.name.value);
    let incomplete = loaded.incomplete.iter().map(|(name, _)| name);
    let names = || {
        complete
            .clone()
            .chain(incomplete.clone())
            .map(String::as_str)
    };
    let owned = || names().map(str::to_owned).collect::<Vec<_>>();
    let recipe = &loaded.recipe.name;
    let index = match image {
        Some(name) => names().position(|other| other == name).ok_or_else(|| {
            let help = match recipe::closest(name, names()) {
                Some(other) => format!("did you mean \"{other}\"?"),
                None => format!("its images are {}", owned().join(", ")),
            };
            let message = format!("{recipe} has no image \"{name}\"");
            Problem::without_place(message).with_help(help)
        })?,
        None => recipe::default_image(recipe, names()).ok_or_else(|| {
            let (count, images) = (names().count(), owned().join(", "));
            let message = format!("{recipe} has {count} images and none is named \"{recipe}\"");
            Problem::without_place(message).with_help(format!("name one of them: {images}"))
        })?,
    };
    match loaded.images.get(index) {
        Some(image) => Ok(image),
        None => {
            let (_, problems) = &loaded.incomplete[index - loaded.images.len()];
            Err(problems.clone().into())
        }
    }
}

//! What planning must know of the world: recipes and files of this host, tags of the store, locks,
//! pins, images in registries, results of earlier builds. [`plan`](crate::plan) asks; the answers
//! come from store, registry and files, and are remembered.
//!
//! ```text
//! RecipeChoice ──► plan: recipes ──► plan::plan ──asks──► recipes (files, tags, disks)
//!                    │                                    pins, resolve ◄── lock_file, registries, lists
//!                    │                                    oci ◄── registries, layouts, cache/manifests
//!                    └──► known_image, offline: what would run
//! ```

mod context;
mod git;
pub(crate) mod lock_file;
mod locked;
mod oci;
pub(crate) mod offline;
pub(crate) mod pins;
pub(crate) mod recipes;
mod repository;
mod resolve;
pub(crate) mod signatures;
pub(crate) mod templates;
mod usual;

pub use context::{Agree, Context};
pub use recipes::RecipeChoice;
pub use repository::{CheckedOut, checked_out};
pub(crate) use usual::usual_dockerfile;
pub use usual::usual_recipe;

pub(crate) use locked::{apply, needs, package_steps, plan};
pub(crate) use resolve::{Pins, Resolve, Today};

use crate::digest::ObjectId;
use crate::executor::{Sources, survey};
use crate::failure::Failure;
use crate::image::ImageConfig;
use crate::store::Store;

/// The config of an image.
///
/// # Errors
/// The store fails, or the object is no config.
pub(crate) fn image_config(store: &Store, image: &ObjectId) -> Result<ImageConfig, Failure> {
    let bytes = store.read_object(image)?;
    ImageConfig::from_bytes(&bytes)
        .map_err(|error| Failure::verification(format!("object {} is {error}", image.short())))
}

/// The image that a build would give without running anything; `None` when a step would run.
///
/// # Errors
/// The recipe is wrong.
pub(crate) fn known_image(
    context: &Context,
    choice: &RecipeChoice,
) -> Result<Option<ObjectId>, Failure> {
    let store = context.store()?;
    let plan = plan(context, choice)?;
    let remembered = context.remembered();
    let surveyed = survey(&Sources::here(&store, &remembered), &plan.graph, plan.image);
    let outputs = surveyed
        .get(plan.image.index())
        .and_then(|step| step.outputs.as_ref());
    Ok(outputs
        .and_then(|outputs| outputs.get("config"))
        .map(|config| config.id))
}

//! The image that a machine is to be made of.

use super::super::build::{self, BuildOptions};
use super::super::cache::CacheOptions;
use super::super::images::{self, FoundImage};
use super::super::{Context, Error, recipes, share};
use super::require_programs;
use crate::event::Event;

/// How a recipe is built that a user named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageOptions {
    /// Values of parameters.
    pub settings: Vec<(String, String)>,
    /// Whether it must be locked.
    pub locked: bool,
    /// Caches of builds.
    pub cache: CacheOptions,
    /// Whether to take what the image starts from when it cannot be built.
    pub fallback: bool,
}

/// The image that a user named: one of the store, or what a recipe gives.
///
/// # Errors
/// There is none, or it cannot be built.
pub fn image(context: &Context, name: &str, options: ImageOptions) -> Result<FoundImage, Error> {
    let ImageOptions {
        settings,
        locked,
        cache,
        fallback,
    } = options;
    if is_elsewhere(name) && settings.is_empty() {
        let location = name.parse().map_err(|error| Error::Usage {
            message: format!("{error}"),
            help: None,
        })?;
        require_programs()?;
        return share::named(context, &location);
    }
    if !recipes::is_path(name) && settings.is_empty() {
        match images::find(context, name) {
            Err(Error::NotFound { .. }) if recipes::names_recipe(context, name) => {}
            result => return result,
        }
    }
    let options = BuildOptions {
        recipe: name.to_owned(),
        settings: settings.into_iter().collect(),
        locked,
        cache,
        ..BuildOptions::default()
    };
    match build_image(context, &options) {
        Err(error) if fallback && !matches!(error, Error::Interrupted | Error::Recipe(_)) => {
            let generic = BuildOptions {
                generic: true,
                ..options
            };
            context.emit(Event::Warning {
                message: format!("{name} cannot be built: {error}"),
            });
            let built = build_image(context, &generic)?;
            context.emit(Event::Warning {
                message: format!(
                    "this is not {name} but {}, which it starts from, as --fallback says",
                    built.name
                ),
            });
            Ok(built.image)
        }
        result => Ok(result?.image),
    }
}

/// Whether a name is that of an image in a registry, a layout or an archive: it has a scheme, or begins with a host and
/// is no file.
fn is_elsewhere(name: &str) -> bool {
    let schemes = ["oci:", "oci-archive:", "docker://"];
    if schemes.iter().any(|scheme| name.starts_with(scheme)) {
        return true;
    }
    let host = name.split_once('/').map_or("", |(host, _)| host);
    let is_host = host == "localhost" || host.contains(['.', ':']) && !host.starts_with('.');
    is_host && !name.ends_with(".kdl") && !std::path::Path::new(name).exists()
}

/// An image that a recipe gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// The image.
    pub image: FoundImage,
    /// Its name in the recipe.
    pub name: String,
    /// Whether no step had to run.
    pub cached: bool,
}

/// Builds an image for machines.
///
/// # Errors
/// It cannot be built, or machines cannot run here.
pub fn build_image(context: &Context, options: &BuildOptions) -> Result<BuiltImage, Error> {
    require_programs()?;
    let built = build::build(context, options)?;
    Ok(BuiltImage {
        image: images::find(context, &built.image.to_string())?,
        name: built.name,
        cached: built.steps.built == 0,
    })
}

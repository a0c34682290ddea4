//! The image that a machine is to be made of.

use std::path::Path;

use super::super::build::{self, BuildOptions};
use super::super::cache::CacheOptions;
use super::super::images::{self, FoundImage};
use super::super::share::{self, PullOptions};
use super::super::{Context, RecipeChoice};
use super::require_programs;
use crate::config::TrustedUse;
use crate::event::Event;
use crate::failure::{Failure, Kind};
use crate::image::local_scheme;
use crate::machine::MachineName;
use crate::recipe::is_dockerfile;
use crate::world::recipes;

/// How a recipe is built that a user named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageOptions {
    /// The name is that of a recipe, or of an image.
    pub choice: RecipeChoice,
    /// Caches of builds.
    pub cache: CacheOptions,
    /// The name of the machine that it is for, if the user gave one.
    pub machine: Option<MachineName>,
    /// Whether to take what the image starts from when it cannot be built.
    pub fallback: bool,
    /// Whether the disk of an image in a registry need not be here.
    pub lazy: bool,
}

/// The image that a user named: one of the store, or what a recipe gives.
///
/// # Errors
/// There is none, or it cannot be built.
pub fn image(context: &Context, options: ImageOptions) -> Result<FoundImage, Failure> {
    let ImageOptions {
        choice,
        cache,
        machine,
        fallback,
        lazy,
    } = options;
    let name = choice.recipe.clone();
    let name = name.as_str();
    let has_settings = !choice.settings.is_empty();
    if is_elsewhere(name) {
        let usage = |message: String| Failure::usage(message);
        if has_settings {
            let message = format!("{name} is an image, but only recipes have parameters");
            return Err(usage(message));
        }
        let location = name.parse();
        let location = location.map_err(|error| usage(format!("{error}")))?;
        require_programs()?;
        return share::named(context, &location, lazy);
    }
    let path = Path::new(name);
    if recipes::is_path(name) && !has_settings && is_disk(path) {
        require_programs()?;
        return share::disk_file(context, path);
    }
    if !recipes::is_path(name) && !has_settings {
        match images::find(context, name) {
            Err(error) if error.is(Kind::NotFound) && recipes::names_recipe(context, name) => {
                if let Some(found) = made_role(context, &choice)? {
                    return Ok(found);
                }
            }
            result => return result,
        }
    }
    context.emit(Event::MachinePlanned {
        machine: machine.map(|name| name.to_string()),
        project: None,
    });
    match build_image(context, &choice, &cache) {
        Err(error) if fallback && !matches!(error.kind(), Kind::Interrupted | Kind::Recipe) => {
            let generic = RecipeChoice {
                generic: true,
                ..choice
            };
            context.emit(Event::Warning {
                message: format!("{name} cannot be built: {error}"),
            });
            let built = build_image(context, &generic, &cache)?;
            context.emit(Event::Warning {
                message: format!(
                    "booting {} instead of {name}, because of --fallback",
                    built.name
                ),
            });
            Ok(built.image)
        }
        result => Ok(result?.image),
    }
}

/// The image of a role on its usual base: that of the store, or of the registry that the
/// configuration names. Nothing when it has to be built.
///
/// # Errors
/// The store fails, or the user gives up.
fn made_role(context: &Context, choice: &RecipeChoice) -> Result<Option<FoundImage>, Failure> {
    let role = &choice.recipe;
    let Some(base) = recipes::base_of_role(context, choice) else {
        return Ok(None);
    };
    let Some(tag) = build::role_tag(&base, role) else {
        return Ok(None);
    };
    if context.store()?.tag(&tag)?.is_some() {
        return images::find(context, &tag.to_string()).map(Some);
    }
    let Some(place) = context.config.roles.as_ref().filter(|_| !context.offline) else {
        return Ok(None);
    };
    require_programs()?;
    let place = format!("{place}/{role}:{base}");
    let Ok(from) = place.parse() else {
        return Ok(None);
    };
    let options = PullOptions {
        from,
        tags: vec![role.parse()?, tag],
        all_tags: false,
        platform: None,
        containers: false,
        used_for: TrustedUse::Boot,
    };
    match share::pull(context, &options) {
        Ok(_) => images::find(context, role).map(Some),
        Err(error) if error.is(Kind::Interrupted) => Err(error),
        Err(error) => {
            if !error.is(Kind::NotFound) {
                let message = format!("{error}; building {role} instead");
                context.emit(Event::Warning { message });
            }
            Ok(None)
        }
    }
}

/// Whether a file is a disk, and not a recipe.
fn is_disk(path: &Path) -> bool {
    let is_recipe = path.extension().is_some_and(|ending| ending == "kdl");
    !is_recipe && !is_dockerfile(path) && path.is_file()
}

/// Whether a name is that of an image in a registry, a layout or an archive, and not a path: it
/// says so, has a tag, or begins with a host, and there is no such file.
pub(in crate::ops) fn is_elsewhere(name: &str) -> bool {
    let says_so = ["oci://", "docker://"]
        .iter()
        .any(|scheme| name.starts_with(scheme));
    if says_so || local_scheme(name).is_some() {
        return true;
    }
    let is_local = name.starts_with(['@', '.', '/']) || Path::new(name).exists();
    if name.contains(':') && !is_local && !name.contains("://") {
        // As for docker: on Docker Hub, unless a host comes first.
        return true;
    }
    let Some((host, _)) = name.split_once('/') else {
        return false;
    };
    let is_host = host == "localhost" || host.contains(['.', ':']) && !host.starts_with('.');
    let path = Path::new(name);
    let is_recipe = path.extension().is_some_and(|extension| extension == "kdl");
    is_host && !is_recipe && !path.exists()
}

/// An image that a recipe gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
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
pub fn build_image(
    context: &Context,
    choice: &RecipeChoice,
    cache: &CacheOptions,
) -> Result<BuiltImage, Failure> {
    require_programs()?;
    let options = BuildOptions {
        choice: choice.clone(),
        cache: cache.clone(),
        ..BuildOptions::default()
    };
    let built = build::build(context, &options)?;
    Ok(BuiltImage {
        image: images::find(context, &built.image.to_string())?,
        name: built.name,
        cached: built.steps.built == 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_told_from_paths() {
        for name in [
            "ghcr.io/me/web:1",
            "ghcr.io/me/web",
            "localhost/web",
            "localhost:5000/web@sha256:00",
            "127.0.0.1:5000/web",
            "[::1]:5000/web",
            "oci://docker.io/me/web",
            "oci:layout:1",
            "oci-archive:web.tar",
            "docker-archive:web.tar:me/web:1",
            "containers-storage:localhost/web",
            "docker://me/web",
            "web:1",
            "me/web:1",
        ] {
            assert!(is_elsewhere(name), "{name}");
        }
        for name in [
            "web",
            "@web",
            "web.kdl",
            "recipes/web.kdl",
            "my.recipes/web.kdl",
            "./ghcr.io/web",
            "../web",
            "/srv/web.kdl",
            "me/web",
            "src/lib.rs",
            "./localhost/web",
        ] {
            assert!(!is_elsewhere(name), "{name}");
        }
    }
}

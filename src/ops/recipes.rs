//! Recipes on this host: reading them, and planning them with what the host and the store know.

use std::path::Path;
use std::{fs, io};

use super::build::BuildOptions;
use super::lock::Pins;
use super::{Error, images};
use crate::builder::local;
use crate::digest::{Digest, ObjectId, ObjectRef};
use crate::disk::Format;
use crate::image::ImageConfig;
use crate::plan::{self, PinError, Pinned, Plan, World, WorldError};
use crate::recipe::{self, DiskFormat, Fetch, Files};
use crate::store::{Store, TagName};

/// Files of this host.
pub struct HostFiles;

impl Files for HostFiles {
    fn read(&self, path: &Path) -> io::Result<String> {
        fs::read_to_string(path)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn is_directory(&self, path: &Path) -> bool {
        path.is_dir()
    }
}

/// What planning must know of this host and its store.
struct HostWorld<'a> {
    store: &'a Store,
    pins: &'a Pins<'a>,
}

impl World for HostWorld<'_> {
    fn local(&self, path: &Path) -> Result<Digest, WorldError> {
        Ok(local::digest(path)?)
    }

    fn tag(&self, name: &str) -> Result<Option<(ObjectId, ImageConfig)>, WorldError> {
        let Some(image) = self.store.tag(&name.parse::<TagName>()?)? else {
            return Ok(None);
        };
        let config = images::config(self.store, &image).map_err(|error| error.to_string())?;
        Ok(Some((image, config)))
    }

    fn disk(&self, path: &Path) -> Result<(ObjectRef, DiskFormat), WorldError> {
        let file = fs::File::open(path)?;
        let format = match Format::of(&file)? {
            Format::Raw => DiskFormat::Raw,
            Format::Qcow2 => DiskFormat::Qcow2,
            Format::Vmdk => DiskFormat::Vmdk,
            Format::Vhd => DiskFormat::Vhd,
            Format::Vhdx => DiskFormat::Vhdx,
        };
        // A file that did not change since it was last stored is not read again.
        let added = self.store.add_file(&file, path)?;
        Ok((added.object, format))
    }

    fn pin(&self, fetch: &Fetch) -> Result<Pinned, PinError> {
        self.pins.pin(fetch)
    }
}

/// Plans an image of a recipe, which is a path or the name of a built-in recipe. `pins` are asked about content
/// from outside.
///
/// # Errors
/// There is no such recipe, or it is wrong.
pub(super) fn plan(store: &Store, options: &BuildOptions, pins: &Pins<'_>) -> Result<Plan, Error> {
    let (recipe, image) = (options.recipe.as_str(), options.image.as_deref());
    let settings = &options.settings;
    let path = Path::new(recipe);
    let file_name = path.file_name().unwrap_or_default().to_string_lossy();
    if path.is_dir() {
        return Err(Error::Usage {
            message: format!("{recipe} is a directory, not a recipe"),
            help: Some("give the path of a recipe file in it".to_owned()),
        });
    }
    if file_name.starts_with("Dockerfile") || file_name.ends_with(".dockerfile") {
        return Err(Error::Usage {
            message: format!("{recipe}: this version does not build Dockerfiles yet"),
            help: Some(
                "write its steps as a recipe: RUN is `run`, COPY is `copy`, ENV is `env` \
                 (docs/recipes.md)"
                    .to_owned(),
            ),
        });
    }
    let built_in = || recipe::catalogue().iter().map(|built_in| built_in.name);
    if !path.exists() && !built_in().any(|name| name == recipe) {
        let mut error = Error::not_found("recipe", recipe, built_in());
        if let Error::NotFound {
            help: help @ None, ..
        } = &mut error
        {
            let names: Vec<_> = built_in().collect();
            *help = Some(format!(
                "give the path of a recipe file, or one of the built-in recipes: {}",
                names.join(", ")
            ));
        }
        return Err(error);
    }
    let loaded = recipe::load(path, &HostFiles, settings).map_err(Error::recipe)?;
    let world = HostWorld { store, pins };
    plan::plan(&loaded, image, &world, std::env::consts::ARCH).map_err(Error::recipe)
}

/// Whether a name that `boot` is given means a recipe rather than an image: a path, or the name of a
/// built-in recipe.
#[must_use]
pub fn names_recipe(name: &str) -> bool {
    !name.starts_with('@') && (is_path(name) || recipe::catalogue().iter().any(|r| r.name == name))
}

/// Whether a name can only be a path.
#[must_use]
pub fn is_path(name: &str) -> bool {
    let path = Path::new(name);
    name.contains('/') || path.extension().is_some_and(|extension| extension == "kdl") || {
        !name.starts_with('@') && name.starts_with("Dockerfile")
    }
}

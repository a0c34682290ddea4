//! Recipes on this host: reading them, and planning them with what the host and the store know.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{fs, io};

use super::templates::{Composition, LockedTemplates, Versions};
use super::{Context, Pins, image_config, lock_file, repository};
use crate::builder::local::{self, KnownFiles};
use crate::compose::{self, Converted};
use crate::derivation::Listing;
use crate::digest::{ObjectId, ObjectRef};
use crate::disk::Content;
use crate::failure::Failure;
use crate::host::file;
use crate::image::{DiskFormat, ImageConfig, Process};
use crate::instruction::{Address, Repository};
use crate::limits::Limits;
use crate::plan::{self, LocalFiles, Pinned, Plan, Remote, World, WorldError};
use crate::recipe::{
    self, Base, Fetch, Files, Given, Loaded, RecipeError, RegistryImage, TemplateRecipe, Wanted,
};
use crate::store::{Store, TagName};
use crate::template::TemplateRef;

/// The path that stands for standard input.
pub(crate) const STANDARD_INPUT: &str = "-";

/// Which image of which recipe is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecipeChoice {
    /// Path of a recipe file, or the name of a recipe that comes with vmfab.
    pub recipe: String,
    /// Which image of the recipe; when absent the one named like the recipe, or the only one. Of a
    /// Dockerfile, which stage.
    pub image: Option<String>,
    /// Take what the image starts from, at the bottom, in its place.
    pub generic: bool,
    /// Values of parameters; build arguments of a Dockerfile.
    pub settings: BTreeMap<String, String>,
    /// What names in a Dockerfile stand for beside its stages.
    pub contexts: BTreeMap<String, String>,
    /// Whether the process of a Dockerfile does not run as a service.
    pub no_service: bool,
    /// The architecture that a Dockerfile is built for; this host's if absent.
    pub architecture: Option<String>,
    /// What the image is to run otherwise than it says.
    pub process: Process,
    /// Whether it is an error when the lock file lacks something.
    pub locked: bool,
}

impl RecipeChoice {
    /// The recipe's file, or the name of one that comes with vmfab.
    pub(crate) fn path(&self) -> PathBuf {
        fs::canonicalize(&self.recipe).unwrap_or_else(|_| self.recipe.clone().into())
    }
}

pub(crate) struct HostFiles<'a> {
    /// The directory of recipes that go before the built-in ones.
    catalogue: Option<&'a Path>,
    limits: Limits,
    /// The recipe that the Compose file stands for that is read.
    converted: Option<String>,
    context: &'a Context,
    composition: Composition<'a>,
}

impl Files for HostFiles<'_> {
    fn read(&self, path: &Path) -> io::Result<String> {
        if let Some(kdl) = self
            .converted
            .as_ref()
            .filter(|_| compose::is_compose(path))
        {
            return Ok(kdl.clone());
        }
        if path == Path::new(STANDARD_INPUT) {
            return standard_input(self.limits.recipe_size);
        }
        read_file(path, self.limits.recipe_size)
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn exists(&self, path: &Path) -> bool {
        path == Path::new(STANDARD_INPUT) || path.exists()
    }

    fn is_directory(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn repository(&self, repository: &Repository, wanted: Wanted) -> Result<PathBuf, Failure> {
        let checked_out = repository::check_out(self.context, repository, wanted)?;
        Ok(checked_out.path)
    }

    fn template(&self, wanted: &TemplateRef, asking: &Path) -> Result<TemplateRecipe, Failure> {
        self.composition.template(wanted, asking)
    }

    fn confines(&self, recipe: &Path) -> Option<PathBuf> {
        self.composition.confines(recipe)
    }

    fn catalogue(&self) -> Vec<(String, PathBuf)> {
        let entries = self.catalogue.and_then(|path| fs::read_dir(path).ok());
        let mut found: Vec<(String, PathBuf)> = entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "kdl"))
            .filter_map(|path| Some((path.file_stem()?.to_str()?.to_owned(), path)))
            .collect();
        found.sort();
        found
    }
}

/// The text of a recipe. A link must not make one of a file that is none: what is wrong in recipes
/// is shown with its lines, and logs of builds are read by many.
pub(crate) fn read_file(path: &Path, most: u64) -> io::Result<String> {
    let is_recipe = |path: &Path| path.extension().is_some_and(|ending| ending == "kdl");
    let target = fs::canonicalize(path)?;
    let message = match (is_recipe(path), recipe::is_dockerfile(path)) {
        (true, _) if !is_recipe(&target) => "it links to a file without the extension \".kdl\"",
        (_, true) if !recipe::is_dockerfile(&target) => {
            "it links to a file that is not named like a Dockerfile"
        }
        _ => return file::read_text(path, most),
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// The recipe on standard input. It is read once, however often the recipe is planned.
fn standard_input(most: u64) -> io::Result<String> {
    static TEXT: OnceLock<Result<String, String>> = OnceLock::new();
    let read = || file::text(io::stdin(), most).map_err(|error| error.to_string());
    TEXT.get_or_init(read).clone().map_err(io::Error::other)
}

/// What planning must know of this host and its store.
struct HostWorld<'a> {
    context: &'a Context,
    store: &'a Store,
    pins: &'a Pins<'a>,
    known_files: KnownFiles,
}

impl World for HostWorld<'_> {
    fn file_time(&self) -> Option<i64> {
        self.context.config.file_time
    }

    fn local(&self, files: &LocalFiles) -> Result<Listing, WorldError> {
        let known = Some(&self.known_files);
        Ok(local::list(files, self.file_time(), known)?)
    }

    fn runs(&self, architecture: &str) -> bool {
        architecture == self.architecture() || has_interpreter(architecture)
    }

    fn tag(&self, name: &str) -> Result<Option<(ObjectId, ImageConfig)>, WorldError> {
        let Some(image) = self.store.tag(&name.parse::<TagName>()?)? else {
            return Ok(None);
        };
        let mut config = image_config(self.store, &image).map_err(|error| error.to_string())?;
        if !config
            .layers
            .iter()
            .all(|layer| self.store.has_object(layer))
        {
            // It was pulled without them: then it is a disk as others are.
            config.layers.clear();
        }
        Ok(Some((image, config)))
    }

    fn disk(
        &self,
        path: &Path,
        said: Option<DiskFormat>,
    ) -> Result<(ObjectRef, DiskFormat), WorldError> {
        let meta = fs::metadata(path)?;
        if !meta.is_file() {
            return Err("it is not a regular file".into());
        }
        let file = fs::File::open(path)?;
        let ending = path.extension().and_then(|ending| ending.to_str());
        let named = ending.and_then(DiskFormat::named);
        let format = match said {
            Some(format) => format,
            None => match (Content::of(&file)?, named) {
                // The name says so, and nothing in it says otherwise.
                (Content::Unknown, Some(DiskFormat::Raw)) => DiskFormat::Raw,
                (Content::Unknown | Content::Disk(DiskFormat::Raw), Some(named))
                    if named != DiskFormat::Raw =>
                {
                    return Err(format!("it does not look like {}", named.name()).into());
                }
                (content, _) => content.disk()?,
            },
        };
        if format == DiskFormat::Raw && (meta.len() == 0 || meta.len() % 512 != 0) {
            let message = format!(
                "a raw disk is whole sectors of 512 bytes, and it has {}",
                meta.len()
            );
            return Err(message.into());
        }
        // A file that did not change since it was last stored is not read again.
        let added = self.store.add_file(&file, path)?;
        Ok((added.object, format))
    }

    fn pin(&self, fetch: &Fetch) -> Result<Pinned, Failure> {
        self.pins.pin(fetch)
    }

    fn commit(&self, repository: &Address, reference: &str) -> Result<String, Failure> {
        self.pins.commit(repository, reference)
    }

    fn remote(&self, image: &RegistryImage, architecture: &str) -> Result<Remote, Failure> {
        self.pins.remote(self.context, image, architecture)
    }
}

/// Whether the kernel starts an interpreter for the programs of an architecture that need not lie
/// in their tree (<https://docs.kernel.org/admin-guide/binfmt-misc.html>).
fn has_interpreter(architecture: &str) -> bool {
    let Ok(entries) = fs::read_dir("/proc/sys/fs/binfmt_misc") else {
        return false;
    };
    let name = format!("qemu-{architecture}");
    let mut entries = entries.flatten().filter(|entry| {
        let file = entry.file_name();
        let file = file.to_string_lossy();
        file.strip_prefix(name.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
    });
    entries.any(|entry| {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let has_flag = |line: &str| {
            let flags = line.strip_prefix("flags:");
            flags.is_some_and(|flags| flags.contains('F'))
        };
        text.starts_with("enabled") && text.lines().any(has_flag)
    })
}

/// Reads a recipe file of this host. The lock beside it says which versions of templates it is
/// built on.
///
/// # Errors
/// It is wrong.
pub(crate) fn load(
    context: &Context,
    path: &Path,
    settings: &BTreeMap<String, String>,
) -> Result<Loaded, Failure> {
    let place = lock_file::Place::of(&path.to_string_lossy());
    let lock = lock_file::read(&place.path())?;
    let pinned = lock.map(|lock| lock.templates_of(&place.recipe, settings));
    let locked = LockedTemplates {
        pinned: pinned.unwrap_or_default(),
        ..LockedTemplates::default()
    };
    let (loaded, _) = load_with(context, path, settings, locked)?;
    Ok(loaded)
}

/// Reads a recipe file with the templates that are locked; tells which it is built on.
fn load_with(
    context: &Context,
    path: &Path,
    settings: &BTreeMap<String, String>,
    locked: LockedTemplates,
) -> Result<(Loaded, Versions), Failure> {
    let mut files = files_with(context, locked);
    if compose::is_compose(path) && path.is_file() {
        files.converted = Some(convert(context, path)?.kdl);
    }
    composed(&files, path, || recipe::load(path, &files, settings))
}

/// Reads a recipe until versions are chosen for all templates that it asks for.
fn composed(
    files: &HostFiles<'_>,
    path: &Path,
    load: impl Fn() -> Result<Loaded, RecipeError>,
) -> Result<(Loaded, Versions), Failure> {
    loop {
        let loaded = load();
        // What is missing meanwhile is no mistake.
        if !files.composition.resolve(&path.to_string_lossy())? {
            let loaded = loaded.map_err(Failure::recipe)?;
            return Ok((loaded, files.composition.versions()));
        }
    }
}

/// Reads a Compose file of this host, with the variables of the environment.
///
/// # Errors
/// It is wrong.
pub(crate) fn convert(context: &Context, path: &Path) -> Result<Converted, Failure> {
    let environment = |name: &str| std::env::var(name).ok();
    compose::load(path, &host_files(context), &environment).map_err(Failure::recipe)
}

/// Reads a definition of a template in YAML, and the recipe that it becomes. `base` is what the
/// image starts from instead.
///
/// # Errors
/// It is wrong.
pub(crate) fn convert_template(
    context: &Context,
    path: &Path,
    base: Option<&str>,
) -> Result<Converted, Failure> {
    let mut files = host_files(context);
    let converted = compose::template(path, &files, base, &catalogue(context));
    let converted = converted.map_err(Failure::recipe)?;
    if compose::is_compose(path) {
        files.converted = Some(converted.kdl.clone());
        composed(&files, path, || {
            recipe::load(path, &files, &BTreeMap::new())
        })?;
    }
    Ok(converted)
}

impl compose::Files for HostFiles<'_> {
    fn read(&self, path: &Path) -> io::Result<String> {
        // What is wrong in Compose files is shown with its lines, too.
        if compose::is_compose(path) && !compose::is_compose(&fs::canonicalize(path)?) {
            let message = "it links to a file without the extension \".yaml\" or \".yml\"";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        file::read_text(path, self.limits.recipe_size)
    }

    fn is_file(&self, path: &Path) -> bool {
        path.is_file()
    }

    fn is_directory(&self, path: &Path) -> bool {
        path.is_dir()
    }
}

/// Plans an image of a recipe, which is a path or the name of a built-in recipe. `pins` are asked
/// about content from outside.
///
/// # Errors
/// There is no such recipe, or it is wrong.
pub(crate) fn plan_with(
    context: &Context,
    choice: &RecipeChoice,
    pins: &Pins<'_>,
) -> Result<Plan, Failure> {
    let (recipe, image) = (choice.recipe.as_str(), choice.image.as_deref());
    let settings = &choice.settings;
    let path = Path::new(recipe);
    if path.is_dir() {
        return Err(
            Failure::usage(format!("{recipe} is a directory, not a recipe"))
                .with_help("give the path of a recipe file in it"),
        );
    }
    check_name(context, recipe)?;
    let is_dockerfile = recipe::is_dockerfile(path);
    let locked = pins.templates.clone();
    let (mut loaded, versions) = if is_dockerfile {
        let given = Given {
            target: choice.image.clone(),
            args: settings.clone(),
            contexts: choice.contexts.clone(),
            no_service: choice.no_service,
        };
        let files = files_with(context, locked);
        composed(&files, path, || {
            recipe::load_dockerfile(path, &choice.path(), &files, &given)
        })?
    } else {
        load_with(context, path, settings, locked)?
    };
    pins.told_templates.replace(versions);
    if choice.generic {
        generic(&mut loaded, image);
    }
    let image = image.filter(|_| !choice.generic && !is_dockerfile);
    if loaded.images.is_empty() && loaded.incomplete.is_empty() {
        return Err(
            Failure::usage(format!("{recipe} describes machines, and no image"))
                .with_help("vmfab up makes and starts its machines"),
        );
    }
    let store = context.store()?;
    let world = HostWorld {
        context,
        store: &store,
        pins,
        known_files: KnownFiles::new(context.home.known_files()),
    };
    let architecture = choice.architecture.as_deref();
    let architecture = architecture.unwrap_or(std::env::consts::ARCH);
    let plan = plan::plan(&loaded, image, &world, architecture, &choice.process)?;
    Ok(Plan {
        recipes: loaded.files,
        ..plan
    })
}

/// Checks that a name is that of a file, or of a recipe that needs no path.
///
/// # Errors
/// It is neither.
pub(crate) fn check_name(context: &Context, recipe: &str) -> Result<(), Failure> {
    let names = catalogue(context);
    if !host_files(context).exists(Path::new(recipe)) && !names.iter().any(|name| name == recipe) {
        if is_path(recipe) || DiskFormat::of_path(Path::new(recipe)).is_some() {
            return Err(Failure::unknown("file", recipe)
                .with_help("give the path of a recipe (FILE.kdl) or of a disk"));
        }
        return Err(
            Failure::not_found("recipe", recipe, names.iter().map(String::as_str)).or_help(
                format!(
                    "give the path of a recipe file, or one of the built-in recipes: {}",
                    names.join(", ")
                ),
            ),
        );
    }
    Ok(())
}

/// Leaves of the images of a recipe only the one at the bottom of what `image` starts from.
fn generic(loaded: &mut Loaded, image: Option<&str>) {
    let name = image.unwrap_or(&loaded.recipe.name);
    let named = loaded.images.iter().find(|one| one.name.value == name);
    let Some(mut bottom) = named.or(loaded.images.first()).cloned() else {
        return;
    };
    while let Base::Image(base) = &bottom.base {
        bottom = base.clone();
    }
    loaded.images = vec![bottom];
    loaded.incomplete.clear();
}

/// Whether a name that `boot` is given means a recipe rather than an image: a path, or the name of
/// a built-in recipe.
#[must_use]
pub(crate) fn names_recipe(context: &Context, name: &str) -> bool {
    !name.starts_with('@')
        && (is_path(name) || catalogue(context).iter().any(|other| other == name))
}

/// The base that the image of a role starts from, without `@`. A role is a recipe with the parameter
/// `base`.
#[must_use]
pub(crate) fn base_of_role(context: &Context, choice: &RecipeChoice) -> Option<String> {
    // A recipe on standard input can be read once.
    let is_role =
        choice.recipe != STANDARD_INPUT && !recipe::is_dockerfile(Path::new(&choice.recipe));
    if choice.generic || !is_role {
        return None;
    }
    let loaded = load(context, Path::new(&choice.recipe), &choice.settings).ok()?;
    let mut parameters = loaded.parameters.into_iter();
    let base = parameters.find(|parameter| parameter.name.value == "base")?;
    Some(base.value.trim_start_matches('@').to_owned())
}

/// The names of all recipes that need no path, sorted.
fn catalogue(context: &Context) -> Vec<String> {
    let own = host_files(context)
        .catalogue()
        .into_iter()
        .map(|(name, _)| name);
    let built_in = recipe::catalogue().iter().map(|one| one.name.to_owned());
    let names: BTreeSet<String> = own.chain(built_in).collect();
    names.into_iter().collect()
}

/// Files of this host, and the user's recipes.
pub(crate) fn host_files(context: &Context) -> HostFiles<'_> {
    files_with(context, LockedTemplates::default())
}

fn files_with(context: &Context, locked: LockedTemplates) -> HostFiles<'_> {
    HostFiles {
        catalogue: context.config.recipes.as_deref(),
        limits: context.config.limits,
        converted: None,
        context,
        composition: Composition::new(context, locked),
    }
}

/// Whether a name can only be a path.
#[must_use]
pub(crate) fn is_path(name: &str) -> bool {
    let path = Path::new(name);
    name.contains('/')
        || path.extension().is_some_and(|extension| extension == "kdl")
        || (!name.starts_with('@') && recipe::is_dockerfile(path))
}

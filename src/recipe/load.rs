//! From a path to images with their bases: `from` is resolved here.

mod dockerfile;
mod machines;
mod mixin;
mod naming;
mod settings;
mod target;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::catalogue;
use super::dockerfile::is_dockerfile;
use super::document::{self, Document, Place, Reporting};
use super::error::{Problem, RecipeError};
use super::header::Settings;
use super::image::{self, Draft, DraftBase};
use super::model::{Base, Bootc, DiskFile, Image, Loaded};
use super::reader::Reader;
use super::reference::normalise;
use super::shape::IMAGE;
use super::source::{Files, Spanned};
use crate::image::{DiskFormat, check_ignition};
use crate::limits::{self, Limits};

use target::Target;

pub use dockerfile::{Given, load_dockerfile};

/// Reads a recipe with all that it includes and inherits from, or a Dockerfile. When there is no
/// file at `path`, a built-in recipe of that name is read.
///
/// `settings` are values for parameters. Each is for every recipe on the way that has a parameter
/// of that name. For a Dockerfile they are its build arguments.
///
/// # Errors
/// All mistakes that were found, each with its place.
pub fn load(
    path: &Path,
    files: &dyn Files,
    settings: &BTreeMap<String, String>,
) -> Result<Loaded, RecipeError> {
    if is_dockerfile(path) && files.exists(path) {
        let given = Given {
            args: settings.clone(),
            ..Given::default()
        };
        return load_dockerfile(path, path, files, &given);
    }
    let named = || path.to_str().and_then(|name| in_catalogue(name, files));
    let place = match files.exists(path) {
        true => None,
        false => named(),
    };
    let place = place.unwrap_or_else(|| Place::path(path));
    let mut loader = Loader::new(files, settings);
    let root = loader.document(&place, None, &[], "");
    let (mut images, mut incomplete, mut machines) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(document) = &root {
        for index in 0..document.images.len() {
            let mut around = Vec::new();
            images.extend(loader.image(document, index, &mut around));
            let missing = once(loader.asked.take());
            if !missing.is_empty() {
                let name = document.images[index].name.value.clone();
                incomplete.push((name, RecipeError::new(place.shown(), missing)));
            }
        }
        machines = loader.machines(document);
        let missing = once(loader.asked.take());
        loader.problems.borrow_mut().extend(missing);
        let empty = document.images.is_empty() && document.machines.is_empty();
        if empty && loader.problems.borrow().is_empty() {
            loader.report(
                Problem::without_place(format!("{} has no image and no machine", place.shown()))
                    .with_help(format!("add one, for example: {}", IMAGE.example)),
            );
        }
        // A base that could not be read may have the parameter.
        if loader.problems.borrow().is_empty() {
            loader.check_settings();
        }
    }
    let problems = loader.problems.take();
    match root {
        Some(document) if problems.is_empty() => Ok(Loaded {
            recipe: Arc::clone(&document.recipe),
            parameters: document.parameters.clone(),
            images,
            incomplete,
            machines,
            files: loader.paths,
        }),
        _ => Err(RecipeError::new(place.shown(), problems)),
    }
}

/// Each of several problems once.
fn once(problems: Vec<Problem>) -> Vec<Problem> {
    let mut kept: Vec<Problem> = Vec::new();
    for problem in problems {
        if kept
            .iter()
            .all(|other| other.to_string() != problem.to_string())
        {
            kept.push(problem);
        }
    }
    kept
}

/// The recipe of this name in the catalogue: one of the user's goes before a built-in one.
fn in_catalogue(name: &str, files: &dyn Files) -> Option<Place> {
    let listed = files.catalogue();
    let own = listed.iter().find(|(other, _)| other == name);
    match own {
        Some((_, path)) => Some(Place::path(path)),
        None => catalogue::find(name).map(|recipe| Place::BuiltIn(recipe.name)),
    }
}

/// Which of several images is meant when none is named: the one with the recipe's name, else the
/// only one.
pub(crate) fn default_image<'a>(
    recipe: &str,
    names: impl Iterator<Item = &'a str> + Clone,
) -> Option<usize> {
    let only = (names.clone().count() == 1).then_some(0);
    names.clone().position(|name| name == recipe).or(only)
}

/// A document that was read, with its place and the values that were set for it.
struct Read {
    /// Its number, in the order of reading.
    id: usize,
    place: Place,
    /// What goes before the names of its parameters on the command line: `NAME.` for a mix-in.
    namespace: String,
    document: Document,
}

impl std::ops::Deref for Read {
    type Target = Document;

    fn deref(&self) -> &Document {
        &self.document
    }
}

/// A document is one of a place with the values that are set in it, by a node and by the user: the
/// last part is the namespace of its parameters.
type Key = (Place, Vec<(String, String)>, String);

struct Loader<'a> {
    files: &'a dyn Files,
    settings: &'a BTreeMap<String, String>,
    documents: BTreeMap<Key, Option<Rc<Read>>>,
    problems: Rc<RefCell<Vec<Problem>>>,
    room: Rc<Cell<u64>>,
    /// Parameters without a value that what is being read needs.
    asked: Rc<RefCell<Vec<Problem>>>,
    /// Images that need such parameters, by the number of the document and of the image in it.
    incomplete: BTreeMap<(usize, usize), Vec<Problem>>,
    paths: Vec<PathBuf>,
    /// By the number of the document and of the image in it.
    resolved: BTreeMap<(usize, usize), Option<Arc<Image>>>,
}

/// Recipes that are read for one: a recipe counts again for each set of values.
const MOST_DOCUMENTS: usize = 256;

/// How many images lie below what an image starts from, and how many steps they have.
fn weight(base: &Base) -> (usize, usize) {
    let (mut depth, mut steps) = (0, 0);
    let mut base = base;
    while let Base::Image(image) = base {
        depth += 1;
        steps += image.instructions.len() + image.checks.len();
        base = &image.base;
    }
    (depth, steps)
}

/// The images that are being resolved, by place and name.
type Around = Vec<(Place, String)>;

impl<'a> Loader<'a> {
    fn new(files: &'a dyn Files, settings: &'a BTreeMap<String, String>) -> Self {
        Self {
            files,
            settings,
            documents: BTreeMap::new(),
            problems: Rc::default(),
            room: Rc::new(Cell::new(files.limits().recipe_size.saturating_mul(16))),
            asked: Rc::default(),
            incomplete: BTreeMap::new(),
            paths: Vec::new(),
            resolved: BTreeMap::new(),
        }
    }
}

impl Loader<'_> {
    fn report(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    fn document(
        &mut self,
        place: &Place,
        asked: Option<&Spanned<String>>,
        set: &[(Spanned<String>, String)],
        namespace: &str,
    ) -> Option<Rc<Read>> {
        let values = set
            .iter()
            .map(|(name, value)| (name.value.clone(), value.clone()))
            .collect();
        let key = (place.clone(), values, namespace.to_owned());
        if let Some(known) = self.documents.get(&key) {
            return known.clone();
        }
        if self.documents.len() > MOST_DOCUMENTS {
            return None;
        }
        if self.documents.len() == MOST_DOCUMENTS {
            let message = format!("the recipe reads more than {MOST_DOCUMENTS} files");
            let problem = match asked {
                Some(asked) => Problem::new(&asked.span, message, "one too many"),
                None => Problem::without_place(message),
            };
            self.report(problem.with_help(
                "a recipe with different \"set\" nodes counts as another file: use fewer",
            ));
            self.documents.insert(key, None);
            return None;
        }
        let settings = Settings {
            set,
            given: self.settings,
            namespace,
        };
        let reporting = Reporting {
            files: self.files,
            problems: &self.problems,
            paths: &mut self.paths,
            room: &self.room,
            asked: &self.asked,
        };
        let span = asked.map(|asked| &asked.span);
        let read = document::read(place, span, &settings, reporting).map(|document| {
            Rc::new(Read {
                id: self.documents.len(),
                place: place.clone(),
                namespace: namespace.to_owned(),
                document,
            })
        });
        self.documents.insert(key, read.clone());
        read
    }

    /// The image at `index`; `None` when it is wrong, which is reported once.
    fn image(
        &mut self,
        document: &Rc<Read>,
        index: usize,
        around: &mut Around,
    ) -> Option<Arc<Image>> {
        let key = (document.id, index);
        if let Some(known) = self.resolved.get(&key) {
            let missing = self.incomplete.get(&key).into_iter().flatten();
            self.asked.borrow_mut().extend(missing.cloned());
            return known.clone();
        }
        let node = &document.images[index];
        if around.len() >= Limits::BASES {
            self.too_deep(&node.name);
            self.resolved.insert(key, None);
            return None;
        }
        let others = self.asked.take();
        let draft = self.draft(document, index);
        around.push((document.place.clone(), node.name.value.clone()));
        let mut image = self.finish(document, index, draft, around);
        around.pop();
        let missing = self.asked.replace(others);
        if !missing.is_empty() {
            // Whatever is made of this image lacks them, too.
            self.asked.borrow_mut().extend(missing.iter().cloned());
            self.incomplete.insert(key, missing);
            image = None;
        }
        self.resolved.insert(key, image.clone());
        image
    }

    /// The image at `index`, as far as it can be read without others.
    fn draft(&mut self, document: &Read, index: usize) -> Draft {
        let node = &document.images[index];
        let reader = Reader::new(&node.scope, &node.node, &IMAGE);
        let draft = image::read(&reader, self.files);
        self.paths.extend(draft.read.iter().cloned());
        draft
    }

    fn finish(
        &mut self,
        document: &Rc<Read>,
        index: usize,
        mut draft: Draft,
        around: &mut Around,
    ) -> Option<Arc<Image>> {
        let base = match draft.base.take()? {
            DraftBase::Wrong => return None,
            DraftBase::Bootstrap(bootstrap) => Base::Bootstrap(bootstrap),
            DraftBase::Disk(fetched) => Base::Disk(fetched),
            DraftBase::Layer(fetched) => Base::Layer(fetched),
            DraftBase::Dockerfile(draft) => {
                let base = self.dockerfile(document, index, draft, around)?;
                Base::Dockerfile(Box::new(base))
            }
            DraftBase::Bootc {
                reference,
                install,
                ignition,
                settings,
            } => {
                let directory = document.images[index].scope.directory.clone();
                let ignition = match ignition {
                    Some(path) => Some(self.ignition(document, &path, directory.as_deref())?),
                    None => None,
                };
                let source =
                    self.base(document, index, &reference, directory, &settings, around)?;
                Base::Bootc(Box::new(Bootc {
                    source: reference.map(|_| source),
                    install,
                    ignition,
                }))
            }
            DraftBase::From {
                reference,
                format,
                service,
                settings,
            } => {
                let directory = document.images[index].scope.directory.clone();
                let base = self.base(document, index, &reference, directory, &settings, around)?;
                self.with_service(self.with_format(base, format), service)
            }
        };
        let instructions = self.instructions(document, index, &mut draft, around)?;
        let name = &document.images[index].name;
        let own = instructions.len() + draft.checks.len();
        let (depth, steps) = weight(&base);
        let steps = steps + own;
        if depth >= Limits::BASES {
            self.too_deep(name);
            return None;
        }
        let most = self.files.limits().image_steps;
        if steps > most as usize {
            let message = format!(
                "the image \"{}\" has {steps} steps, more than {most}",
                name.value
            );
            let more = limits::raise("image-steps", &steps.next_multiple_of(1000).to_string());
            let help = format!("write several commands into one run, or {more}");
            self.report(Problem::new(&name.span, message, "too many steps").with_help(help));
            return None;
        }
        Some(Arc::new(Image {
            name: document.images[index].name.clone(),
            recipe: Arc::clone(&document.recipe),
            base,
            instructions,
            disk: draft.disk,
            kernel: draft.kernel,
            initrd: draft.initrd,
            boot: draft.boot,
            ports: draft.ports,
            shares: draft.shares,
            checks: draft.checks,
            tests: draft.tests,
            port_names: draft.port_names,
        }))
    }

    fn too_deep(&self, name: &Spanned<String>) {
        let message = format!(
            "the image \"{}\" has a chain of more than {} bases",
            name.value,
            Limits::BASES
        );
        let problem = Problem::new(&name.span, message, "too many bases");
        self.report(problem.with_help("merge several of them into one image"));
    }

    fn base(
        &mut self,
        document: &Rc<Read>,
        index: usize,
        reference: &Spanned<String>,
        directory: Option<PathBuf>,
        set: &[(Spanned<String>, String)],
        around: &mut Around,
    ) -> Option<Base> {
        let (place, image) = match self.target(document, index, reference, directory, set)? {
            Target::Tag(name) => {
                return Some(Base::Tag(Spanned::new(name, reference.span.clone())));
            }
            Target::DiskFile(path) => {
                return Some(Base::DiskFile(DiskFile {
                    path: Spanned::new(path, reference.span.clone()),
                    format: None,
                }));
            }
            Target::Registry(image) => return Some(Base::Registry(image)),
            Target::Dockerfile(path, stage) => {
                let span = &reference.span;
                if !self.may_read(document, &path, span) {
                    return None;
                }
                let mut dockerfile = self.dockerfile_at(&path, span, None)?;
                dockerfile.args = set.to_vec();
                dockerfile.target = stage.map(|stage| Spanned::new(stage, span.clone()));
                return Some(Base::Dockerfile(Box::new(dockerfile)));
            }
            Target::Sibling(other) => {
                self.refuse_settings(set, "an image of the same recipe");
                return self.step_to(document, other, reference, around);
            }
            Target::Elsewhere(place, image) => (place, image),
        };
        let base = self.document(&place, Some(reference), set, &document.namespace)?;
        let other = self.image_of(&base, image.as_deref(), reference)?;
        self.step_to(&base, other, reference, around)
    }

    /// A configuration for Ignition in a file; nothing when there is none, which is reported.
    fn ignition(
        &mut self,
        document: &Read,
        path: &Spanned<String>,
        directory: Option<&Path>,
    ) -> Option<String> {
        let file = normalise(&directory.unwrap_or(Path::new("")).join(&path.value));
        if !self.may_read(document, &file, &path.span) {
            return None;
        }
        let read = self.files.read(&file);
        let read = read.map_err(|error| format!("cannot be read: {error}"));
        match read.and_then(|text| check_ignition(&text).map(|()| text)) {
            Ok(text) => {
                self.paths.push(file);
                Some(text)
            }
            Err(why) => {
                let message = format!("{} {why}", file.display());
                let problem = Problem::new(&path.span, message, "not a configuration");
                let help = "give a configuration for Ignition, as butane writes it";
                self.report(problem.with_help(help));
                None
            }
        }
    }

    /// A base whose format the recipe says.
    fn with_format(&self, mut base: Base, format: Option<Spanned<DiskFormat>>) -> Base {
        match (&mut base, format) {
            (_, None) => {}
            (Base::DiskFile(file), Some(format)) => file.format = Some(format.value),
            (_, Some(format)) => self.report(
                Problem::new(
                    &format.span,
                    "only a disk file has a format",
                    "the base is not a disk file",
                )
                .with_help("leave format= out"),
            ),
        }
        base
    }

    /// A container image whose process the recipe wants to run, or not.
    fn with_service(&self, mut base: Base, service: Option<Spanned<bool>>) -> Base {
        match (&mut base, service) {
            (_, None) => {}
            (Base::Registry(image), Some(service)) => image.service = service.value,
            (Base::Dockerfile(file), Some(service)) => file.service = service.value,
            (_, Some(service)) => self.report(
                Problem::new(
                    &service.span,
                    "only a container image has a process to run",
                    "the base is no container image",
                )
                .with_help("leave service= out"),
            ),
        }
        base
    }

    /// Resolves a base, unless it is one of those that are being resolved.
    fn step_to(
        &mut self,
        document: &Rc<Read>,
        index: usize,
        reference: &Spanned<String>,
        around: &mut Around,
    ) -> Option<Base> {
        self.check_loop(document, index, reference, around)?;
        self.image(document, index, around).map(Base::Image)
    }

    /// Whether an image is not one of those that are being resolved; nothing when it is, which is
    /// reported.
    fn check_loop(
        &self,
        document: &Read,
        index: usize,
        reference: &Spanned<String>,
        around: &Around,
    ) -> Option<()> {
        let name = document.images[index].name.value.clone();
        let entry = (document.place.clone(), name);
        let Some(start) = around.iter().position(|other| *other == entry) else {
            return Some(());
        };
        let names: Vec<&str> = around[start..]
            .iter()
            .chain([&entry])
            .map(|(_, name)| name.as_str())
            .collect();
        self.report(
            Problem::new(
                &reference.span,
                format!("the image \"{}\" needs itself", entry.1),
                "this closes the loop",
            )
            .with_help(format!("the loop is {}", names.join(" → "))),
        );
        None
    }
}

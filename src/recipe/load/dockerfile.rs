//! Dockerfiles that images are made by: the files, and what the names stand for that they are
//! given.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use miette::NamedSource;

use super::super::dockerfile::{DraftDockerfile, DraftText, image_name};
use super::super::document::{Document, Place};
use super::super::error::{Problem, RecipeError};
use super::super::model::{Base, Boot, Context, Disk, Dockerfile, Image, Loaded, Recipe};
use super::super::reference::normalise;
use super::super::source::{Files, Source, Span, Spanned, Wanted};
use super::{Around, Loader, Read};
use crate::failure::Failure;
use crate::instruction::Repository;

/// What the build of a Dockerfile is given.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// The stage that is wanted; the last one when absent.
    pub target: Option<String>,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// What names in it stand for beside its stages.
    pub contexts: BTreeMap<String, String>,
    /// Whether its process does not run as a service.
    pub no_service: bool,
}

/// Reads a Dockerfile as a recipe with one image. A directory has its name from `whole`, the path
/// from the root.
///
/// # Errors
/// It cannot be read, or a name stands for nothing that is there. Mistakes in it are found when it
/// is planned.
pub fn load_dockerfile(
    path: &Path,
    whole: &Path,
    files: &dyn Files,
    given: &Given,
) -> Result<Loaded, RecipeError> {
    let Given {
        target,
        args,
        contexts,
        no_service,
    } = given;
    let none = BTreeMap::new();
    let mut loader = Loader::new(files, &none);
    let place = Place::path(path);
    let image = loader.image_of_dockerfile(path, whole, &place, |draft| {
        let given = |option: &str, name: &str, value: &str| {
            let text = format!("{option} {name}={value}");
            let range = (option.len() + 1, name.len()).into();
            let source = Arc::new(NamedSource::new("command line", text));
            Spanned::new(name.to_owned(), Span { source, range })
        };
        draft.service = !no_service;
        let args = args.iter();
        draft.args = args
            .map(|(name, value)| (given("--build-arg", name, value), value.clone()))
            .collect();
        draft.contexts = contexts
            .iter()
            .map(|(name, value)| {
                let name = given("--build-context", name, value);
                let mut value = name.clone().map(|_| value.clone());
                let start = name.span.range.offset() + name.value.len() + 1;
                value.span.range = (start, value.value.len()).into();
                (name, value)
            })
            .collect();
        draft.target = target.as_ref().map(|target| {
            let text = format!("--target {target}");
            let source = Arc::new(NamedSource::new("command line", text));
            let range = ("--target ".len(), target.len()).into();
            Spanned::new(target.clone(), Span { source, range })
        });
    });
    let problems = loader.problems.take();
    match image {
        Some(image) if problems.is_empty() => Ok(Loaded {
            recipe: Arc::clone(&image.recipe),
            parameters: Vec::new(),
            images: vec![image],
            incomplete: Vec::new(),
            machines: Vec::new(),
            files: loader.paths,
        }),
        _ => Err(RecipeError::new(place.shown(), problems)),
    }
}

impl Loader<'_> {
    /// The image of a Dockerfile that stands alone.
    fn image_of_dockerfile(
        &mut self,
        path: &Path,
        whole: &Path,
        place: &Place,
        give: impl FnOnce(&mut DraftDockerfile),
    ) -> Option<Arc<Image>> {
        let nowhere = Span {
            source: Arc::new(NamedSource::new(place.shown(), String::new())),
            range: (0, 0).into(),
        };
        let own = path.display().to_string();
        let path = DraftText::Path(Spanned::new(own, nowhere.clone()));
        let mut draft = DraftDockerfile::new(path);
        give(&mut draft);
        let stage = draft.target.as_ref().map(|target| target.value.as_str());
        let recipe = Arc::new(Recipe::named(image_name(whole, stage)));
        let document = Rc::new(Read {
            id: usize::MAX,
            place: place.clone(),
            namespace: String::new(),
            document: Document {
                recipe: Arc::clone(&recipe),
                parameters: Vec::new(),
                images: Vec::new(),
                machines: Vec::new(),
            },
        });
        let mut base = self.read_dockerfile(&document, usize::MAX, draft, None, &mut Vec::new())?;
        base.name = image_name(whole, None);
        Some(Arc::new(Image {
            name: Spanned::new(recipe.name.clone(), nowhere),
            recipe,
            base: Base::Dockerfile(Box::new(base)),
            instructions: Vec::new(),
            disk: Disk::default(),
            kernel: None,
            initrd: None,
            boot: Boot::default(),
            ports: Vec::new(),
            shares: Vec::new(),
            checks: Vec::new(),
            tests: Vec::new(),
            port_names: BTreeMap::new(),
        }))
    }

    /// The Dockerfile of a `dockerfile` node.
    pub(super) fn dockerfile(
        &mut self,
        document: &Rc<Read>,
        index: usize,
        draft: DraftDockerfile,
        around: &mut Around,
    ) -> Option<Dockerfile> {
        let directory = document.images[index].scope.directory.clone();
        self.read_dockerfile(document, index, draft, directory, around)
    }

    fn read_dockerfile(
        &mut self,
        document: &Rc<Read>,
        index: usize,
        draft: DraftDockerfile,
        directory: Option<PathBuf>,
        around: &mut Around,
    ) -> Option<Dockerfile> {
        let inside = directory.clone().unwrap_or_default();
        let context = match &draft.context {
            Some(context) => {
                let context_path = self.directory(&inside, context)?;
                if !self.may_read(document, &context_path, &context.span) {
                    return None;
                }
                Some(context_path)
            }
            None => None,
        };
        let mut dockerfile = match &draft.text {
            DraftText::Path(own) => {
                let path = match self.repository(own, Wanted::Dockerfile) {
                    Some(found) => found?,
                    None => {
                        let path = normalise(&inside.join(&own.value));
                        if !self.may_read(document, &path, &own.span) {
                            return None;
                        }
                        path
                    }
                };
                self.dockerfile_at(&path, &own.span, context)?
            }
            DraftText::Inline(text) => {
                let context = context.unwrap_or_else(|| joined(&inside, "."));
                let shown = format!("a Dockerfile in {}", document.place.shown());
                Dockerfile::new(
                    text.span.clone(),
                    image_name(&context.join("Dockerfile"), None),
                    Arc::new(NamedSource::new(shown, text.value.clone())),
                    self.ignore_file(&[context.join(".dockerignore")], &text.span)?,
                    context,
                    self.files.limits(),
                )
            }
        };
        for (name, value) in draft.contexts {
            let (path, own) = match self.repository(&value, Wanted::Directory) {
                Some(found) => (found?, false),
                None => (joined(&inside, &value.value), true),
            };
            let context = if self.files.is_directory(&path) {
                if own && !self.may_read(document, &path, &value.span) {
                    return None;
                }
                Context::Directory(Spanned::new(path, value.span))
            } else {
                let value = value.map(|text| reference(&text));
                let directory = directory.clone();
                let base = self.base(document, index, &value, directory, &[], around)?;
                Context::Image(Box::new(base))
            };
            dockerfile.contexts.push((name, context));
        }
        (dockerfile.args, dockerfile.target) = (draft.args, draft.target);
        dockerfile.service = draft.service;
        Some(dockerfile)
    }

    /// The Dockerfile at a path, given nothing. Its context is its directory unless it has another.
    pub(super) fn dockerfile_at(
        &mut self,
        path: &Path,
        span: &Span,
        context: Option<PathBuf>,
    ) -> Option<Dockerfile> {
        let shown = path.display().to_string();
        let problem = if self.files.is_directory(path) {
            let problem = Problem::new(span, format!("{shown} is a directory"), "a directory");
            problem.with_help(format!("name the file in it: \"{shown}/Dockerfile\""))
        } else if !self.files.exists(path) {
            let problem = Problem::new(span, format!("no file {shown} found"), "not found");
            problem.with_help("paths are relative to the directory of the recipe file")
        } else {
            match self.files.read(path) {
                Ok(text) => {
                    self.paths.push(path.to_owned());
                    let parent = path.parent().filter(|parent| *parent != Path::new(""));
                    let context = context.unwrap_or_else(|| {
                        let usual = parent.unwrap_or(Path::new("."));
                        usual.to_owned()
                    });
                    let own = PathBuf::from(format!("{shown}.dockerignore"));
                    let usual = context.join(".dockerignore");
                    return Some(Dockerfile::new(
                        span.clone(),
                        image_name(path, None),
                        Arc::new(NamedSource::new(shown, text)),
                        self.ignore_file(&[own, usual], span)?,
                        context,
                        self.files.limits(),
                    ));
                }
                Err(error) => {
                    let message = format!("cannot read {shown}: {error}");
                    let problem = Problem::new(span, message, "not readable");
                    problem.with_help("check that you can read it and that it is text")
                }
            }
        };
        self.report(problem);
        None
    }

    /// The first of several files that is there, which says what is left out of a context.
    #[allow(
        clippy::option_option,
        reason = "the outer one is none when it was reported"
    )]
    fn ignore_file(&mut self, paths: &[PathBuf], span: &Span) -> Option<Option<Source>> {
        let Some(path) = paths.iter().find(|path| self.files.exists(path)) else {
            return Some(None);
        };
        let shown = path.display().to_string();
        match self.files.read(path) {
            Ok(text) => {
                self.paths.push(path.to_owned());
                Some(Some(Arc::new(NamedSource::new(shown, text))))
            }
            Err(error) => {
                let message = format!("cannot read {shown}: {error}");
                let problem = Problem::new(span, message, "its context leaves files out by it");
                self.report(problem.with_help("check that you can read it and that it is text"));
                None
            }
        }
    }

    /// What is wanted of the git repository that a text names; `None` when it names none. The
    /// inner one is none when that was reported.
    fn repository(&self, text: &Spanned<String>, wanted: Wanted) -> Option<Option<PathBuf>> {
        let repository = Repository::parse(&text.value)?;
        let found = match repository {
            Ok(repository) => self.files.repository(&repository, wanted),
            Err(message) => Err(Failure::usage(message)
                .with_help("write ADDRESS#REF:DIRECTORY, or ADDRESS?ref=REF&subdir=DIRECTORY")),
        };
        let wrong = |error: Failure| {
            let problem = Problem::new(&text.span, error.message(), "named here");
            self.report(problem.with_help(error.help().join("; ")));
        };
        Some(found.map_err(wrong).ok())
    }

    fn directory(&self, inside: &Path, path: &Spanned<String>) -> Option<PathBuf> {
        let directory = joined(inside, &path.value);
        if self.files.is_directory(&directory) {
            return Some(directory);
        }
        let message = format!("no directory {} found", directory.display());
        let problem = Problem::new(&path.span, message, "not found");
        self.report(problem.with_help("paths are relative to the directory of the recipe file"));
        None
    }
}

/// A path as it is meant in a directory; never empty.
fn joined(directory: &Path, path: &str) -> PathBuf {
    let joined = normalise(&directory.join(path));
    match joined.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => joined,
    }
}

/// What docker calls an image, as `from` calls it.
fn reference(text: &str) -> String {
    if let Some(name) = text.strip_prefix("docker-image://") {
        return format!("oci://{name}");
    }
    match text.strip_prefix("oci-layout://") {
        Some(path) => format!("oci:{path}"),
        None => text.to_owned(),
    }
}

//! What the text of a `from` node, of a mix-in or of a machine's image names.

use std::path::{Path, PathBuf};

use super::super::catalogue;
use super::super::document::Place;
use super::super::error::Problem;
use super::super::model::RegistryImage;
use super::super::reference::{Reference, normalise};
use super::super::scope::outside;
use super::super::source::{Span, Spanned, TemplateRecipe};
use super::super::value;
use super::{Loader, Read, in_catalogue};
use crate::failure::Failure;
use crate::template::TemplateRef;

/// What such a text names.
pub(super) enum Target {
    /// An image in the store.
    Tag(String),
    /// A disk that was made elsewhere.
    DiskFile(PathBuf),
    /// An image in a registry or a layout.
    Registry(RegistryImage),
    /// A Dockerfile, and the stage that is wanted of it.
    Dockerfile(PathBuf, Option<String>),
    /// The image of the same document at this index.
    Sibling(usize),
    /// One of another recipe.
    Elsewhere(Place, Option<String>),
}

impl Loader<'_> {
    /// What a text names that stands in the image at `index`, or in none; `None` when there is no
    /// such thing, which is reported.
    pub(super) fn target(
        &self,
        document: &Read,
        index: usize,
        reference: &Spanned<String>,
        directory: Option<PathBuf>,
        set: &[(Spanned<String>, String)],
    ) -> Option<Target> {
        match Reference::parse(&reference.value) {
            Reference::Tag(name) => {
                if let Err(wrong) = value::name(&name) {
                    let problem = Problem::new(&reference.span, wrong.message, "wrong tag");
                    self.report(problem.with_help(wrong.help));
                    return None;
                }
                self.refuse_settings(set, "a tag");
                Some(Target::Tag(name))
            }
            Reference::Address => {
                let message = "an image cannot start from an address";
                let problem = Problem::new(&reference.span, message, "an address");
                let help = "fetch it: disk { fetch \"https://…\" sha256=\"…\" }, or layer { … } \
                            for the archive of a root file system";
                self.report(problem.with_help(help));
                None
            }
            Reference::DiskFile(path) => {
                self.refuse_settings(set, "a disk");
                let path = normalise(&directory.unwrap_or_default().join(path));
                if !self.may_read(document, &path, &reference.span) {
                    return None;
                }
                if !self.files.exists(&path) || self.files.is_directory(&path) {
                    self.report(
                        Problem::new(
                            &reference.span,
                            match self.files.is_directory(&path) {
                                true => format!("{} is a directory, not a disk", path.display()),
                                false => format!("no file {} found", path.display()),
                            },
                            "not found",
                        )
                        .with_help("paths are relative to the directory of the recipe file"),
                    );
                    return None;
                }
                Some(Target::DiskFile(path))
            }
            Reference::Dockerfile { path, stage } => {
                let path = normalise(&directory.unwrap_or_default().join(path));
                Some(Target::Dockerfile(path, stage))
            }
            Reference::Registry(name) => {
                self.refuse_settings(set, "an image in a registry");
                Some(Target::Registry(RegistryImage {
                    shown: Spanned::new(name.clone(), reference.span.clone()),
                    location: name,
                    context: None,
                    service: false,
                }))
            }
            Reference::Layout { scheme, path } => {
                self.refuse_settings(set, "an image in a layout");
                let inside = normalise(&directory.unwrap_or_default().join(path));
                if !self.may_read(document, &inside, &reference.span) {
                    return None;
                }
                Some(Target::Registry(RegistryImage {
                    shown: reference.clone(),
                    location: format!("{scheme}:{}", inside.display()),
                    context: None,
                    service: false,
                }))
            }
            Reference::Storage => {
                self.refuse_settings(set, "an image in podman's storage");
                if !self.may_read(document, Path::new(&reference.value), &reference.span) {
                    return None;
                }
                Some(Target::Registry(RegistryImage {
                    shown: reference.clone(),
                    location: reference.value.clone(),
                    context: None,
                    service: false,
                }))
            }
            Reference::Path { path, image } => {
                let path = directory.unwrap_or_default().join(path);
                let place = Place::path(&path);
                let inside = normalise(&path);
                self.may_read(document, &inside, &reference.span)
                    .then_some(Target::Elsewhere(place, image))
            }
            Reference::Template { wanted, image } => {
                let place = self.template(document, reference, &wanted)?;
                Some(Target::Elsewhere(place, image))
            }
            Reference::Name { name, image } => {
                if image.is_none()
                    && let Some(other) = self.sibling(document, index, &name)
                {
                    return Some(Target::Sibling(other));
                }
                let beside = directory.map(|directory| directory.join(format!("{name}.kdl")));
                let beside = beside
                    .filter(|path| Place::path(path) != document.place && self.files.exists(path));
                let beside = beside.map(|path| Place::path(&path));
                // A recipe that stands before a built-in one may start from that.
                let catalogue = || {
                    in_catalogue(&name, self.files)
                        .filter(|place| *place != document.place)
                        .or_else(|| catalogue::find(&name).map(|one| Place::BuiltIn(one.name)))
                };
                match beside.or_else(catalogue) {
                    Some(place) => Some(Target::Elsewhere(place, image)),
                    None => {
                        self.unknown(document, index, reference, &name);
                        None
                    }
                }
            }
        }
    }

    /// Where the recipe of a template is; nothing when there is none, which is reported, or when its
    /// version is chosen later.
    fn template(
        &self,
        document: &Read,
        reference: &Spanned<String>,
        wanted: &str,
    ) -> Option<Place> {
        let asking = match &document.place {
            Place::Path(path) => path.as_path(),
            Place::BuiltIn(_) => Path::new(""),
        };
        let found = match wanted.parse::<TemplateRef>() {
            Ok(wanted) => self.files.template(&wanted, asking),
            Err(why) => Err(Failure::usage(why)
                .with_help("write NAME@VERSION or NAMESPACE/NAME@VERSION, such as \"web@^1.2\"")),
        };
        match found {
            Ok(TemplateRecipe::BuiltIn(name)) => {
                catalogue::find(&name).map(|one| Place::BuiltIn(one.name))
            }
            Ok(TemplateRecipe::File(path)) => Some(Place::path(&path)),
            Ok(TemplateRecipe::Later) => None,
            Err(failure) => {
                let problem = Problem::new(&reference.span, failure.message(), "asked for here");
                self.report(problem.with_help(failure.help().join("; ")));
                None
            }
        }
    }

    /// Whether a recipe may read a file; when it may not, that is reported.
    pub(super) fn may_read(&self, document: &Read, path: &Path, span: &Span) -> bool {
        let confines = match &document.place {
            Place::Path(own) => self.files.confines(own),
            Place::BuiltIn(_) => None,
        };
        let outside = outside(confines.as_deref(), path, span);
        let may = outside.is_none();
        self.problems.borrow_mut().extend(outside);
        may
    }
}

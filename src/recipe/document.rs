//! One recipe with what it includes: parsing, and the parameters that hold in all of it.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use miette::NamedSource;

use super::catalogue;
use super::check::report_unknown;
use super::error::{Problem, closest, enumerate};
use super::header::{self, Declared, Settings, known_parameters};
use super::model::{Parameter, Recipe};
use super::reader::Reader;
use super::reference::normalise;
use super::scope::Scope;
use super::shape::{DOCUMENT, INCLUDE};
use super::source::{Files, Source, Span, Spanned};
use super::value;
use crate::limits;
use crate::text::kdl::{self, Bounds, Node, Value};
use crate::text::shown_size;

/// Images and machines of one recipe. They are compared with each other.
const MOST: usize = 1000;

/// Where a recipe is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// A file, by its normalised path.
    Path(PathBuf),
    /// One that comes with vmfab.
    BuiltIn(&'static str),
}

impl Place {
    /// The file's place.
    pub(super) fn path(path: &Path) -> Self {
        Self::Path(normalise(path))
    }

    /// As messages have it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::BuiltIn(name) => format!("{name}.kdl (built in)"),
        }
    }

    pub(super) fn directory(&self) -> Option<PathBuf> {
        match self {
            Self::Path(path) => Some(path.parent().unwrap_or(Path::new("")).to_owned()),
            Self::BuiltIn(_) => None,
        }
    }

    /// The file's name without `.kdl`.
    pub(super) fn stem(&self) -> String {
        match self {
            Self::Path(path) => path
                .file_stem()
                .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned()),
            Self::BuiltIn(name) => (*name).to_owned(),
        }
    }
}

/// A recipe with what it includes, its images not read yet.
pub(super) struct Document {
    pub recipe: Arc<Recipe>,
    pub parameters: Vec<Parameter>,
    pub images: Vec<ImageNode>,
    pub machines: Vec<MachineNode>,
}

/// An image node with what it is read with.
pub(super) struct ImageNode {
    pub name: Spanned<String>,
    pub node: Node,
    pub scope: Scope,
}

/// A machine node with what it is read with.
pub(super) struct MachineNode {
    pub node: Node,
    pub scope: Scope,
}

/// A parsed file, before parameters hold in it.
struct File {
    nodes: Vec<Node>,
    scope: Scope,
}

/// Where reading a document reports to.
pub(super) struct Reporting<'a> {
    pub files: &'a dyn Files,
    pub problems: &'a Rc<RefCell<Vec<Problem>>>,
    /// The files that were read.
    pub paths: &'a mut Vec<PathBuf>,
    /// Bytes that parameters may still make of strings.
    pub room: &'a Rc<Cell<u64>>,
    /// Parameters without a value that were needed.
    pub asked: &'a Rc<RefCell<Vec<Problem>>>,
}

/// Reads the recipe at `place`; `None` when it cannot be read, which is reported at `asked`.
pub(super) fn read(
    place: &Place,
    asked: Option<&Span>,
    settings: &Settings<'_>,
    reporting: Reporting<'_>,
) -> Option<Document> {
    let problems = Rc::clone(reporting.problems);
    let mut collector = Collector {
        reporting,
        parsed: Vec::new(),
        done: Vec::new(),
    };
    collector.collect(place, asked, &mut Vec::new())?;

    let mut recipe = None;
    let mut declared = Declared::default();
    for (index, file) in collector.parsed.iter().enumerate() {
        let own = header::read(
            &file.nodes,
            &file.scope,
            &place.stem(),
            &mut declared,
            settings,
        );
        if index == 0 {
            recipe = own;
        }
    }
    for (name, _) in settings.set {
        if !declared.values.contains_key(&name.value) {
            problems.borrow_mut().push(
                Problem::new(
                    &name.span,
                    format!("the recipe has no parameter \"{}\"", name.value),
                    "unknown parameter",
                )
                .with_help(known_parameters(&name.value, declared.values.keys())),
            );
        }
    }

    let values = Rc::new(declared.values);
    let unset = Rc::new(declared.unset);
    let (mut images, mut machines) = (Vec::new(), Vec::new());
    let mut too_many = false;
    for mut file in collector.parsed {
        file.scope.values = Some(Rc::clone(&values));
        file.scope.unset = Rc::clone(&unset);
        for node in file.nodes {
            match node.name().value() {
                "image" | "machine" if images.len() + machines.len() >= MOST => {
                    if !too_many {
                        let message =
                            format!("the recipe has more than {MOST} images and machines");
                        let span = file.scope.span(node.name().span());
                        let problem = Problem::new(&span, message, "one too many");
                        file.scope
                            .report(problem.with_help("split it into several recipes"));
                    }
                    too_many = true;
                }
                "image" => add_image(node, &file.scope, &mut images),
                "machine" => machines.push(MachineNode {
                    node,
                    scope: file.scope.clone(),
                }),
                _ => {}
            }
        }
    }
    Some(Document {
        recipe: Arc::new(recipe.unwrap_or_else(|| Recipe::named(place.stem()))),
        parameters: declared.parameters,
        images,
        machines,
    })
}

/// Parses a file and all that it includes, each once.
struct Collector<'a> {
    reporting: Reporting<'a>,
    parsed: Vec<File>,
    done: Vec<Place>,
}

impl Collector<'_> {
    fn report(&self, problem: Problem) {
        self.reporting.problems.borrow_mut().push(problem);
    }

    /// `around` are the files that include this one.
    fn collect(
        &mut self,
        place: &Place,
        asked: Option<&Span>,
        around: &mut Vec<Place>,
    ) -> Option<()> {
        let text = self.text(place, asked)?;
        self.done.push(place.clone());
        let source: Source = Arc::new(NamedSource::new(place.shown(), text));
        let document = match kdl::parse(&source, Bounds::WRITTEN, "recipes are") {
            Ok(document) => document,
            Err(problems) => {
                self.reporting.problems.borrow_mut().extend(problems);
                return None;
            }
        };
        let scope = Scope {
            source,
            directory: place.directory(),
            confines: match place {
                Place::Path(path) => self.reporting.files.confines(path),
                Place::BuiltIn(_) => None,
            },
            values: None,
            problems: Rc::clone(self.reporting.problems),
            room: Rc::clone(self.reporting.room),
            unset: Rc::default(),
            asked: Rc::clone(self.reporting.asked),
        };
        let (includes, nodes): (Vec<_>, Vec<_>) = document
            .nodes
            .into_iter()
            .partition(|node| node.name().value() == "include");
        for node in &nodes {
            if DOCUMENT.child(node.name().value()).is_none() {
                report_unknown(&scope, node, &DOCUMENT);
            }
        }
        self.parsed.push(File {
            nodes,
            scope: scope.clone(),
        });
        around.push(place.clone());
        for node in &includes {
            self.include(node, &scope, around);
        }
        around.pop();
        Some(())
    }

    fn include(&mut self, node: &Node, scope: &Scope, around: &mut Vec<Place>) {
        let reader = Reader::new(scope, node, &INCLUDE);
        let Some(path) = reader.argument(0) else {
            return;
        };
        let directory = scope.directory.clone().unwrap_or_default();
        let included = normalise(&directory.join(&path.value));
        if !scope.may_read(&included, &path.span) {
            return;
        }
        let place = Place::Path(included);
        if around.contains(&place) {
            let mut names: Vec<String> = around.iter().map(Place::shown).collect();
            names.push(place.shown());
            self.report(
                Problem::new(
                    &path.span,
                    format!("{} includes itself", place.shown()),
                    "this closes the loop",
                )
                .with_help(format!("the loop is {}", names.join(" → "))),
            );
        } else if !self.done.contains(&place) {
            self.collect(&place, Some(&path.span), around);
        }
    }

    fn text(&mut self, place: &Place, asked: Option<&Span>) -> Option<String> {
        let path = match place {
            Place::BuiltIn(name) => {
                return catalogue::find(name).map(|found| found.text.to_owned());
            }
            Place::Path(path) => path,
        };
        // Mistakes are shown with their lines, and logs of builds are read by many: a file that
        // another one names must be meant as a recipe.
        if let Some(span) = asked
            && path.extension().is_none_or(|extension| extension != "kdl")
        {
            let message = format!("{} is not a recipe", path.display());
            let problem = Problem::new(span, message, "it lacks the extension \".kdl\"");
            self.report(
                problem
                    .with_help("a recipe file needs the extension \".kdl\", such as \"base.kdl\""),
            );
            return None;
        }
        match self.reporting.files.read(path) {
            Ok(text) => {
                self.reporting.paths.push(path.clone());
                Some(text)
            }
            Err(error) => {
                let most = self.reporting.files.limits().recipe_size;
                self.report(unreadable(path, &error, asked, most));
                None
            }
        }
    }
}

fn unreadable(path: &Path, error: &std::io::Error, asked: Option<&Span>, most: u64) -> Problem {
    use std::io::ErrorKind;
    let (message, label) = match error.kind() {
        ErrorKind::NotFound => (format!("no file {} found", path.display()), "not found"),
        _ => (
            format!("cannot read {}: {error}", path.display()),
            "not readable",
        ),
    };
    let help = match (error.kind(), asked) {
        (ErrorKind::FileTooLarge, _) => {
            let larger = shown_size(most.saturating_mul(2));
            limits::raise("recipe-size", &format!("\"{larger}\""))
        }
        (ErrorKind::InvalidData, _) => {
            "recipes are UTF-8 text; to start from a disk, write: image \"x\" { from \"./disk.qcow2\" }"
                .to_owned()
        }
        (_, Some(_)) => "paths are relative to the directory of the recipe file".to_owned(),
        (_, None) => {
            let names = catalogue::catalogue().iter().map(|recipe| recipe.name);
            let word = path.to_string_lossy();
            let word = word.strip_suffix(".kdl").unwrap_or(&word);
            match closest(word, names.clone()) {
                Some(name) => format!("did you mean the built-in recipe \"{name}\"?"),
                None => format!(
                    "give the path of a recipe file, or the name of a built-in recipe: {}",
                    enumerate(&names.collect::<Vec<_>>())
                ),
            }
        }
    };
    let problem = match asked {
        Some(span) => Problem::new(span, message, label),
        None => Problem::without_place(message),
    };
    problem.with_help(help)
}

fn add_image(node: Node, scope: &Scope, images: &mut Vec<ImageNode>) {
    // The image is read when it is needed, and its other mistakes are reported then.
    let wrong = |range, message: String, label: &str, help: &str| {
        scope.report(Problem::new(&scope.span(range), message, label).with_help(help));
    };
    let arguments = node.entries().iter().filter(|entry| entry.name().is_none());
    let name = match arguments.map(|entry| (entry.value(), entry.span())).next() {
        Some((Value::String(text), range)) => match value::name(text) {
            Ok(name) => Spanned::new(name, scope.span(range)),
            Err(problem) => return wrong(range, problem.message, "wrong value", problem.help),
        },
        Some((_, range)) => {
            let message = "the name of an image must be a string".to_owned();
            return wrong(
                range,
                message,
                "not a string",
                "write it in quotes: image \"web\" { … }",
            );
        }
        // Reading it reports that.
        None => Spanned::new(String::new(), scope.span(node.name().span())),
    };
    let twin = images.iter().find(|image| image.name.value == name.value);
    if let Some(first) = twin.filter(|_| !name.is_empty()) {
        scope.report(
            Problem::new(
                &name.span,
                format!("there are two images \"{}\"", name.value),
                "the second one",
            )
            .with_other(&first.name.span, "the first one")
            .with_help("give one of them another name"),
        );
        return;
    }
    images.push(ImageNode {
        name,
        node,
        scope: scope.clone(),
    });
}

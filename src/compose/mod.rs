//! Compose files to the `vmfab.kdl` that says the same, with the places of mistakes. Pure: files
//! are read through [`Files`].
//!
//! ```text
//! text ── yaml ──► nodes ── interpolate, merge (override, extends) ──► services ── kdl ──► vmfab.kdl
//! ```
//!
//! The text at the end is what `vmfab up` reads, too: there is one lowering of machines.
//! Source: the Compose Specification, <https://github.com/compose-spec/compose-spec>.

mod build;
mod include;
mod interpolate;
mod kdl;
mod known;
mod merge;
mod model;
mod network;
mod places;
mod reader;
mod service;
mod template;
mod units;
mod yaml;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use interpolate::Variables;
use miette::NamedSource;
use reader::Notes;
use service::{Reading, Shared, Surroundings};
use yaml::{Node, Value};

pub use template::template;

use crate::host::SecretSource;
use crate::text::{Problem, Problems, Span, Spanned, closest};

/// The names that Compose files have, the first one first.
pub const USUAL: [&str; 4] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
];

/// How often services may extend others.
const DEEPEST: usize = 16;

/// What Compose files ask about other files.
pub trait Files {
    /// The text of a file.
    ///
    /// # Errors
    /// It cannot be read, or is not UTF-8.
    fn read(&self, path: &Path) -> io::Result<String>;

    fn is_file(&self, path: &Path) -> bool;

    fn is_directory(&self, path: &Path) -> bool;
}

/// A Compose file as machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// The text of the `vmfab.kdl` that says the same.
    pub kdl: String,
    /// What has no effect, or another one than with docker.
    pub warnings: Vec<Problem>,
    /// The secrets of its builds, by id.
    pub secrets: BTreeMap<String, SecretSource>,
}

/// Whether a path is that of a Compose file, by its ending.
#[must_use]
pub fn is_compose(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    matches!(ending, Some("yaml" | "yml"))
}

/// Reads a Compose file and the one that is named like it with `.override`, if there is one.
/// `environment` has the variables of the process.
///
/// # Errors
/// All mistakes that were found, each with its place.
pub fn load(
    path: &Path,
    files: &dyn Files,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Converted, Problems> {
    let shown = path.display().to_string();
    let directory = path.parent().unwrap_or(Path::new(""));
    let failed = |problems| Problems::new(shown.clone(), problems);
    let mut notes = Notes::default();
    let variables = match variables(directory, files, environment) {
        Ok(file) => Variables { environment, file },
        Err(problem) => return Err(failed(vec![problem])),
    };
    let mut root = match document(path, files, &variables, &mut notes) {
        Ok(root) => root,
        Err(problem) => {
            notes.problems.push(problem);
            return Err(failed(notes.problems));
        }
    };
    let over = path.file_stem().map(|stem| {
        let ending = path.extension().unwrap_or_default().to_string_lossy();
        path.with_file_name(format!("{}.override.{ending}", stem.to_string_lossy()))
    });
    if let Some(over) = over.filter(|over| files.is_file(over)) {
        match document(&over, files, &variables, &mut notes) {
            Ok(over) => root = merge::merged(root, over, ""),
            Err(problem) => notes.problems.push(problem),
        }
    }
    let known = |name: &str| variables.get(name);
    let mut project = Project {
        directory,
        files,
        variables: &variables,
        notes,
        extended: BTreeMap::new(),
    };
    let root = project.included(root, Path::new(""), 0);
    let services = project.services(&root);
    let mut notes = project.notes;
    let names: Vec<String> = services
        .iter()
        .map(|(name, _)| name.value.clone())
        .collect();
    let project = project_name(directory, &root, &variables);
    let volume = |name: &str| volume_name(name, &project, &root);
    let around = Surroundings {
        volume: &volume,
        directory,
        files,
        known: &known,
        names: &names,
        root: &root,
    };
    let mut shared = Shared::default();
    let services: Vec<_> = services
        .iter()
        .map(|(name, node)| {
            let reading = Reading {
                around: &around,
                shared: &mut shared,
                notes: &mut notes,
                service: model::Service::default(),
            };
            reading.read(name, node)
        })
        .collect();
    network::check(&root, &mut notes);
    circles(&services, &root, &mut notes);
    if !notes.problems.is_empty() {
        return Err(failed(notes.problems));
    }
    Ok(Converted {
        kdl: kdl::text(&services),
        warnings: notes.warnings,
        secrets: shared.secrets,
    })
}

/// The name of the project, which its volumes' names begin with: as docker chooses it.
fn project_name(directory: &Path, root: &Node, variables: &Variables<'_>) -> String {
    let own = variables
        .get("COMPOSE_PROJECT_NAME")
        .or_else(|| scalar(root.get("name")));
    let own = own.filter(|name| !name.is_empty()).unwrap_or_else(|| {
        let directory = match directory == Path::new("") {
            true => Path::new("."),
            false => directory,
        };
        let directory = directory.canonicalize().unwrap_or_default();
        let name = directory.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    });
    let plain = |c: &char| c.is_ascii_alphanumeric() || "_-".contains(*c);
    let name: String = own.to_lowercase().chars().filter(plain).collect();
    let name = name.trim_start_matches(['_', '-']);
    if name.is_empty() { "project" } else { name }.to_owned()
}

/// The name in the home of a volume: with the project's name in front, unless the file says which
/// one it is.
fn volume_name(name: &str, project: &str, root: &Node) -> String {
    let said = root.get("volumes").and_then(|volumes| volumes.get(name));
    if let Some(own) = said.and_then(|said| scalar(said.get("name"))) {
        return own;
    }
    let external = said.and_then(|said| said.get("external"));
    match external
        .is_some_and(|node| !matches!(&node.value, Value::Scalar(text) if text == "false"))
    {
        true => name.to_owned(),
        false => format!("{project}_{name}"),
    }
}

fn scalar(node: Option<&Node>) -> Option<String> {
    match &node?.value {
        Value::Scalar(text) => Some(text.clone()),
        _ => None,
    }
}

/// The variables of `.env`.
fn variables(
    directory: &Path,
    files: &dyn Files,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, Problem> {
    let path = directory.join(".env");
    if !files.is_file(&path) {
        return Ok(BTreeMap::new());
    }
    let wrong = |message: String| {
        Problem::without_place(format!("{}: {message}", path.display()))
            .with_help("write NAME=VALUE in each line")
    };
    let text = files
        .read(&path)
        .map_err(|error| wrong(error.to_string()))?;
    interpolate::env_file(&text, environment)
        .map_err(|line| wrong(format!("line {line} sets no variable")))
}

/// The nodes of a file, with variables put in.
fn document(
    path: &Path,
    files: &dyn Files,
    variables: &Variables<'_>,
    notes: &mut Notes,
) -> Result<Node, Problem> {
    let shown = path.display().to_string();
    let text = files.read(path).map_err(|error| {
        Problem::without_place(format!("cannot read {shown}: {error}"))
            .with_help("name a Compose file: vmfab compose convert FILE")
    })?;
    let source = Arc::new(NamedSource::new(shown, text));
    let mut root = yaml::parse(&source, &mut notes.problems)?;
    interpolate::interpolate(
        &mut root,
        variables,
        &mut notes.problems,
        &mut notes.warnings,
    );
    Ok(root)
}

struct Project<'a> {
    directory: &'a Path,
    files: &'a dyn Files,
    variables: &'a Variables<'a>,
    notes: Notes,
    /// Files that services extend others of.
    extended: BTreeMap<String, Option<Node>>,
}

impl Project<'_> {
    /// The services that are made, each with what it extends.
    fn services(&mut self, root: &Node) -> Vec<(Spanned<String>, Node)> {
        const KNOWN: [&str; 7] = [
            "configs", "models", "name", "networks", "secrets", "services", "volumes",
        ];
        if let Value::Map(map) = &root.value {
            let mut known = KNOWN.to_vec();
            known.push("version");
            self.notes.unknown(map, &known, "a Compose file");
        }
        let Some(services) = root.get("services") else {
            let help = "for example: services: { web: { image: nginx:1 } }";
            self.notes
                .wrong(&root.span, "the file has no services", help);
            return Vec::new();
        };
        let profiles = self.variables.get("COMPOSE_PROFILES").unwrap_or_default();
        let profiles: Vec<&str> = profiles.split(',').map(str::trim).collect();
        let mut found = Vec::new();
        for (name, node) in self.notes.map(services, "services").to_vec() {
            let node = self.whole(&name.value, node, root, 0);
            let own = match node.get("profiles") {
                Some(list) => self.notes.words(list, "profiles").unwrap_or_default(),
                None => Vec::new(),
            };
            let active = |profile: &String| profiles.contains(&profile.as_str());
            if own.is_empty() || profiles.contains(&"*") || own.iter().any(active) {
                found.push((name, node));
            }
        }
        if found.is_empty() && self.notes.problems.is_empty() {
            let help = "COMPOSE_PROFILES=NAME vmfab up starts those of a profile";
            self.notes
                .wrong(&services.span, "no service is to be started", help);
        }
        found
    }

    /// A service over those that it extends.
    fn whole(&mut self, name: &str, mut node: Node, root: &Node, depth: usize) -> Node {
        let Value::Map(map) = &mut node.value else {
            return node;
        };
        let Some(at) = map.iter().position(|(key, _)| key.value == "extends") else {
            return node;
        };
        let (key, extends) = map.remove(at);
        let text = |node: Option<&Node>| match &node?.value {
            Value::Scalar(text) => Some(text.clone()),
            _ => None,
        };
        let service = text(Some(&extends)).or_else(|| text(extends.get("service")));
        let file = text(extends.get("file"));
        let Some(service) = service else {
            let help = "write extends: { service: NAME }";
            self.notes
                .wrong(&extends.span, "\"extends\" names no service", help);
            return node;
        };
        if depth >= DEEPEST || (file.is_none() && service == name) {
            let message = format!("service \"{name}\" extends itself, or too many others");
            self.notes
                .wrong(&key.span, message, "remove one of the \"extends\"");
            return node;
        }
        let other = match &file {
            None => Some(root.clone()),
            Some(file) => self.file(file, &extends.span),
        };
        let Some(other) = other else {
            return node;
        };
        let base = other.get("services").and_then(|all| all.get(&service));
        let Some(base) = base.cloned() else {
            let help = match other.get("services").map(|all| &all.value) {
                Some(Value::Map(map)) => {
                    closest(&service, map.iter().map(|(key, _)| key.value.as_str()))
                        .map(|other| format!("did you mean \"{other}\"?"))
                }
                _ => None,
            };
            let help = help.unwrap_or_else(|| "name a service of that file".to_owned());
            let message = format!("no service \"{service}\" found to extend");
            self.notes.wrong(&extends.span, message, help);
            return node;
        };
        let base = self.whole(&service, base, &other, depth + 1);
        merge::merged(base, node, "")
    }

    /// A file that a service extends one of.
    fn file(&mut self, file: &str, span: &Span) -> Option<Node> {
        if let Some(known) = self.extended.get(file) {
            return known.clone();
        }
        let path = self.directory.join(file);
        // Paths in it would count from another directory.
        let root = if path.parent() != Some(self.directory) && !file.starts_with("./") {
            let help = "put it into the directory of this file";
            self.notes
                .wrong(span, format!("{file} is in another directory"), help);
            None
        } else {
            let read = document(&path, self.files, self.variables, &mut self.notes);
            read.map_err(|problem| self.notes.problems.push(problem))
                .ok()
        };
        self.extended.insert(file.to_owned(), root.clone());
        root
    }
}

/// Reports the first circle of services that wait for each other.
fn circles(services: &[model::Service], root: &Node, notes: &mut Notes) {
    let mut done: Vec<&str> = Vec::new();
    loop {
        let ready = |service: &&model::Service| {
            let mut on = service.depends_on.iter();
            !done.contains(&service.name.as_str())
                && on.all(|(name, _)| done.contains(&name.as_str()))
        };
        match services.iter().find(ready) {
            Some(service) => done.push(&service.name),
            None => break,
        }
    }
    let open = services
        .iter()
        .find(|service| !done.contains(&service.name.as_str()));
    let Some(open) = open else { return };
    let node = root.get("services").and_then(|all| all.get(&open.name));
    let span = node
        .and_then(|node| node.get("depends_on"))
        .unwrap_or(root)
        .span
        .clone();
    let message = format!(
        "service \"{}\" waits for services that wait for it",
        open.name
    );
    notes.wrong(&span, message, "remove one of the \"depends_on\"");
}

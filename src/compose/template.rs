//! Definitions of templates in YAML to the recipe that says the same, with the places of what it
//! cannot say.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use miette::NamedSource;

use super::kdl::quoted;
use super::reader::Notes;
use super::yaml::{self, Node, Value};
use super::{Converted, Files};
use crate::text::{Problem, Problems, Source, Span};

/// What a definition may have at its top.
const KNOWN: [&str; 14] = [
    "name",
    "version",
    "description",
    "author",
    "base_image",
    "min_ram",
    "min_disk",
    "min_cores",
    "packages",
    "scripts",
    "environment",
    "ports",
    "shared_folders",
    "metadata",
];

/// What a definition becomes.
#[derive(Default)]
struct Recipe {
    name: String,
    header: String,
    base: String,
    body: String,
}

/// Reads a definition of a template. `base` replaces its base image; `catalogue` has the names of
/// the recipes that need no path.
///
/// # Errors
/// All mistakes that were found, each with its place.
pub fn template(
    path: &Path,
    files: &dyn Files,
    base: Option<&str>,
    catalogue: &[String],
) -> Result<Converted, Problems> {
    let shown = path.display().to_string();
    let failed = |problems| Problems::new(shown.clone(), problems);
    let text = files.read(path).map_err(|error| {
        let message = format!("cannot read {shown}: {error}");
        failed(vec![Problem::without_place(message)])
    })?;
    let source: Source = Arc::new(NamedSource::new(shown.clone(), text));
    let mut notes = Notes::default();
    let root = match yaml::parse(&source, &mut notes.problems) {
        Ok(root) => root,
        Err(problem) => return Err(failed(vec![problem])),
    };
    let mut reading = Reading {
        notes,
        directory: path.parent().unwrap_or(Path::new("")),
        files,
        catalogue,
        recipe: Recipe::default(),
        users: Vec::new(),
        ports: Vec::new(),
    };
    reading.definition(&root, base);
    let Reading { notes, recipe, .. } = reading;
    if !notes.problems.is_empty() {
        return Err(failed(notes.problems));
    }
    Ok(Converted {
        kdl: recipe.text(),
        warnings: notes.warnings,
        secrets: Default::default(),
    })
}

impl Recipe {
    fn text(&self) -> String {
        let name = quoted(&self.name);
        format!(
            "recipe {name}{}}}\n\nimage {name} {{\n{}{}}}\n",
            self.header, self.base, self.body
        )
    }
}

struct Reading<'a> {
    notes: Notes,
    directory: &'a Path,
    files: &'a dyn Files,
    catalogue: &'a [String],
    recipe: Recipe,
    /// The accounts that the recipe makes.
    users: Vec<String>,
    /// The ports of the guest that were read.
    ports: Vec<u16>,
}

impl Reading<'_> {
    fn definition(&mut self, root: &Node, base: Option<&str>) {
        let map = self.notes.map(root, "the definition").to_vec();
        self.notes.unknown(&map, &KNOWN, "a definition");
        let name = self.required(root, "name");
        let version = self.required(root, "version");
        self.recipe.name = name.map_or_else(String::new, |name| slug(&name));
        let version = version.map_or_else(String::new, |version| semantic(&version));
        self.recipe.header = format!(" version={} {{\n", quoted(&version));
        for key in ["description", "author"] {
            if let Some(text) = self.text(root, key) {
                let _ = writeln!(self.recipe.header, "    {key} {}", quoted(text.trim()));
            }
        }
        self.requires(root);
        self.metadata(root);
        self.base(root, base);
        self.packages(root);
        self.environment(root);
        self.each(root, "scripts", Self::script);
        self.each(root, "ports", Self::port);
        self.each(root, "shared_folders", Self::folder);
    }

    fn each(&mut self, root: &Node, key: &str, read: impl Fn(&mut Self, &Node)) {
        if let Some(node) = root.get(key) {
            for node in self.notes.list(node, key) {
                read(self, node);
            }
        }
    }

    fn text(&mut self, node: &Node, key: &str) -> Option<String> {
        self.notes.text(node.get(key)?, key)
    }

    fn required(&mut self, root: &Node, key: &str) -> Option<String> {
        let text = self.text(root, key).filter(|text| !text.trim().is_empty());
        if text.is_none() {
            let help = format!("write {key}: …");
            self.notes
                .wrong(&root.span, format!("a definition needs \"{key}\""), help);
        }
        text
    }

    fn line(&mut self, line: &str) {
        let _ = writeln!(self.recipe.body, "    {line}");
    }

    fn requires(&mut self, root: &Node) {
        let mut said = String::new();
        for (key, property, unit) in [("min_ram", "memory", "M"), ("min_disk", "disk", "G")] {
            let Some(node) = root.get(key) else { continue };
            let help = "write a number, or a size such as \"2G\"";
            let parse = |text: &str| size(text, unit);
            if let Some(size) = self.notes.parsed(node, key, help, parse) {
                let _ = write!(said, " {property}=\"{size}\"");
            }
        }
        if let Some(node) = root.get("min_cores") {
            let parse = |text: &str| text.parse::<u8>().ok().filter(|cores| *cores > 0);
            let cores = self
                .notes
                .parsed(node, "min_cores", "write a number", parse);
            if let Some(cores) = cores {
                let _ = write!(said, " cores={cores}");
            }
        }
        if !said.is_empty() {
            let _ = writeln!(self.recipe.header, "    requires{said}");
        }
    }

    fn metadata(&mut self, root: &Node) {
        let Some(node) = root.get("metadata") else {
            return;
        };
        let mut pairs = String::new();
        for (key, value) in self.notes.map(node, "metadata").to_vec() {
            match (key.value.as_str(), &value.value) {
                ("tags", Value::List(list)) => {
                    let tags = list.iter().filter_map(|tag| self.notes.text(tag, "tags"));
                    let tags: Vec<String> = tags.collect();
                    let tags: Vec<String> = tags.iter().map(|tag| quoted(&slug(tag))).collect();
                    let _ = writeln!(self.recipe.header, "    tags {}", tags.join(" "));
                }
                ("license", Value::Scalar(text)) if spdx::Expression::parse(text).is_ok() => {
                    let _ = writeln!(self.recipe.header, "    license {}", quoted(text));
                }
                (name, _) => flat(name, &value, &mut pairs),
            }
        }
        if !pairs.is_empty() {
            let _ = writeln!(self.recipe.header, "    metadata{pairs}");
        }
    }

    fn base(&mut self, root: &Node, given: Option<&str>) {
        let written = match given {
            Some(given) => Some(given.to_owned()),
            None => self.required(root, "base_image"),
        };
        let Some(written) = written else { return };
        // `debian:12` is a recipe that comes with vmfab, which has a kernel, too.
        let named = written.replace(':', "-");
        let is_known = self.catalogue.contains(&named);
        let is_container = !is_known && given.is_none();
        let reference = if is_known { named } else { written };
        let service = if is_container { " service=#true" } else { "" };
        self.recipe.base = format!("    from {}{service}\n", quoted(&reference));
        if let Some(node) = root.get("base_image").filter(|_| is_container) {
            self.notes.warn(
                &node.span,
                format!(
                    "{reference} is taken from a registry, as a container that vmfab adds a kernel to; \
                     --base NAME takes another base"
                ),
            );
        }
    }

    /// Those of `python` are packages of the system, too.
    fn packages(&mut self, root: &Node) {
        let Some(node) = root.get("packages") else {
            return;
        };
        if let Value::Map(map) = &node.value {
            self.notes.unknown(map, &["system", "python"], "packages");
        } else {
            self.notes.map(node, "packages");
        }
        let mut all = Vec::new();
        for key in ["system", "python"] {
            let Some(list) = node.get(key) else { continue };
            for one in self.notes.list(list, key) {
                if let Some(name) = self.notes.text(one, key)
                    && !all.contains(&name)
                {
                    all.push(name);
                }
            }
        }
        if !all.is_empty() {
            let words: Vec<String> = all.iter().map(|name| quoted(name)).collect();
            self.line(&format!("packages {}", words.join(" ")));
        }
    }

    fn environment(&mut self, root: &Node) {
        let Some(node) = root.get("environment") else {
            return;
        };
        for (name, value) in self.notes.pairs(node, "environment", &|_| None) {
            self.line(&format!("env {}={}", quoted(&name), quoted(&value)));
        }
    }

    fn script(&mut self, node: &Node) {
        let known = ["name", "command", "working_dir", "run_as"];
        let map = self.notes.map(node, "scripts").to_vec();
        self.notes.unknown(&map, &known, "a script");
        let Some(command) = self.required(node, "command") else {
            return;
        };
        let user = self.text(node, "run_as").filter(|user| user != "root");
        let directory = self.text(node, "working_dir");
        let mut properties = String::new();
        if let Some(name) = self.text(node, "name") {
            let _ = write!(properties, " name={}", quoted(&name));
        }
        if let Some(user) = &user {
            self.account(user);
            let _ = write!(properties, " user={}", quoted(user));
        }
        if let Some(directory) = &directory {
            self.directory(directory, user.as_deref());
            let _ = write!(properties, " workdir={}", quoted(directory));
        }
        if command.contains("requirements.txt") {
            self.requirements(node, directory.as_deref(), user.as_deref());
        }
        self.line(&format!(
            "run {}{properties} network=#true",
            quoted(command.trim())
        ));
    }

    fn account(&mut self, user: &str) {
        if !self.users.iter().any(|known| known == user) {
            self.users.push(user.to_owned());
            self.line(&format!("user {}", quoted(user)));
        }
    }

    /// A script can write to its directory.
    fn directory(&mut self, directory: &str, user: Option<&str>) {
        let Some(user) = user else { return };
        let path = format!("'{}'", directory.replace('\'', r"'\''"));
        let script = format!("mkdir -p -- {path}\nchown '{user}': {path}");
        let made = format!(
            "run {} name={}",
            quoted(&script),
            quoted(&format!("Prepare {directory}"))
        );
        if !self.recipe.body.contains(&made) {
            self.line(&made);
        }
    }

    fn requirements(&mut self, script: &Node, directory: Option<&str>, user: Option<&str>) {
        let span = script
            .get("command")
            .map_or(&script.span, |node| &node.span);
        let Some(directory) = directory else {
            let message = "requirements.txt is not copied, because the script has no working_dir";
            return self.notes.warn(span, message);
        };
        if !self.files.is_file(&self.directory.join("requirements.txt")) {
            let message = "the script uses requirements.txt, which is not beside the definition";
            return self.notes.warn(span, message);
        }
        let owner = user.map_or_else(String::new, |user| format!(" owner={}", quoted(user)));
        let to = quoted(&format!("{}/", directory.trim_end_matches('/')));
        let copy = format!("copy \"./requirements.txt\" {to}{owner}");
        if !self.recipe.body.contains(&copy) {
            self.line(&copy);
        }
    }

    fn port(&mut self, node: &Node) {
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let (guest, host, name) = match &node.value {
            Value::Scalar(text) => {
                let text = text.trim_end_matches("/tcp");
                let (host, guest) = match text.split_once(':') {
                    Some((host, guest)) => (Some(host), guest),
                    None => (None, text),
                };
                let host = host.map(number);
                match (number(guest), host) {
                    (Some(guest), None) => (guest, None, None),
                    (Some(guest), Some(Some(host))) => (guest, Some(host), None),
                    _ => return self.wrong_port(&node.span),
                }
            }
            _ => {
                let map = self.notes.map(node, "ports").to_vec();
                let known = [
                    "name",
                    "port",
                    "guest",
                    "container",
                    "host",
                    "protocol",
                    "description",
                ];
                self.notes.unknown(&map, &known, "a port");
                for key in ["protocol", "description"] {
                    if let Some(value) = node.get(key)
                        && self
                            .notes
                            .text(value, key)
                            .is_some_and(|text| text != "tcp")
                    {
                        let message = format!("a port of a recipe has no {key}: it is left out");
                        self.notes.warn(&value.span, message);
                    }
                }
                let guest = ["guest", "container", "port"]
                    .iter()
                    .find_map(|key| node.get(key));
                let guest = guest.and_then(|node| self.notes.text(node, "port"));
                let Some(guest) = guest.as_deref().and_then(number) else {
                    return self.wrong_port(&node.span);
                };
                let host = self.text(node, "host").as_deref().and_then(number);
                (guest, host, self.text(node, "name"))
            }
        };
        if self.ports.contains(&guest) {
            let message = format!("port {guest} is listed twice: the second one is left out");
            return self.notes.warn(&node.span, message);
        }
        self.ports.push(guest);
        // A definition lists what users of the machine reach.
        let host = host.unwrap_or(if guest < 1024 { guest + 8000 } else { guest });
        let name = name.map_or_else(String::new, |name| {
            format!(" name={}", quoted(&slug(&name)))
        });
        self.line(&format!("port {guest} host={host}{name}"));
    }

    fn wrong_port(&mut self, span: &Span) {
        let help = "write a number, HOST:GUEST, or a mapping with port and name";
        self.notes.wrong(span, "this is not a port", help);
    }

    fn folder(&mut self, node: &Node) {
        let (host, guest, read_only) = match &node.value {
            Value::Scalar(text) => {
                let (text, read_only) = match text.strip_suffix(":ro") {
                    Some(text) => (text, true),
                    None => (text.as_str(), false),
                };
                match text.split_once(':') {
                    Some((host, guest)) => (host.to_owned(), guest.to_owned(), read_only),
                    None => return self.wrong_folder(&node.span),
                }
            }
            _ => {
                let map = self.notes.map(node, "shared_folders").to_vec();
                let hosts = ["host", "host_path", "source"];
                let guests = ["guest", "guest_path", "target"];
                let known: Vec<&str> = hosts
                    .iter()
                    .chain(&guests)
                    .copied()
                    .chain(["read_only", "readonly", "name"])
                    .collect();
                self.notes.unknown(&map, &known, "a shared folder");
                let first = |reading: &mut Self, keys: [&str; 3]| {
                    keys.iter().find_map(|key| reading.text(node, key))
                };
                let flags = ["read_only", "readonly"];
                let read_only = flags.iter().find_map(|key| node.get(key));
                let read_only = read_only.is_some_and(|node| self.notes.flag(node, "read_only"));
                match (first(self, hosts), first(self, guests)) {
                    (Some(host), Some(guest)) => (host, guest, read_only),
                    _ => return self.wrong_folder(&node.span),
                }
            }
        };
        let is_below = !host.starts_with(['/', '~']) && !host.split('/').any(|part| part == "..");
        if !is_below {
            let message = format!(
                "an image asks only for directories below the user's own, not for {host}: share it with \
                 --volume {host}:{guest}"
            );
            return self.notes.warn(&node.span, message);
        }
        let read_only = if read_only { " read-only=#true" } else { "" };
        let (host, guest) = (quoted(&host), quoted(&guest));
        self.line(&format!("share host={host} guest={guest}{read_only}"));
    }

    fn wrong_folder(&mut self, span: &Span) {
        let help = "write HOST:GUEST, or a mapping with host and guest";
        self.notes.wrong(span, "this is not a shared folder", help);
    }
}

/// A value of metadata as properties: what lies deeper has the names before it, with dots.
fn flat(name: &str, node: &Node, out: &mut String) {
    match &node.value {
        Value::Null => {}
        Value::Scalar(text) => drop(write!(out, " {}={}", quoted(name), quoted(text))),
        Value::Map(map) => {
            for (key, value) in map {
                flat(&format!("{name}.{}", key.value), value, out);
            }
        }
        Value::List(list) => {
            let scalar = |node: &Node| match &node.value {
                Value::Scalar(text) => Some(text.clone()),
                _ => None,
            };
            match list.iter().map(scalar).collect::<Option<Vec<String>>>() {
                Some(words) => drop(write!(
                    out,
                    " {}={}",
                    quoted(name),
                    quoted(&words.join(", "))
                )),
                None => {
                    for (index, value) in list.iter().enumerate() {
                        flat(&format!("{name}.{index}"), value, out);
                    }
                }
            }
        }
    }
}

/// A name of a text: `Python Dev` is `python-dev`.
fn slug(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let name: String = text
        .trim()
        .chars()
        .map(|c| if fits(c) { c.to_ascii_lowercase() } else { '-' })
        .collect();
    name.trim_matches(['-', '.', '_']).to_owned()
}

/// A version of three numbers: `1.0` is `1.0.0`.
fn semantic(text: &str) -> String {
    let text = text.trim().trim_start_matches('v');
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = text.split('.').collect();
    match parts.len() {
        1 | 2 if parts.iter().all(|part| is_number(part)) => {
            format!("{text}{}", ".0".repeat(3 - parts.len()))
        }
        _ => text.to_owned(),
    }
}

/// A size as recipes have it: a number alone has `unit`; `2GB`, `2Gi` and `2 GiB` are `2G`.
fn size(text: &str, unit: &str) -> Option<String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    number.parse::<u64>().ok().filter(|number| *number > 0)?;
    let unit = match rest.trim().to_ascii_uppercase().as_str() {
        "" => unit,
        "M" | "MB" | "MI" | "MIB" => "M",
        "G" | "GB" | "GI" | "GIB" => "G",
        "T" | "TB" | "TI" | "TIB" => "T",
        _ => return None,
    };
    Some(format!("{number}{unit}"))
}

//! Files that a Compose file includes. Their entries are added to those of the file, with paths
//! relative to the directory of the file.

use std::path::{Component, Path, PathBuf};

use super::reader::Notes;
use super::yaml::{Map, Node, Value};
use super::{DEEPEST, Project, document};
use crate::instruction::Repository;

/// The parts of a file whose entries are merged.
const PARTS: [&str; 5] = ["services", "volumes", "networks", "secrets", "configs"];

impl Project<'_> {
    /// The file with all that it includes. `below` is its directory, relative to that of the first file.
    pub(super) fn included(&mut self, mut root: Node, below: &Path, depth: usize) -> Node {
        let Value::Map(map) = &mut root.value else {
            return root;
        };
        let Some(at) = map.iter().position(|(key, _)| key.value == "include") else {
            return root;
        };
        let (key, list) = map.remove(at);
        if depth >= DEEPEST {
            let message = "the file includes itself, or \"include\" is nested too deeply";
            self.notes
                .wrong(&key.span, message, "remove one of the \"include\"");
            return root;
        }
        for item in self.notes.list(&list, "include").to_vec() {
            for path in paths(&item, &mut self.notes) {
                let Value::Scalar(text) = &path.value else {
                    continue;
                };
                if !is_below(text) {
                    let message = format!("vmfab does not include {text}");
                    let help = "name a file below the directory of this one";
                    self.notes.wrong(&path.span, message, help);
                    continue;
                }
                let whole = below.join(text);
                let file = self.directory.join(&whole);
                if !self.files.is_file(&file) {
                    let message = format!("no file {text} found");
                    let help = "the path is relative to the directory of this file";
                    self.notes.wrong(&path.span, message, help);
                    continue;
                }
                let directory = whole.parent().unwrap_or(Path::new("")).to_owned();
                match document(&file, self.files, self.variables, &mut self.notes) {
                    Ok(mut other) => {
                        rebase(
                            &mut other,
                            Path::new(text).parent().unwrap_or(Path::new("")),
                        );
                        let other = self.included(other, &directory, depth + 1);
                        add(&mut root, other, &mut self.notes);
                    }
                    Err(problem) => self.notes.problems.push(problem),
                }
            }
        }
        root
    }
}

/// The paths that an entry names.
fn paths(item: &Node, notes: &mut Notes) -> Vec<Node> {
    let Value::Map(map) = &item.value else {
        return vec![item.clone()];
    };
    notes.unknown(map, &["env_file", "path", "project_directory"], "include");
    for (key, _) in map.iter().filter(|(key, _)| key.value != "path") {
        let message = format!("vmfab cannot do what \"{}\" of include asks for", key.value);
        let help = "paths count from the directory of the included file, and variables come from \
                    .env beside this one";
        notes.wrong(&key.span, message, help);
    }
    match item.get("path").map(|path| &path.value) {
        Some(Value::List(list)) => list.clone(),
        Some(Value::Scalar(_)) => item.get("path").cloned().into_iter().collect(),
        _ => {
            notes.wrong(
                &item.span,
                "\"include\" names no file",
                "write path: ./FILE",
            );
            Vec::new()
        }
    }
}

/// Whether a path is relative and never leads upwards.
pub(super) fn is_below(path: &str) -> bool {
    let is_down = |part| matches!(part, Component::CurDir | Component::Normal(_));
    !path.starts_with('~') && Path::new(path).components().all(is_down)
}

/// Puts the entries of another file into a file.
fn add(root: &mut Node, other: Node, notes: &mut Notes) {
    let (Value::Map(map), Value::Map(others)) = (&mut root.value, other.value) else {
        return;
    };
    for (key, node) in others {
        if !PARTS.contains(&key.value.as_str()) {
            continue;
        }
        let Some((_, own)) = map.iter_mut().find(|(known, _)| known.value == key.value) else {
            map.push((key, node));
            continue;
        };
        if matches!(own.value, Value::Null) {
            *own = node;
            continue;
        }
        let (Value::Map(own), Value::Map(entries)) = (&mut own.value, node.value) else {
            continue;
        };
        for (name, node) in entries {
            let is_there = own.iter().any(|(known, _)| known.value == name.value);
            if is_there && key.value == "services" {
                let message = format!("service \"{}\" is defined twice", name.value);
                let help = "rename one of them, or use extends";
                notes.wrong(&name.span, message, help);
            } else if !is_there {
                own.push((name, node));
            }
        }
    }
}

/// Makes the paths of a file relative to a directory above its own.
fn rebase(root: &mut Node, below: &Path) {
    if below.as_os_str().is_empty() {
        return;
    }
    let path = |node: &mut Node| {
        if let Value::Scalar(text) = &mut node.value
            && !text.starts_with(['/', '~'])
            && !text.contains("://")
            && Repository::parse(text).is_none()
        {
            let joined: PathBuf = below.join(&text).components().collect();
            *text = format!("./{}", joined.display());
        }
    };
    each(entry(root, "secrets"), &|secret| {
        entry(secret, "file").map(&path).unwrap_or_default();
    });
    each(entry(root, "services"), &|service| {
        if let Some(build) = entry(service, "build") {
            match &mut build.value {
                Value::Map(map) => {
                    if !map.iter().any(|(key, _)| key.value == "context") {
                        let here = Value::Scalar(".".to_owned());
                        let span = build.span.clone();
                        let key = crate::text::Spanned::new("context".to_owned(), span.clone());
                        map.push((key, Node { value: here, span }));
                    }
                }
                _ => path(build),
            }
            entry(build, "context").map(&path).unwrap_or_default();
            each(entry(build, "additional_contexts"), &path);
        }
        for (name, inner) in [
            ("env_file", "path"),
            ("volumes", "source"),
            ("extends", "file"),
        ] {
            let Some(node) = entry(service, name) else {
                continue;
            };
            match &mut node.value {
                Value::List(list) => list
                    .iter_mut()
                    .for_each(|item| one(item, name, inner, &path)),
                _ => one(node, name, inner, &path),
            }
        }
    });
}

/// The path of an entry: itself, or a member of it.
fn one(item: &mut Node, name: &str, inner: &str, path: &dyn Fn(&mut Node)) {
    match &item.value {
        // A name is no path.
        Value::Scalar(text) if name == "volumes" && !text.starts_with('.') => {}
        Value::Scalar(_) if name == "extends" => {}
        Value::Scalar(_) => path(item),
        _ if name == "volumes" && !is_bind(item) => {}
        _ => entry(item, inner).map(path).unwrap_or_default(),
    }
}

fn is_bind(volume: &Node) -> bool {
    let kind = volume.get("type").map(|kind| &kind.value);
    matches!(kind, Some(Value::Scalar(kind)) if kind == "bind")
}

fn entry<'a>(node: &'a mut Node, name: &str) -> Option<&'a mut Node> {
    let Value::Map(map) = &mut node.value else {
        return None;
    };
    let map: &mut Map = map;
    let found = map.iter_mut().find(|(key, _)| key.value == name);
    found.map(|(_, node)| node)
}

/// Does something to each entry of a mapping or list.
fn each(node: Option<&mut Node>, act: &dyn Fn(&mut Node)) {
    match node.map(|node| &mut node.value) {
        Some(Value::Map(map)) => map.iter_mut().for_each(|(_, node)| act(node)),
        Some(Value::List(list)) => list.iter_mut().for_each(act),
        _ => {}
    }
}

//! Modules import only from the rows above their own: the table in `src/lib.rs`, kept true.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The rows, from the top of the table.
const ROWS: [&[&str]; 7] = [
    &["checked", "digest", "event", "host", "text", "limits"],
    &[
        "recipe",
        "dockerfile",
        "derivation",
        "image",
        "disk",
        "lock",
        "store",
        "http",
        "config",
    ],
    &["plan", "sandbox", "source", "registry", "qemu", "guest"],
    &["machine", "share"],
    &["builder", "executor"],
    &["ops"],
    &["cli"],
];

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The modules that a source text names by a path that begins with `crate::`.
fn imports(text: &str) -> Vec<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let mut modules = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            for character in group.chars() {
                match character {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => modules.push(std::mem::take(&mut name)),
                    _ if depth == 0 => name.push(character),
                    _ => {}
                }
            }
            modules.push(name);
        } else {
            modules.push(rest.to_owned());
        }
    }
    let head = |path: &String| {
        path.trim()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    modules
        .iter()
        .map(head)
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn imports_are_found() {
    let text = "use crate::a::B;\nuse crate::{c::{D, E}, f};\n// crate::no\nlet x = crate::g::h();";
    assert_eq!(imports(text), ["a", "c", "f", "g"]);
}

#[test]
fn modules_import_only_downward() {
    let row: BTreeMap<&str, usize> = ROWS
        .iter()
        .enumerate()
        .flat_map(|(index, modules)| modules.iter().map(move |module| (*module, index)))
        .collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    let mut wrong = Vec::new();
    for file in &files {
        let relative = file.strip_prefix(&root).unwrap();
        let module = relative
            .iter()
            .next()
            .unwrap()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs");
        if matches!(module, "main" | "lib") {
            continue;
        }
        let Some(own) = row.get(module) else {
            wrong.push(format!(
                "{}: module {module} is in no row",
                relative.display()
            ));
            continue;
        };
        for import in imports(&fs::read_to_string(file).unwrap()) {
            match row.get(import.as_str()) {
                Some(other) if other < own || import == module => {}
                Some(_) => wrong.push(format!("{} imports crate::{import}", relative.display())),
                None => wrong.push(format!(
                    "{}: crate::{import} is in no row",
                    relative.display()
                )),
            }
        }
    }
    assert!(files.len() > 20, "found only {} files", files.len());
    assert!(
        wrong.is_empty(),
        "imports that do not point down:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn main_is_short() {
    let main = include_str!("../src/main.rs");
    assert!(main.lines().count() < 20);
}

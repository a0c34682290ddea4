//! Modules import only from the rows above their own: the table in `src/lib.rs`, kept true.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The row of each module, from the table in `src/lib.rs`.
fn rows() -> BTreeMap<String, usize> {
    let lines = include_str!("../src/lib.rs").lines();
    lines
        .filter_map(|line| {
            let (row, rest) = line.strip_prefix("//! | ")?.split_once(" | [`")?;
            Some((rest.split_once('`')?.0.to_owned(), row.parse().ok()?))
        })
        .collect()
}

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
    let row = rows();
    assert!(row.len() > 20, "the table has {} modules", row.len());
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
            match row.get(&import) {
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

/// Directories and files with documents that this program writes for itself alone.
const OWN_DOCUMENTS: [&str; 15] = [
    "audit/",
    "derivation/",
    "event/",
    "executor/",
    "instruction",
    "ops/build_record.rs",
    "ops/builds/",
    "ops/image_record.rs",
    "ops/lazy/",
    "ops/provenance.rs",
    "ops/report/",
    "sandbox/",
    "source/partial.rs",
    "store/",
    "world/pins.rs",
];

/// Fields of documents that can hold any text, as `Struct.field`.
fn free_texts(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_document = false;
    let mut inside = None;
    for line in source.lines().map(str::trim) {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        let line = line
            .strip_prefix("pub(super) ")
            .or(line.strip_prefix("pub(crate) "))
            .unwrap_or(line);
        if line.starts_with("#[derive(") {
            is_document = line.contains("Deserialize");
        } else if let Some(rest) = line.strip_prefix("struct ") {
            let name = rest.split(|c: char| !c.is_alphanumeric()).next();
            inside = name.filter(|_| is_document && line.ends_with('{'));
            is_document = false;
        } else if line == "}" {
            inside = None;
        } else if let (Some(name), Some((field, kind))) = (inside, line.split_once(": "))
            && !line.starts_with("//")
            && kind
                .split(|c: char| !c.is_alphanumeric())
                .any(|word| word == "String")
        {
            found.push(format!("{name}.{field}"));
        }
    }
    found
}

/// Documents of others have fields of types that hold no hostile value. Those that can hold any
/// text are in the table of docs/security.md, with where they go: a new one is written there, or
/// gets such a type.
#[test]
fn free_texts_of_foreign_documents_are_classified() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join("docs/security.md")).unwrap();
    let mut files = Vec::new();
    rust_files(&root.join("src"), &mut files);
    let mut missing = Vec::new();
    let mut count = 0;
    for file in files {
        let path = file.strip_prefix(root.join("src")).unwrap();
        let path = path.display().to_string();
        if OWN_DOCUMENTS.iter().any(|own| path.starts_with(own)) {
            continue;
        }
        for field in free_texts(&fs::read_to_string(&file).unwrap()) {
            count += 1;
            if !table.contains(&format!("`{field}`")) {
                missing.push(format!("{path}: {field}"));
            }
        }
    }
    assert!(count > 15, "only {count} fields were found");
    assert!(
        missing.is_empty(),
        "give these fields of foreign documents a type of `checked`, or write them into the table of \
         docs/security.md with where they go: {missing:#?}"
    );
}

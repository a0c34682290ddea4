//! README.md and docs/: their commands are vmfab's, their links lead somewhere, and they read as
//! English.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Every page with its text, by its path.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec![root.join("README.md")];
    for entry in fs::read_dir(root.join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path);
        }
    }
    assert!(paths.len() > 10);
    let read = |path: PathBuf| (path.clone(), fs::read_to_string(path).unwrap());
    paths.into_iter().map(read).collect()
}

/// The words of `$ vmfab …` lines in blocks for a console, without what a shell takes away.
fn commands(text: &str) -> Vec<Vec<String>> {
    let text = text.replace("\\\n", " ");
    let lines = text.lines().filter_map(|line| {
        let line = line.strip_prefix("$ ")?;
        let at = line.find("vmfab ")?;
        let before = &line[..at];
        let is_command = before.is_empty() || before.ends_with("=$(") || before.ends_with("\" ");
        is_command.then(|| line[at..].to_owned())
    });
    lines
        .map(|line| {
            let end = line
                .find(['|', '<', '>', '#', ')', ';'])
                .unwrap_or(line.len());
            line[..end].split_whitespace().map(str::to_owned).collect()
        })
        .collect()
}

#[test]
fn every_command_line_is_accepted() {
    let mut count = 0;
    for (path, text) in pages() {
        for words in commands(&text) {
            count += 1;
            if let Err(error) = vmfab::cli::command().try_get_matches_from(&words) {
                panic!("{}: {}:\n{error}", path.display(), words.join(" "));
            }
        }
    }
    assert!(count > 60, "{count} commands");
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            title
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

#[test]
fn links_lead_somewhere() {
    for (path, text) in pages() {
        let joined = text.replace("\n", " ");
        for link in joined.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            assert!(target.exists(), "{}: {link}", path.display());
            if !anchor.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                assert!(
                    anchors(&text).contains(anchor),
                    "{}: {link}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn the_recipe_of_the_picture_is_that_of_the_readme() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let recipe = fs::read_to_string(root.join("docs/terminal/web.kdl")).unwrap();
    let (_, recipe) = recipe.split_once('\n').unwrap();
    for page in ["README.md", "docs/tutorial.md"] {
        let text = fs::read_to_string(root.join(page)).unwrap();
        assert!(text.contains(recipe), "{page}");
    }
}

/// Phrases that were in these pages and read as translated.
const PHRASES: &[&str] = &[
    "is told of",
    "tells of",
    "is told as",
    "goes on where",
    "gone on with",
    "leads to its",
    "made anew when",
    "what its name ends in",
    "to be had",
    "who wants",
    "goes before",
    "is no value",
    "when there is one",
    "of its own accord",
];

#[test]
fn pages_and_help_texts_have_no_phrases_that_read_as_translated() {
    for (path, text) in pages() {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for phrase in PHRASES {
            assert!(!text.contains(phrase), "{}: \"{phrase}\"", path.display());
        }
    }
}

//! README.md and docs/: their commands are vmfab's, their links lead somewhere, and they read as
//! English.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::error::ErrorKind;

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

/// The words of a command as a shell takes them, up to what ends the command.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = line.chars();
    while let Some(c) = letters.next() {
        match (quote, c) {
            (Some(end), c) if c == end => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            // What a command inside prints is one word, or a part of it.
            (None, '$') if letters.as_str().starts_with('(') => {
                let inside = letters.by_ref().take_while(|c| *c != ')');
                word.get_or_insert_default().extend(inside);
            }
            (None, '\\') => word.get_or_insert_default().extend(letters.next()),
            (None, '|' | '<' | '>' | ')' | ';' | '&') => break,
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Whether a text goes on after `vmfab ` as a command does.
fn is_command(text: &str) -> bool {
    let rest = text.strip_prefix("vmfab ").unwrap_or_default();
    rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '-')
}

/// The commands in blocks of code: behind a prompt, and lines of scripts and lists of examples.
fn commands(text: &str) -> Vec<Vec<String>> {
    let text = text.replace("\\\n", " ");
    let (mut inside, mut is_text) = (false, false);
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            inside = !inside;
            is_text = language == "text";
            continue;
        }
        let is_example = line.starts_with("  ") && !line.starts_with("   ");
        let is_sentence = is_text && !is_example;
        let line = line.trim().trim_start_matches("- run: ");
        let behind_prompt = line.strip_prefix("$ ");
        let line = behind_prompt.unwrap_or(line);
        let Some(at) = line.find("vmfab ").filter(|_| inside) else {
            continue;
        };
        let before = &line[..at];
        let begins = before.is_empty()
            || behind_prompt.is_some()
                && ["=$(", "\" ", "sudo "]
                    .iter()
                    .any(|end| before.ends_with(end));
        if begins && is_command(&line[at..]) {
            // Lists of examples say behind two blanks what a command does.
            let end = line[at..].find("  ").filter(|_| behind_prompt.is_none());
            let end = end.map_or(line.len(), |end| at + end);
            let command = &line[at..end];
            // Sentences of help texts begin so, too; an ellipsis stands for something.
            if !is_sentence && !command.contains('\u{2026}') {
                found.push(words(command));
            }
        }
    }
    found
}

/// Commands in the text, between backticks: parts of them, and names in capitals.
fn mentions(text: &str) -> Vec<Vec<String>> {
    let mut inside = false;
    let prose: Vec<&str> = text
        .lines()
        .filter(|line| {
            let fence = line.trim_start().starts_with("```");
            inside ^= fence;
            !fence && !inside
        })
        .collect();
    let prose = prose.join(" ");
    let spans = prose.split('`').skip(1).step_by(2);
    let commands = spans.filter(|span| is_command(span) && !span.contains('\u{2026}'));
    commands.map(words).collect()
}

/// What vmfab says of commands that it does not take, but for what `fine` lets pass.
fn refused(
    commands: fn(&str) -> Vec<Vec<String>>,
    at_least: usize,
    fine: fn(ErrorKind, &[String]) -> bool,
) -> String {
    let mut count = 0;
    let mut refused = String::new();
    for (path, text) in pages() {
        for words in commands(&text) {
            count += 1;
            let parsed = vmfab::cli::command().try_get_matches_from(&words);
            if let Err(error) = parsed
                && !fine(error.kind(), &words)
            {
                let error = error.to_string();
                let why = error.lines().next().unwrap_or_default();
                refused += &format!("{}: {}: {why}\n", path.display(), words.join(" "));
            }
        }
    }
    assert!(count > at_least, "{count} commands");
    refused
}

#[test]
fn every_command_line_is_accepted() {
    let shown =
        |kind, _: &[String]| matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    assert_eq!(refused(commands, 300, shown), "");
}

#[test]
fn every_command_that_the_text_mentions_exists() {
    use ErrorKind as Kind;
    let fine = |kind, words: &[String]| match kind {
        Kind::DisplayHelp
        | Kind::DisplayVersion
        | Kind::DisplayHelpOnMissingArgumentOrSubcommand
        | Kind::MissingRequiredArgument
        | Kind::MissingSubcommand => true,
        // A name in capitals, or an option without its value.
        Kind::ValueValidation | Kind::InvalidValue => {
            let is_name = |word: &String| word.chars().any(|c| c.is_ascii_uppercase());
            words.iter().any(is_name) || words.last().is_some_and(|word| word.starts_with("--"))
        }
        _ => false,
    };
    assert_eq!(refused(mentions, 100, fine), "");
}

/// Commands that need no machine, no build and no network.
const READING: &[&str] = &[
    "images",
    "plan",
    "explain",
    "lint",
    "fmt",
    "list",
    "builds",
    "store stat",
    "store verify",
    "snapshot list",
    "volume list",
    "version",
    "completions",
];

/// The commands of the tutorial and of the how-to guides that only read do run, in a directory with
/// the tutorial's recipe. `make test-docs` runs the whole tutorial.
#[test]
fn commands_that_only_read_run() {
    let home = tempfile::tempdir().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::copy(
        root.join("docs/terminal/web.kdl"),
        directory.path().join("web.kdl"),
    )
    .unwrap();
    let mut count = 0;
    for page in ["docs/tutorial.md", "docs/how-to.md"] {
        let text = fs::read_to_string(root.join(page)).unwrap();
        for words in commands(&text) {
            let line = words[1..].join(" ");
            let reads = READING
                .iter()
                .any(|name| line == *name || line.starts_with(&format!("{name} ")));
            let waits = ["--watch", "follow", "cancel", "logs"];
            if !reads || words.iter().any(|word| waits.contains(&word.as_str())) {
                continue;
            }
            count += 1;
            let output = Command::new(env!("CARGO_BIN_EXE_vmfab"))
                .args(&words[1..])
                .current_dir(directory.path())
                .env("VMFAB_HOME", home.path())
                .stdin(Stdio::null())
                .output()
                .unwrap();
            assert!(output.status.success(), "{page}: vmfab {line}: {output:?}");
        }
    }
    assert!(count > 8, "{count} commands");
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

/// Runs the blocks of the tutorial from "Write a recipe" on, in order, as a user types them. The
/// text between them asks for an edit of the recipe once.
#[test]
#[ignore = "builds and boots for minutes; make test-docs runs it"]
fn the_tutorial_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/tutorial.md")).unwrap();
    let (_, text) = text.split_once("## 2. Write a recipe").unwrap();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut script = "set -e\n".to_owned();
    let mut expected = Vec::new();
    for (number, block) in text.split("```").enumerate() {
        if let Some(recipe) = block.strip_prefix("kdl\n").filter(|_| number % 2 == 1) {
            script += &format!("cat > web.kdl <<'RECIPE'\n{recipe}RECIPE\n");
        } else if let Some(console) = block.strip_prefix("console\n").filter(|_| number % 2 == 1) {
            for line in console.lines() {
                match line.strip_prefix("$ ") {
                    Some(command) => script += &format!("{command}\n"),
                    // Times and ids are others each time.
                    None if line.starts_with("<h1>") || line == "active" => expected.push(line),
                    None => {}
                }
            }
        } else if block.contains("Change the text in `web.kdl` to `It still works`") {
            script += "sed -i 's/It works/It still works/' web.kdl\n";
        }
    }
    let script = script.replace("8080", &port.to_string());
    let (home, directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let programs = Path::new(env!("CARGO_BIN_EXE_vmfab")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(directory.path())
        .env("VMFAB_HOME", home.path())
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let _ = Command::new(env!("CARGO_BIN_EXE_vmfab"))
        .args(["--quiet", "rm", "--force", "web"])
        .env("VMFAB_HOME", home.path())
        .output();
    let (printed, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{script}\n{printed}\n{errors}");
    let mut lines = printed.lines();
    for line in expected {
        assert!(lines.any(|found| found == line), "{line}:\n{printed}");
    }
}

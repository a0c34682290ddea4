//! Dockerfiles as users write them: right ones, wrong ones, and mutations of both.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use vmfab::dockerfile::{self, Facts, Ignore};
use vmfab::limits::Limits;

use super::recipes::show;

fn fixtures(kind: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/dockerfiles");
    let files = files_in(&root.join(kind));
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    };
    files.into_iter().map(read).collect()
}

fn files_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The Dockerfiles that are built beside BuildKit (see `differential`).
fn corpus() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/dockerfiles/corpus");
    let read = |case: PathBuf| {
        let name = case.file_name().unwrap().to_str().unwrap().to_owned();
        (
            name,
            fs::read_to_string(case.join("context/Dockerfile")).unwrap(),
        )
    };
    files_in(&root).into_iter().map(read).collect()
}

#[test]
fn right_ones_have_no_mistakes() {
    let files = fixtures("right");
    assert!(files.len() >= 7, "{}", files.len());
    for (name, text) in files {
        if let Err(problems) = dockerfile::parse(&name, &text, &Limits::default()) {
            panic!("{}", show(&problems));
        }
    }
}

/// Every message names what is wrong, underlines it and says what to do.
#[test]
fn mistakes() {
    let mut shown = String::new();
    for (name, text) in fixtures("wrong") {
        let problems = dockerfile::parse(&name, &text, &Limits::default()).unwrap_err();
        for problem in problems.problems() {
            let help = miette::Diagnostic::help(problem).map(|help| help.to_string());
            assert!(help.is_some_and(|help| !help.is_empty()), "{problem}");
            assert!(miette::Diagnostic::labels(problem).is_some(), "{problem}");
        }
        writeln!(shown, "{}\n", show(&problems)).unwrap();
    }
    insta::assert_snapshot!(shown);
}

/// A generator of numbers that is the same everywhere.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        // Marsaglia's xorshift64.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most.max(1) as u64) as usize
    }
}

/// One of some ways to break a text.
fn mutate(text: &str, numbers: &mut Numbers) -> String {
    const BITS: [&str; 20] = [
        "$", "${", "}", "\"", "'", "\\", "\\\n", "\n", "<<", "<<EOF\n", "[", "]", "=", ",", "--",
        " ", "#", "\u{0}", "é", "${A:-",
    ];
    let mut characters: Vec<char> = text.chars().collect();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(characters.len() + 1);
        let end = (at + numbers.below(12)).min(characters.len());
        match numbers.below(5) {
            0 => drop(characters.drain(at..end)),
            1 => {
                let bit = BITS[numbers.below(BITS.len())];
                characters.splice(at..at, bit.chars());
            }
            2 => {
                let copied: Vec<char> = characters[at..end].to_vec();
                let to = numbers.below(characters.len() + 1);
                characters.splice(to..to, copied);
            }
            3 => characters.truncate(at),
            _ if at < end => characters.swap(at, end - 1),
            _ => {}
        }
    }
    characters.into_iter().collect()
}

/// Nothing that is read panics, whatever it is: reading, expanding, checking.
#[test]
fn mutations_are_read_or_refused() {
    let files: Vec<_> = fixtures("right")
        .into_iter()
        .chain(fixtures("wrong"))
        .chain(corpus())
        .collect();
    let mut numbers = Numbers(0x5eed_cafe);
    let (mut right, mut wrong) = (0, 0);
    for round in 0..30 {
        for (name, text) in &files {
            let text = mutate(text, &mut numbers);
            match dockerfile::parse(name, &text, &Limits::default()) {
                Err(problems) => {
                    wrong += 1;
                    assert!(!problems.problems().is_empty());
                    if round < 5 {
                        show(&problems);
                    }
                }
                Ok(parsed) => {
                    right += 1;
                    let facts = Facts {
                        ignore: Some(&Ignore::parse("x", "*.md\n").unwrap()),
                        build_args: &Default::default(),
                        platform: "linux/amd64",
                        platform_of: &|_| None,
                    };
                    if let Ok(linted) = dockerfile::lint(&parsed, &facts) {
                        linted
                            .findings
                            .iter()
                            .take(3)
                            .for_each(|finding| drop(show(finding)));
                    }
                }
            }
        }
    }
    // Of more than 300 mutations, both kinds.
    assert!(right > 100 && wrong > 300, "{right} right, {wrong} wrong");
}

#[test]
fn sizes_are_bounded() {
    let limits = Limits {
        recipe_size: 100,
        image_steps: 3,
        ..Limits::default()
    };
    let long = format!("FROM a\nRUN {}", "x".repeat(100));
    let error = dockerfile::parse("Dockerfile", &long, &limits).unwrap_err();
    insta::assert_snapshot!(error, @"Dockerfile has more than 100 bytes");
    let many = format!("FROM a\n{}", "RUN x\n".repeat(4));
    let error = dockerfile::parse("Dockerfile", &many, &limits).unwrap_err();
    insta::assert_snapshot!(error, @"a stage has more than 3 instructions");
    // Nesting takes no stack.
    let nested = format!("FROM a\n{}RUN x\n", "ONBUILD ".repeat(10_000));
    assert!(dockerfile::parse("Dockerfile", &nested, &Limits::default()).is_err());
}

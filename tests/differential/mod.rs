//! Dockerfiles beside BuildKit: what both make of the corpus in `fixtures/dockerfiles/corpus`.
//!
//! Each case is a directory there:
//!
//! | name | what it is |
//! |---|---|
//! | `context/` | the context with its `Dockerfile`; stages start from `base`, which [`Base`] makes |
//! | `prepare` | a shell script, run in `context/` first: makes what git does not keep |
//! | `options` | options for `vmfab build` and `docker build`, which run in the case's directory |
//! | `expected` | what the image is, beside the base, as BuildKit made it |
//! | `differs` | lines of `expected` that vmfab does not have (`-`), and has (`+`) |
//!
//! `make expectations` writes `expected`, except where its first line is `by hand`, with a reason:
//! there the syntax is newer than the BuildKit that Debian has. `differs` begins with the row of
//! "Differences from BuildKit" in docs/dockerfile.md that it is an example of.

mod base;
mod buildkit;
mod image;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use base::Base;
use buildkit::BuildKit;
use image::{Entries, Layout};
use tempfile::TempDir;

use crate::support::{Build, Ran, command_in, tool};

/// How many cases are built at a time.
const THREADS: usize = 4;
/// What stands for an image where there is none.
const REFUSED: &str = "refused\n";

/// A directory of the corpus.
struct Case {
    name: String,
    path: PathBuf,
}

impl Case {
    /// The cases of which the name has `VMFAB_TEST_CASE` in it; all of them without.
    fn all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/dockerfiles/corpus");
        let wanted = std::env::var("VMFAB_TEST_CASE").unwrap_or_default();
        let entries = fs::read_dir(root).unwrap();
        let cases = entries.map(|entry| Self {
            name: entry.as_ref().unwrap().file_name().into_string().unwrap(),
            path: entry.unwrap().path(),
        });
        let mut cases: Vec<Self> = cases.filter(|case| case.name.contains(&wanted)).collect();
        cases.sort_by(|a, b| a.name.cmp(&b.name));
        assert!(!cases.is_empty(), "no case has {wanted} in its name");
        cases
    }

    fn read(&self, name: &str) -> Option<String> {
        let path = self.path.join(name);
        path.exists().then(|| fs::read_to_string(path).unwrap())
    }

    fn options(&self) -> Vec<String> {
        let text = self.read("options").unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// Makes the directory that both build, in `to`.
    fn prepare(&self, to: &Path) {
        fs::create_dir_all(to).unwrap();
        let mut copy = tool("cp", "coreutils");
        copy.arg("-rT").arg(&self.path).arg(to);
        Ran::of(&mut copy).ends_with(0);
        // Modes are those of git, however it was checked out.
        let mut modes = tool("chmod", "coreutils");
        Ran::of(modes.args(["-R", "u=rwX,go=rX"]).arg(to)).ends_with(0);
        if let Some(script) = self.read("prepare") {
            let mut sh = tool("sh", "dash");
            let script = format!("umask 022\n{script}");
            sh.args(["-ec", &script]).current_dir(to.join("context"));
            Ran::of(&mut sh).ends_with(0);
        }
    }

    /// What vmfab must make: `expected` with `differs`.
    fn expected(&self) -> String {
        let text = self.read("expected");
        let text = text.unwrap_or_else(|| panic!("{}: make expectations", self.name));
        let mut lines: Vec<&str> = text.lines().filter(|line| !is_note(line)).collect();
        let differs = self.read("differs").unwrap_or_default();
        for line in differs.lines() {
            match line.split_at(2.min(line.len())) {
                ("- ", line) => {
                    let at = lines.iter().position(|known| *known == line);
                    let wrong = || panic!("{}: BuildKit has no line {line}", self.name);
                    lines.remove(at.unwrap_or_else(wrong));
                }
                ("+ ", line) if line == REFUSED.trim_end() => lines = vec![line],
                ("+ ", line) => lines.push(line),
                ("# ", row) => assert!(
                    documented(row),
                    "{}: docs/dockerfile.md has no row {row}",
                    self.name
                ),
                _ => panic!("{}: differs: {line}", self.name),
            }
        }
        sorted(&lines)
    }
}

/// Whether a line of `expected` says where it comes from.
fn is_note(line: &str) -> bool {
    line.starts_with("by ") || line.starts_with("BuildKit says: ")
}

fn documented(row: &str) -> bool {
    include_str!("../../docs/dockerfile.md").contains(&format!("\n| {row} |"))
}

fn sorted(lines: &[&str]) -> String {
    let mut lines = lines.to_vec();
    lines.sort_unstable();
    lines.iter().fold(String::new(), |mut text, line| {
        writeln!(text, "{line}").unwrap();
        text
    })
}

/// What vmfab makes of a case in `directory`.
fn built(home: &Path, base: &Base, entries: &Entries, case: &Case, directory: &Path) -> String {
    let run = |words: &[&str]| {
        let mut command = command_in(home);
        command.args(words).current_dir(directory);
        command
    };
    let context = format!("base=oci:{}:1", base.layout().display());
    let mut build = run(&["build", "context/Dockerfile", "--no-service", "--json"]);
    build
        .args(["--build-context", &context])
        .args(case.options());
    let built = Build::of(&mut build);
    match built.code {
        Some(0) => {}
        // A step failed; the Dockerfile is wrong.
        Some(1 | 4) => return REFUSED.to_owned(),
        _ => panic!("{}: {built:?}", case.name),
    }
    let layout = format!("oci:{}:1", directory.join("pushed").display());
    let words = ["push", built.image(), &layout, "--layout", "container"];
    Ran::of(&mut run(&words)).ends_with(0);
    let lines = Layout::read(&directory.join("pushed")).lines(entries);
    sorted(&lines.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn dockerfiles_make_what_buildkit_makes() {
    let (home, scratch) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let base = Base::make();
    let entries = Layout::read(&base.layout()).entries();
    let cases = Case::all();
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let directory = scratch.path().join(&case.name);
                    case.prepare(&directory);
                    let found = built(home.path(), &base, &entries, case, &directory);
                    let expected = case.expected();
                    if found != expected {
                        let text = difference(&case.name, &expected, &found);
                        wrong.lock().unwrap().push(text);
                    }
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().unwrap();
    wrong.sort();
    assert!(wrong.is_empty(), "\n{}", wrong.concat());
}

/// Lines that only one of both has.
fn difference(name: &str, expected: &str, found: &str) -> String {
    let only = |sign: &str, of: &str, other: &str| {
        let lines = of.lines().filter(|line| !other.lines().any(|o| o == *line));
        lines.fold(String::new(), |text, line| format!("{text}{sign} {line}\n"))
    };
    format!(
        "{name}: expected (-), and found (+)\n{}{}",
        only("-", expected, found),
        only("+", found, expected)
    )
}

/// `make expectations`.
#[test]
#[ignore = "writes the expectations with BuildKit: make expectations"]
fn write_expectations() {
    let base = Base::make();
    let entries = Layout::read(&base.layout()).entries();
    let buildkit = BuildKit::start();
    buildkit.load(&base.layout());
    for case in Case::all() {
        let known = case.read("expected").unwrap_or_default();
        if known.starts_with("by hand") {
            continue;
        }
        let directory = buildkit.directory(&case.name);
        case.prepare(&directory);
        let mut text = format!("by {}\n", buildkit.version());
        match buildkit.build(&case.name, &case.options()) {
            Ok(layout) => {
                let lines = Layout::read(&layout).lines(&entries);
                text += &sorted(&lines.iter().map(String::as_str).collect::<Vec<_>>());
            }
            Err(said) => {
                writeln!(text, "BuildKit says: {said}").unwrap();
                text += REFUSED;
            }
        }
        let file = case.path.join("expected");
        fs::write(&file, text).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    }
}

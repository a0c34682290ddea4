//! Dockerfiles on the command line: which file is meant, and what it is given.

use std::fs;
use std::path::Path;

use super::{Bench, Ran};

fn run(bench: &Bench, directory: &Path, arguments: &[&str]) -> Ran {
    let mut command = bench.command(arguments);
    command.current_dir(directory).env_remove("SSH_AUTH_SOCK");
    Ran::from(command.output().unwrap())
}

const SCRATCH: &str = "FROM scratch AS one\nCOPY file /file\nFROM one AS two\nCOPY file /second\n";

/// A directory with a Dockerfile of this text, and a file.
fn project(name: &str, text: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(name), text).unwrap();
    fs::write(directory.path().join("file"), "content").unwrap();
    directory
}

#[test]
fn the_usual_file_is_found() {
    let bench = Bench::new();
    let project = project("Dockerfile.vibe", SCRATCH);
    let directory = project.path();
    let used = |arguments: &[&str]| {
        let ran = run(&bench, directory, arguments).ends_with(0);
        let mut lines = ran.stderr.lines();
        let line = lines
            .find(|line| line.contains("using "))
            .map(str::to_owned);
        line.unwrap_or_else(|| panic!("{}", ran.stderr))
    };
    assert!(used(&["plan"]).ends_with("using Dockerfile.vibe"));
    fs::write(directory.join("Containerfile"), SCRATCH).unwrap();
    assert!(used(&["plan"]).ends_with("using Containerfile"));
    fs::write(directory.join("Dockerfile"), SCRATCH).unwrap();
    assert!(used(&["explain"]).ends_with("using Dockerfile"));
    assert!(used(&["build", "--dry-run"]).ends_with("using Dockerfile"));
    let recipe = "image \"a\" { from \"debian-12\" }\n";
    fs::write(directory.join("vmfab.kdl"), recipe).unwrap();
    assert!(used(&["plan"]).ends_with("using vmfab.kdl"));
    let whole = directory.to_str().unwrap();
    assert!(used(&["plan", whole]).ends_with(&format!("using {whole}/vmfab.kdl")));

    let empty = tempfile::tempdir().unwrap();
    let ran = run(&bench, empty.path(), &["build"]).ends_with(3);
    insta::assert_snapshot!(ran.stderr, @r#"
    error: no recipe or Dockerfile "." found
      help: name one; without a name vmfab looks for vmfab.kdl, Dockerfile, Containerfile, Dockerfile.vibe
    "#);
}

#[test]
fn stages_are_chosen() {
    let bench = Bench::new();
    let project = project("Dockerfile", SCRATCH);
    let plan = |arguments: &[&str]| {
        let all = [&["plan", "./Dockerfile", "--json"], arguments].concat();
        let ran = run(&bench, project.path(), &all);
        let ran = ran.ends_with(0);
        let planned: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        planned["steps"].as_array().unwrap().len()
    };
    let all = plan(&[]);
    assert_eq!(plan(&["--target", "two"]), all);
    assert!(plan(&["--target", "one"]) < all);
    let ran = run(
        &bench,
        project.path(),
        &["plan", "Dockerfile", "--target", "tow"],
    )
    .ends_with(4);
    assert!(ran.stderr.contains("two"), "{}", ran.stderr);
    let both = ["plan", "Dockerfile", "one", "--target", "two"];
    run(&bench, project.path(), &both).ends_with(2);
}

#[test]
fn mistakes_are_shown_with_their_lines() {
    let bench = Bench::new();
    let project = project("Dockerfile", "FROM scratch\nCPOY a b\nRUN --mont=x y\n");
    let ran = run(&bench, project.path(), &["plan", "Dockerfile"]).ends_with(4);
    assert!(ran.stderr.contains("did you mean COPY?"), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("did you mean --mount?"),
        "{}",
        ran.stderr
    );
}

#[test]
fn options_of_dockerfiles_are_for_dockerfiles() {
    let bench = Bench::new();
    let project = project("a.kdl", "image \"a\" { from \"debian-12\" }\n");
    let run = |arguments: &[&str]| run(&bench, project.path(), arguments).ends_with(2).stderr;
    for option in [
        ["--target", "a"],
        ["--build-arg", "A=b"],
        ["--build-context", "a=b"],
        ["--platform", "linux/arm64"],
    ] {
        let error = run(&["plan", "a.kdl", option[0], option[1]]);
        assert!(
            error.contains("is for Dockerfiles, and a.kdl is none"),
            "{error}"
        );
        assert!(error.contains("help:"), "{error}");
        run(&["boot", "a.kdl", option[0], option[1]]);
    }
    let error = run(&["build", "a.kdl", "--secret", "id=a,src=none"]);
    assert!(
        error.contains("cannot read the secret a from none"),
        "{error}"
    );
    let error = run(&["build", "a.kdl", "--secret", "a"]);
    assert!(error.contains("write id=NAME,src=FILE"), "{error}");
    let error = run(&["build", "a.kdl", "--ssh-agent"]);
    assert!(error.contains("SSH_AUTH_SOCK is not set"), "{error}");
    let error = run(&["build", "a.kdl", "--ssh-agent=default=a.kdl"]);
    assert!(error.contains("a.kdl is not a socket"), "{error}");
    let error = run(&["plan", "Dockerfile", "--platform", "windows/amd64"]);
    assert!(error.contains("linux/arm64"), "{error}");
}

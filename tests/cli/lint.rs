//! `vmfab lint`

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use super::{Bench, Ran};

const DOCKERFILE: &str = "\
# the web server
FROM debian:12 AS Web
ARG API_TOKEN
COPY site/secret.txt /srv/
WORKDIR srv
CMD nginx
";

fn lint(bench: &Bench, directory: &Path, arguments: &[&str]) -> Ran {
    let mut command = bench.command(["lint"]);
    command.args(arguments).current_dir(directory);
    Ran::from(command.output().unwrap())
}

#[test]
fn dockerfiles_are_checked() {
    let bench = Bench::new();
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    fs::write(directory.join("Dockerfile"), DOCKERFILE).unwrap();
    fs::write(directory.join(".dockerignore"), "**/secret*\n").unwrap();
    let ran = lint(&bench, directory, &[]).ends_with(0);
    insta::assert_snapshot!(ran.stdout);
    assert_eq!(ran.stderr, "");
    lint(&bench, directory, &["--error"]).ends_with(1);

    let ran = lint(&bench, directory, &["--json"]).ends_with(0);
    let found: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let first = &found[0];
    assert_eq!(first["rule"], "StageNameCasing");
    assert_eq!((&first["line"], &first["column"]), (&2.into(), &19.into()));
    assert_eq!(first["file"], "Dockerfile");
    assert_eq!(found.as_array().unwrap().len(), 5);

    // The file of a Dockerfile's own name goes before the common one.
    fs::write(directory.join("Dockerfile.dockerignore"), "nothing\n").unwrap();
    let ran = lint(&bench, directory, &["Dockerfile"]).ends_with(0);
    assert!(!ran.stdout.contains("CopyIgnoredFile"), "{}", ran.stdout);
}

#[test]
fn the_file_says_what_counts() {
    let bench = Bench::new();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("Containerfile");
    fs::write(&file, format!("# check=error=true\n{DOCKERFILE}")).unwrap();
    lint(&bench, directory.path(), &[]).ends_with(1);
    fs::write(&file, format!("# check=skip=all;error=true\n{DOCKERFILE}")).unwrap();
    let ran = lint(&bench, directory.path(), &[]).ends_with(0);
    assert_eq!(ran.stdout, "1 file checked, nothing found\n");
    fs::write(&file, format!("# check=skipp=all\n{DOCKERFILE}")).unwrap();
    let ran = lint(&bench, directory.path(), &[]).ends_with(4);
    assert!(ran.stderr.contains("check has no option"), "{}", ran.stderr);
}

#[test]
fn mistakes_are_errors_and_do_not_stop_other_files() {
    let bench = Bench::new();
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    fs::write(directory.join("a.Dockerfile"), "FORM debian\nRUN x\n").unwrap();
    fs::write(
        directory.join("b.Dockerfile"),
        "FROM debian\nMAINTAINER me\n",
    )
    .unwrap();
    let ran = lint(&bench, directory, &[]).ends_with(4);
    assert!(
        ran.stdout.contains("[MaintainerDeprecated]"),
        "{}",
        ran.stdout
    );
    assert!(ran.stderr.contains("did you mean FROM?"), "{}", ran.stderr);
    let error = lint(&bench, directory, &["a.Dockerfile", "--json"])
        .ends_with(4)
        .json_error();
    assert_eq!(error["line"], 1);

    lint(&bench, directory, &["none"]).ends_with(3);
    let empty = tempfile::tempdir().unwrap();
    let ran = lint(&bench, empty.path(), &[]).ends_with(3);
    assert!(ran.stderr.contains("vmfab lint FILE"), "{}", ran.stderr);
    // What is wrong in a Dockerfile is shown with its lines: a link must not make one of any file.
    fs::write(directory.join("private"), "password\n").unwrap();
    std::os::unix::fs::symlink("private", directory.join("Dockerfile")).unwrap();
    let ran = lint(&bench, directory, &["Dockerfile"]).ends_with(1);
    assert!(!ran.stderr.contains("password"), "{}", ran.stderr);
    fs::write(directory.join("latin1.Dockerfile"), b"FROM \xe9\n").unwrap();
    lint(&bench, directory, &["latin1.Dockerfile"]).ends_with(1);
}

#[test]
fn standard_input_is_a_dockerfile() {
    let bench = Bench::new();
    let mut command = bench.command(["lint", "-"]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let text = b"FROM debian\nMAINTAINER me\n";
    child.stdin.take().unwrap().write_all(text).unwrap();
    let ran = Ran::from(child.wait_with_output().unwrap()).ends_with(0);
    assert!(ran.stdout.contains("Dockerfile:2:1"), "{}", ran.stdout);
}

#[test]
fn recipes_are_checked() {
    let bench = Bench::new();
    let directory = tempfile::tempdir().unwrap();
    let recipe = r#"recipe "web" {
    param "unused" default="1"
    param "size" type="size" default="4G"
}

image "web" {
    from "oci://example.org/debian"
    env API_TOKEN="x" LANG="C"
    layer { fetch "https://example.org/a.tar"; unpack }
    run   "true"
    disk size="${size}"
}
"#;
    fs::write(directory.path().join("web.kdl"), recipe).unwrap();
    let ran = lint(&bench, directory.path(), &[]).ends_with(0);
    insta::assert_snapshot!(ran.stdout);

    let right = "image \"a\" {\n    from \"debian-12\"\n}\n";
    fs::write(directory.path().join("web.kdl"), right).unwrap();
    let ran = lint(&bench, directory.path(), &["web.kdl"]).ends_with(0);
    assert_eq!(ran.stdout, "1 file checked, nothing found\n");
    fs::write(
        directory.path().join("web.kdl"),
        "image \"a\" { form \"b\" }\n",
    )
    .unwrap();
    lint(&bench, directory.path(), &["web.kdl"]).ends_with(4);
}

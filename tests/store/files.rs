//! Files in the store, and roots.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::Duration;

use super::{noise, store, text};
use crate::cli::{Bench, Ran};

#[test]
fn a_file_comes_back() {
    let bench = Bench::new();
    let [file, back] = ["file", "back"].map(|name| bench.home.path().join(name));
    let mut content = noise(1, 1_500_000);
    content.extend(vec![0; 8 << 20]);
    content.extend(noise(2, 100));
    fs::write(&file, &content).unwrap();
    let added = store(&bench, &[&"add", &file, &"--json"])
        .ends_with(0)
        .json();
    let object = text(&added[0]["object"]);
    assert_eq!(added[0]["size"], content.len());
    assert_eq!(added[0]["path"], file.to_str().unwrap());
    let line = store(&bench, &[&"add", &file]).ends_with(0).stdout;
    assert!(
        line.starts_with(object) && line.contains("9.4 MiB"),
        "{line}"
    );

    for name in [object, &object[..6], &object.to_uppercase()[..20]] {
        store(&bench, &[&"get", &name, &"--output", &back, &"--force"]).ends_with(0);
        assert!(fs::read(&back).unwrap() == content);
    }
    assert!(fs::metadata(&back).unwrap().blocks() * 512 < 3 << 20);
    let mut command = bench.command(["store", "get", object]);
    assert!(command.output().unwrap().stdout == content);
    let ran = store(&bench, &[&"get", &object, &"--output", &back]).ends_with(2);
    insta::assert_snapshot!(ran.stderr.replace(bench.home.path().to_str().unwrap(), "HOME"), @r#"
    error: HOME/back already exists
      help: add --force to replace it
    "#);
    // Nothing is left beside it.
    let hidden = fs::read_dir(bench.home.path()).unwrap();
    assert!(
        !hidden
            .map(|entry| entry.unwrap().file_name())
            .any(|name| name.to_str().unwrap().starts_with(".vmfab"))
    );
}

#[test]
fn a_file_that_did_not_change_is_not_read() {
    let bench = Bench::new();
    let file = bench.home.path().join("file");
    fs::write(&file, noise(1, 700_000)).unwrap();
    let known = || {
        let added = store(&bench, &[&"add", &file, &"--json"])
            .ends_with(0)
            .json();
        added[0]["known"].as_bool().unwrap()
    };
    std::thread::sleep(Duration::from_millis(3200));
    assert!(!known());
    assert!(known());
    let renamed = bench.home.path().join("renamed");
    fs::rename(&file, &renamed).unwrap();
    fs::rename(&renamed, &file).unwrap();
    // The renames changed its time of change.
    assert!(!known());
}

#[test]
fn what_is_no_file_is_refused_before_anything_is_stored() {
    let bench = Bench::new();
    let [file, pipe] = ["file", "pipe"].map(|name| bench.home.path().join(name));
    fs::write(&file, "x").unwrap();
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(
        made.expect("mkfifo is missing: install coreutils")
            .success()
    );
    let hide = |text: String| text.replace(bench.home.path().to_str().unwrap(), "HOME");
    let ran = store(&bench, &[&"add", &file, &bench.home.path()]).ends_with(2);
    insta::assert_snapshot!(hide(ran.stderr), @r#"
    error: HOME is a directory, not a regular file
      help: archive it first: tar --create --file=FILE DIRECTORY
    "#);
    let ran = store(&bench, &[&"add", &pipe]).ends_with(2);
    insta::assert_snapshot!(hide(ran.stderr), @r#"
    error: HOME/pipe is a pipe, not a regular file
      help: write its output to a file first
    "#);
    let ran = store(&bench, &[&"add", &file, &"none"]).ends_with(3);
    insta::assert_snapshot!(ran.stderr, @r#"error: no file "none" found"#);
    store(&bench, &[&"add", &"/dev/null"]).ends_with(2);
    store(&bench, &[&"add"]).ends_with(2);
    store(&bench, &[&"add", &file, &"--keep", &"../x"]).ends_with(2);
    store(&bench, &[&"add", &file, &"--keep", &"@x"]).ends_with(2);
    assert!(!bench.home.path().join("store").exists());
}

#[test]
fn objects_are_named_by_what_tells_them_apart() {
    let bench = Bench::new();
    bench.image("docker");
    let files = bench.home.path().join("files");
    fs::create_dir(&files).unwrap();
    // Among so many, two begin with the same six digits: that is what the birthday paradox says.
    let paths: Vec<_> = (0..12_000).map(|n| files.join(n.to_string())).collect();
    for path in &paths {
        fs::write(path, path.to_str().unwrap()).unwrap();
    }
    let mut command = bench.command(["store", "add", "--quiet"]);
    let ran = Ran::from(command.args(&paths).output().unwrap()).ends_with(0);
    let mut ids: Vec<&str> = ran.stdout.lines().collect();
    ids.sort_unstable();
    assert_eq!(ids.len(), 12_000);
    let twins = ids.windows(2).find(|pair| pair[0][..6] == pair[1][..6]);
    let twins = twins.unwrap();
    let ran = store(&bench, &[&"get", &&twins[0][..6]]).ends_with(2);
    assert!(
        ran.stderr.contains("several objects begin with")
            && twins.iter().all(|twin| ran.stderr.contains(&twin[..16])),
        "{}",
        ran.stderr
    );
    store(&bench, &[&"get", &twins[0]]).ends_with(0);

    let disk = store(&bench, &[&"get", &"@docker"]).ends_with(0).stdout;
    assert_eq!(disk, "d".repeat(5000));
    let ran = store(&bench, &[&"get", &"@dokcer"]).ends_with(3);
    insta::assert_snapshot!(ran.stderr, @r#"
    error: no image "dokcer" found
      help: did you mean "docker"?
    "#);
    let ran = store(&bench, &[&"get", &"abc"]).ends_with(2);
    insta::assert_snapshot!(ran.stderr, @r#"
    error: "abc" is too short for an object's id
      help: give at least 6 digits of its id
    "#);
    let ran = store(&bench, &[&"get", &"0123456789abcdef"]).ends_with(3);
    insta::assert_snapshot!(ran.stderr, @r#"
    error: no object "0123456789abcdef" found
      help: `vmfab store roots` lists the kept files
    "#);
    for name in ["", "docker", &"a".repeat(65)] {
        store(&bench, &[&"get", &name]).ends_with(3);
    }
}

#[test]
fn an_object_is_not_written_to_a_terminal() {
    let bench = Bench::new();
    bench.image("docker");
    let shown = bench.on_terminal("store get @docker", Some("1"));
    assert!(
        shown.contains("cannot write an object to a terminal"),
        "{shown}"
    );
}

#[test]
fn roots_come_and_go() {
    let bench = Bench::new();
    let [one, two] = ["one", "two"].map(|name| bench.home.path().join(name));
    fs::write(&one, "1").unwrap();
    fs::write(&two, "22").unwrap();
    let ran = store(&bench, &[&"roots"]).ends_with(0);
    insta::assert_snapshot!(ran.stderr, @"note: no roots: vmfab store add FILE --keep NAME creates one");
    store(&bench, &[&"add", &one, &two, &"--keep", &"both"]).ends_with(0);
    store(&bench, &[&"add", &two, &"--keep", &"second"]).ends_with(0);
    let ran = store(&bench, &[&"roots"]).ends_with(0);
    insta::assert_snapshot!(ran.stdout, @r#"
    NAME     OBJECT         SIZE
    both     4a25a6642e4f    1 B
    both     7334f877a4fc    2 B
    second   7334f877a4fc    2 B
    "#);
    let roots = store(&bench, &[&"roots", &"--json"]).ends_with(0).json();
    assert_eq!(roots[0]["objects"][1]["size"], 2);
    let ran = store(&bench, &[&"roots", &"-q"]).ends_with(0);
    assert_eq!(ran.stdout, "both\nsecond\n");
    let ran = store(&bench, &[&"unkeep", &"second", &"bth"]).ends_with(3);
    insta::assert_snapshot!(ran.stderr, @r#"
    error: no root "bth" found
      help: did you mean "both"?
    "#);
    let ran = store(&bench, &[&"unkeep", &"second"]).ends_with(0);
    assert_eq!(ran.stdout, "second is no longer kept\n");
    let ran = store(&bench, &[&"roots", &"-q"]).ends_with(0);
    assert_eq!(ran.stdout, "both\n");
}

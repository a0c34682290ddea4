//! Backups, and what comes back from them.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use vmfab::store::Store;

use super::{damage, large_image, largest_pack, list, noise, store};
use crate::cli::{Bench, Ran};
use crate::support::tool;

#[test]
fn a_backup_grows_by_what_is_new() {
    let bench = Bench::new();
    let backup = bench.home.path().join("backup");
    let one = large_image(&bench, "one", 1);
    let first = store(&bench, &[&"backup", &backup, &"--json"])
        .ends_with(0)
        .json();
    assert_eq!(first["tags"]["written"], serde_json::json!(["one"]));
    assert!(first["packs"].as_u64().unwrap() > 0);
    let again = store(&bench, &[&"backup", &backup, &"--json"])
        .ends_with(0)
        .json();
    assert_eq!(again["packs"], 0, "{again:#}");
    assert_eq!(again["tags"]["unchanged"], 1);

    let two = large_image(&bench, "two", 2);
    let file = bench.home.path().join("file");
    fs::write(&file, "kept").unwrap();
    store(&bench, &[&"add", &file, &"--keep", &"root"]).ends_with(0);
    bench.run(["image", "tag", "@two", "@one"]).ends_with(0);
    bench.run(["image", "tag", "@two", "@gone"]).ends_with(0);
    store(&bench, &[&"backup", &backup]).ends_with(0);
    bench.run(["image", "rm", "@gone"]).ends_with(0);
    let kept = store(&bench, &[&"backup", &backup, &"--json"])
        .ends_with(0)
        .json();
    assert_eq!(kept["tags"]["removed"], serde_json::json!([]));
    assert!(backup.join("tags/gone").exists());
    store(&bench, &[&"backup", &backup, &"--prune"]).ends_with(0);
    assert!(!backup.join("tags/gone").exists());

    // A new home from nothing but the backup.
    let other = Bench::new();
    let dry = store(&other, &[&"restore", &backup, &"--dry-run", &"--json"])
        .ends_with(0)
        .json();
    assert_eq!(dry["tags"]["written"], serde_json::json!(["one", "two"]));
    assert_eq!(list(&other.home.path().join("store"), "packs").len(), 0);
    let ran = store(&other, &[&"restore", &backup]).ends_with(0);
    assert!(
        ran.stdout.contains("2 tags written: @one @two"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout.contains("1 root written: root"),
        "{}",
        ran.stdout
    );
    store(&other, &[&"verify"]).ends_with(0);
    let got = other.command(["store", "get", "@one"]).output().unwrap();
    assert!(got.stdout == two && one != two);
}

#[test]
fn what_names_something_else_stays_unless_forced() {
    let bench = Bench::new();
    let backup = bench.home.path().join("backup");
    let old = large_image(&bench, "docker", 1);
    store(&bench, &[&"backup", &backup]).ends_with(0);
    let new = large_image(&bench, "docker", 2);
    let ran = store(&bench, &[&"restore", &backup]).ends_with(1);
    assert!(ran.stdout.contains("1 tag kept"), "{}", ran.stdout);
    assert!(ran.stderr.contains("--force"), "{}", ran.stderr);
    let disk = || {
        bench
            .command(["store", "get", "@docker"])
            .output()
            .unwrap()
            .stdout
    };
    assert!(disk() == new);
    store(&bench, &[&"restore", &backup, &"--force"]).ends_with(0);
    assert!(disk() == old);
}

#[test]
fn one_image_comes_alone() {
    let bench = Bench::new();
    let backup = bench.home.path().join("backup");
    let one = large_image(&bench, "one", 1);
    large_image(&bench, "two", 2);
    store(&bench, &[&"backup", &backup]).ends_with(0);
    let other = Bench::new();
    let ran = store(&other, &[&"restore", &backup, &"--tag", &"@on"]).ends_with(3);
    insta::assert_snapshot!(ran.stderr, @r#"
    error: no tag "on" found
      help: did you mean "one"?
    "#);
    store(&other, &[&"restore", &backup, &"--tag", &"@one"]).ends_with(0);
    let got = other.command(["store", "get", "@one"]).output().unwrap();
    assert!(got.stdout == one);
    let stat = store(&other, &[&"stat", &"--json"]).ends_with(0).json();
    assert!(stat["stored"].as_u64().unwrap() < 5 << 19, "{stat:#}");
    store(&other, &[&"verify"]).ends_with(0);
}

#[test]
fn places_that_are_no_backups_are_refused() {
    let bench = Bench::new();
    bench.image("docker");
    let home = bench.home.path();
    let [full, file, inside, nowhere] =
        ["full", "full/file", "store/backup", "no/backup"].map(|name| home.join(name));
    fs::create_dir(&full).unwrap();
    fs::write(&file, "x").unwrap();
    let hide = |text: String| text.replace(home.to_str().unwrap(), "HOME");
    let ran = store(&bench, &[&"backup", &full]).ends_with(2);
    insta::assert_snapshot!(hide(ran.stderr), @r#"
    error: HOME/full is not empty, and not a backup
      help: give a backup, an empty directory, or a new name in an existing directory
    "#);
    let ran = store(&bench, &[&"backup", &inside]).ends_with(2);
    insta::assert_snapshot!(hide(ran.stderr), @r#"
    error: HOME/store/backup is inside the store itself
      help: give a directory elsewhere, best on another disk
    "#);
    assert!(!inside.exists());
    let link = home.join("link");
    std::os::unix::fs::symlink(home.join("store"), &link).unwrap();
    store(&bench, &[&"backup", &link]).ends_with(2);
    store(&bench, &[&"backup", &file]).ends_with(2);
    let ran = store(&bench, &[&"backup", &nowhere]).ends_with(2);
    insta::assert_snapshot!(hide(ran.stderr), @r#"
    error: the parent directory of HOME/no/backup does not exist
      help: create it first; is the disk mounted?
    "#);
    let ran = store(&bench, &[&"restore", &home]).ends_with(2);
    insta::assert_snapshot!(hide(ran.stderr), @r#"
    error: HOME is not a backup
      help: did you mean HOME/store?
    "#);
    store(&bench, &[&"restore", &full]).ends_with(2);
    store(&bench, &[&"restore", &nowhere]).ends_with(2);
    store(&bench, &[&"restore", &home.join("store")]).ends_with(2);
    assert!(!nowhere.exists());
}

#[test]
fn damage_is_not_copied() {
    let bench = Bench::new();
    let backup = bench.home.path().join("backup");
    let home = bench.home.path().join("store");
    large_image(&bench, "whole", 1);
    store(&bench, &[&"backup", &backup]).ends_with(0);
    large_image(&bench, "broken", 2);
    let new = list(&home, "packs")
        .into_iter()
        .find(|pack| {
            let name = pack.file_name().unwrap();
            !backup.join("packs").join(name).exists()
        })
        .unwrap();
    damage(&new);
    let report = store(&bench, &[&"backup", &backup, &"--json"])
        .ends_with(6)
        .json();
    assert_eq!(report["damaged"][0]["path"], new.to_str().unwrap());
    assert_eq!(report["tags"]["left_out"], serde_json::json!(["broken"]));
    let other = Bench::new();
    store(&other, &[&"restore", &backup]).ends_with(0);
    assert!(
        !other
            .command(["store", "get", "@whole"])
            .output()
            .unwrap()
            .stdout
            .is_empty()
    );
    // A backup that is damaged says so, too.
    damage(&largest_pack(&backup));
    let third = Bench::new();
    store(&third, &[&"restore", &backup]).ends_with(6);
}

#[test]
fn a_killed_backup_goes_on() {
    let bench = Bench::new();
    let backup = bench.home.path().join("backup");
    for n in 0..8 {
        large_image(&bench, &format!("image-{n}"), n);
    }
    for wait in [0, 5, 20, 40, 80] {
        let mut command = bench.command(["store", "backup"]);
        command
            .arg(&backup)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
        if backup.join("format.json").exists() {
            let store = Store::open(&backup).unwrap();
            for (_, image) in store.tags().unwrap() {
                assert!(store.is_complete(&image));
            }
        }
    }
    store(&bench, &[&"backup", &backup]).ends_with(0);
    let other = Bench::new();
    store(&other, &[&"restore", &backup]).ends_with(0);
    store(&other, &[&"verify"]).ends_with(0);
    assert_eq!(list(&other.home.path().join("store"), "tags").len(), 8);
}

#[test]
fn a_backup_beside_writers_and_collections_is_whole() {
    let bench = Bench::new();
    let backup = bench.home.path().join("backup");
    large_image(&bench, "first", 1);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let running = || !stop.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 10;
            while running() {
                let path = bench.home.path().join(format!("file-{n}"));
                fs::write(&path, noise(n, 800_000 + n as usize)).unwrap();
                let keep = format!("kept-{}", n % 5);
                store(&bench, &[&"add", &path, &"--keep", &keep]).ends_with(0);
                fs::remove_file(&path).unwrap();
                n += 1;
            }
        });
        scope.spawn(|| {
            while running() {
                store(
                    &bench,
                    &[&"gc", &"--older-than", &"0s", &"--keep-last", &"0"],
                )
                .ends_with(0);
            }
        });
        for _ in 0..6 {
            store(&bench, &[&"backup", &backup]).ends_with(0);
            let other = Bench::new();
            store(&other, &[&"restore", &backup]).ends_with(0);
            let ran = store(&other, &[&"verify"]);
            assert_eq!(ran.code, Some(0), "{}", ran.stdout);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    store(&bench, &[&"verify"]).ends_with(0);
}

#[test]
fn a_store_that_cannot_be_written_to_is_read() {
    let bench = Bench::new();
    let disk = large_image(&bench, "docker", 1);
    let file = bench.home.path().join("file");
    fs::write(&file, "x").unwrap();
    store(&bench, &[&"add", &file, &"--keep", &"root"]).ends_with(0);
    // Everything is read-only but one directory.
    let place = tempfile::tempdir().unwrap();
    let backup = place.path().join("backup");
    let read_only = |arguments: &[&str]| {
        let mut command = tool("bwrap", "bubblewrap");
        command
            .args([
                "--ro-bind",
                "/",
                "/",
                "--dev",
                "/dev",
                "--proc",
                "/proc",
                "--bind",
            ])
            .args([place.path(), place.path()])
            .arg(env!("CARGO_BIN_EXE_vmfab"))
            .arg("store")
            .args(arguments)
            .env("VMFAB_HOME", bench.home.path());
        Ran::from(command.output().unwrap())
    };
    read_only(&["verify"]).ends_with(0);
    read_only(&["stat"]).ends_with(0);
    read_only(&["roots"]).ends_with(0);
    for arguments in [
        &["add", file.to_str().unwrap()][..],
        &["unkeep", "root"],
        &["gc"],
        &["repair"],
        &["restore", backup.to_str().unwrap()],
    ] {
        if arguments[0] == "restore" {
            read_only(&["backup", backup.to_str().unwrap()]).ends_with(0);
        }
        let ran = read_only(arguments).ends_with(1);
        assert!(ran.stderr.contains("is read-only"), "{}", ran.stderr);
    }
    let other = Bench::new();
    store(&other, &[&"restore", &backup]).ends_with(0);
    let got = other.command(["store", "get", "@docker"]).output().unwrap();
    assert!(got.stdout == disk);
}

//! What takes space, what is damaged, and what that means.

use std::fs;
use std::process::Stdio;

use super::{damage, large_image, largest_pack, list, noise, store, text};
use crate::cli::{Bench, Ran};

#[test]
fn sizes_are_told_by_image_and_root() {
    let bench = Bench::new();
    large_image(&bench, "one", 1);
    large_image(&bench, "two", 2);
    bench
        .run(["image", "tag", "@one", "@also-one"])
        .ends_with(0);
    let file = bench.home.path().join("file");
    // The first megabyte is that of a disk.
    fs::write(&file, [noise(1, 1 << 20), noise(9, 1 << 20)].concat()).unwrap();
    store(&bench, &[&"add", &file, &"--keep", &"file"]).ends_with(0);
    let stat = store(&bench, &[&"stat", &"--json"]).ends_with(0).json();
    let near = |value: &serde_json::Value, mib: f64| {
        let value = value.as_f64().unwrap() / f64::from(1 << 20);
        assert!(
            (value - mib).abs() < 0.3,
            "{value} is not {mib} in {stat:#}"
        );
    };
    near(&stat["logical"], 8.0);
    near(&stat["deduplicated"], 5.0);
    near(&stat["stored"], 5.0);
    let images = stat["images"].as_array().unwrap();
    assert_eq!(images.len(), 2);
    assert_eq!(images[0]["tags"], serde_json::json!(["also-one", "one"]));
    near(&images[0]["logical"], 3.0);
    near(&images[0]["stored"], 2.0);
    near(&images[0]["unique"], 1.0);
    near(&images[1]["unique"], 2.0);
    assert_eq!(stat["roots"][0]["name"], "file");
    near(&stat["roots"][0]["unique"], 1.0);
    let shown = store(&bench, &[&"stat"]).ends_with(0).stdout;
    for part in [
        "deduplicated",
        "@also-one @one",
        "file",
        "ONLY",
        "layer cache",
    ] {
        assert!(shown.contains(part), "{part} is not in:\n{shown}");
    }
}

#[test]
fn downloads_that_are_not_finished_are_told() {
    let bench = Bench::new();
    let downloads = bench.home.path().join("cache/downloads");
    let told = || store(&bench, &[&"stat", &"--json"]).ends_with(0).json()["caches"].clone();
    let none = told();
    assert_eq!(none["downloads"]["files"], 0);
    let quiet = store(&bench, &[&"stat"]).ends_with(0);
    assert!(!quiet.stderr.contains("downloads"), "{}", quiet.stderr);
    fs::create_dir_all(&downloads).unwrap();
    for (name, size) in [
        ("1.partial", 1 << 20),
        ("1.json", 10),
        ("1.lock", 0),
        ("2.partial", 2 << 20),
        ("3.partial", 0),
        // What a pull or a push that was killed made beside them.
        ("layer-x1y2z3", 3 << 20),
    ] {
        fs::write(downloads.join(name), noise(1, size)).unwrap();
    }
    let week = std::time::Duration::from_secs(8 * 86_400);
    let then = std::time::SystemTime::now() - week;
    for name in ["2.partial", "layer-x1y2z3"] {
        let old = fs::File::options().write(true).open(downloads.join(name));
        old.unwrap().set_modified(then).unwrap();
    }
    let some = &told()["downloads"];
    assert_eq!(some["files"], 4);
    let (bytes, old) = (some["bytes"].as_u64(), some["old"].as_u64());
    let (bytes, old) = (bytes.unwrap(), old.unwrap());
    assert!(old >= 5 << 20 && bytes >= old + (1 << 20), "{some}");
    assert_eq!(some["directory"], downloads.to_str().unwrap());
    let said = store(&bench, &[&"stat"]).ends_with(0);
    assert!(
        said.stdout.contains("4 files, not finished"),
        "{}",
        said.stdout
    );
    for part in [
        "goes on",
        "vmfab store gc",
        downloads.to_str().unwrap(),
        "when no pull and no build runs",
    ] {
        assert!(said.stderr.contains(part), "{part}: {}", said.stderr);
    }
    store(&bench, &[&"gc"]).ends_with(0);
    let left = &told()["downloads"];
    assert_eq!(left["files"], 2);
    assert_eq!(left["old"], 0);
}

#[test]
fn an_empty_store_is_whole() {
    let bench = Bench::new();
    for arguments in [
        &["verify"][..],
        &["verify", "--quick"],
        &["stat"],
        &["repair"],
    ] {
        let mut command = bench.command(["store"]);
        Ran::from(command.args(arguments).output().unwrap()).ends_with(0);
    }
    let report = store(&bench, &[&"verify", &"--json"]).ends_with(0).json();
    assert_eq!(report["ok"], true);
    assert_eq!(report["packs"], 0);
}

#[test]
fn damage_is_found_explained_and_mended() {
    let bench = Bench::new();
    let disk = large_image(&bench, "docker", 1);
    large_image(&bench, "other", 2);
    let file = bench.home.path().join("file");
    fs::write(&file, noise(1, 2 << 20)).unwrap();
    store(&bench, &[&"add", &file, &"--keep", &"mine"]).ends_with(0);
    let backup = bench.home.path().join("backup");
    store(&bench, &[&"backup", &backup]).ends_with(0);
    store(&bench, &[&"verify"]).ends_with(0);

    let home = bench.home.path().join("store");
    // The pack that holds the disk of @docker, and with it the file.
    let pack = list(&home, "packs")
        .into_iter()
        .find(|pack| {
            fs::read(pack)
                .unwrap()
                .windows(64)
                .any(|window| *window == disk[..64])
        })
        .unwrap();
    damage(&pack);
    // Only the content is damaged.
    store(&bench, &[&"verify", &"--quick"]).ends_with(0);
    let report = store(&bench, &[&"verify", &"--json"]).ends_with(6).json();
    assert_eq!(report["ok"], false);
    assert_eq!(report["damaged_files"][0]["path"], pack.to_str().unwrap());
    let objects = report["damaged_objects"].as_array().unwrap();
    assert_eq!(objects.len(), 2, "{report:#}");
    let needed: Vec<String> = objects
        .iter()
        .flat_map(|object| object["needed_by"].as_array().unwrap())
        .map(|by| format!("{} {} {}", by["kind"], by["tag"], by["name"]))
        .collect();
    assert!(needed.iter().any(|by| by.contains("docker")), "{needed:?}");
    assert!(needed.iter().any(|by| by.contains("mine")), "{needed:?}");
    assert!(!needed.iter().any(|by| by.contains("other")), "{needed:?}");
    let shown = store(&bench, &[&"verify"]).ends_with(6).stdout;
    for part in [
        "@docker (disk)",
        "root mine",
        "build the recipe docker again",
    ] {
        assert!(shown.contains(part), "{part} is not in:\n{shown}");
    }
    let ran = store(&bench, &[&"get", &"@docker"]).ends_with(6);
    assert!(ran.stderr.contains("vmfab store verify"), "{}", ran.stderr);

    store(&bench, &[&"repair", &"--dry-run"]).ends_with(6);
    let lost = store(&bench, &[&"repair", &"--json"]).ends_with(6).json();
    assert_eq!(lost["lost"].as_array().unwrap().len(), 2, "{lost:#}");
    assert!(!pack.exists());
    let ran = store(&bench, &[&"restore", &backup]).ends_with(0);
    assert!(ran.stdout.contains("packs copied"), "{}", ran.stdout);
    store(&bench, &[&"verify"]).ends_with(0);
    let mut command = bench.command(["store", "get", "@docker"]);
    assert!(command.output().unwrap().stdout == disk);
}

#[test]
fn what_a_name_lacks_is_missed() {
    let bench = Bench::new();
    large_image(&bench, "docker", 1);
    let home = bench.home.path().join("store");
    fs::remove_file(largest_pack(&home)).unwrap();
    let report = store(&bench, &[&"verify", &"--quick", &"--json"])
        .ends_with(6)
        .json();
    let damaged = &report["damaged_objects"][0];
    assert!(text(&damaged["reason"]).contains("is not in the store"));
    assert_eq!(damaged["needed_by"][0]["part"], "disk");
    fs::write(home.join("tags/docker"), "0\n").unwrap();
    let report = store(&bench, &[&"verify", &"--quick", &"--json"])
        .ends_with(6)
        .json();
    assert_eq!(report["damaged_files"][0]["kind"], "tag");
}

#[test]
fn verification_can_be_given_up() {
    let bench = Bench::new();
    let file = bench.home.path().join("file");
    fs::write(&file, noise(1, 120 << 20)).unwrap();
    store(&bench, &[&"add", &file, &"--keep", &"file"]).ends_with(0);
    let mut command = bench.command(["store", "verify"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(60));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    Ran::from(child.wait_with_output().unwrap()).ends_with(130);
}

//! Garbage collection as a program.

use std::fs;

use vmfab::image::ImageConfig;
use vmfab::store::Store;

use super::{large_image, noise, store};
use crate::cli::Bench;

#[test]
fn what_has_a_name_stays_and_the_rest_goes() {
    let bench = Bench::new();
    let kept = large_image(&bench, "kept", 1);
    large_image(&bench, "gone", 2);
    let file = bench.home.path().join("file");
    fs::write(&file, noise(3, 1 << 20)).unwrap();
    store(&bench, &[&"add", &file, &"--keep", &"root"]).ends_with(0);
    bench.run(["image", "rm", "@gone"]).ends_with(0);
    let gc = |more: &[&str]| {
        let mut command = bench.command(["store", "gc", "--older-than=0s", "--keep-last=0"]);
        let output = command.args(more).output().unwrap();
        crate::cli::Ran::from(output).ends_with(0)
    };
    let dry = gc(&["--dry-run", "--json"]).json();
    assert_eq!(dry["dry_run"], true);
    assert!(dry["after"].as_u64() < dry["before"].as_u64());
    let done = gc(&["--json"]).json();
    let removed = done["objects"]["removed"].as_u64().unwrap();
    assert!(removed >= 2, "{done:#}");
    assert!(done["mark_seconds"].as_f64().is_some());
    let after = done["after"].as_u64().unwrap();
    assert!((3 << 20..4 << 20).contains(&after), "{done:#}");
    store(&bench, &[&"verify"]).ends_with(0);
    let got = bench.command(["store", "get", "@kept"]).output().unwrap();
    assert!(got.stdout == kept);
    let shown = gc(&[]).stdout;
    assert!(shown.starts_with("0 objects removed"), "{shown}");
    store(&bench, &[&"unkeep", &"root"]).ends_with(0);
    bench.run(["image", "rm", "@kept"]).ends_with(0);
    let done = gc(&["--json"]).json();
    assert_eq!(done["objects"]["kept"], 0, "{done:#}");
    // Nothing is made of a file that was only added: to remember it would be a file for each.
    let remembered = fs::read_dir(bench.home.path().join("cache/results"));
    assert_eq!(remembered.into_iter().flatten().count(), 0);
}

#[test]
fn disks_that_belong_to_nothing_go_and_the_others_when_there_is_no_room() {
    let bench = Bench::new();
    large_image(&bench, "docker", 1);
    bench.command(["store", "stat"]).output().map(drop).unwrap();
    let opened = vmfab::store::Store::open(bench.home.path().join("store")).unwrap();
    let disk = opened.put_bytes(&noise(7, 1 << 20)).unwrap();
    opened.materialise(&disk.id).unwrap();
    drop(opened);
    let kept = store(&bench, &[&"gc", &"--dry-run", &"--json"])
        .ends_with(0)
        .json();
    assert_eq!(kept["disks"]["removed"], 0, "{kept:#}");
    let none = store(
        &bench,
        &[&"gc", &"--cache-size", &"1K", &"--dry-run", &"--json"],
    )
    .ends_with(0)
    .json();
    assert_eq!(none["disks"]["removed"], 1, "{none:#}");
    let gone = store(&bench, &[&"gc", &"--older-than", &"0s", &"--json"])
        .ends_with(0)
        .json();
    assert_eq!(gone["disks"]["removed"], 1, "{gone:#}");
}

#[test]
fn wrong_limits() {
    let bench = Bench::new();
    for arguments in [
        ["--older-than", "soon"],
        ["--max-size", "much"],
        ["--cache-size", "0"],
        ["--keep-last", "-1"],
    ] {
        store(&bench, &[&"gc", &arguments[0], &arguments[1]]).ends_with(2);
    }
}

#[test]
fn what_a_machine_needs_stays_in_the_store_and_in_the_cache() {
    let bench = Bench::new();
    let disk = large_image(&bench, "dev", 1);
    let opened = Store::open(bench.home.path().join("store")).unwrap();
    let image = opened.tag(&"dev".parse().unwrap()).unwrap().unwrap();
    let config = opened.read_object(&image).unwrap();
    let config = ImageConfig::from_bytes(&config).unwrap();
    let cached = opened.materialise(&config.disk.id).unwrap();
    drop(opened);
    let machine = bench.home.path().join("machines/dev");
    fs::create_dir_all(&machine).unwrap();
    let write = |image: &str| {
        let text = serde_json::json!({
            "version": 1, "image": image, "image-name": "dev", "created": 0, "memory-mib": 64,
            "cpus": 1, "disk-size": 3 << 20, "ssh-port": 2222, "ssh-user": "root", "ports": [],
            "accel": "auto", "firmware": "direct", "remove-when-stopped": false,
        });
        fs::write(machine.join("machine.json"), text.to_string()).unwrap();
    };
    write(&image.to_string());
    bench.run(["image", "rm", "@dev"]).ends_with(0);
    let gc = || {
        let limits = ["--older-than=0s", "--keep-last=0", "--cache-size=1K"];
        store(&bench, &[&"gc", &limits[0], &limits[1], &limits[2]])
    };
    gc().ends_with(0);
    assert!(fs::read(&cached).unwrap() == disk);
    let opened = Store::open(bench.home.path().join("store")).unwrap();
    assert!(opened.is_complete(&config.disk.id));
    drop(opened);

    // Its image is lost: then nothing goes, for its disk may be all that is left.
    write(&"7".repeat(64));
    let ran = gc().ends_with(1);
    assert!(ran.stderr.contains("machine dev"), "{}", ran.stderr);
    assert!(ran.stderr.contains("vmfab rm dev"), "{}", ran.stderr);
    assert!(cached.exists());
    fs::remove_dir_all(&machine).unwrap();
    gc().ends_with(0);
    assert!(!cached.exists());
}

/// The configuration asks for it: a build that makes the store too large collects, and one that
/// finds nothing to remove says why and does not try again before there is something new.
#[test]
fn builds_collect_when_the_configuration_says_so() {
    let bench = Bench::new();
    let path = |name: &str| bench.home.path().join(name);
    fs::write(path("config.kdl"), "gc auto max-size=\"5M\" keep-last=1\n").unwrap();
    let build = |name: &str, seed: u64| {
        let mut disk = noise(seed, 2 << 20);
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        fs::write(path("disk.raw"), disk).unwrap();
        let recipe = format!("image \"{name}\" {{\n    from \"./disk.raw\"\n}}\n");
        fs::write(path("test.kdl"), recipe).unwrap();
        let mut command = bench.command(["build"]);
        command
            .arg(path("test.kdl"))
            .env("VMFAB_CONFIG", path("config.kdl"));
        crate::cli::Ran::from(command.output().unwrap()).ends_with(0)
    };
    let stored = || {
        let stat = store(&bench, &[&"stat", &"--json"]).ends_with(0).json();
        stat["stored"].as_u64().unwrap()
    };
    let collected = |ran: &crate::cli::Ran| ran.stderr.contains("collect garbage in");
    assert!(!collected(&build("dev", 1)));
    assert!(!collected(&build("dev", 2)));
    let before = stored();
    assert!((4 << 20..5 << 20).contains(&before), "{before}");
    assert!(collected(&build("dev", 3)));
    assert!(stored() < 5 << 20, "{}", stored());
    store(&bench, &[&"verify"]).ends_with(0);

    // Three names keep more than that.
    build("second", 4);
    let full = build("third", 5);
    assert!(collected(&full));
    let why =
        "the store is larger than the configuration's max-size: tags, roots and machines need";
    assert!(full.stderr.contains(why), "{}", full.stderr);
    assert!(!collected(&build("third", 5)));
    let kept: Vec<_> = store(&bench, &[&"verify"])
        .ends_with(0)
        .stdout
        .lines()
        .map(str::to_owned)
        .collect();
    assert!(!kept.is_empty());
    assert!(stored() > 6 << 20);
}

//! The audit log: what it records, and what changes of it are noticed.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::Value;
use vmfab::store::Store;

use super::Bench;
use super::contents::disk;

/// A bench with the image `@known`.
fn bench() -> Bench {
    let bench = Bench::new();
    let store = Store::open(bench.home.path().join("store")).unwrap();
    let empty = disk(|_| {});
    bench.image_of(&store, "known", &empty, &[]);
    bench
}

fn entries(bench: &Bench) -> Vec<Value> {
    let shown = bench.run(["audit", "show", "--json"]).ends_with(0).json();
    shown.as_array().unwrap().clone()
}

#[test]
fn deeds_are_recorded_and_found() {
    let bench = bench();
    let config = bench.home.path().join("config.kdl");
    fs::write(&config, "").unwrap();
    let run = |words: &[&str]| {
        let output = bench.command(words).env("VMFAB_CONFIG", &config).output();
        super::Ran::from(output.unwrap())
    };
    run(&["image", "tag", "@known", "other", "third"]).ends_with(0);
    run(&["image", "rm", "other"]).ends_with(0);
    run(&["key", "new"]).ends_with(0);
    run(&["key", "trust", "default", "--for", "ghcr.io/team/*"]).ends_with(0);
    run(&["key", "revoke", "default"]).ends_with(0);
    let out = bench.home.path().join("layout");
    let layout = format!("oci:{}:1", out.display());
    run(&["push", "@known", &layout]).ends_with(0);
    run(&["pull", &layout, "--tag", "back"]).ends_with(0);
    let all = entries(&bench);
    let deeds: Vec<_> = all
        .iter()
        .map(|one| one["deed"].as_str().unwrap())
        .collect();
    assert_eq!(
        deeds,
        [
            "image-tagged",
            "image-untagged",
            "key-made",
            "key-trusted",
            "key-revoked",
            "image-pushed",
            "image-pulled"
        ]
    );
    let uid = rustix::process::getuid().as_raw();
    assert!(all.iter().all(|one| one["uid"] == uid));
    assert_eq!(all[0]["tags"], serde_json::json!(["other", "third"]));
    assert_eq!(all[0]["image"], all[6]["image"]);
    assert_eq!(all[5]["digest"], all[6]["digest"]);
    // What changed nothing is no deed.
    run(&["images"]).ends_with(0);
    run(&["store", "gc"]).ends_with(0);
    assert_eq!(entries(&bench).len(), 7);

    let numbers = |words: &[&str]| {
        let words = [&["audit", "show", "--json"], words].concat();
        let shown = run(&words).ends_with(0).json();
        let shown = shown.as_array().unwrap().iter();
        let numbers = shown.map(|one| one["number"].as_u64().unwrap());
        numbers.collect::<Vec<_>>()
    };
    assert_eq!(numbers(&["@other"]), [1, 2]);
    assert_eq!(numbers(&[all[0]["image"].as_str().unwrap()]), [1, 2, 6, 7]);
    assert_eq!(numbers(&["--deed", "key-made"]), [3]);
    assert_eq!(numbers(&["--user", &uid.to_string(), "-n", "2"]), [6, 7]);
    assert_eq!(numbers(&["--user", "nobody-of-that-name"]), [0; 0]);
    assert_eq!(numbers(&["--since", "1h"]).len(), 7);
    let table = run(&["audit", "show", "third"]).ends_with(0).stdout;
    assert!(
        table.contains("image-tagged") && table.contains("tags=other,third"),
        "{table}"
    );
}

#[test]
fn what_somebody_did_to_the_log_is_named() {
    let bench = bench();
    bench.run(["audit", "verify"]).ends_with(0);
    bench.run(["audit", "show", "--head"]).ends_with(3);
    for tag in ["a", "b", "c"] {
        bench.run(["image", "tag", "@known", tag]).ends_with(0);
    }
    let noted = bench.run(["audit", "show", "--head"]).ends_with(0).stdout;
    let noted = noted.trim();
    bench.run(["image", "tag", "@known", "d"]).ends_with(0);
    let verify = || bench.run(["audit", "verify", "--head", noted]);
    assert!(verify().ends_with(0).stdout.starts_with("4 entries"));

    let path = bench.home.path().join("log/audit.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("[\"b\"]", "[\"x\"]")).unwrap();
    let ran = verify().ends_with(6);
    assert!(
        ran.stdout.starts_with("line 2 has another hash"),
        "{}",
        ran.stdout
    );
    // The hash of a line is that of sha256sum.
    let line = text.lines().nth(2).unwrap();
    let (content, hash) = line.rsplit_once(",\"hash\":\"").unwrap();
    assert_eq!(
        hash,
        format!("{}\"}}", vmfab::digest::Sha256::of(content.as_bytes()))
    );

    let two: String = text
        .lines()
        .take(2)
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(&path, two).unwrap();
    bench.run(["audit", "verify"]).ends_with(0);
    let ran = verify().ends_with(6);
    assert!(ran.stderr.contains("cut off its end"), "{}", ran.stderr);
    bench.run(["audit", "verify", "--head", "12"]).ends_with(2);
}

#[test]
fn processes_share_the_log_and_a_full_disk_stops_nothing() {
    let bench = bench();
    let many: Vec<_> = (0..8)
        .map(|number| {
            let tag = format!("t{number}");
            let words = ["image", "tag", "@known", &tag].map(str::to_owned);
            bench.command(words).spawn().unwrap()
        })
        .collect();
    for mut child in many {
        assert!(child.wait().unwrap().success());
    }
    let path = bench.home.path().join("log/audit.jsonl");
    let mut text = fs::read_to_string(&path).unwrap();
    text += "{\"number\":9,";
    fs::write(&path, &text).unwrap();
    let ran = bench.run(["audit", "verify"]).ends_with(0);
    assert!(
        ran.stdout.contains("was killed while it wrote"),
        "{}",
        ran.stdout
    );
    let ran = bench.run(["image", "rm", "t1"]).ends_with(0);
    assert!(
        ran.stderr.contains("removed the 12 bytes"),
        "{}",
        ran.stderr
    );
    let all = entries(&bench);
    assert_eq!(
        (all.len(), all[8]["deed"].as_str()),
        (10, Some("log-repaired"))
    );
    bench.run(["audit", "verify"]).ends_with(0);

    // A limit of sizes that a part of the next entry fits below, as on a disk that becomes full.
    let size = || fs::metadata(&path).unwrap().len();
    while 512 - size() % 512 > 200 {
        bench.run(["image", "tag", "@known", "more"]).ends_with(0);
    }
    let before = size();
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", before / 512 + 1);
    let words = ["image", "rm", "t2"];
    let program = env!("CARGO_BIN_EXE_vmfab");
    let limited = Command::new("sh")
        .args(["-c", &script, "sh", program])
        .args(words)
        .env("VMFAB_HOME", bench.home.path())
        .output();
    let ran = super::Ran::from(limited.unwrap()).ends_with(0);
    assert!(
        ran.stderr.contains("lacks what was just done"),
        "{}",
        ran.stderr
    );
    assert_eq!(size(), before);
    bench.run(["image", "inspect", "@t2"]).ends_with(3);
    bench.run(["audit", "verify"]).ends_with(0);

    fs::remove_file(&path).unwrap();
    symlink("/dev/null", &path).unwrap();
    let ran = bench.run(["image", "rm", "t3"]).ends_with(0);
    assert!(ran.stderr.contains("no regular file"), "{}", ran.stderr);
}

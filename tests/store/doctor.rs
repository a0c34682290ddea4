//! `vmfab doctor` on a home whose things do not fit together.

use std::fs;

use serde_json::{Value, json};

use super::large_image;
use crate::cli::{Bench, Ran};

fn doctor(bench: &Bench, options: &[&str]) -> Ran {
    let mut command = bench.command(["doctor"]);
    Ran::from(command.args(options).output().unwrap())
}

fn kinds(report: &Value) -> Vec<&str> {
    let findings = report["home"]["findings"].as_array().unwrap().iter();
    findings.map(|one| one["kind"].as_str().unwrap()).collect()
}

#[test]
fn what_does_not_fit_is_told_and_mended() {
    let bench = Bench::new();
    let path = |name: &str| bench.home.path().join(name);
    large_image(&bench, "dev", 1);
    let image = bench
        .run(["image", "inspect", "@dev", "--json"])
        .ends_with(0)
        .json();
    let machine = |name: &str, image: &str| {
        let config = json!({
            "version": 1, "image": image, "image-name": "dev", "created": 0, "memory-mib": 64,
            "cpus": 1, "disk-size": 3 << 20, "ssh-port": 2222, "ssh-user": "root", "ports": [],
            "accel": "auto", "firmware": "direct", "remove-when-stopped": false,
        });
        let directory = path("machines").join(name);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("machine.json"), config.to_string()).unwrap();
    };
    let image = image["image"].as_str().unwrap();
    machine("one", image);
    machine("two", image);
    let report = doctor(&bench, &["--json"]).ends_with(0).json();
    assert_eq!(report["ok"], true, "{report:#}");
    assert_eq!(
        report["home"]["images"],
        json!([{ "image": image, "name": "dev", "machines": ["one", "two"], "stored": true }])
    );
    assert!(kinds(&report).is_empty(), "{report:#}");

    machine("lost", &"0".repeat(64));
    fs::create_dir_all(path("machines/half")).unwrap();
    fs::write(path("machines/half/overlay.qcow2"), vec![7; 3 << 20]).unwrap();
    fs::write(path("machines/.lock"), "").unwrap();
    fs::create_dir_all(path("machines/.tmp-killed")).unwrap();
    let mut disk = vec![7; 1 << 20];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    fs::write(path("disk.raw"), disk).unwrap();
    fs::write(
        path("test.kdl"),
        "image \"old\" {\n    from \"./disk.raw\"\n}\n",
    )
    .unwrap();
    let recipe = path("test.kdl");
    bench.run(["build", recipe.to_str().unwrap()]).ends_with(0);
    bench.run(["image", "rm", "@old"]).ends_with(0);

    bench
        .run(["volume", "create", "data", "--size", "64M"])
        .ends_with(0);
    bench
        .run(["volume", "create", "torn", "--size", "64M"])
        .ends_with(0);
    fs::write(path("volumes/torn/volume.json"), "{").unwrap();
    let layer = "snapshots/layers/00000000000040008000000000000000.qcow2";
    fs::create_dir_all(path("snapshots/layers")).unwrap();
    fs::write(path("snapshots/torn.json"), "{").unwrap();
    fs::write(path(layer), vec![7; 3 << 20]).unwrap();

    // What a snapshot needs that cannot be read is unknown: no layer is unneeded.
    let report = doctor(&bench, &["--json"]).ends_with(1).json();
    let torn = ["damaged-snapshot", "damaged-volume"];
    assert_eq!(kinds(&report)[2..4], torn, "{report:#}");
    assert!(!kinds(&report).contains(&"unneeded-layers"), "{report:#}");
    let text = doctor(&bench, &[]).ends_with(1).stdout;
    for line in ["snapshot \"torn\" is damaged", "volume \"torn\" is damaged"] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    for list in ["snapshot", "volume"] {
        let said = bench.run([list, "list"]).ends_with(0).stderr;
        assert!(
            said.contains(&format!("{list} \"torn\" is damaged")),
            "{said}"
        );
    }
    fs::remove_file(path("snapshots/torn.json")).unwrap();
    fs::remove_dir_all(path("volumes/torn")).unwrap();

    let lost = bench.run(["start", "lost"]).ends_with(3).stderr;
    assert!(
        lost.contains("machine \"lost\" has lost its image"),
        "{lost}"
    );

    let all = [
        "image-gone",
        "incomplete",
        "leftovers",
        "unused-volume",
        "unreached",
    ];
    let report = doctor(&bench, &["--json"]).ends_with(1).json();
    assert_eq!(kinds(&report), all, "{report:#}");
    assert_eq!(report["ok"], false);
    let text = doctor(&bench, &["--fix", "--dry-run"]).ends_with(1).stdout;
    for line in [
        "broken: machine lost has lost its image: the store has no 000000000000",
        "vmfab store restore DIR, if you have a backup",
        "broken: machine half cannot be used",
        "half and what is in it, 3 MiB",
        "note: 1 directory in ",
        "note: volume data belongs to no machine",
        "vmfab volume rm data removes it and its data",
        "note: 1 image that no tag and no machine needs",
        "would: ",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    // Nobody is asked where there is nobody, and then nothing is changed.
    let asked = doctor(&bench, &["--fix"]).ends_with(2).stderr;
    assert!(asked.contains("--yes") && asked.contains("half"), "{asked}");
    assert!(path("machines/half").exists() && path("machines/.tmp-killed").exists());

    let report = doctor(&bench, &["--fix", "--yes", "--json"])
        .ends_with(1)
        .json();
    // What was used lately stays, and a machine's loss is for its user to mend.
    assert_eq!(
        kinds(&report),
        ["image-gone", "unused-volume", "unreached"],
        "{report:#}"
    );
    assert!(!path("machines/half").exists() && !path("machines/.tmp-killed").exists());
    // Which layers are needed was unknown as long as there was half a machine.
    assert!(path("machines/lost").exists() && !path(layer).exists());
    fs::write(path(layer), vec![7; 3 << 20]).unwrap();
    let text = doctor(&bench, &[]).ends_with(1).stdout;
    let unneeded = "note: layers of disks that no machine and no snapshot needs take 3 MiB";
    assert!(text.contains(unneeded), "{text}");
    let text = doctor(&bench, &["--fix", "--yes"]).ends_with(1).stdout;
    assert!(!text.contains("layers") && !path(layer).exists(), "{text}");
    doctor(&bench, &["--yes"]).ends_with(2);

    // Without a store, no machine has an image.
    fs::rename(path("store"), path("away")).unwrap();
    let report = doctor(&bench, &["--json"]).ends_with(1).json();
    let gone = ["image-gone", "image-gone", "image-gone", "unused-volume"];
    assert_eq!(kinds(&report), gone, "{report:#}");
    assert!(!path("store").exists());
}

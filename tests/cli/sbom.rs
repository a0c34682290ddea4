//! Bills of materials: what is in them, and whether other readers of the formats take them.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use cyclonedx_bom::models::bom::Bom;
use cyclonedx_bom::validation::Validate as _;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde_json::{Value, json};
use vmfab::store::Store;

use super::Bench;
use super::contents::{HOSTILE, disk};
use crate::support::tool;

const COPYRIGHT: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n\
     Files: *\nLicense: GPL-3+\n\nFiles: doc/*\nLicense: odd licence\n";

/// A bench with `@known`: a package of Debian, one of Python, one of npm, and a crate.
fn bench() -> Bench {
    let bench = Bench::new();
    let store = Store::open(bench.home.path().join("store")).unwrap();
    let write = |root: &Path, path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let filled = disk(|root| {
        write(root, "etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n");
        write(root, "usr/share/doc/bash/copyright", COPYRIGHT);
        let flask = "Name: Flask\nVersion: 3.0.0\nLicense: BSD-3-Clause\n\nText\n";
        let packages = "usr/lib/python3/dist-packages";
        write(
            root,
            &format!("{packages}/flask-3.0.0.dist-info/METADATA"),
            flask,
        );
        let left = json!({ "name": HOSTILE, "version": "1.3.0", "license": "MIT" });
        write(
            root,
            "usr/lib/node_modules/left/package.json",
            &left.to_string(),
        );
        write(root, "usr/lib/node_modules/broken/package.json", "{");
        rust_program(&root.join("usr/bin/tool"));
    });
    bench.image_of(&store, "known", &filled, &[]);
    bench
}

/// A program with the list of its crates, as cargo-auditable builds them.
fn rust_program(path: &Path) {
    let list = br#"{"packages":[{"name":"adler","version":"1.0.2","source":"crates.io"}]}"#;
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(list).unwrap();
    let section = tempfile::NamedTempFile::new().unwrap();
    fs::write(section.path(), encoder.finish().unwrap()).unwrap();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let made = tool("objcopy", "binutils")
        .arg(format!(
            "--add-section=.dep-v0={}",
            section.path().display()
        ))
        .args(["/bin/sh".as_ref(), path.as_os_str()])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}

#[test]
fn packages_have_versions_licences_and_addresses() {
    let bench = bench();
    let bill = bench
        .run(["image", "sbom", "@known", "--json"])
        .ends_with(0)
        .json();
    let packages = bill["packages"].as_array().unwrap();
    let told: Vec<_> = packages
        .iter()
        .map(|one| {
            (
                one["manager"].as_str().unwrap(),
                one["purl"].as_str().unwrap(),
            )
        })
        .collect();
    assert!(told.contains(&(
        "dpkg",
        "pkg:deb/debian/bash@5.2-1?arch=amd64&distro=debian-12"
    )));
    assert!(told.contains(&("pypi", "pkg:pypi/flask@3.0.0")), "{told:?}");
    assert!(
        told.contains(&("cargo", "pkg:cargo/adler@1.0.2")),
        "{told:?}"
    );
    assert_eq!(told.len(), 5, "{told:?}");
    let bash = packages.iter().find(|one| one["name"] == "bash").unwrap();
    assert_eq!(bash["license"], "GPL-3+ AND (odd licence)");
    let ran = bench.run(["image", "sbom", "@known"]).ends_with(0);
    assert!(ran.stdout.contains("BSD-3-Clause") && ran.stdout.contains("5 packages"));
    assert!(!ran.stdout.contains('\u{1b}'), "{}", ran.stdout);
    assert!(ran.stderr.contains("steps are unknown"), "{}", ran.stderr);
}

#[test]
fn documents_are_read_by_others() {
    let bench = bench();
    let document = |format: &str| {
        let words = ["image", "sbom", "@known", "--format", format];
        let first = bench.run(words).ends_with(0).stdout;
        assert_eq!(bench.run(words).ends_with(0).stdout, first);
        assert!(!first.contains(['\u{1b}', '<']), "{first}");
        first
    };
    let bom = document("cyclonedx");
    let read = Bom::parse_from_json(bom.as_bytes()).unwrap();
    assert!(read.validate().passed(), "{:?}", read.validate());
    let value: Value = serde_json::from_str(&bom).unwrap();
    assert_eq!(value["components"].as_array().unwrap().len(), 5);
    let names = value["components"].as_array().unwrap().iter();
    assert!(names.clone().any(|one| one["name"] == HOSTILE));

    let spdx = document("spdx");
    let read: spdx_rs::models::SPDX = serde_json::from_str(&spdx).unwrap();
    assert_eq!(read.package_information.len(), 6);
    assert_eq!(read.relationships.len(), 6);
    let license = |name: &str| {
        let mut all = read.package_information.iter();
        let package = all.find(|one| one.package_name == name).unwrap();
        package.declared_license.as_ref().unwrap().to_string()
    };
    assert_eq!(license("Flask"), "BSD-3-Clause");
    // What is no expression stands beside it, in words.
    assert_eq!(license("bash"), "NOASSERTION");
    assert!(spdx.contains("the package says: GPL-3+ AND (odd licence)"));

    let file = bench.home.path().join("known.json");
    let path = file.to_str().unwrap();
    bench
        .run(["image", "sbom", "@known", "--format", "spdx", "-o", path])
        .ends_with(0);
    assert_eq!(fs::read_to_string(&file).unwrap(), spdx);
    bench
        .run(["image", "sbom", "@known", "-o", "file"])
        .ends_with(2);
    bench.run(["image", "sbom", "@nothing"]).ends_with(3);
}

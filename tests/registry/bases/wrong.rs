//! Images that were pushed wrongly, are for others, or mean harm.

use std::fs;
use std::io::Read;

use serde_json::{Value, json};

use super::{Bench, Layer, config, sha256, tar};
use crate::support::Ran;

/// What is done to an image of one layer before it is written.
type Change = fn(&Bench, &mut Vec<Layer>, &mut Value);

#[test]
fn images_that_were_pushed_wrongly() {
    let changes: [(&str, i32, &[&str], Change); 9] = [
        (
            "foreign",
            4,
            &["not in the registry", "─┬─"],
            |_, layers, _| {
                layers[0].media_type =
                    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip".into();
            },
        ),
        (
            "encrypted",
            4,
            &["is encrypted", "decryption-key"],
            |_, layers, _| {
                layers[0].media_type += "+encrypted";
            },
        ),
        (
            "another tar",
            6,
            &["is not the layer that the image's config names", "sha256:"],
            |_, _, config| {
                config["rootfs"]["diff_ids"][0] = format!("sha256:{}", "a".repeat(64)).into();
            },
        ),
        (
            "more layers",
            1,
            &["its manifest has 2 layers and its config has 1"],
            |_, layers, _| {
                layers.push(Layer::new("", b"tar"));
            },
        ),
        (
            "no digest",
            1,
            &["\"md5:12\" for layer 1"],
            |_, _, config| {
                config["rootfs"]["diff_ids"][0] = "md5:12".into();
            },
        ),
        (
            "garbage",
            1,
            &["its config is not that of a container image"],
            |_, _, config| {
                *config = json!(["no", "config"]);
            },
        ),
        (
            "another machine",
            4,
            &["it is for linux/mips64, not for linux/", "─┬─"],
            |_, _, config| {
                config["architecture"] = "mips64".into();
            },
        ),
        ("xz", 6, &["is compressed with xz"], |_, layers, _| {
            layers[0].blob = b"\xfd7zXZ\0 and more".to_vec();
        }),
        (
            "half a blob",
            6,
            &["is not complete gzip data"],
            |_, layers, _| {
                let half = layers[0].blob.len() / 2;
                layers[0].blob.truncate(half);
            },
        ),
    ];
    for (name, code, words, change) in changes {
        let bench = Bench::new();
        let mut layers = vec![Layer::new("+gzip", &tar(&[("x", &[7; 5000])]))];
        let mut config = config(&layers, json!({}));
        change(&bench, &mut layers, &mut config);
        let manifest = bench.manifest(&layers, &config);
        bench.name("1", manifest);
        let said = bench.refused(code);
        for word in words {
            assert!(said.contains(word), "{name}: {said}");
        }
        let advice = said.contains("help:");
        assert!(advice, "{name}: {said}");
    }
}

#[test]
fn indexes_without_an_image_for_this_machine() {
    let bench = Bench::new();
    let layers = [Layer::new("+gzip", &tar(&[("x", b"x")]))];
    let mut manifest = bench.manifest(&layers, &config(&layers, json!({})));
    manifest["platform"] = json!({ "os": "linux", "architecture": "mips64", "variant": "r6" });
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = bench.blob(media_type, index.to_string().as_bytes());
    bench.name("1", index);
    let said = bench.refused(4);
    assert!(said.contains("has no image for linux/"), "{said}");
    assert!(said.contains("linux/mips64/r6"), "{said}");
    bench.name(
        "other",
        bench.manifest(&layers, &config(&layers, json!({}))),
    );
    let said = bench.refused(4);
    assert!(said.contains("no tag \"1\""), "{said}");
    assert!(said.contains("\"vmfab tags oci:layout\""), "{said}");
    fs::remove_dir_all(bench.path("layout")).unwrap();
    let said = bench.refused(4);
    assert!(said.contains("there is no layout"), "{said}");
}

#[test]
fn blobs_that_are_not_what_their_digest_says() {
    for (name, code, words) in [
        ("short", 6, "it has"),
        ("altered", 6, "is not what it should be"),
        ("missing", 1, "has no"),
    ] {
        let bench = Bench::new();
        let layer = Layer::new("+gzip", &tar(&[("x", b"x")]));
        let path = bench.path("layout/blobs/sha256").join(sha256(&layer.blob));
        let mut blob = layer.blob.clone();
        bench.image(&[Layer { ..layer }], json!({ "Cmd": ["x"] }));
        match name {
            "short" => blob.truncate(40),
            "altered" => blob[30] ^= 1,
            _ => {}
        }
        match name {
            "missing" => fs::remove_file(&path).unwrap(),
            _ => fs::write(&path, blob).unwrap(),
        }
        let said = bench.refused(code);
        assert!(said.contains(words), "{name}: {said}");
        assert!(said.contains("layer 1 of"), "{name}: {said}");
    }
}

#[test]
fn layers_that_lead_out_of_the_tree() {
    let entry = |name: &str, kind: tar::EntryType, target: &str| {
        let mut header = tar::Header::new_gnu();
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..name.len()].copy_from_slice(name.as_bytes());
        gnu.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        for set in [
            tar::Header::set_uid,
            tar::Header::set_gid,
            tar::Header::set_size,
            tar::Header::set_mtime,
        ] {
            set(&mut header, 0);
        }
        header.set_cksum();
        header
    };
    use tar::EntryType::{Link, Regular, Symlink};
    let out = tempfile::tempdir().unwrap();
    let outside = out.path().display().to_string();
    for (entries, words) in [
        (vec![("../evil", Regular, "")], "leads out of the layer"),
        (
            vec![("a/../../evil", Regular, "")],
            "leads out of the layer",
        ),
        (vec![(".wh...", Regular, "")], "whiteout of no file"),
        (
            vec![
                ("x/.wh..", Regular, ""),
                ("x/a", Regular, ""),
                ("x/.wh..", Regular, ""),
            ],
            "whiteout of no file",
        ),
        (
            vec![("shadow", Link, "../../../../etc/shadow")],
            "leads out of the layer",
        ),
        (
            vec![("shadow", Link, "/etc/shadow")],
            "a link to what is not there",
        ),
        (
            vec![("way", Symlink, &outside), ("way/evil", Regular, "")],
            "a link to what is not there",
        ),
        (
            vec![("file", Regular, ""), ("file/evil", Regular, "")],
            "no directory",
        ),
        (
            vec![("loop", Symlink, "loop"), ("loop/evil", Regular, "")],
            "too many links",
        ),
        (
            vec![("odd", tar::EntryType::new(b'Z'), "")],
            "entries of type",
        ),
    ] {
        let bench = Bench::new();
        let mut archive = tar::Builder::new(Vec::new());
        for (name, kind, target) in &entries {
            archive
                .append(&entry(name, *kind, target), std::io::empty())
                .unwrap();
        }
        let layer = Layer::new("", &archive.into_inner().unwrap());
        bench.image(&[layer], json!({ "Cmd": ["x"] }));
        let said = bench.refused(1);
        assert!(said.contains(words), "{entries:?}: {said}");
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0, "{entries:?}");
    }
}

#[test]
fn a_layer_that_is_nothing_but_zeros_ends_at_a_limit() {
    let bench = Bench::new();
    let zeros = Read::take(std::io::repeat(0), (1 << 30) + 512);
    let layer = Layer {
        media_type: "application/vnd.oci.image.layer.v1.tar+zstd".to_owned(),
        tar: Vec::new(),
        blob: zstd::encode_all(zeros, 1).unwrap(),
    };
    assert!(layer.blob.len() < 1 << 20);
    bench.image(&[layer], json!({ "Cmd": ["x"] }));
    let said = bench.refused(6);
    assert!(
        said.contains("makes more than 1G of the image when it is decompressed"),
        "{said}"
    );
    assert!(said.contains("limits image-size=\"16G\""), "{said}");
}

/// Each layer is small enough by itself; what the image unpacks to counts.
#[test]
fn layers_of_an_image_count_together() {
    let bench = Bench::new();
    let zeros = |name: &str| {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(700 << 10);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let content = Read::take(std::io::repeat(0), 700 << 10);
        archive.append_data(&mut header, name, content).unwrap();
        // Far smaller than by gzip: what counts is the limit, and not how much a blob may grow.
        Layer::new("+zstd", &archive.into_inner().unwrap())
    };
    bench.image(&[zeros("a"), zeros("b")], json!({ "Cmd": ["x"] }));
    bench.recipe("");
    let build = |size: &str| {
        let config = bench.path("config.kdl");
        fs::write(&config, format!("limits image-size=\"{size}\"\n")).unwrap();
        let mut command = bench.command(&["build", "test.kdl"]);
        Ran::of(command.env("VMFAB_CONFIG", &config))
    };
    let said = build("1M").ends_with(6).stderr;
    let said = said.replace("\n  │ ", " ");
    let words = "makes more than 1M of the image when it is decompressed";
    assert!(said.contains(words), "{said}");
    assert!(said.contains("image-size=\"16M\""), "{said}");
    // With more room the same image is only no system.
    let said = build("2M").stderr;
    assert!(said.contains("has neither a kernel"), "{said}");
}

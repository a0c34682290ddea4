//! Disks: as artifacts, and in the clothes of container images.

use std::fs;

use serde_json::{Value, json};

use super::{Bench, Layer, gzip, tar};
use crate::support::{Ran, tool};

/// A raw disk with a boot sector and something on it.
fn disk() -> Vec<u8> {
    let mut disk = vec![0; 3 << 20];
    blake3::Hasher::new()
        .finalize_xof()
        .fill(&mut disk[70_000..700_000]);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

impl Bench {
    /// The disk in another format.
    fn qcow2(&self, options: &str) -> Vec<u8> {
        fs::write(self.path("disk.raw"), disk()).unwrap();
        let mut convert = tool("qemu-img", "qemu-utils");
        let line = format!("convert -f raw -O qcow2 {options} disk.raw disk.qcow2");
        convert
            .args(line.split_whitespace())
            .current_dir(self.path(""));
        Ran::of(&mut convert).ends_with(0);
        fs::read(self.path("disk.qcow2")).unwrap()
    }

    /// Builds the image and gives its disk.
    fn raw(&self) -> Vec<u8> {
        self.recipe("");
        let words = ["build", "test.kdl", "--force", "--output", "out.raw"];
        self.run(&words).ends_with(0);
        fs::read(self.path("out.raw")).unwrap()
    }

    /// An artifact with these blobs, as `oras push` makes them.
    fn artifact(&self, files: &[(&str, &str, &[u8])]) {
        let layers = files.iter().map(|(title, media_type, bytes)| {
            let mut layer = self.blob(media_type, bytes);
            layer["annotations"] = json!({ "org.opencontainers.image.title": title });
            layer
        });
        let empty = "application/vnd.oci.empty.v1+json";
        let manifest = json!({
            "schemaVersion": 2,
            "artifactType": "application/vnd.example.disk",
            "config": self.blob(empty, b"{}"),
            "layers": layers.collect::<Vec<_>>(),
        });
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = self.blob(media_type, manifest.to_string().as_bytes());
        self.name("1", manifest);
    }
}

#[test]
fn a_disk_as_an_artifact() {
    let bench = Bench::new();
    let qcow2 = bench.qcow2("-c");
    let plain = "application/octet-stream";
    for (name, media_type, bytes) in [
        ("disk.qcow2", plain, qcow2.clone()),
        ("disk.raw", plain, disk()),
        ("disk.raw.gz", plain, gzip(&disk())),
        (
            "machine.raw.zst",
            "application/zstd",
            zstd::encode_all(&*disk(), 1).unwrap(),
        ),
        (
            "disk.qcow2",
            "application/vnd.oci.image.layer.v1.tar",
            qcow2,
        ),
    ] {
        bench.artifact(&[(name, media_type, &bytes)]);
        assert!(bench.raw() == disk(), "{name}");
    }
    // Of several kinds of one machine the one that suits is taken.
    let kinds = [("applehv", b"no disk".to_vec()), ("qemu", gzip(&disk()))];
    let manifests = kinds.map(|(kind, bytes)| {
        bench.artifact(&[("machine.raw.gz", plain, &bytes)]);
        let index = fs::read(bench.path("layout/index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        let mut manifest = index["manifests"][0].clone();
        manifest["annotations"] = json!({ "disktype": kind });
        manifest["platform"] = json!({ "os": "linux", "architecture": std::env::consts::ARCH });
        manifest
    });
    let index = json!({ "schemaVersion": 2, "manifests": manifests });
    let index_type = "application/vnd.oci.image.index.v1+json";
    bench.name("1", bench.blob(index_type, index.to_string().as_bytes()));
    assert!(bench.raw() == disk(), "a machine of podman's");
    bench.artifact(&[("a.raw", plain, b"1"), ("b.raw", plain, b"2")]);
    let said = bench.refused(4);
    assert!(said.contains("an artifact with 2 disks"), "{said}");
    bench.artifact(&[("notes.txt", "text/plain", b"1")]);
    let said = bench.refused(4);
    assert!(said.contains("application/vnd.example.disk"), "{said}");
    let split = bench.qcow2("-o data_file=data.raw,data_file_raw=on");
    bench.artifact(&[("disk.qcow2", plain, &split)]);
    let said = bench.refused(1);
    assert!(said.contains("its data is in another file"), "{said}");
}

#[test]
fn a_containerdisk() {
    let bench = Bench::new();
    let qcow2 = bench.qcow2("");
    let named = |files: &[(&str, &[u8])], ending: &str| Layer::new(ending, &tar(files));
    for ending in ["+gzip", "+zstd", ""] {
        bench.image(
            &[named(&[("disk/fedora.qcow2", &qcow2)], ending)],
            json!({}),
        );
        assert!(bench.raw() == disk(), "{ending}");
    }
    bench.image(
        &[named(
            &[("disk/a.img", &disk()), ("disk/b.img", b"b")],
            "+gzip",
        )],
        json!({}),
    );
    let said = bench.refused(1);
    assert!(
        said.contains("two disks: disk/a.img and disk/b.img"),
        "{said}"
    );
    // A tree that has such a directory too is a tree.
    bench.image(
        &[named(&[("bin/sh", b""), ("disk/a.img", b"a")], "")],
        json!({}),
    );
    let said = bench.refused(1);
    assert!(said.contains("neither a kernel"), "{said}");
}

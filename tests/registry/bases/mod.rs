//! Images that start from images in registries and layouts.

mod containers;
mod disks;
mod engines;
mod fedora;
mod machines;
mod own_init;
mod registries;
mod trees;
mod vibe;
mod wrong;

use std::fs;
use std::io::Write;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{Ran, Workshop, tool};

/// The architecture of these tests' machine as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A layer as it lies in a registry.
pub(super) struct Layer {
    media_type: String,
    tar: Vec<u8>,
    blob: Vec<u8>,
}

impl Layer {
    pub(super) fn new(ending: &str, tar: &[u8]) -> Self {
        let blob = match ending {
            "+gzip" => gzip(tar),
            "+zstd" => zstd::encode_all(tar, 1).unwrap(),
            _ => tar.to_owned(),
        };
        Self {
            media_type: format!("application/vnd.oci.image.layer.v1.tar{ending}"),
            tar: tar.to_owned(),
            blob,
        }
    }
}

/// A tar with these files.
pub(super) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        archive.append_data(&mut header, name, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

/// A directory with recipes, a home, and a layout written by hand.
pub(super) struct Bench(Workshop);

impl Deref for Bench {
    type Target = Workshop;

    fn deref(&self) -> &Workshop {
        &self.0
    }
}

impl Bench {
    pub(super) fn new() -> Self {
        let bench = Self(Workshop::new());
        fs::create_dir_all(bench.path("layout/blobs/sha256")).unwrap();
        fs::write(
            bench.path("layout/oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        bench
    }

    /// A blob in the layout, as a descriptor.
    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = sha256(bytes);
        fs::write(self.path("layout/blobs/sha256").join(&digest), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() })
    }

    /// Names one descriptor, as the only one.
    fn name(&self, tag: &str, mut descriptor: Value) {
        descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        let index = json!({ "schemaVersion": 2, "manifests": [descriptor] });
        fs::write(self.path("layout/index.json"), index.to_string()).unwrap();
    }

    /// A manifest with these layers and this config, as a descriptor.
    fn manifest(&self, layers: &[Layer], config: &Value) -> Value {
        let config = self.blob(
            "application/vnd.oci.image.config.v1+json",
            config.to_string().as_bytes(),
        );
        let blobs = layers
            .iter()
            .map(|layer| self.blob(&layer.media_type, &layer.blob));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": blobs.collect::<Vec<_>>(),
        });
        self.blob(
            "application/vnd.oci.image.manifest.v1+json",
            manifest.to_string().as_bytes(),
        )
    }

    /// An image with these layers, under the tag `1`.
    pub(super) fn image(&self, layers: &[Layer], settings: Value) {
        let manifest = self.manifest(layers, &config(layers, settings));
        self.name("1", manifest);
    }

    fn recipe(&self, steps: &str) {
        let text = format!("image \"test\" {{\n    from \"oci:layout:1\"\n{steps}\n}}\n");
        fs::write(self.path("test.kdl"), text).unwrap();
    }

    /// What is said about a base that cannot be one.
    #[track_caller]
    fn refused(&self, code: i32) -> String {
        self.recipe("");
        self.fails(code)
    }
}

fn config(layers: &[Layer], settings: Value) -> Value {
    let diff_ids = layers
        .iter()
        .map(|layer| format!("sha256:{}", sha256(&layer.tar)));
    json!({
        "architecture": architecture(),
        "os": "linux",
        "config": settings,
        "rootfs": { "type": "layers", "diff_ids": diff_ids.collect::<Vec<_>>() },
    })
}

pub(super) fn busybox() -> PathBuf {
    let path = Path::new("/bin/busybox");
    assert!(path.exists(), "install the Debian package busybox-static");
    path.to_owned()
}

/// The layers of the oracle, and a line for each file that a tree of them has.
fn oracle() -> (Vec<Layer>, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let mut python = tool("python3", "python3");
    python
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/support/oci-oracle.py"
        ))
        .arg(directory.path())
        .arg(busybox());
    let told = Ran::of(&mut python).ends_with(0).stdout;
    let endings = ["+gzip", "+zstd", "", "+gzip"];
    let layers = endings.iter().enumerate().map(|(index, ending)| {
        let tar = fs::read(directory.path().join(format!("{}.tar", index + 1))).unwrap();
        Layer::new(ending, &tar)
    });
    let mut lines: Vec<String> = told.lines().map(str::to_owned).collect();
    lines.sort();
    (layers.collect(), lines)
}

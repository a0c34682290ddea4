//! skopeo: whole blobs between registries and layouts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::files;
use crate::lab::{printed, remove, time, tool};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// An image layout with a disk as its one layer: a qcow2, compressed as the store compresses.
pub(crate) struct DiskLayout {
    directory: PathBuf,
}

impl DiskLayout {
    /// In place of what is in the directory.
    pub(crate) fn make(disk: &Path, directory: &Path) -> Self {
        remove(directory);
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let (qcow2, layer) = (directory.join("qcow2"), directory.join("layer"));
        time(
            tool("qemu-img", "qemu-utils")
                .args(["convert", "-f", "raw", "-O", "qcow2"])
                .args([disk, &qcow2]),
        );
        files::zstd(&qcow2, &layer);
        remove(&qcow2);
        let add = |file: &Path, media_type: &str| -> Value {
            let sum = printed(tool("sha256sum", "coreutils").arg(file));
            let digest = sum.split_whitespace().next().unwrap().to_owned();
            let size = fs::metadata(file).unwrap().len();
            fs::rename(file, blobs.join(&digest)).unwrap();
            json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size})
        };
        let layer = add(&layer, LAYER);
        let write = |name: &str, value: &Value| {
            let file = directory.join(name);
            fs::write(&file, value.to_string()).unwrap();
            file
        };
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        });
        let config_type = "application/vnd.oci.image.config.v1+json";
        let manifest_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": add(&write("config", &config), config_type),
            "layers": [layer],
        });
        let manifest = add(&write("manifest", &manifest), manifest_type);
        write("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}));
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        write("index.json", &index);
        Self {
            directory: directory.to_owned(),
        }
    }

    /// Copies it to a registry.
    pub(crate) fn push(&self, to: &str) -> Command {
        copy(
            &format!("oci:{}", self.directory.display()),
            &format!("docker://{to}"),
        )
    }
}

/// Copies an image from a registry to a layout.
pub(crate) fn pull(from: &str, directory: &Path) -> Command {
    remove(directory);
    copy(
        &format!("docker://{from}"),
        &format!("oci:{}", directory.display()),
    )
}

fn copy(from: &str, to: &str) -> Command {
    let mut command = tool("skopeo", "skopeo");
    command
        .args(["--insecure-policy", "copy", "--preserve-digests"])
        .args(["--src-tls-verify=false", "--dest-tls-verify=false"])
        .args([from, to]);
    command
}

//! The disk with what is installed: the image as an OCI layout, the script and its arguments.
//!
//! ```text
//! install.sh, arguments, authorized_keys
//! image/oci-layout, image/index.json, image/blobs/sha256/DIGEST
//! ```
//!
//! Layers are the tars of the store, uncompressed: they are read once, and by this host's disk.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;

use super::{ext4, size_for};
use crate::builder::make_disk::make;
use crate::derivation::{BuildRequest, SOURCE_DATE_EPOCH, scripts};
use crate::digest::ObjectRef;
use crate::disk::ext4::{Filling, fill};
use crate::failure::Failure;
use crate::image::ContainerTree;
use crate::registry::{Blob, Descriptor, descriptor, manifest, media};
use crate::sandbox::{Job, Lent, Runner, Sandbox, Scratch};
use crate::share::{Hashing, container};
use crate::store::Store;

/// Label by which the guest finds the file system.
const LABEL: &str = "vmfab-install";
/// The file of the job that becomes the disk.
pub(super) const FILE: &str = "layout";
/// Where the guest has the image.
pub(super) const SOURCE: &str = "oci:/run/vmfab/image";
/// Where it has the keys that log in as root.
pub(super) const KEYS: &str = "/run/vmfab/authorized_keys";
/// The media type of a layer that is a bare tar.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// What the disk gets.
pub(super) struct Contents<'a> {
    pub(super) architecture: &'a str,
    pub(super) container: &'a ContainerTree,
    pub(super) layers: &'a [ObjectRef],
    /// Arguments of `bootc`.
    pub(super) arguments: &'a [String],
    /// Public keys of root.
    pub(super) root_keys: &'a [String],
}

/// Lets everybody read a tree: `bootc` has it read by a process without rights.
fn readable(path: &Path) -> Result<(), Failure> {
    let mode = match path.is_dir() {
        true => 0o755,
        false => 0o644,
    };
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(Failure::step_io("set the mode of", path))?;
    if !path.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(Failure::step_io("read", path))? {
        readable(&entry.map_err(Failure::step_io("read", path))?.path())?;
    }
    Ok(())
}

impl Contents<'_> {
    /// Makes the disk, a file of the job.
    pub(super) fn write(
        &self,
        store: &Store,
        sandbox: &Sandbox,
        scratch: &Scratch,
        request: &BuildRequest<'_>,
    ) -> Result<tempfile::NamedTempFile, Failure> {
        let tree = tempfile::tempdir_in(scratch.path())
            .map_err(Failure::step_io("create a directory in", scratch.path()))?;
        self.stage(tree.path(), store, request)?;
        let file = scratch.file(FILE)?;
        let size = size_for(self.layers, 0) + (1 << 30);
        file.as_file()
            .set_len(size)
            .map_err(Failure::step_io("size", file.path()))?;
        let file_system = ext4(LABEL, size, request.key.digest().as_bytes())?;
        let job = Job::over(&[], vec![make(&file_system, FILE)]);
        sandbox.run(job, &Lent::default(), scratch, request)?;
        let filling = Filling {
            time: u32::try_from(SOURCE_DATE_EPOCH).unwrap_or(u32::MAX),
            keep: &|_| false,
            progress: &|_| {},
        };
        fill(file.as_file(), 0, tree.path(), &filling).map_err(Failure::of_step)?;
        Ok(file)
    }

    /// Writes the files into a directory of this host.
    fn stage(&self, tree: &Path, store: &Store, request: &BuildRequest<'_>) -> Result<(), Failure> {
        let blobs = tree.join("image/blobs/sha256");
        fs::create_dir_all(&blobs).map_err(Failure::step_io("create", &blobs))?;
        let write = |path: &Path, content: &[u8]| {
            fs::write(path, content).map_err(Failure::step_io("write", path))
        };
        let mut layers: Vec<Descriptor> = Vec::new();
        let mut diff_ids = Vec::new();
        for object in self.layers {
            let path = blobs.join("new");
            let file = File::create(&path).map_err(Failure::step_io("create", &path))?;
            let mut out = Hashing::new(file);
            let reader = store.open_object(&object.id).map_err(Failure::of_step)?;
            container::copy(reader, &mut out, request.interrupt)?;
            out.flush().map_err(Failure::step_io("write", &path))?;
            let (_, blob) = out.finish();
            let name = blobs.join(blob.digest.to_string());
            fs::rename(&path, &name).map_err(Failure::step_io("rename", &path))?;
            diff_ids.push(format!("sha256:{}", blob.digest));
            layers.push(descriptor(LAYER, &blob));
        }
        let config = container::config(self.architecture, self.container, &diff_ids);
        let config_blob = Blob::of(&config);
        write(&blobs.join(config_blob.digest.to_string()), &config)?;
        let config = descriptor(media::CONFIG, &config_blob);
        let manifest = manifest(None, config, layers, BTreeMap::new());
        let manifest = serde_json::to_vec(&manifest).expect("manifests serialise to JSON");
        let blob = Blob::of(&manifest);
        write(&blobs.join(blob.digest.to_string()), &manifest)?;
        let index = json!({
            "schemaVersion": 2,
            "mediaType": media::INDEX,
            "manifests": [descriptor(media::MANIFEST, &blob)],
        });
        let image = tree.join("image");
        write(&image.join("index.json"), index.to_string().as_bytes())?;
        write(
            &image.join("oci-layout"),
            br#"{"imageLayoutVersion":"1.0.0"}"#,
        )?;
        let lines =
            |lines: &[String]| -> String { lines.iter().map(|line| format!("{line}\n")).collect() };
        write(&tree.join("arguments"), lines(self.arguments).as_bytes())?;
        let keys = lines(self.root_keys);
        write(&tree.join("authorized_keys"), keys.as_bytes())?;
        write(&tree.join("install.sh"), scripts::BOOTC_INSTALL.as_bytes())?;
        readable(&image)
    }
}

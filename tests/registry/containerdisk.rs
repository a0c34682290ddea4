//! Images as KubeVirt runs them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;
use vmfab::digest::ObjectRef;
use vmfab::failure::Kind;
use vmfab::host::Interrupt;
use vmfab::image::ImageConfig;
use vmfab::registry::{Repository, media, sorted, to_bytes};
use vmfab::share::containerdisk::{ContainerDisk, containerdisk};
use vmfab::share::published::{What, what};
use vmfab::store::Store;

use super::local::{blob, check_whole, names, open, put, read, skopeo_copy, tag};
use crate::sources::noise;
use crate::support::{Ran, tool};

const MEBIBYTE: u64 = 1 << 20;

/// A store with a disk, and the disk as a file.
struct Lab {
    directory: TempDir,
    store: Store,
    disk: ObjectRef,
}

impl Lab {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        let raw = directory.path().join("raw");
        let file = File::create_new(&raw).unwrap();
        file.set_len(700 * MEBIBYTE).unwrap();
        file.write_all_at(&noise(1, 3_000_000), 5 * MEBIBYTE)
            .unwrap();
        file.write_all_at(&noise(2, 10), 650 * MEBIBYTE).unwrap();
        let disk = store.put_file(&File::open(&raw).unwrap(), &raw).unwrap();
        fs::create_dir(directory.path().join("work")).unwrap();
        Self {
            directory,
            store,
            disk,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// An image whose disk has a boot loader for a BIOS, or none and a kernel beside it.
    fn image(&self, with_loader: bool) -> ImageConfig {
        let kernel = self.store.put_bytes(b"a kernel").unwrap();
        let initrd = self.store.put_bytes(b"an initrd").unwrap();
        let config = json!({
            "version": 1,
            "name": "demo",
            "recipe": { "name": "demo", "version": "1.2" },
            "description": "for a test",
            "metadata": {},
            "architecture": "x86_64",
            "boot": {
                "command-line": "root=LABEL=/ console=ttyS0",
                "firmware": if with_loader { "bios" } else { "direct" },
                "uefi": false,
                "bios": with_loader,
            },
            "filesystem": null,
            "ssh-user": "root",
            "users": {},
            "ports": [],
            "env": {},
            "disk": self.disk,
            "kernel": kernel,
            "initrd": initrd,
            "layers": [],
        });
        ImageConfig::from_bytes(config.to_string().as_bytes()).unwrap()
    }

    fn make(&self, image: &ImageConfig) -> ContainerDisk {
        let annotations = BTreeMap::new();
        let (work, interrupt) = (self.path("work"), Interrupt::new().unwrap());
        containerdisk(&self.store, image, &annotations, &work, &interrupt).unwrap()
    }
}

fn upload(repository: &dyn Repository, made: &ContainerDisk) -> Vec<u8> {
    let delivered = repository.put_blob(&made.layer.blob, &made.layer, &[], &|_| ());
    delivered.unwrap();
    put(repository, &made.config).unwrap();
    let manifest = to_bytes(&made.manifest);
    repository
        .put_manifest(&tag("1"), media::MANIFEST, &manifest)
        .unwrap();
    manifest
}

/// What GNU tar says of a layer.
fn listing(layer: &Path) -> Vec<String> {
    let mut tar = tool("tar", "tar");
    let ran = Ran::of(tar.arg("--numeric-owner").arg("-tvf").arg(layer)).ends_with(0);
    ran.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn the_disk_is_in_it_as_kubevirt_wants_it() {
    let lab = Lab::new();
    let made = lab.make(&lab.image(true));
    assert_eq!(made.note, None);
    let layout = open(&format!("oci:{}", lab.path("layout").display()));
    let manifest = upload(&*layout, &made);
    check_whole(&*layout, &manifest);
    let layer = lab
        .path("layout/blobs/sha256")
        .join(made.layer.blob.digest.to_string());
    let [directory, disk] = <[String; 2]>::try_from(listing(&layer)).unwrap();
    assert!(directory.starts_with("drwxr-xr-x 107/107"), "{directory}");
    assert!(directory.ends_with("1970-01-01 00:00 disk/"), "{directory}");
    assert!(disk.starts_with("-r--r----- 107/107"), "{disk}");
    assert!(disk.ends_with("1970-01-01 00:00 disk/disk.qcow2"), "{disk}");
    let mut unpack = tool("tar", "tar");
    let unpack = unpack.arg("-xf").arg(&layer).arg("--no-same-owner");
    Ran::of(unpack.arg("-C").arg(lab.path("work"))).ends_with(0);
    let mut compare = tool("qemu-img", "qemu-utils");
    compare.args(["compare", "-f", "raw", "-F", "qcow2"]);
    let compare = compare.arg(lab.path("raw"));
    Ran::of(compare.arg(lab.path("work/disk/disk.qcow2"))).ends_with(0);
    let mut check = tool("qemu-img", "qemu-utils");
    Ran::of(check.arg("check").arg(lab.path("work/disk/disk.qcow2"))).ends_with(0);

    let config: serde_json::Value = serde_json::from_slice(&made.config).unwrap();
    assert_eq!(config["architecture"], "amd64");
    let mut unzip = tool("gzip", "gzip");
    let tar = unzip.arg("-dc").arg(&layer).output().unwrap().stdout;
    let diff_id = format!("sha256:{}", blob(&tar).digest);
    assert_eq!(config["rootfs"]["diff_ids"], json!([diff_id]));
    let title = &sorted(made.manifest.annotations())["org.opencontainers.image.title"];
    assert_eq!(title, "demo");
}

#[test]
fn other_programs_take_it_for_an_ordinary_image() {
    let lab = Lab::new();
    let made = lab.make(&lab.image(true));
    let layout = format!("oci:{}", lab.path("layout").display());
    let manifest = upload(&*open(&layout), &made);
    let from = format!("{layout}:1");
    let mut inspect = tool("skopeo", "skopeo");
    let inspected = Ran::of(inspect.args(["inspect", &from]))
        .ends_with(0)
        .json();
    assert_eq!(inspected["Architecture"], "amd64");
    assert_eq!(
        inspected["Labels"]["org.opencontainers.image.version"],
        "1.2"
    );
    // Docker's format, which has the tar as it is.
    let archive = lab.path("docker.tar");
    let mut copy = tool("skopeo", "skopeo");
    let to = format!("docker-archive:{}:demo:1", archive.display());
    Ran::of(copy.args(["--insecure-policy", "copy", &from, &to])).ends_with(0);
    let copied = format!("oci:{}:x", lab.path("copied").display());
    skopeo_copy(&from, &copied);
    let copied = open(&copied);
    let found = copied.manifest(&tag("x")).unwrap().unwrap();
    assert_eq!(found.bytes, manifest);
}

#[test]
fn equal_images_give_equal_bytes() {
    let lab = Lab::new();
    let one = lab.make(&lab.image(false));
    // Another store, which cuts and keeps the disk by itself.
    let other = Lab::new();
    let again = other.make(&other.image(false));
    assert_eq!(one.manifest, again.manifest);
    assert_eq!(one.config, again.config);
    assert_eq!(one.layer.blob, again.layer.blob);
    drop((one, again));
    assert!(names(&lab.path("work")).is_empty());
}

#[test]
fn a_disk_without_a_boot_loader_has_its_kernel_beside_it() {
    let lab = Lab::new();
    let made = lab.make(&lab.image(false));
    let note = made.note.as_deref().unwrap();
    for part in [
        "/boot/vmlinuz",
        "/boot/initrd",
        "root=LABEL=/ console=ttyS0",
    ] {
        assert!(note.contains(part), "{note}");
    }
    assert_eq!(
        sorted(made.manifest.annotations())["org.vmfab.kernel.command-line"],
        "root=LABEL=/ console=ttyS0"
    );
    let layout = open(&format!("oci:{}", lab.path("layout").display()));
    upload(&*layout, &made);
    let layer = read(&*layout, &made.layer.blob, None).unwrap();
    let mut tar = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(&layer[..]);
    decoder.read_to_end(&mut tar).unwrap();
    let mut archive = tar::Archive::new(&tar[..]);
    let mut found = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        entry.by_ref().take(20).read_to_end(&mut content).unwrap();
        found.push((path, content));
    }
    assert_eq!(found.len(), 5);
    assert_eq!(found[3], ("boot/vmlinuz".to_owned(), b"a kernel".to_vec()));
    assert_eq!(found[4], ("boot/initrd".to_owned(), b"an initrd".to_vec()));
    // It is read again as what it is.
    let looks = what(&made.manifest, Some(&made.config));
    assert_eq!(
        looks,
        What::Container {
            looks_like_disk: true
        }
    );
    let (name, head) = &found[1];
    assert_eq!(name, "disk/disk.qcow2");
    assert!(head.starts_with(b"QFI\xfb"));
}

#[test]
fn who_gives_up_leaves_nothing() {
    let lab = Lab::new();
    let interrupt = Interrupt::new().unwrap();
    interrupt.request();
    let (annotations, work) = (BTreeMap::new(), lab.path("work"));
    let made = containerdisk(
        &lab.store,
        &lab.image(true),
        &annotations,
        &work,
        &interrupt,
    );
    assert!(made.is_err_and(|error| error.is(Kind::Interrupted)));
    assert!(names(&lab.path("work")).is_empty());
}

//! Images as KubeVirt runs them: a containerDisk is an ordinary container image with a disk in it.
//!
//! ```text
//! config     architecture, rootfs, labels
//! layer      tar, compressed:  disk/              107:107
//!                              disk/disk.qcow2    107:107, mode 0440
//!                              boot/vmlinuz       only when the disk has no boot loader
//!                              boot/initrd
//! ```
//!
//! 107 is the user `qemu` of KubeVirt's containers, which opens the disk
//! (<https://kubevirt.io/user-guide/storage/disks_and_volumes/#containerdisk>). A kernel beside the
//! disk is for `kernelBoot`, which takes it from an image, the same one or another.
//!
//! The disk goes from the store through qcow2, tar and compression into one file, as a stream. All
//! bytes follow from the image and the options.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use serde_json::json;

use super::layer_file::{LAYER, LayerFile, not_written};
use crate::digest::{Checksum, Sha256};
use crate::disk::{Qcow2, ReadAt};
use crate::failure::Failure;
use crate::host::Interrupt;
use crate::image::{Firmware, ImageConfig};
use crate::registry::{self, Blob, Manifest, Platform, media};
use crate::store::{ObjectReader, Store};
use crate::tarball::{Kind, Member, Writer};

/// KubeVirt's `qemu`, user and group.
const QEMU: u64 = 107;
/// Where the kernel is in the image.
const KERNEL: &str = "boot/vmlinuz";
/// Where its initrd is.
const INITRD: &str = "boot/initrd";
/// The annotation with the kernel's command line.
const COMMAND_LINE: &str = "org.vmfab.kernel.command-line";

/// A container image, to be uploaded: blobs first.
#[derive(Debug)]
pub struct ContainerDisk {
    pub manifest: Manifest,
    /// The config: the bytes of a blob.
    pub config: Vec<u8>,
    pub layer: LayerFile,
    /// What whoever runs it must set in KubeVirt, a sentence; `None` when it runs as it is.
    pub note: Option<String>,
}

/// An object as a disk.
impl ReadAt for ObjectReader {
    fn size(&self) -> io::Result<u64> {
        Ok(Self::size(self))
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        Self::read_exact_at(self, buffer, offset)
    }
}

/// Makes a containerDisk of an image, its layer in a file below `directory`. `annotations` come to
/// what its manifest says of the image by itself.
///
/// # Errors
/// The image is not whole in the store, the file cannot be written, or the user gives up.
pub fn containerdisk(
    store: &Store,
    image: &ImageConfig,
    annotations: &BTreeMap<String, String>,
    directory: &Path,
    interrupt: &Interrupt,
) -> Result<ContainerDisk, Failure> {
    let layer = Layer {
        store,
        image,
        interrupt,
    };
    let (layer, diff_id) = LayerFile::make(directory, interrupt, |out| layer.tar(out))?;
    let mut about = about(image);
    let command_line = needs_kernel(image).then_some(&*image.template.boot.command_line);
    about.extend(command_line.map(|line| (COMMAND_LINE.to_owned(), line.to_owned())));
    let config = config(image, &diff_id, &about);
    Ok(ContainerDisk {
        manifest: registry::manifest(
            None,
            registry::descriptor(media::CONFIG, &Blob::of(&config)),
            vec![registry::descriptor(LAYER, &layer.blob)],
            about.into_iter().chain(annotations.clone()).collect(),
        ),
        config,
        layer,
        note: note(image),
    })
}

/// Whether the disk cannot start by itself, and the kernel is put beside it.
fn needs_kernel(image: &ImageConfig) -> bool {
    let boot = &image.template.boot;
    !boot.uefi && !boot.bios && image.kernel.is_some()
}

/// What is known of the image, as annotations and labels.
pub(super) fn about(image: &ImageConfig) -> BTreeMap<String, String> {
    let template = &image.template;
    let mut about = BTreeMap::new();
    let mut add = |key: &str, value: Option<&str>| {
        about.extend(value.map(|value| (key.to_owned(), value.to_owned())));
    };
    add("org.opencontainers.image.title", Some(&template.name));
    let description = template.description.as_deref();
    add("org.opencontainers.image.description", description);
    let version = template.recipe.version.as_deref();
    add("org.opencontainers.image.version", version);
    about
}

/// The config of the container image. It has nothing to run: KubeVirt brings that.
fn config(image: &ImageConfig, diff_id: &Sha256, labels: &BTreeMap<String, String>) -> Vec<u8> {
    let platform = Platform::linux(&image.template.architecture);
    json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "config": { "Labels": labels },
        "rootfs": { "type": "layers", "diff_ids": [Checksum::from(*diff_id)] },
        "history": [{ "created_by": "vmfab" }],
    })
    .to_string()
    .into_bytes()
}

fn note(image: &ImageConfig) -> Option<String> {
    let boot = &image.template.boot;
    if needs_kernel(image) {
        let initrd = match image.initrd {
            Some(_) => format!(", initrdPath: /{INITRD}"),
            None => String::new(),
        };
        return Some(format!(
            "the disk has no boot loader: in KubeVirt set kernelBoot with container.image of this \
             image, kernelPath: /{KERNEL}{initrd} and kernelArgs: {:?}",
            &*boot.command_line
        ));
    }
    if boot.firmware == Firmware::Uefi || boot.uefi && !boot.bios {
        return Some(
            "the disk starts with UEFI: in KubeVirt set firmware.bootloader.efi".to_owned(),
        );
    }
    None
}

/// What a layer is made of.
struct Layer<'a> {
    store: &'a Store,
    image: &'a ImageConfig,
    interrupt: &'a Interrupt,
}

impl Layer<'_> {
    fn tar<W: Write>(&self, out: W) -> Result<W, Failure> {
        let mut tar = Writer::new(out);
        tar.add(&member("disk/", Kind::Directory, 0o755, 0))
            .map_err(not_written)?;
        let disk = self.store.open_object(&self.image.disk.id)?;
        let parts = disk.data_in(0..disk.size());
        let pause = || match self.interrupt.requested() {
            true => Err(io::Error::other("interrupted")),
            false => Ok(()),
        };
        let qcow2 = Qcow2::scan(&disk, &parts, &pause).map_err(not_written)?;
        let file = |name, size| member(name, Kind::File, 0o440, size);
        tar.add_written(&file("disk/disk.qcow2", qcow2.length()), |out| {
            qcow2.write(out, &pause)
        })
        .map_err(not_written)?;
        // Behind the disk: who looks for that looks at the beginning.
        if needs_kernel(self.image) {
            tar.add(&member("boot/", Kind::Directory, 0o755, 0))
                .map_err(not_written)?;
            let files = [(KERNEL, self.image.kernel), (INITRD, self.image.initrd)];
            for (name, object) in files {
                if let Some(object) = object {
                    let mut reader = self.store.open_object(&object.id)?;
                    tar.add_file(&file(name, reader.size()), &mut reader)
                        .map_err(not_written)?;
                }
            }
        }
        tar.finish().map_err(not_written)
    }
}

/// A member that belongs to KubeVirt's `qemu`.
fn member(name: &str, kind: Kind, mode: u32, size: u64) -> Member {
    Member {
        path: name.into(),
        kind,
        mode,
        uid: QEMU,
        gid: QEMU,
        size,
        ..Member::default()
    }
}

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
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use flate2::write::GzEncoder;
use serde_json::json;
use sha2::Digest as _;
use tempfile::{NamedTempFile, TempPath};

use crate::digest::Sha256;
use crate::disk::{Qcow2, ReadAt};
use crate::host::Interrupt;
use crate::image::{Firmware, ImageConfig};
use crate::registry::{self, Blob, BlobSource, Manifest, Platform, media};
use crate::store::{ObjectReader, Store, StoreError};
use crate::tarball::{Kind, Member, Writer};

/// KubeVirt's `qemu`, user and group.
const QEMU: u64 = 107;
/// Where the kernel is in the image.
const KERNEL: &str = "boot/vmlinuz";
/// Where its initrd is.
const INITRD: &str = "boot/initrd";
/// The annotation with the kernel's command line.
const COMMAND_LINE: &str = "org.vmfab.kernel.command-line";

/// The media type of the layer: gzip is what every registry and container runtime knows.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// The level of gzip: the next ones take twice the time for a hundredth.
const GZIP: u32 = 3;

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

/// A layer in a temporary file, which is removed with it.
#[derive(Debug)]
pub struct LayerFile {
    pub blob: Blob,
    path: TempPath,
}

impl BlobSource for LayerFile {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }
}

/// A containerDisk could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ContainerDiskError {
    /// The image cannot be had from the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The layer could not be written.
    #[error("cannot write the layer: {0}")]
    Io(#[from] io::Error),
    /// The user gave up.
    #[error("interrupted")]
    Interrupted,
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
) -> Result<ContainerDisk, ContainerDiskError> {
    let layer = Layer {
        store,
        image,
        interrupt,
    };
    let made = layer.make(directory);
    let (layer, diff_id) = made.map_err(|error| match error {
        _ if interrupt.requested() => ContainerDiskError::Interrupted,
        error => error,
    })?;
    let about = about(image);
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
fn about(image: &ImageConfig) -> BTreeMap<String, String> {
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
    let command_line = needs_kernel(image).then_some(&*template.boot.command_line);
    add(COMMAND_LINE, command_line);
    about
}

/// The config of the container image. It has nothing to run: KubeVirt brings that.
fn config(image: &ImageConfig, diff_id: &Sha256, labels: &BTreeMap<String, String>) -> Vec<u8> {
    let platform = Platform::linux(&image.template.architecture);
    json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "config": { "Labels": labels },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{diff_id}")] },
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
    /// The layer, and the SHA-256 of its tar.
    fn make(&self, directory: &Path) -> Result<(LayerFile, Sha256), ContainerDiskError> {
        let file = tempfile::Builder::new()
            .prefix("layer-")
            .tempfile_in(directory)?;
        let out = Hashing::new(BufWriter::with_capacity(1 << 20, file));
        let gzip = flate2::GzBuilder::new().mtime(0).operating_system(255);
        let gzip: GzEncoder<_> = gzip.write(out, flate2::Compression::new(GZIP));
        let (gzip, diff_id) = self.tar(gzip)?;
        let out = gzip.finish()?;
        let (mut writer, blob) = out.finish();
        writer.flush()?;
        let file: NamedTempFile = writer
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        let path = file.into_temp_path();
        Ok((LayerFile { blob, path }, diff_id.digest))
    }

    fn tar<W: Write>(&self, out: W) -> Result<(W, Blob), ContainerDiskError> {
        let mut tar = Writer::new(Hashing::new(out));
        tar.add(&member("disk/", Kind::Directory, 0o755, 0))?;
        let disk = self.store.open_object(&self.image.disk.id)?;
        let parts = disk.data_in(0..disk.size());
        let pause = || match self.interrupt.requested() {
            true => Err(io::Error::other("interrupted")),
            false => Ok(()),
        };
        let qcow2 = Qcow2::scan(&disk, &parts, &pause)?;
        let file = |name, size| member(name, Kind::File, 0o440, size);
        tar.add_written(&file("disk/disk.qcow2", qcow2.length()), |out| {
            qcow2.write(out, &pause)
        })?;
        // Behind the disk: who looks for that looks at the beginning.
        if needs_kernel(self.image) {
            tar.add(&member("boot/", Kind::Directory, 0o755, 0))?;
            let files = [(KERNEL, self.image.kernel), (INITRD, self.image.initrd)];
            for (name, object) in files {
                if let Some(object) = object {
                    let mut reader = self.store.open_object(&object.id)?;
                    tar.add_file(&file(name, reader.size()), &mut reader)?;
                }
            }
        }
        Ok(tar.finish()?.finish())
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

/// Computes the SHA-256 of what goes through.
struct Hashing<W> {
    inner: W,
    hasher: sha2::Sha256,
    size: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: sha2::Sha256::new(),
            size: 0,
        }
    }

    fn finish(self) -> (W, Blob) {
        let digest = Sha256::from_bytes(self.hasher.finalize().into());
        let size = self.size;
        (self.inner, Blob { digest, size })
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

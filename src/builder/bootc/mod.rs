//! Bootable containers, installed to disks by their own `bootc`.
//!
//! ```text
//! layers ──► disk of the installer: the tree, and a unit that runs install.sh    mod.rs
//!      └───► disk with the image as an OCI layout, install.sh and its arguments  layout.rs
//!                both and an empty disk ──► machine ──► the installed disk       install.rs
//! ```
//!
//! The machine boots the kernel and the initramfs of the image, so `bootc` finds the programs and the
//! kernel that it is made for. It has no network: all that it installs is on its disks. Nothing here
//! needs root, loop devices or a container engine.

mod install;
mod layout;

pub(super) use install::Install;

use std::fs;

use super::make_disk::{DISK, make};
use crate::derivation::step::BootcInstaller;
use crate::derivation::{BuildRequest, Builder, Outputs, SOURCE_DATE_EPOCH, Step, scripts};
use crate::digest::{Hasher, ObjectRef};
use crate::disk::{DiskIds, Ext4};
use crate::failure::Failure;
use crate::sandbox::{Edit, Job, Lent, Runner, Sandbox, Scratch, Task};
use crate::store::Store;

/// Room beside the tree for what an installation writes there, in bytes.
const ROOM: u64 = 4 << 30;

/// Builds disks of installers.
pub(super) struct Installer {
    pub(super) sandbox: Sandbox,
    pub(super) store: Store,
}

impl Builder for Installer {
    fn build(&self, request: &BuildRequest<'_>) -> Result<Outputs, Failure> {
        let Step::BootcInstaller(_) = super::step(request)? else {
            return Err(super::wrong_kind(request));
        };
        let layers: Vec<ObjectRef> = request.inputs_of("layer").collect();
        let scratch = self.sandbox.scratch()?;
        let file = scratch.file(DISK)?;
        let size = size_for(&layers, ROOM);
        file.as_file()
            .set_len(size)
            .map_err(Failure::step_io("size", file.path()))?;
        let seed = Hasher::new("vmfab bootc installer v1").finish();
        let file_system = ext4(BootcInstaller::LABEL, size, seed.as_bytes())?;
        let unit = |name: &str, content: &str| Edit::Write {
            path: format!("/etc/systemd/system/{name}"),
            content: content.to_owned(),
            mode: 0o644,
            owner: None,
            time: Some(SOURCE_DATE_EPOCH),
        };
        let units = vec![
            unit("vmfab-install.service", scripts::BOOTC_SERVICE),
            unit("vmfab-install.target", scripts::BOOTC_TARGET),
        ];
        let tasks = vec![
            Task::BootableContainer,
            Task::Edit(units),
            make(&file_system, DISK),
            fill(DISK),
        ];
        let job = Job::over(&layers, tasks);
        self.sandbox.run(job, &Lent::default(), &scratch, request)?;
        let mut outputs = Outputs::new();
        for name in ["kernel", "initrd"] {
            let object = self.taken(&scratch, name)?;
            outputs.insert(name.to_owned(), object);
        }
        let disk = self.store.adopt_disk(file).map_err(Failure::of_step)?;
        outputs.insert(DISK.to_owned(), disk);
        Ok(outputs)
    }
}

impl Installer {
    /// A file of the job as an object.
    fn taken(&self, scratch: &Scratch, name: &str) -> Result<ObjectRef, Failure> {
        let path = scratch.path().join(name);
        let content = fs::read(&path).map_err(Failure::step_io("read", &path))?;
        self.store.put_bytes(&content).map_err(Failure::of_step)
    }
}

/// Size of a file system for the files of layers, and more, in whole GiB.
fn size_for(layers: &[ObjectRef], more: u64) -> u64 {
    let files: u64 = layers.iter().map(|layer| layer.size).sum();
    // A tar of small files is larger than its files, but blocks and inodes take room, too.
    (files + files / 4 + more).next_multiple_of(1 << 30)
}

/// An ext4 file system that is a whole disk.
fn ext4(label: &str, size: u64, seed: &[u8; 32]) -> Result<Ext4, Failure> {
    let time = u32::try_from(SOURCE_DATE_EPOCH).unwrap_or(u32::MAX);
    Ext4::new(&DiskIds::new(seed, seed), label, 0, size, time).map_err(Failure::of_step)
}

/// The task that puts the tree into it.
fn fill(file: &str) -> Task {
    Task::FileSystem {
        file: file.into(),
        offset: 0,
        time: u32::try_from(SOURCE_DATE_EPOCH).unwrap_or(u32::MAX),
    }
}

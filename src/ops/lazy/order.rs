//! What boots read of disks, in order: recorded by a boot, kept in `cache/boot-orders`, pushed and
//! pulled with images.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::super::images::{self, FoundImage};
use super::super::machine::{BootOptions, reads_of_boot};
use super::Context;
use crate::digest::{ObjectId, ObjectRef};
use crate::event::Event;
use crate::failure::Failure;
use crate::host::file;
use crate::image::Hardware;
use crate::machine::Until;
use crate::qemu::AccelChoice;
use crate::share::BootOrder;
use crate::store::Store;

/// The longest file.
const LONGEST: u64 = 1 << 20;
const SUFFIX: &str = ".json";

/// How a boot is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordOptions {
    pub accel: AccelChoice,
    /// How long the machine may take to be ready.
    pub timeout: Duration,
}

/// A boot that was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordedBoot {
    pub image: ObjectId,
    /// Whether the machine got ready.
    pub ready: bool,
    /// Parts of the disk that it read.
    pub parts: usize,
    /// Bytes of these.
    pub bytes: u64,
    /// The size of the disk.
    pub disk: u64,
}

/// Boots a machine of an image, records what it reads until it is ready, and removes it.
///
/// # Errors
/// There is no such image, or its machine cannot be started or reads nothing.
pub fn record_boot(
    context: &Context,
    image: &str,
    options: &RecordOptions,
) -> Result<RecordedBoot, Failure> {
    let found = images::find(context, image)?;
    let options = BootOptions {
        name: None,
        hardware: Hardware::default(),
        ports: Vec::new(),
        accel: options.accel,
        remove: false,
        until: Until::Ssh,
        timeout: options.timeout,
    };
    let (reads, failure) = reads_of_boot(context, &found, &options)?;
    if let Some(failure) = &failure {
        context.emit(Event::Warning {
            message: format!("recorded what the machine read until it failed: {failure}"),
        });
    }
    let order = BootOrder::of(reads);
    let disk = &found.config.disk;
    let path = path(context, &disk.id);
    file::cache(&path, &order.to_bytes()).map_err(Failure::io("write", &path))?;
    Ok(RecordedBoot {
        image: found.image,
        ready: failure.is_none(),
        parts: order.parts().len(),
        bytes: order.bytes(),
        disk: disk.size,
    })
}

/// Whether the boot of an image was recorded.
#[must_use]
pub fn is_recorded(context: &Context, image: &FoundImage) -> bool {
    find(context, &image.config.disk).is_some()
}

/// The boot order of a disk, when it is known.
pub(in crate::ops) fn find(context: &Context, disk: &ObjectRef) -> Option<BootOrder> {
    let text = file::read_text(&path(context, &disk.id), LONGEST).ok()?;
    BootOrder::from_bytes(text.as_bytes(), disk.size).ok()
}

/// Keeps the boot order of a disk, unless it is known. One that cannot be kept is pulled again.
pub(in crate::ops) fn keep(context: &Context, disk: &ObjectRef, order: &BootOrder) {
    if find(context, disk).is_none() {
        let _ = file::cache(&path(context, &disk.id), &order.to_bytes());
    }
}

/// Removes those of disks that are gone.
pub(super) fn sweep(context: &Context, store: &Store) {
    let entries = fs::read_dir(context.home.boot_orders());
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
        let disk: Option<ObjectId> = name.and_then(|name| name.parse().ok());
        if disk.is_none_or(|disk| store.parts(&disk).is_err()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn path(context: &Context, disk: &ObjectId) -> PathBuf {
    context.home.boot_orders().join(format!("{disk}{SUFFIX}"))
}

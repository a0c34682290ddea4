//! Operations on the store itself: files in it, what it takes, whether it is whole, and copies of
//! it.

mod add;
mod auto;
mod backup;
mod gc;
mod get;
mod needs;
mod repair;
mod restore;
mod roots;
mod stale;
mod stat;
mod trees;
mod verify;

pub use add::{AddOptions, Added, add};
pub use auto::collect_if_due;
pub use backup::{BackedUp, BackupOptions, Names, backup};
pub use gc::{Collected, Count, DroppedResult, Freed, GcOptions, by_output, gc};
pub(in crate::ops) use gc::{machines, places, snapshots};
pub use get::{GetOptions, Got, get, open};
pub use needs::{NeededBy, Part};
pub use repair::{Repair, repair};
pub use restore::{RestoreOptions, Restored, restore};
pub use roots::{RootEntry, RootObject, roots, unkeep};
pub use stat::{CacheUsage, Caches, ImageUsage, RootUsage, Stat, stat};
pub use verify::{Damage, Verification, verify};

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::Context;
use crate::digest::ObjectId;
use crate::event::Event;
use crate::failure::Failure;
use crate::image::ImageConfig;
use crate::store::{StoreError, Watch};

/// Between two events that tell how far work is.
const TOLD: Duration = Duration::from_millis(100);

/// Runs work over a whole store, with events that tell of it. Gives what it gave, and the seconds
/// it took.
fn watched<T>(
    context: &Context,
    name: &str,
    work: impl FnOnce(&Watch<'_>) -> Result<T, StoreError>,
) -> Result<(T, f64), Failure> {
    let started = Instant::now();
    context.emit(Event::TaskStarted {
        name: name.to_owned(),
    });
    let told = Mutex::new(started);
    let progress = |done: u64, total: u64| {
        // Who finds it locked leaves telling to the other one.
        if let Ok(mut told) = told.try_lock()
            && told.elapsed() >= TOLD
        {
            *told = Instant::now();
            context.emit(Event::TaskProgress {
                name: name.to_owned(),
                done,
                total,
            });
        }
    };
    let result = work(&Watch::new(&context.interrupt, &progress))?;
    let seconds = started.elapsed().as_secs_f64();
    context.emit(Event::TaskFinished {
        name: name.to_owned(),
        seconds,
    });
    Ok((result, seconds))
}

/// The objects of an image beside its config, with what they are.
fn parts(config: &ImageConfig) -> Vec<(Part, ObjectId)> {
    let one = |part, object: Option<&crate::digest::ObjectRef>| object.map(|one| (part, one.id));
    [
        one(Part::Disk, Some(&config.disk)),
        one(Part::Kernel, config.kernel.as_ref()),
        one(Part::Initrd, config.initrd.as_ref()),
    ]
    .into_iter()
    .flatten()
    .chain(config.layers.iter().map(|layer| (Part::Layer, layer.id)))
    .collect()
}

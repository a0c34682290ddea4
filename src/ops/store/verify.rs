//! Whether the store is whole, and what damage means.

use std::collections::HashSet;

use serde::Serialize;

use super::super::{Context, images};
use super::needs::{NeededBy, Needs};
use super::{trees, watched};
use crate::digest::ObjectId;
use crate::failure::Failure;
use crate::store::{DamagedFile, DamagedObject, Store, Verified};
use crate::world::image_config;

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verification {
    /// Whether nothing is wrong.
    pub ok: bool,
    /// Whether only the structure was looked at.
    pub quick: bool,
    pub packs: u64,
    pub journals: u64,
    pub objects: u64,
    /// Different chunks.
    pub chunks: u64,
    pub results: u64,
    /// Bytes of packs and journals.
    pub bytes: u64,
    /// Files that are damaged.
    pub damaged_files: Vec<DamagedFile>,
    /// Objects that cannot be read.
    pub damaged_objects: Vec<Damage>,
    /// Wall time in seconds.
    pub seconds: f64,
}

/// An object that cannot be read, and what that means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    pub object: ObjectId,
    pub reason: String,
    pub needed_by: Vec<NeededBy>,
    /// What makes it again, the best first, each one sentence.
    pub remedies: Vec<String>,
}

/// Looks at everything in the store; `quick`, at all but the content of chunks.
///
/// # Errors
/// The store cannot be read at all, or the user gave up.
pub fn verify(context: &Context, quick: bool) -> Result<Verification, Failure> {
    let store = context.store()?;
    let name = format!("verify {}", store.root().display());
    let (verified, seconds) = watched(context, &name, |watch| store.verify(quick, watch))?;
    let Verified {
        damaged_files,
        mut damaged_objects,
        ..
    } = verified;
    let mut needs = Needs::read(context, &store)?;
    let mut damaged: HashSet<ObjectId> = damaged_objects.iter().map(|one| one.object).collect();
    for object in needs.objects() {
        // Images that were pulled need not have layers.
        if !needs.is_layer_only(object) && !store.knows(object) && damaged.insert(*object) {
            damaged_objects.push(DamagedObject {
                object: *object,
                reason: "it is not in the store".to_owned(),
            });
        }
    }
    if !damaged.is_empty() {
        needs.results(&store, &damaged)?;
    }
    let mut damaged_objects: Vec<Damage> = damaged_objects
        .into_iter()
        .map(|DamagedObject { object, reason }| Damage {
            object,
            reason,
            needed_by: needs.of(&object),
            remedies: needs.remedies(&object, false),
        })
        .collect();
    if !quick {
        damaged_objects.extend(wrong_disks(context, &store, &needs, &damaged)?);
    }
    Ok(Verification {
        ok: damaged_files.is_empty() && damaged_objects.is_empty(),
        quick,
        packs: verified.packs,
        journals: verified.journals,
        objects: verified.objects,
        chunks: verified.chunks,
        results: verified.results,
        bytes: verified.bytes,
        damaged_files,
        damaged_objects,
        seconds,
    })
}

/// Disks of images that can be read, and are not what their layers say.
fn wrong_disks(
    context: &Context,
    store: &Store,
    needs: &Needs,
    damaged: &HashSet<ObjectId>,
) -> Result<Vec<Damage>, Failure> {
    let mut seen = damaged.clone();
    let mut wrong = Vec::new();
    for entry in images::list(context)? {
        // One that cannot be read is reported already.
        let Ok(config) = image_config(store, &entry.image) else {
            continue;
        };
        if let Some(reason) = seen
            .insert(config.disk.id)
            .then(|| trees::wrong(store, &config))
            .flatten()
        {
            wrong.push(Damage {
                object: config.disk.id,
                reason,
                needed_by: needs.of(&config.disk.id),
                remedies: vec![format!(
                    "build @{} again with --rebuild: its steps saw wrong files",
                    entry.tag
                )],
            });
        }
    }
    Ok(wrong)
}

//! Dropping what is damaged, and telling what is lost by that.

use std::collections::HashSet;

use serde::Serialize;

use super::super::Context;
use super::needs::{NeededBy, Needs};
use super::verify::Damage;
use super::watched;
use crate::digest::ObjectId;
use crate::failure::Failure;
use crate::store::{DamagedFile, Repaired};

/// What a repair did, or would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Repair {
    /// Whether nothing is wrong any more.
    pub ok: bool,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Files that were damaged.
    pub damaged_files: Vec<DamagedFile>,
    /// Packs and journals that were written anew or dropped.
    pub rewritten: u64,
    /// Whole records that were copied out of them.
    pub salvaged: u64,
    /// Objects that were made again from the cache of disks.
    pub restored: Vec<ObjectId>,
    /// Results that will be built again when they are needed.
    pub results: u64,
    /// Tags and roots that could not be read, and were removed.
    pub names: Vec<String>,
    /// Objects that are lost and that something with a name needs.
    pub lost: Vec<Damage>,
    /// Other objects that were dropped.
    pub dropped: Vec<ObjectId>,
    /// Damaged files that running processes use: repair again when these have ended.
    pub in_use: u64,
    /// Wall time in seconds.
    pub seconds: f64,
}

/// Drops what is damaged, so that it counts as absent and can be made again.
///
/// # Errors
/// A garbage collection runs, the store cannot be written to, or the user gave up.
pub fn repair(context: &Context, dry_run: bool) -> Result<Repair, Failure> {
    let store = context.store()?;
    // Before anything goes: a config that goes can no longer tell what it refers to.
    let mut needs = Needs::read(context, &store)?;
    let name = format!("repair {}", store.root().display());
    let (repaired, seconds) = watched(context, &name, |watch| store.repair(dry_run, watch))?;
    let Repaired {
        found,
        dropped,
        restored,
        names,
        ..
    } = repaired;
    let gone: HashSet<ObjectId> = dropped.iter().copied().collect();
    needs.results(&store, &gone)?;
    let is_named = |by: &NeededBy| !matches!(by, NeededBy::Result { .. });
    let (lost, dropped): (Vec<ObjectId>, Vec<ObjectId>) = dropped
        .into_iter()
        .partition(|object| needs.of(object).iter().any(is_named));
    let reason = |object: &ObjectId| {
        let mut damaged = found.damaged_objects.iter();
        let found = damaged.find(|damaged| damaged.object == *object);
        found.map_or_else(String::new, |damaged| damaged.reason.clone())
    };
    let lost: Vec<Damage> = lost
        .iter()
        .map(|object| Damage {
            object: *object,
            reason: reason(object),
            needed_by: needs.of(object),
            remedies: needs.remedies(object, !dry_run),
        })
        .collect();
    Ok(Repair {
        ok: if dry_run {
            found.is_whole()
        } else {
            lost.is_empty() && repaired.in_use == 0
        },
        dry_run,
        damaged_files: found.damaged_files,
        rewritten: repaired.files,
        salvaged: repaired.salvaged,
        restored,
        results: repaired.results,
        names: names
            .iter()
            .map(|path| path.to_string_lossy().into_owned())
            .collect(),
        lost,
        dropped,
        in_use: repaired.in_use,
        seconds,
    })
}

//! Packs that came whole from elsewhere: nobody has compared their chunks with their keys
//! (`store-format/protocol.md`, P1 to P4).
//!
//! Each has a mark, an empty file of its name in `received/`, which is there before the pack and
//! goes after it. What is stored anew relies on a chunk of such a pack only after it was read and
//! is right.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::sync::Mutex;

use super::files::Files;
use super::lock::{Lock, share_lock, try_lock};
use super::session::Holder;
use super::view::{Location, list_packs};
use super::{Records, lock};
use crate::digest::{Digest, Sha256};
use crate::store::error::StoreError;
use crate::store::format::Kind;

/// Where the marks are, and the lock under which they go.
const DIRECTORY: &str = "received";

/// What this process knows of packs on which it relies: none for one without a mark, otherwise
/// where the chunks are that were read and are right.
#[derive(Debug, Default)]
pub(in crate::store) struct Received(Mutex<HashMap<Sha256, Option<HashSet<u32>>>>);

/// Whether a pack has a mark. That a pack has none is true only of one that cannot go meanwhile.
pub(in crate::store) fn is_marked(files: &Files, pack: &Sha256) -> bool {
    let mark = fs::symlink_metadata(files.path(DIRECTORY, pack));
    // What cannot be told is not trusted.
    !mark.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Marks packs before they are pinned and get their names. No mark goes until the lock is dropped,
/// which is to be when they have them.
pub(in crate::store) fn mark<'a>(
    files: &Files,
    packs: impl IntoIterator<Item = &'a Sha256>,
) -> Result<Lock, StoreError> {
    let held = share_lock(files, DIRECTORY)?;
    for pack in packs {
        files.create_locked(&files.path(DIRECTORY, pack), &[])?;
    }
    files.sync_directory(&files.root.join(DIRECTORY))?;
    Ok(held)
}

/// Removes the marks of packs that are gone.
pub(in crate::store) fn remove_marks(files: &Files) -> Result<(), StoreError> {
    let directory = files.root.join(DIRECTORY);
    if list_packs(&directory)?.is_empty() {
        return Ok(());
    }
    // Who marks a pack now holds it: the next garbage collection comes.
    let Some(_lock) = try_lock(files, DIRECTORY)? else {
        return Ok(());
    };
    let mut gone = list_packs(&directory)?;
    let places = ["packs", "trash"].map(|place| files.root.join(place));
    for place in &places {
        for pack in list_packs(place)? {
            gone.remove(&pack);
        }
    }
    if gone.is_empty() {
        return Ok(());
    }
    // After a loss of power no pack is to be back without its mark.
    for place in &places {
        files.sync_directory(place)?;
    }
    for pack in gone {
        files.remove(&files.path(DIRECTORY, pack))?;
    }
    Ok(())
}

impl Records {
    /// A chunk that an object that is stored now may name. Chunks in received packs count when they
    /// read right, and in `trusted` ones as they are: those were received for this object.
    pub(in crate::store) fn rely_on_chunk(
        &self,
        chunk: &Digest,
        trusted: &HashSet<Sha256>,
    ) -> Result<Option<Location>, StoreError> {
        // What is in a journal of another process may be lost when power is.
        let elsewhere = |location: &Location| {
            matches!(location.holder, Holder::Journal(_)) && !self.is_own(&location.holder)
        };
        self.rely_on_right(chunk, trusted, elsewhere)
    }

    /// A record of a chunk, to be relied on from now on, that is not in a received pack that is not
    /// `trusted`, or reads right. `but` says which do not count.
    pub(in crate::store) fn rely_on_right(
        &self,
        chunk: &Digest,
        trusted: &HashSet<Sha256>,
        but: impl Fn(&Location) -> bool,
    ) -> Result<Option<Location>, StoreError> {
        let mut wrong: Vec<Location> = Vec::new();
        loop {
            let counts = |location: &Location| but(location) || wrong.contains(location);
            let Some(location) = self.rely(chunk, &[Kind::Chunk], counts)? else {
                return Ok(None);
            };
            let trusted = matches!(&location.holder, Holder::Pack(pack) if trusted.contains(pack));
            if trusted || self.is_right(&location) {
                return Ok(Some(location));
            }
            wrong.push(location);
        }
    }

    /// Whether the content of a chunk was compared with its key before it came to where it is, or
    /// is now.
    pub(in crate::store) fn is_right(&self, location: &Location) -> bool {
        let Holder::Pack(pack) = &location.holder else {
            return true;
        };
        match lock(&self.received.0).get(pack) {
            Some(None) => return true,
            Some(Some(right)) if right.contains(&location.entry.offset) => return true,
            _ => {}
        }
        if !is_marked(&self.files, pack) {
            // One that is not pinned may just have gone with its mark.
            if self.session.has(&location.holder) {
                lock(&self.received.0).insert(*pack, None);
            }
            return true;
        }
        let right = self.read_at(location, &mut Vec::new()).is_ok();
        if right {
            let mut known = lock(&self.received.0);
            let known = known.entry(*pack).or_default();
            known.get_or_insert_default().insert(location.entry.offset);
        }
        right
    }
}

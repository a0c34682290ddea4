//! Garbage collection: what no root reaches goes (`store-format/protocol.md`, G1 to G5).
//!
//! ```text
//! seal journals ──► read catalogs ──► mark from roots ──► rewrite catalogs without what is dead
//!                                          ▲                        │ take away, look who uses it
//!                                          └── what came meanwhile ◄┤
//!                              index ◄── rewrite and take away data packs
//! ```

mod catalogs;
mod mark;
mod policy;
mod sweep;
mod take;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::debug;

use crate::digest::{ActionKey, Digest, ObjectId, ObjectRef};
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::records::received::remove_marks;
use crate::store::records::{index, journal, lock};

use catalogs::Catalogs;
use mark::Mark;
pub(in crate::store) use take::{Condemned, condemn, destroy, put_back};

/// What keeps objects beside tags and the store's own roots.
pub trait Roots {
    /// Objects that must stay, such as the images of machines. Asked more than once, to see what
    /// came meanwhile.
    ///
    /// # Errors
    /// They cannot be told: then nothing is collected.
    fn objects(&self) -> Result<Vec<ObjectId>, Box<dyn std::error::Error + Send + Sync>>;

    /// The objects that an image config refers to and cannot do without; nothing when the content
    /// is none.
    fn references(&self, config: &[u8]) -> Option<Vec<ObjectId>>;

    /// Whether the user gave up: what was begun is put back.
    fn interrupted(&self) -> bool;
}

/// What may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectOptions {
    /// Action results that were used within this time stay.
    pub older_than: Duration,
    /// So many images that were built last stay, however old they are.
    pub keep_last: usize,
    /// Action results that were used least recently go until the packs have at most so many bytes.
    pub max_size: Option<u64>,
    /// Whether nothing is changed.
    pub dry_run: bool,
}

/// Why a result goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It was not used for longer than results are kept.
    Unused,
    /// The store would be larger than wanted.
    Size,
    /// One of its objects is not there.
    Incomplete,
}

/// An action result that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    pub key: ActionKey,
    /// Its outputs, sorted by name. They may be gone.
    pub outputs: Arc<[(String, ObjectRef)]>,
    /// When it was made or last used, in seconds since 1970.
    pub used: u64,
    /// Why it goes.
    pub reason: Reason,
}

/// Things that stay and things that go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// How many stay.
    pub kept: u64,
    /// How many go.
    pub removed: u64,
}

/// What a garbage collection did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Collection {
    /// How long it took to find out what is live.
    pub marking: Duration,
    /// Objects, blobs among them.
    pub objects: Tally,
    pub results: Tally,
    /// Packs; those that are written anew count as removed.
    pub packs: Tally,
    /// Packs that something came to need meanwhile, and that were put back.
    pub put_back: u64,
    /// Bytes of packs and journals before.
    pub before: u64,
    /// Bytes of packs and journals after.
    pub after: u64,
    /// The results that go, those used least recently first.
    pub dropped: Vec<Dropped>,
    /// Whether the store is still larger than wanted: roots keep the rest.
    pub too_large: bool,
}

impl Store {
    /// Collects garbage. Other processes may use the store meanwhile.
    ///
    /// # Errors
    /// Another process collects; roots cannot be read; the store fails. Nothing that is live is
    /// lost.
    pub fn collect(
        &self,
        roots: &dyn Roots,
        options: &CollectOptions,
    ) -> Result<Collection, StoreError> {
        let records = &self.records;
        let files = &records.files;
        if !options.dry_run {
            records.check_writable()?;
        }
        let Some(_lock) = lock::try_lock(files, "gc")? else {
            return Err(StoreError::Busy {
                path: files.root.clone(),
                doing: "collecting garbage in",
            });
        };
        if !options.dry_run {
            put_back(files)?;
            self.seal_idle_journals()?;
        }
        let started = Instant::now();
        records.refresh()?;
        let mut catalogs = Catalogs::read(records, options.dry_run)?;
        let mut mark = Mark::new(self, roots);
        mark.roots(&catalogs)?;
        let plan = policy::decide(&mut mark, &catalogs, options)?;
        let mut report = Collection {
            marking: started.elapsed(),
            before: catalogs.bytes,
            ..plan.report
        };
        debug!(time = ?report.marking, bytes = report.before, "marked");
        let swept = sweep::catalogs(
            self,
            &mut catalogs,
            &mut mark,
            &plan.kept,
            options,
            &mut report,
        )
        .and_then(|()| sweep::data(self, &mut catalogs, &mut mark, options, &mut report));
        if !options.dry_run {
            // After a failure, too: what was taken away and is not gone is put back.
            let restored = put_back(files);
            swept?;
            restored?;
            files.sweep();
            remove_marks(files)?;
            index::rebuild(records)?;
        } else {
            swept?;
        }
        Ok(report)
    }

    /// Makes packs of the journals that nobody writes to.
    fn seal_idle_journals(&self) -> Result<(), StoreError> {
        let files = &self.records.files;
        self.records.seal_own()?;
        for (number, path) in journal::list(files)? {
            let Some(mut writer) = journal::Writer::take(files, number, path)? else {
                continue;
            };
            if writer.is_empty() {
                writer.remove(files)?;
            } else {
                writer.seal(files, None)?;
            }
        }
        Ok(())
    }
}

/// The start of a key: enough to tell most keys apart. Where two keys have it in common, one of
/// them is kept without need.
fn short(key: &Digest) -> u64 {
    let bytes = key.as_bytes().first_chunk().copied().unwrap_or_default();
    u64::from_le_bytes(bytes)
}

/// Sets and maps by keys that are hashes already.
type ByShort = std::hash::BuildHasherDefault<Identity>;

/// Hashes a number to itself.
#[derive(Default)]
struct Identity(u64);

impl std::hash::Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn write_usize(&mut self, _length: usize) {}
}

#[cfg(test)]
mod tests;

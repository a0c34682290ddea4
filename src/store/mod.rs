//! The store: immutable objects named by their digest, results of actions, tags, and locks.
//!
//! `store-format/` says what is on disk, byte by byte, and in which order it is written. Here:
//!
//! ```text
//! put ──► chunker ──► ingest ──► pack, journal ──► files      the one place that changes files
//!                                    │
//! read, materialise ◄── records ◄── view ◄── table, index     where is the record of a key?
//!                          │
//!                       session                               what this process relies on
//! ```
//!
//! | folder | what it is |
//! |---|---|
//! | `format/` | the bytes on disk, as pure functions |
//! | `records/` | packs, journals and indexes: finding, appending and relying on records |
//! | `content/` | objects: chunks, writing, reading, the cache of disks |
//! | `names/` | action results, tags, roots, and files of the user |
//! | `wire/` | packs for others, and theirs |
//! | `upkeep/` | whole stores: collecting, verifying, copying, measuring |

mod content;
mod error;
#[cfg(test)]
mod faults;
mod format;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod names;
mod records;
#[cfg(test)]
mod tests;
mod upkeep;
#[cfg(test)]
mod vectors;
mod wire;

use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use crate::digest::ActionKey;
pub use content::disks::Cached;
pub use content::ingest::{ObjectWriter, ReadAt};
pub use content::read::{ObjectReader, StoredSize};
pub use error::{StoreError, damage};
pub use names::action::ActionResult;
pub use names::file::{AddedFile, FILE_OUTPUT};
pub use names::tag::TagName;
pub use records::lock::{ActionLock, Lock};
pub use records::queue::Ticket;
pub use upkeep::collect::{CollectOptions, Collection, Dropped, Reason, Roots, Tally};
pub use upkeep::transfer::{Place, Transferred};
pub use upkeep::usage::{Files as FilesUsage, GroupUsage, Usage};
pub use upkeep::verify::{DamagedFile, DamagedObject, FileKind, Repaired, Verified};
pub use upkeep::watch::Watch;
#[cfg(test)]
pub(crate) use wire::lying;
pub(crate) use wire::{
    IncomingError, Intake, OutgoingPack, PackedChunk, Parts, chunks_of_table, verify_chunk,
};

use error::{damaged, io_error};
use format::{Access, FORMAT_JSON, MAX_FORMAT_JSON, check_features};
pub(crate) use format::{Chunk, ChunkList};
use records::files::{self, DIRECTORIES, Files};
use records::{Records, lock, view};
use upkeep::collect;

/// The store below one directory. Cheap to clone; safe to use from many threads and processes.
#[derive(Debug, Clone)]
pub struct Store {
    records: Arc<Records>,
    /// The cache of materialised objects.
    disks: PathBuf,
}

impl Store {
    /// Opens the store at `root` and makes it when it is not there. Materialised objects go to
    /// `cache/disks` beside it.
    ///
    /// # Errors
    /// It cannot be made, or has another format.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Self::open_files(Files::new(root.into()))
    }

    fn open_files(mut files: Files) -> Result<Self, StoreError> {
        let root = &files.root;
        let disks = root.parent().unwrap_or(root).join("cache/disks");
        let writable = prepare(&mut files)?;
        Ok(Self {
            records: Arc::new(Records::new(files, writable)),
            disks,
        })
    }

    /// The directory of the store.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.records.files.root
    }

    /// A temporary file in the store, which disappears when it is dropped. It is locked as long as
    /// it is open, for [`sweep`](Self::sweep).
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn temporary(&self) -> Result<tempfile::NamedTempFile, StoreError> {
        self.records.check_writable()?;
        self.records.files.temporary()
    }

    /// Removes what processes that were killed have left.
    pub fn sweep(&self) {
        self.records.files.sweep();
    }

    /// Takes the lock `name` (letters, digits and `-`), or returns `None` when another thread or
    /// process has it.
    ///
    /// # Errors
    /// The lock file cannot be opened.
    pub fn try_lock(&self, name: &str) -> Result<Option<Lock>, StoreError> {
        lock::try_lock(&self.records.files, name)
    }

    /// Takes the lock of a derivation, or returns `None` when another thread or process has it.
    ///
    /// # Errors
    /// The lock file cannot be opened.
    pub fn try_lock_action(&self, key: &ActionKey) -> Result<Option<ActionLock>, StoreError> {
        ActionLock::try_take(&self.records.files, key)
    }

    /// A ticket for one of the first `places`, of somebody who `began` then.
    #[must_use]
    pub fn ticket(&self, began: SystemTime, places: usize) -> Ticket {
        Ticket::new(&self.records.files, began, places)
    }
}

/// Makes a store where there is none, and looks at the format of one that is there. Tells whether
/// it can be written to.
fn prepare(files: &mut Files) -> Result<bool, StoreError> {
    let path = files.root.join("format.json");
    let mut text = Vec::new();
    match files::open_file(&path) {
        Ok((file, _)) => {
            file.take(MAX_FORMAT_JSON + 1)
                .read_to_end(&mut text)
                .map_err(io_error("read", &path))?;
        }
        Err(error) if error.is_absent() => {
            make(files)?;
            return Ok(true);
        }
        Err(error) => return Err(error),
    }
    let root = files.root.clone();
    let writable = match check_features(&text).map_err(damaged(&path))? {
        Access::Write => rustix::fs::access(&root, rustix::fs::Access::WRITE_OK).is_ok(),
        Access::Read(_) => false,
        Access::OtherVersion(version) => {
            return Err(StoreError::Version {
                path: root,
                version,
            });
        }
        Access::Features(features) => {
            return Err(StoreError::Features {
                path: root,
                features,
            });
        }
    };
    if writable {
        make_directories(files)?;
        if view::list_packs(&root.join("packs"))?.is_empty() {
            // Who made the store may have come no further than to rename format.json, and without
            // that packs are nothing.
            files.sync_directory(&root)?;
        }
        let trash = view::list_packs(&root.join("trash"))?;
        if !trash.is_empty()
            && let Some(_lock) = lock::try_lock(files, "gc")?
        {
            collect::put_back(files)?;
        }
    }
    Ok(writable)
}

fn make(files: &Files) -> Result<(), StoreError> {
    make_directories(files)?;
    let packs = files.root.join("packs");
    let path = files.root.join("format.json");
    if fs::read_dir(&packs).is_ok_and(|mut packs| packs.next().is_some())
        // Another process may just have made it.
        && !path.exists()
    {
        return Err(StoreError::Damaged {
            path,
            reason: "it is missing, and there are packs".to_owned(),
        });
    }
    files.write_atomically(&path, FORMAT_JSON.as_bytes())
}

fn make_directories(files: &Files) -> Result<(), StoreError> {
    for directory in DIRECTORIES {
        let path = files.root.join(directory);
        match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&path).map_err(io_error("create", &path))?;
            }
            result => result.map_err(io_error("create", &path))?,
        }
    }
    Ok(())
}

/// The threads of the store, as many as processors.
fn pool() -> Result<&'static rayon::ThreadPool, StoreError> {
    static POOL: OnceLock<Option<rayon::ThreadPool>> = OnceLock::new();
    POOL.get_or_init(|| {
        rayon::ThreadPoolBuilder::new()
            .thread_name(|index| format!("store-{index}"))
            .build()
            .ok()
    })
    .as_ref()
    .ok_or_else(|| StoreError::Refused("no threads can be started".to_owned()))
}

/// Runs `work` on the threads of the store. From a plain thread: the caller may be a thread of
/// another rayon pool, which would start other work of that pool while it waits.
fn on_pool<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, StoreError> {
    let pool = pool()?;
    std::thread::scope(|scope| scope.spawn(|| pool.install(work)).join())
        .map_err(|_| StoreError::Refused("a thread of the store ended".to_owned()))
}

/// A number for a name that nobody else has.
fn random() -> u64 {
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

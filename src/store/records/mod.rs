//! Records of a store: finding, relying on, reading and appending them, wherever they are.

pub(super) mod files;
pub(super) mod index;
pub(super) mod journal;
pub(super) mod lock;
pub(super) mod pack;
pub(super) mod queue;
pub(super) mod received;
pub(super) mod session;
pub(super) mod sink;
pub(super) mod table;
pub(super) mod view;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rustix::io::Errno;

use crate::digest::{Digest, Sha256};
use crate::store::error::{StoreError, damaged, io_error};
use crate::store::format::{FormatError, Kind, RECORD, RecordHeader};
use files::{Files, open_file};
use pack::read_record;
use received::Received;
use session::{Holder, Session};
use view::{Location, View};

/// Files of packs that are kept open at most.
const OPEN: usize = 128;
/// How often a record is looked for again when its pack went away while it was read.
const TRIES: usize = 4;

/// The records of one store, as this process sees them. Safe to use from many threads.
#[derive(Debug)]
pub(in crate::store) struct Records {
    pub(in crate::store) files: Files,
    pub(in crate::store) session: Session,
    /// Whether the store can be written to.
    pub(in crate::store) writable: bool,
    view: RwLock<View>,
    writer: Mutex<Option<journal::Writer>>,
    open: Mutex<HashMap<Sha256, Arc<File>>>,
    /// Whether this process relies on packs whose names may not be on disk yet.
    unsettled: Mutex<bool>,
    /// Set when there was no room to say what this process relies on. It then goes on to read, and
    /// appends nothing that may need what a garbage collection takes away meanwhile.
    unsaid: AtomicBool,
    pub(in crate::store) received: Received,
}

impl Drop for Records {
    fn drop(&mut self) {
        self.session.end(&self.files);
    }
}

impl Records {
    pub(in crate::store) fn new(files: Files, writable: bool) -> Self {
        Self {
            files,
            session: Session::default(),
            writable,
            view: RwLock::default(),
            writer: Mutex::default(),
            open: Mutex::default(),
            unsettled: Mutex::default(),
            unsaid: AtomicBool::default(),
            received: Received::default(),
        }
    }

    /// Looks into the view, which is brought up to date first when it may be stale.
    pub(in crate::store) fn fresh<T>(
        &self,
        look: impl FnOnce(&View) -> T,
    ) -> Result<T, StoreError> {
        self.catch_up()?;
        Ok(look(
            &self.view.read().unwrap_or_else(PoisonError::into_inner),
        ))
    }

    fn catch_up(&self) -> Result<(), StoreError> {
        let stale = self
            .view
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_stale(&self.files);
        if stale {
            self.refresh()?;
        }
        Ok(())
    }

    pub(in crate::store) fn refresh(&self) -> Result<(), StoreError> {
        self.view
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .refresh(&self.files)
    }

    /// Every record of `key` of one of these kinds. When there is none, the store is looked at
    /// again.
    pub(in crate::store) fn locate(
        &self,
        key: &Digest,
        kinds: &[Kind],
    ) -> Result<Vec<Location>, StoreError> {
        let look = || {
            let mut locations = Vec::new();
            let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
            view.find(key, kinds, |location| {
                locations.push(location);
                false
            });
            (locations, view.is_misled())
        };
        let (locations, misled) = look();
        if misled {
            self.renew_indexes()?;
        } else if !locations.is_empty() {
            return Ok(locations);
        } else {
            self.catch_up()?;
        }
        let (locations, misled) = look();
        if !misled {
            return Ok(locations);
        }
        self.renew_indexes()?;
        Ok(look().0)
    }

    /// After an index was seen to be wrong: indexes are made anew, and where that cannot be, none
    /// is used.
    fn renew_indexes(&self) -> Result<(), StoreError> {
        self.view
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .forget_indexes();
        self.refresh()?;
        if self.writable {
            // It is a cache: without one it goes too.
            let _ = index::rebuild(self);
        }
        Ok(())
    }

    /// Looks whether an index lied about `location`, where a record was not what was expected. When
    /// it did, `locate` finds something else the next time.
    fn doubt(&self, location: &Location) -> bool {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        view.doubt(&self.files, location)
    }

    /// Whether an index was seen to be wrong, so that it is worth to look again.
    pub(in crate::store) fn is_misled(&self) -> bool {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        view.is_misled()
    }

    /// A record of `key` that this process may rely on from now on: a garbage collection leaves it
    /// where it is. `but` says which do not count.
    pub(in crate::store) fn rely(
        &self,
        key: &Digest,
        kinds: &[Kind],
        but: impl Fn(&Location) -> bool,
    ) -> Result<Option<Location>, StoreError> {
        self.find(key, kinds, but, |holder| self.pin(holder))
    }

    /// As [`rely`](Self::rely), also on a full disk; then nothing is appended from then on.
    pub(in crate::store) fn rely_if_room(
        &self,
        key: &Digest,
        kinds: &[Kind],
        but: impl Fn(&Location) -> bool,
    ) -> Result<Option<Location>, StoreError> {
        self.find(key, kinds, but, |holder| self.pin_if_room(holder))
    }

    fn find(
        &self,
        key: &Digest,
        kinds: &[Kind],
        but: impl Fn(&Location) -> bool,
        pin: impl Fn(&Holder) -> Result<bool, StoreError>,
    ) -> Result<Option<Location>, StoreError> {
        for _ in 0..TRIES {
            let locations = self.locate(key, kinds)?;
            let mut gone = false;
            for location in locations.into_iter().filter(|location| !but(location)) {
                if pin(&location.holder)? {
                    return Ok(Some(location));
                }
                gone = true;
            }
            if !gone {
                return Ok(None);
            }
            self.refresh()?;
        }
        Ok(None)
    }

    /// As [`rely`](Self::rely), for reading. Where the session cannot be written, as on a full
    /// disk, what is to be read is looked for all the same.
    pub(in crate::store) fn rely_to_read(
        &self,
        key: &Digest,
        kinds: &[Kind],
    ) -> Result<Option<Location>, StoreError> {
        match self.rely(key, kinds, |_| false) {
            Err(_) => Ok(self.locate(key, kinds)?.first().copied()),
            found => found,
        }
    }

    /// As [`pin`](Self::pin), but on a full disk the holder is looked for without being pinned, and
    /// nothing is appended from then on.
    pub(in crate::store) fn pin_if_room(&self, holder: &Holder) -> Result<bool, StoreError> {
        match self.pin(holder) {
            Err(error) if error.is_full() => {
                self.unsaid.store(true, Ordering::Relaxed);
                Ok(fs::symlink_metadata(holder.path(&self.files)).is_ok())
            }
            pinned => pinned,
        }
    }

    /// Pins a holder; tells whether it is there.
    pub(in crate::store) fn pin(&self, holder: &Holder) -> Result<bool, StoreError> {
        if !self.writable || self.session.has(holder) || self.is_own(holder) {
            return Ok(true);
        }
        let path = holder.path(&self.files);
        if matches!(holder, Holder::Pack(_)) {
            self.unsettle();
        }
        self.session
            .pin(&self.files, *holder, || fs::symlink_metadata(path).is_ok())
    }

    /// The name of some pack may not be on disk: who renamed it may not have come further, or have
    /// failed.
    pub(in crate::store) fn unsettle(&self) {
        *lock(&self.unsettled) = true;
    }

    /// Before an object that has its chunks in packs: forces the names of packs to disk where that
    /// may be due.
    pub(in crate::store) fn settle(&self) -> Result<(), StoreError> {
        let mut unsettled = lock(&self.unsettled);
        if *unsettled {
            self.files.sync_directory(&self.files.root.join("packs"))?;
            *unsettled = false;
        }
        Ok(())
    }

    /// Whether it is the journal of this process.
    pub(in crate::store) fn is_own(&self, holder: &Holder) -> bool {
        let writer = lock(&self.writer);
        matches!((holder, &*writer), (Holder::Journal(number), Some(writer)) if *number == writer.number)
    }

    /// The open file of a holder, and its path.
    pub(in crate::store) fn open(
        &self,
        holder: &Holder,
    ) -> Result<(Arc<File>, PathBuf), StoreError> {
        let path = holder.path(&self.files);
        match holder {
            Holder::Journal(number) => {
                let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
                if let Some(journal) = view.journals.get(number) {
                    return Ok((journal.file.clone(), path));
                }
                drop(view);
                open_file(&path).map(|(file, _)| (Arc::new(file), path))
            }
            Holder::Pack(name) => {
                if let Some(file) = lock(&self.open).get(name) {
                    return Ok((file.clone(), path));
                }
                let file = Arc::new(self.open_pack(name, &path)?);
                let mut open = lock(&self.open);
                if open.len() >= OPEN {
                    open.clear();
                }
                open.insert(*name, file.clone());
                Ok((file, path))
            }
        }
    }

    /// Where a pack is, or would be.
    pub(in crate::store) fn pack_path(&self, name: &Sha256) -> PathBuf {
        let path = self.files.path("packs", name);
        let trash = self.files.path("trash", name);
        if fs::symlink_metadata(&path).is_err() && fs::symlink_metadata(&trash).is_ok() {
            return trash;
        }
        path
    }

    /// Opens a pack. A garbage collection may just look whether somebody needs it.
    fn open_pack(&self, name: &Sha256, path: &Path) -> Result<File, StoreError> {
        let trash = self.files.path("trash", name);
        for path in [path, &trash, path] {
            match open_file(path) {
                Err(error) if error.is_absent() => {}
                result => return result.map(|(file, _)| file),
            }
        }
        Err(io_error("open", path)(io::ErrorKind::NotFound.into()))
    }

    /// Reads the record of `key` into `out`. One that is damaged is passed over when there is
    /// another. Gives nothing when there is none.
    pub(in crate::store) fn read(
        &self,
        key: &Digest,
        kinds: &[Kind],
        out: &mut Vec<u8>,
    ) -> Result<Option<Location>, StoreError> {
        let mut buffer = Vec::new();
        for _ in 0..TRIES {
            let locations = self.locate(key, kinds)?;
            if locations.is_empty() {
                return Ok(None);
            }
            let mut damage = None;
            let mut gone = false;
            for location in locations {
                let read = self.open(&location.holder).and_then(|(file, path)| {
                    read_record(&file, &path, &location.entry, &mut buffer, out)
                });
                match read {
                    Ok(()) => return Ok(Some(location)),
                    Err(error) if error.is_absent() => gone = true,
                    Err(error) => {
                        gone |= self.doubt(&location);
                        damage = Some(error);
                    }
                }
            }
            match damage {
                Some(error) if !gone => return Err(error),
                _ => self.refresh()?,
            }
        }
        Ok(None)
    }

    /// Reads the record at `location` into `out`.
    pub(in crate::store) fn read_at(
        &self,
        location: &Location,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let (file, path) = self.open(&location.holder)?;
        read_record(&file, &path, &location.entry, &mut Vec::new(), out).inspect_err(|_| {
            self.doubt(location);
        })
    }

    /// The error of a pack that cannot be used, if there is one.
    pub(in crate::store) fn first_broken(&self) -> Option<String> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        view.broken.values().next().cloned()
    }

    /// The first 8 bytes of a payload that is stored as it is: in a list, the size of its object.
    pub(in crate::store) fn read_start(&self, location: &Location) -> Result<[u8; 8], StoreError> {
        let (file, path) = self.open(&location.holder)?;
        let mut bytes = [0; RECORD + 8];
        let read = file.read_exact_at(&mut bytes, u64::from(location.entry.offset));
        let record = RecordHeader::parse(&bytes).map(|(record, _)| record);
        if read.is_err() || record != Ok(location.entry.record) {
            self.doubt(location);
            return Err(damaged(&path)(FormatError("it has no such record there")));
        }
        let mut start = [0; 8];
        start.copy_from_slice(&bytes[RECORD..]);
        Ok(start)
    }

    /// Appends encoded records to this process's journal.
    pub(in crate::store) fn append(
        &self,
        bytes: &[u8],
        records: &[RecordHeader],
    ) -> Result<(), StoreError> {
        self.check_writable()?;
        if self.unsaid.load(Ordering::Relaxed) {
            let sessions = self.files.root.join("sessions");
            return Err(io_error("write to", &sessions)(Errno::NOSPC.into()));
        }
        let mut writer = lock(&self.writer);
        if writer.is_none() {
            *writer = Some(journal::Writer::acquire(&self.files)?);
            self.refresh()?;
        }
        let Some(journal) = writer.as_mut() else {
            return Ok(());
        };
        let entries = journal.append(&self.files, bytes, records)?;
        self.view
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .appended(journal.number, &entries);
        if journal.is_full(&self.files) {
            self.seal(writer)?;
        }
        Ok(())
    }

    /// Makes a pack of the journal. When that fails, the process goes on with it: it may have taken
    /// chunks in it as present, and these need not be on disk.
    fn seal(&self, mut writer: MutexGuard<'_, Option<journal::Writer>>) -> Result<(), StoreError> {
        let Some(journal) = writer.as_mut() else {
            return Ok(());
        };
        let sealed = journal.seal(&self.files, Some(&self.session));
        if !journal.is_journal() {
            *writer = None;
        }
        drop(writer);
        self.add_packs(&[sealed?])
    }

    /// Takes in packs that this process has put in their place.
    pub(in crate::store) fn add_packs(&self, packs: &[Sha256]) -> Result<(), StoreError> {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        for pack in packs {
            view.add_pack(&self.files, *pack);
        }
        let many = view.single() > view::MANY;
        drop(view);
        if many {
            index::merge(self)?;
        }
        Ok(())
    }

    /// Seals this process's journal, if it has one with records.
    pub(in crate::store) fn seal_own(&self) -> Result<(), StoreError> {
        let mut writer = lock(&self.writer);
        if writer.as_ref().is_some_and(journal::Writer::is_empty) {
            *writer = None;
        }
        self.seal(writer)?;
        self.refresh()
    }

    /// Forces all journals and the names of packs to disk, this process's and others': what was put
    /// is there after a loss of power.
    pub(in crate::store) fn barrier(&self) -> Result<(), StoreError> {
        for (_, path) in journal::list(&self.files)? {
            match open_file(&path) {
                Ok((file, _)) => self.files.sync(&file, &path)?,
                Err(error) if error.is_absent() => {}
                Err(error) => return Err(error),
            }
        }
        // Who renamed a pack may not have come to this yet, or have failed.
        for directory in ["journals", "packs"] {
            self.files
                .sync_directory(&self.files.root.join(directory))?;
        }
        Ok(())
    }

    pub(in crate::store) fn check_writable(&self) -> Result<(), StoreError> {
        if self.writable {
            return Ok(());
        }
        Err(StoreError::ReadOnly {
            path: self.files.root.clone(),
            reason: "its files are read-only, or from a newer vmfab".to_owned(),
        })
    }
}

pub(in crate::store) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

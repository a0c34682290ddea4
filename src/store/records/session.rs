//! Sessions: by its file, a process tells garbage collections of other processes which packs it
//! relies on (`store-format/protocol.md`, S1 to S3).

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::files::Files;
use crate::digest::Sha256;
use crate::store::error::StoreError;
use crate::store::random;

/// A file of records: a pack, or a journal by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::store) enum Holder {
    Pack(Sha256),
    Journal(u64),
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pack(name) => write!(f, "pack {name}"),
            Self::Journal(number) => write!(f, "journal {number:016x}"),
        }
    }
}

impl Holder {
    /// Where the file is.
    pub(in crate::store) fn path(&self, files: &Files) -> PathBuf {
        match self {
            Self::Pack(name) => files.path("packs", name),
            Self::Journal(number) => files.path("journals", format_args!("{number:016x}")),
        }
    }

    pub(in crate::store) fn parse(line: &str) -> Option<Self> {
        let (kind, name) = line.split_once(' ')?;
        match kind {
            "pack" => name.parse().ok().map(Self::Pack),
            "journal" => u64::from_str_radix(name, 16).ok().map(Self::Journal),
            _ => None,
        }
    }
}

/// What this process relies on. The file is made when there is something to say.
#[derive(Debug, Default)]
pub(in crate::store) struct Session(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    file: Option<(File, PathBuf)>,
    length: u64,
    pinned: HashSet<Holder>,
}

impl Session {
    /// Whether `holder` is pinned already.
    pub(in crate::store) fn has(&self, holder: &Holder) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.pinned.contains(holder)
    }

    /// Says that this process relies on `holder`, then looks whether it is there; tells that.
    pub(in crate::store) fn pin(
        &self,
        files: &Files,
        holder: Holder,
        there: impl FnOnce() -> bool,
    ) -> Result<bool, StoreError> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.pinned.contains(&holder) {
            return Ok(true);
        }
        if state.file.is_none() {
            let path = files.path("sessions", format_args!("{:016x}", random()));
            let file = files.create_locked(&path, &[])?;
            state.file = Some((file, path));
        }
        if let Some((file, path)) = &state.file {
            let line = format!("{holder}\n");
            files.write_at(file, path, line.as_bytes(), state.length)?;
            state.length += line.len() as u64;
        }
        let there = there();
        if there {
            state.pinned.insert(holder);
        }
        Ok(there)
    }

    /// Removes the session's file; the process relies on nothing any more.
    pub(in crate::store) fn end(&self, files: &Files) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.length = 0;
        state.pinned.clear();
        if let Some((_, path)) = state.file.take() {
            let _ = files.remove(&path);
        }
    }
}

/// What the sessions of living processes rely on.
///
/// # Errors
/// They cannot be read: then nothing may be taken away.
pub(in crate::store) fn pinned(files: &Files) -> io::Result<HashSet<Holder>> {
    let mut pinned = HashSet::new();
    for entry in fs::read_dir(files.root.join("sessions"))? {
        let path = entry?.path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if file.try_lock().is_ok() {
            // Nobody's. One that was just made has nothing in it yet that matters: what it will
            // rely on, it will look for after it has said so.
            continue;
        }
        match fs::read_to_string(&path) {
            Ok(text) => pinned.extend(text.lines().filter_map(Holder::parse)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(pinned)
}

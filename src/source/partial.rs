//! What is here of a download, kept from one process to the next.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::error::FetchError;
use super::location::Source;
use crate::digest::{Checksum, Hasher};
use crate::host::file::Lock;

/// Partial files that nobody touched for so long go.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;

/// What is known of the bytes of a partial file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// Where they came from.
    pub(super) url: String,
    /// The server's name for this version: a strong `ETag`, or else `Last-Modified`.
    pub(super) validator: Option<String>,
    /// How many there will be.
    pub(super) total: Option<u64>,
    /// Whether all are here.
    pub(super) complete: bool,
}

/// A partial file with its note. Dropping it keeps both.
#[derive(Debug)]
pub(super) struct Partial {
    file: File,
    path: PathBuf,
    note_path: PathBuf,
    /// What is known of the bytes.
    pub(super) note: Note,
    length: u64,
}

/// What names the files of a download.
pub(super) fn key(source: &Source, checksum: Option<&Checksum>) -> String {
    let checksum = checksum.map_or_else(String::new, Checksum::to_string);
    let mut hasher = Hasher::new("vmfab partial download v1");
    hasher.update_field(source.url().as_bytes());
    hasher.update_field(checksum.as_bytes());
    hasher.finish().to_hex()[..32].to_owned()
}

pub(super) fn lock_path(directory: &Path, key: &str) -> PathBuf {
    directory.join(format!("{key}.lock"))
}

impl Partial {
    /// Opens or makes the partial file of a key. Its lock must be held.
    pub(super) fn open(directory: &Path, key: &str) -> Result<Self, FetchError> {
        let path = directory.join(format!("{key}.partial"));
        let note_path = directory.join(format!("{key}.json"));
        let file = File::options()
            .create(true)
            .read(true)
            .append(true)
            .open(&path)
            .map_err(FetchError::io("open", &path))?;
        let length = file.metadata().map_err(FetchError::io("look at", &path))?;
        let length = length.len();
        // Without a note the bytes can still be checked by their checksum.
        let note = fs::read(&note_path).ok();
        let note = note.and_then(|note| serde_json::from_slice(&note).ok());
        let mut note: Note = note.filter(|_| length > 0).unwrap_or_default();
        note.complete &= note.total == Some(length);
        Ok(Self {
            file,
            path,
            note_path,
            note,
            length,
        })
    }

    /// Bytes that are here.
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// Reads all bytes from the beginning.
    pub(super) fn replay(
        &mut self,
        mut each: impl FnMut(&[u8]) -> Result<(), FetchError>,
    ) -> Result<(), FetchError> {
        let failed = |error| FetchError::io("read", &self.path)(error);
        self.file.rewind().map_err(failed)?;
        let mut buffer = vec![0; BUFFER];
        let mut left = self.length;
        while left > 0 {
            let count = match self.file.read(&mut buffer) {
                Ok(0) => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            };
            each(&buffer[..count])?;
            left = left.saturating_sub(count as u64);
        }
        Ok(())
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Forgets all bytes.
    pub(super) fn clear(&mut self) -> Result<(), FetchError> {
        let cut = self.file.set_len(0);
        cut.map_err(FetchError::io("shorten", &self.path))?;
        self.length = 0;
        self.note = Note::default();
        Ok(())
    }

    /// Writes down what is known of the bytes, when it is something new.
    pub(super) fn write_note(&mut self, note: Note) -> io::Result<()> {
        if self.note == note {
            return Ok(());
        }
        let text = serde_json::to_vec(&note)?;
        let temporary = self.note_path.with_extension("json.new");
        fs::write(&temporary, text)?;
        fs::rename(&temporary, &self.note_path)?;
        self.note = note;
        Ok(())
    }

    /// Removes the file and its note.
    pub(super) fn remove(self) -> Result<(), FetchError> {
        // Without its file a note says nothing.
        let _ = fs::remove_file(&self.note_path);
        fs::remove_file(&self.path).map_err(FetchError::io("remove", &self.path))
    }
}

/// Removes partial files that nobody went on with for a month, but none that is locked. What cannot
/// be removed stays.
pub(super) fn sweep(directory: &Path) {
    let now = SystemTime::now();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let modified = entry.metadata().and_then(|meta| meta.modified()).ok();
        let age = modified.and_then(|modified| now.duration_since(modified).ok());
        if age.is_none_or(|age| age < KEPT) || path.extension().is_none_or(|kind| kind != "partial")
        {
            continue;
        }
        if let Ok(Some(lock)) = Lock::try_take(&path.with_extension("lock")) {
            let _ = fs::remove_file(path.with_extension("json"));
            let _ = fs::remove_file(&path);
            lock.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(partial: &mut Partial) -> Vec<u8> {
        let mut all = Vec::new();
        partial
            .replay(|bytes| {
                all.extend_from_slice(bytes);
                Ok(())
            })
            .unwrap();
        all
    }

    #[test]
    fn bytes_and_note_stay() {
        let directory = tempfile::tempdir().unwrap();
        let mut partial = Partial::open(directory.path(), "k").unwrap();
        let note = Note {
            url: "http://a/".to_owned(),
            validator: Some("\"1\"".to_owned()),
            total: Some(5),
            complete: true,
        };
        partial.append(b"abc").unwrap();
        partial.write_note(note.clone()).unwrap();
        let mut partial = Partial::open(directory.path(), "k").unwrap();
        assert!(!partial.note.complete, "two bytes are missing");
        partial.append(b"de").unwrap();
        assert_eq!(bytes(&mut partial), b"abcde");
        let mut partial = Partial::open(directory.path(), "k").unwrap();
        assert_eq!(partial.note, note);
        assert_eq!(partial.length(), 5);
        partial.clear().unwrap();
        partial.append(b"x").unwrap();
        assert_eq!(bytes(&mut partial), b"x");
        fs::write(directory.path().join("k.json"), "{").unwrap();
        let partial = Partial::open(directory.path(), "k").unwrap();
        assert_eq!(partial.note, Note::default());
        partial.remove().unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn old_ones_go() {
        let directory = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - KEPT - Duration::from_secs(60);
        for name in ["old", "held", "new"] {
            let mut partial = Partial::open(directory.path(), name).unwrap();
            partial.append(b"x").unwrap();
            if name != "new" {
                partial.file.set_modified(old).unwrap();
            }
        }
        let held = Lock::try_take(&lock_path(directory.path(), "held")).unwrap();
        sweep(directory.path());
        drop(held);
        let left = fs::read_dir(directory.path()).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["held.lock", "held.partial", "new.partial"]);
    }
}

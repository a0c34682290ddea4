//! What earlier builds took from caches: outputs by action key, without content.
//!
//! With it, a build that needs no content finds that nothing is to be done, also when no cache can
//! be asked. One small JSON file for each key, named by it; all of them can be deleted at any time.
//! A torn one is as good as none.

use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::derivation::Outputs;
use crate::digest::ActionKey;
use crate::host::file;

/// Results that were not used for so long are forgotten.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// A use is recorded when the last one is older than this.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// What is larger was not written by this program.
const MAX_FILE: u64 = 1 << 20;

/// The directory of remembered results.
#[derive(Debug, Clone)]
pub struct Remembered {
    directory: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    outputs: Outputs,
}

impl Remembered {
    /// Those in `directory`, which need not exist.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// What an action made, when it is remembered.
    #[must_use]
    pub fn get(&self, key: &ActionKey) -> Option<Outputs> {
        let mut bytes = Vec::new();
        let file = fs::File::open(self.path(key)).ok()?;
        file.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
        let entry: Entry = serde_json::from_slice(&bytes).ok()?;
        Some(entry.outputs)
    }

    /// Remembers what an action made.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put(&self, key: &ActionKey, outputs: &Outputs) -> io::Result<()> {
        let path = self.path(key);
        if age(&path).is_some_and(|age| age < DAY) && self.get(key).as_ref() == Some(outputs) {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&Entry {
            outputs: outputs.clone(),
        })?;
        file::cache(&path, &bytes)
    }

    /// Forgets what an action made: it was built here.
    pub fn forget(&self, key: &ActionKey) {
        let _ = fs::remove_file(self.path(key));
    }

    /// Forgets what was not used for a month, and removes what killed processes left.
    pub fn sweep(&self) {
        let entries = fs::read_dir(&self.directory);
        for entry in entries.into_iter().flatten().flatten() {
            let path = entry.path();
            if age(&path).is_some_and(|age| age > LONGEST) {
                let _ = fs::remove_file(path);
            }
        }
    }

    fn path(&self, key: &ActionKey) -> PathBuf {
        self.directory.join(key.to_string())
    }
}

/// How long ago a file was written; nothing for one that is not there.
fn age(path: &std::path::Path) -> Option<Duration> {
    let modified = fs::metadata(path).and_then(|meta| meta.modified()).ok()?;
    Some(
        SystemTime::now()
            .duration_since(modified)
            .unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Hasher, ObjectId, ObjectRef};

    fn key(text: &str) -> ActionKey {
        ActionKey::new(Hasher::new("test").update(text.as_bytes()).finish())
    }

    fn outputs(text: &str) -> Outputs {
        let id = ObjectId::new(Hasher::new("test").update(text.as_bytes()).finish());
        Outputs::from([("layer".to_owned(), ObjectRef { id, size: 7 })])
    }

    #[test]
    fn what_is_put_is_there_until_it_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let remembered = Remembered::new(directory.path().join("cache/results"));
        remembered.sweep();
        assert_eq!(remembered.get(&key("a")), None);
        remembered.put(&key("a"), &outputs("1")).unwrap();
        remembered.put(&key("b"), &outputs("2")).unwrap();
        assert_eq!(remembered.get(&key("a")), Some(outputs("1")));
        remembered.put(&key("a"), &outputs("3")).unwrap();
        assert_eq!(remembered.get(&key("a")), Some(outputs("3")));
        remembered.forget(&key("a"));
        remembered.forget(&key("a"));
        assert_eq!(remembered.get(&key("a")), None);
        assert_eq!(remembered.get(&key("b")), Some(outputs("2")));
    }

    #[test]
    fn a_torn_file_is_as_good_as_none() {
        let directory = tempfile::tempdir().unwrap();
        let remembered = Remembered::new(directory.path());
        remembered.put(&key("a"), &outputs("1")).unwrap();
        let path = remembered.path(&key("a"));
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(remembered.get(&key("a")), None, "{length} bytes");
        }
        fs::write(&path, vec![0; whole.len()]).unwrap();
        assert_eq!(remembered.get(&key("a")), None);
        remembered.put(&key("a"), &outputs("1")).unwrap();
        assert_eq!(remembered.get(&key("a")), Some(outputs("1")));
    }

    #[test]
    fn a_use_is_recorded_and_what_is_old_goes() {
        let directory = tempfile::tempdir().unwrap();
        let remembered = Remembered::new(directory.path());
        for name in ["used", "unused"] {
            remembered.put(&key(name), &outputs("1")).unwrap();
            let file = fs::File::options()
                .write(true)
                .open(remembered.path(&key(name)));
            let long_ago = SystemTime::now() - LONGEST - DAY;
            file.unwrap().set_modified(long_ago).unwrap();
        }
        remembered.put(&key("used"), &outputs("1")).unwrap();
        remembered.sweep();
        assert_eq!(remembered.get(&key("used")), Some(outputs("1")));
        assert_eq!(remembered.get(&key("unused")), None);
    }
}

//! Action results: what a derivation made, by its action key.
//!
//! A result is a hint that saves work, so it is not forced to disk: one that is torn by a crash has
//! a wrong checksum and counts as absent. Objects are forced to disk before a result names them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Store, StoreError, fan_out, io_error};
use crate::digest::{ActionKey, Digest, Hasher, ObjectRef};

/// What a derivation made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionResult {
    /// Its outputs by name.
    pub outputs: BTreeMap<String, ObjectRef>,
}

/// The stored form: the checksum is over the JSON of the result.
#[derive(Serialize, Deserialize)]
struct Record {
    checksum: Digest,
    result: ActionResult,
}

fn checksum(key: &ActionKey, result: &ActionResult) -> Digest {
    let json = serde_json::to_vec(result).expect("results serialise to JSON");
    Hasher::new("vmfab action result v0")
        .update(key.digest().as_bytes())
        .update(&json)
        .finish()
}

impl Store {
    fn action_path(&self, key: &ActionKey) -> PathBuf {
        fan_out(self.root.join("actions"), &key.to_string())
    }

    /// The result of an action, when it is known and all of its objects are there.
    #[must_use]
    pub fn action(&self, key: &ActionKey) -> Option<ActionResult> {
        let bytes = fs::read(self.action_path(key)).ok()?;
        let record: Record = serde_json::from_slice(&bytes).ok()?;
        let whole = record.checksum == checksum(key, &record.result)
            && record
                .result
                .outputs
                .values()
                .all(|object| self.has_object(object));
        whole.then_some(record.result)
    }

    /// Records the result of an action, in place of an earlier one.
    ///
    /// # Errors
    /// The store fails.
    pub fn put_action(&self, key: &ActionKey, result: ActionResult) -> Result<(), StoreError> {
        let record = Record {
            checksum: checksum(key, &result),
            result,
        };
        let bytes = serde_json::to_vec(&record).expect("records serialise to JSON");
        let path = self.action_path(key);
        // In place: one that is half written counts as absent, to readers meanwhile as after a crash.
        let written = match fs::write(&path, &bytes) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let directory = path.parent().unwrap_or(&self.root);
                fs::create_dir_all(directory).map_err(io_error("create", directory))?;
                fs::write(&path, &bytes)
            }
            result => result,
        };
        written.map_err(io_error("write", &path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_needs_its_objects_and_its_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let object = store.put_bytes(b"output").unwrap();
        let key = ActionKey::new(Hasher::new("test").finish());
        let result = ActionResult {
            outputs: BTreeMap::from([("layer".to_owned(), object)]),
        };
        assert_eq!(store.action(&key), None);
        store.put_action(&key, result.clone()).unwrap();
        assert_eq!(store.action(&key), Some(result));

        let path = store.action_path(&key);
        let bytes = fs::read(&path).unwrap();
        for torn in [&bytes[..bytes.len() / 2], &bytes[..0]] {
            fs::write(&path, torn).unwrap();
            assert_eq!(store.action(&key), None);
        }
        fs::write(
            &path,
            String::from_utf8(bytes.clone())
                .unwrap()
                .replace("layer", "later"),
        )
        .unwrap();
        assert_eq!(store.action(&key), None);
        fs::write(&path, bytes).unwrap();
        fs::remove_file(store.materialise(&object.id).unwrap()).unwrap();
        assert_eq!(store.action(&key), None);
    }
}

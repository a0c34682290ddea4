//! Action results: what a derivation made, by its action key.
//!
//! A result is a hint that saves work, so it is not forced to disk: one that is lost in a crash is
//! absent.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::digest::{ActionKey, ObjectRef};
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::format::{Kind, decode_action, encode_action, encode_record};

/// A use of a result is recorded when the last one is older than this, in seconds.
pub(in crate::store) const DAY: u64 = 24 * 60 * 60;

/// What a derivation made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionResult {
    /// Its outputs by name.
    pub outputs: BTreeMap<String, ObjectRef>,
}

/// Seconds since 1970.
pub(in crate::store) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

impl Store {
    /// The result of an action, when it is known and all of its objects are there.
    #[must_use]
    pub fn action(&self, key: &ActionKey) -> Option<ActionResult> {
        let mut bytes = Vec::new();
        let mut newest: Option<(u64, BTreeMap<String, ObjectRef>)> = None;
        for location in self.records.locate(key.digest(), &[Kind::Action]).ok()? {
            if self.records.read_at(&location, &mut bytes).is_ok()
                && let Ok(found) = decode_action(&bytes)
                && newest.as_ref().is_none_or(|(time, _)| *time < found.0)
            {
                newest = Some(found);
            }
        }
        let (time, outputs) = newest?;
        if !outputs.values().all(|object| self.has_object(object)) {
            return None;
        }
        let result = ActionResult { outputs };
        if time.saturating_add(DAY) < now() && self.records.writable {
            // So that a garbage collection knows what is in use. It is no harm when that fails.
            let _ = self.put_action(key, result.clone());
        }
        Some(result)
    }

    /// Records the result of an action, in place of an earlier one.
    ///
    /// # Errors
    /// The store fails.
    pub fn put_action(&self, key: &ActionKey, result: ActionResult) -> Result<(), StoreError> {
        let payload = encode_action(now(), &result.outputs).ok_or_else(|| {
            StoreError::Refused("a result has too many outputs, or a name too long".to_owned())
        })?;
        let mut bytes = Vec::new();
        let header = encode_record(&mut bytes, Kind::Action, key.digest(), &payload);
        self.records.append(&bytes, &[header])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Hasher;

    #[test]
    fn a_result_needs_its_objects() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let key = ActionKey::new(Hasher::new("test").finish());
        let result = |text: &[u8], store: &Store| ActionResult {
            outputs: BTreeMap::from([("layer".to_owned(), store.put_bytes(text).unwrap())]),
        };
        assert_eq!(store.action(&key), None);
        let first = result(b"first", &store);
        store.put_action(&key, first.clone()).unwrap();
        assert_eq!(store.action(&key), Some(first));
        let second = result(b"second", &store);
        store.put_action(&key, second.clone()).unwrap();
        let other = Store::open(directory.path()).unwrap();
        assert_eq!(other.action(&key), Some(second));

        let elsewhere = tempfile::tempdir().unwrap();
        let elsewhere = result(b"third", &Store::open(elsewhere.path()).unwrap());
        store.put_action(&key, elsewhere).unwrap();
        assert_eq!(store.action(&key), None);
    }
}

//! Roots: names that keep objects from being collected (`store-format/README.md`).

use std::fmt;
use std::fs;
use std::io::Read;
use std::str::FromStr;

use super::Store;
use super::error::{StoreError, io_error};
use super::files::open_file;
use super::tag::is_name;
use crate::digest::ObjectId;

/// The name of a root. It has the form of a tag's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootName(String);

impl RootName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RootName {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        if is_name(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(StoreError::RootName(text.to_owned()))
        }
    }
}

impl fmt::Display for RootName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Store {
    /// The objects that a root keeps.
    ///
    /// # Errors
    /// The root's file cannot be read or does not hold object ids.
    pub fn root_objects(&self, name: &RootName) -> Result<Option<Vec<ObjectId>>, StoreError> {
        let path = self.records.files.path("roots", name.as_str());
        let mut file = match open_file(&path) {
            Ok((file, _)) => file,
            Err(error) if error.is_absent() => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        file.read_to_string(&mut text)
            .map_err(io_error("read", &path))?;
        let objects: Result<Vec<ObjectId>, _> = text.lines().map(str::parse).collect();
        match objects {
            Ok(objects) if !objects.is_empty() => Ok(Some(objects)),
            _ => Err(StoreError::TagFile(path)),
        }
    }

    /// Keeps these objects, in place of what the root kept before. At least one.
    ///
    /// # Errors
    /// The store fails.
    pub fn put_root(&self, name: &RootName, objects: &[ObjectId]) -> Result<(), StoreError> {
        let path = self.records.files.path("roots", name.as_str());
        self.records.check_writable()?;
        if objects.is_empty() {
            return Err(StoreError::Refused(format!(
                "the root {name} would keep nothing"
            )));
        }
        // What is kept must not be lost with the power.
        self.records.barrier()?;
        let text: String = objects.iter().map(|object| format!("{object}\n")).collect();
        self.records.files.write_atomically(&path, text.as_bytes())
    }

    /// Removes a root; tells whether it was there.
    ///
    /// # Errors
    /// The store fails.
    pub fn remove_root(&self, name: &RootName) -> Result<bool, StoreError> {
        let path = self.records.files.path("roots", name.as_str());
        self.records.check_writable()?;
        self.records.files.remove(&path)
    }

    /// All roots, sorted, with the objects that they keep.
    ///
    /// # Errors
    /// A root cannot be read.
    pub fn roots(&self) -> Result<Vec<(RootName, Vec<ObjectId>)>, StoreError> {
        let directory = self.records.files.root.join("roots");
        let mut roots = Vec::new();
        for entry in fs::read_dir(&directory).map_err(io_error("list", &directory))? {
            let entry = entry.map_err(io_error("list", &directory))?;
            let Some(Ok(name)) = entry.file_name().to_str().map(str::parse::<RootName>) else {
                continue;
            };
            if let Some(objects) = self.root_objects(&name)? {
                roots.push((name, objects));
            }
        }
        roots.sort();
        Ok(roots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_replaced_and_goes() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let name: RootName = "mine".parse().unwrap();
        let object = |text: &[u8]| store.put_bytes(text).unwrap().id;
        assert_eq!(store.root_objects(&name).unwrap(), None);
        store.put_root(&name, &[object(b"0")]).unwrap();
        let two = [object(b"1"), object(b"2")];
        store.put_root(&name, &two).unwrap();
        assert_eq!(store.roots().unwrap(), [(name.clone(), two.to_vec())]);
        assert!(store.put_root(&name, &[]).is_err());
        assert!(store.remove_root(&name).unwrap());
        assert!(!store.remove_root(&name).unwrap());
        assert!("@a".parse::<RootName>().is_err());
    }

    #[test]
    fn a_file_of_something_else_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        for text in ["", "x\n", "\n"] {
            fs::write(store.root().join("roots/bad"), text).unwrap();
            let error = store.roots().unwrap_err();
            assert!(matches!(error, StoreError::TagFile(_)), "{error}");
        }
    }
}

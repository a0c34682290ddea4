//! Tags: mutable names for images.

use std::fmt;
use std::fs;
use std::io::Read;
use std::str::FromStr;

use crate::digest::ObjectId;
use crate::store::Store;
use crate::store::error::{StoreError, io_error};
use crate::store::records::files::open_file;
use crate::store::records::table::OBJECTS;

/// Bytes of the file of a tag: 64 digits and a newline.
const LENGTH: u64 = 65;

/// The name of a tag, without `@`: letters, digits, `.`, `_` and `-`, not beginning with `.` or
/// `-`, at most 128 characters (the form of an OCI tag).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagName(String);

impl TagName {
    /// The name, without `@`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a text can be the name of a tag.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && !text.starts_with(['.', '-'])
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

impl FromStr for TagName {
    type Err = StoreError;

    /// Takes the name with or without `@`.
    fn from_str(text: &str) -> Result<Self, StoreError> {
        let name = text.strip_prefix('@').unwrap_or(text);
        if is_name(name) {
            Ok(Self(name.to_owned()))
        } else {
            Err(StoreError::TagName(text.to_owned()))
        }
    }
}

/// With `@`.
impl fmt::Display for TagName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

impl Store {
    /// The image that a tag names.
    ///
    /// # Errors
    /// The tag's file cannot be read or does not hold an object id.
    pub fn tag(&self, name: &TagName) -> Result<Option<ObjectId>, StoreError> {
        let path = self.records.files.path("tags", name.as_str());
        if fs::symlink_metadata(&path).is_ok_and(|meta| !meta.is_file()) {
            return Ok(None);
        }
        let file = match open_file(&path) {
            Ok((file, _)) => file,
            Err(error) if error.is_absent() => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = Vec::new();
        file.take(LENGTH + 1)
            .read_to_end(&mut text)
            .map_err(io_error("read", &path))?;
        std::str::from_utf8(&text)
            .ok()
            .and_then(|text| text.strip_suffix('\n')?.parse().ok())
            .map(Some)
            .ok_or(StoreError::TagFile(path))
    }

    /// Makes a tag name an image; an earlier image keeps its objects but loses the name.
    ///
    /// # Errors
    /// The store fails.
    pub fn put_tag(&self, name: &TagName, image: &ObjectId) -> Result<(), StoreError> {
        let path = self.records.files.path("tags", name.as_str());
        self.records.check_writable()?;
        // So that a garbage collection that has just read the tags leaves it.
        self.records.rely(image.digest(), &OBJECTS, |_| false)?;
        // What has a name must not be lost with the power.
        self.records.barrier()?;
        self.records
            .files
            .write_atomically(&path, format!("{image}\n").as_bytes())
    }

    /// Removes a tag; tells whether it was there.
    ///
    /// # Errors
    /// The store fails.
    pub fn remove_tag(&self, name: &TagName) -> Result<bool, StoreError> {
        let path = self.records.files.path("tags", name.as_str());
        self.records.check_writable()?;
        self.records.files.remove_name(&path)
    }

    /// All tags, sorted, with the images that they name.
    ///
    /// # Errors
    /// A tag cannot be read.
    pub fn tags(&self) -> Result<Vec<(TagName, ObjectId)>, StoreError> {
        let directory = self.records.files.root.join("tags");
        let mut tags = Vec::new();
        for entry in fs::read_dir(&directory).map_err(io_error("list", &directory))? {
            let entry = entry.map_err(io_error("list", &directory))?;
            let Some(Ok(name)) = entry.file_name().to_str().map(str::parse::<TagName>) else {
                continue;
            };
            if let Some(image) = self.tag(&name)? {
                tags.push((name, image));
            }
        }
        tags.sort();
        Ok(tags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Hasher;

    #[test]
    fn names() {
        assert_eq!("@docker".parse::<TagName>().unwrap().to_string(), "@docker");
        for bad in [
            "",
            "@",
            "a/b",
            "../a",
            ".a",
            "-a",
            "a b",
            "ä",
            &"x".repeat(129),
        ] {
            assert!(bad.parse::<TagName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tag_moves_and_goes() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let name: TagName = "docker".parse().unwrap();
        let image = |n: &[u8]| ObjectId::new(Hasher::new("test").update(n).finish());
        assert_eq!(store.tag(&name).unwrap(), None);
        store.put_tag(&name, &image(b"1")).unwrap();
        store.put_tag(&name, &image(b"2")).unwrap();
        assert_eq!(store.tags().unwrap(), [(name.clone(), image(b"2"))]);
        assert!(store.remove_tag(&name).unwrap());
        assert!(!store.remove_tag(&name).unwrap());
    }
}

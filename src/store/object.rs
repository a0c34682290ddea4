//! Objects: putting, opening, materialising.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{Store, StoreError, chunks, fan_out, io_error};
use crate::digest::{ObjectId, ObjectRef};

/// An object opened for reading.
#[derive(Debug)]
pub struct ObjectReader {
    file: File,
    size: u64,
}

impl ObjectReader {
    /// Logical size in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Reads exactly `buffer.len()` bytes at `offset`.
    ///
    /// # Errors
    /// The object ends before, or cannot be read.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Store {
    fn object_path(&self, id: &ObjectId) -> PathBuf {
        fan_out(self.root.join("objects"), &id.to_string())
    }

    /// Stores what a stream gives.
    ///
    /// # Errors
    /// The stream or the store fails.
    pub fn put(&self, reader: &mut dyn Read) -> Result<ObjectRef, StoreError> {
        let mut file = self.temporary()?;
        io::copy(reader, &mut file).map_err(io_error("write", file.path()))?;
        file.flush().map_err(io_error("write", file.path()))?;
        self.adopt(file)
    }

    /// Stores bytes.
    ///
    /// # Errors
    /// The store fails.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<ObjectRef, StoreError> {
        let object = ObjectRef {
            id: chunks::object_id_of_bytes(bytes),
            size: bytes.len() as u64,
        };
        if self.has_object(&object) && self.read_object(&object.id).is_ok() {
            return Ok(object);
        }
        self.put(&mut io::Cursor::new(bytes))
    }

    /// Stores a file made with [`temporary`](Self::temporary) without copying it. It may be sparse.
    ///
    /// # Errors
    /// The store fails.
    pub fn adopt(&self, file: tempfile::NamedTempFile) -> Result<ObjectRef, StoreError> {
        let failed = io_error("hash", file.path());
        let (id, size) = File::open(file.path())
            .and_then(|file| chunks::object_id(&file))
            .map_err(failed)?;
        let object = ObjectRef { id, size };
        // In place of what is there: that may be damaged.
        file.as_file()
            .set_permissions(fs::Permissions::from_mode(0o444))
            .map_err(io_error("make read-only", file.path()))?;
        self.publish(file, &self.object_path(&id))?;
        Ok(object)
    }

    /// Whether an object is there with its full size. Its content is not read.
    #[must_use]
    pub fn has_object(&self, object: &ObjectRef) -> bool {
        fs::metadata(self.object_path(&object.id)).is_ok_and(|meta| meta.len() == object.size)
    }

    /// Opens an object.
    ///
    /// # Errors
    /// It is not there.
    pub fn open_object(&self, id: &ObjectId) -> Result<ObjectReader, StoreError> {
        let path = self.object_path(id);
        let file = File::open(&path).map_err(|error| no_object(id, &path, error))?;
        let size = file.metadata().map_err(io_error("read", &path))?.len();
        Ok(ObjectReader { file, size })
    }

    /// Reads a small object and checks it against its name.
    ///
    /// # Errors
    /// It is not there, or damaged.
    pub fn read_object(&self, id: &ObjectId) -> Result<Vec<u8>, StoreError> {
        let path = self.object_path(id);
        let bytes = fs::read(&path).map_err(|error| no_object(id, &path, error))?;
        if chunks::object_id_of_bytes(&bytes) != *id {
            return Err(StoreError::Damaged { id: *id, path });
        }
        Ok(bytes)
    }

    /// The path of a read-only sparse file with the object's content. It belongs to the store: it
    /// stays as long as the object does, and must not be written to.
    ///
    /// # Errors
    /// The object is not there.
    pub fn materialise(&self, id: &ObjectId) -> Result<PathBuf, StoreError> {
        let path = self.object_path(id);
        fs::metadata(&path).map_err(|error| no_object(id, &path, error))?;
        Ok(path)
    }
}

fn no_object(id: &ObjectId, path: &Path, error: io::Error) -> StoreError {
    if error.kind() == io::ErrorKind::NotFound {
        StoreError::NoObject(*id)
    } else {
        io_error("read", path)(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_can_be_read_at_any_offset() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 253) as u8).collect();
        let object = store.put(&mut bytes.as_slice()).unwrap();
        assert_eq!(object, store.put_bytes(&bytes).unwrap());
        assert_eq!(store.read_object(&object.id).unwrap(), bytes);
        let mut part = [0; 7];
        store
            .open_object(&object.id)
            .unwrap()
            .read_exact_at(&mut part, 1_999_998)
            .unwrap();
        assert_eq!(part, bytes[1_999_998..2_000_005]);
        assert_eq!(
            fs::read(store.materialise(&object.id).unwrap()).unwrap(),
            bytes
        );
        assert_eq!(fs::read_dir(store.root().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn damage_and_absence_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let object = store.put_bytes(b"content").unwrap();
        let path = store.materialise(&object.id).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&path, b"CONTENT").unwrap();
        let error = store.read_object(&object.id).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        fs::write(&path, b"short").unwrap();
        assert!(!store.has_object(&object));
        fs::remove_file(&path).unwrap();
        let error = store.open_object(&object.id).unwrap_err();
        assert!(matches!(error, StoreError::NoObject(_)), "{error}");
    }
}

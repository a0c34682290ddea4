//! Blobs, and beginnings of them, that fit into memory.

use std::io::{self, Read};

use super::{Blob, BlobReader, RegistryError, Repository};

/// The bytes of a blob could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadBlobError {
    /// It cannot be had.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// What is there is not what it should be: a phrase that goes on after what the blob is.
    #[error("{0}")]
    Wrong(String),
}

/// The error of a repository comes through a reader as one of input and output.
impl From<io::Error> for ReadBlobError {
    fn from(error: io::Error) -> Self {
        match error.downcast() {
            Ok(error) => Self::Registry(error),
            Err(error) => Self::Wrong(format!("cannot be read: {error}")),
        }
    }
}

impl BlobReader {
    /// The next bytes: as many as there are, and no more than `most`. They are not verified.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn up_to(self, most: u64) -> Result<Vec<u8>, ReadBlobError> {
        let mut bytes = Vec::new();
        self.bytes.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// A whole blob, verified. Its size is what a manifest says: whoever calls looks whether that is
/// small.
///
/// # Errors
/// It cannot be had, or is not what its digest says.
pub fn read_small(repository: &dyn Repository, blob: &Blob) -> Result<Vec<u8>, ReadBlobError> {
    let reader = repository.read_blob(blob, None)?;
    let bytes = reader.up_to(blob.size.saturating_add(1))?;
    match Blob::of(&bytes) == *blob {
        true => Ok(bytes),
        false => Err(ReadBlobError::Wrong(
            "is not what its digest says".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::layout::Layout;
    use super::*;
    use crate::host::Interrupt;

    #[test]
    fn a_blob_is_had_whole_and_right_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path(), Interrupt::new().unwrap());
        let content = b"a config".to_vec();
        let blob = Blob::of(&content);
        layout.put_blob(&blob, &content, &[], &|_| ()).unwrap();
        assert_eq!(read_small(&layout, &blob).unwrap(), content);
        let blobs = directory.path().join("blobs/sha256");
        fs::write(blobs.join(blob.digest.to_string()), b"A config").unwrap();
        let error = read_small(&layout, &blob).unwrap_err();
        assert_eq!(error.to_string(), "is not what its digest says");
        assert!(matches!(error, ReadBlobError::Wrong(_)));
        let other = Blob::of(b"another");
        let error = read_small(&layout, &other).unwrap_err();
        assert!(matches!(
            error,
            ReadBlobError::Registry(RegistryError::Missing { .. })
        ));
    }

    /// A reader that gives some bytes and fails then.
    fn failing(error: io::Error) -> BlobReader {
        struct Failing(Option<io::Error>);
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(self.0.take().unwrap())
            }
        }
        BlobReader {
            start: 0,
            bytes: Box::new((&b"some"[..]).chain(Failing(Some(error)))),
        }
    }

    #[test]
    fn no_more_is_read_than_was_asked_for() {
        let reader = failing(io::Error::other("more was asked for"));
        assert_eq!(reader.up_to(4).unwrap(), b"some");
    }

    #[test]
    fn whose_error_it_is_stays_known() {
        let interrupted = io::Error::other(RegistryError::Interrupted);
        let error = failing(interrupted).up_to(9).unwrap_err();
        assert!(matches!(
            error,
            ReadBlobError::Registry(RegistryError::Interrupted)
        ));
        let error = failing(io::Error::other("no disk")).up_to(9).unwrap_err();
        assert_eq!(error.to_string(), "cannot be read: no disk");
    }
}

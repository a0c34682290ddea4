//! Files as objects: only what is not a hole is read.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::digest::ObjectRef;
use crate::store::Store;
use crate::store::error::{StoreError, io_error};

impl Store {
    /// Stores the content of a file made with [`temporary`](Self::temporary), and removes it. It
    /// may be sparse.
    ///
    /// # Errors
    /// The store fails.
    pub fn adopt(&self, file: tempfile::NamedTempFile) -> Result<ObjectRef, StoreError> {
        self.put_file(file.as_file(), file.path())
    }

    /// Stores the content of a file. It may be sparse.
    ///
    /// # Errors
    /// The file cannot be read, changes its size meanwhile, or the store fails.
    pub fn put_file(&self, file: &File, path: &Path) -> Result<ObjectRef, StoreError> {
        let failed = || io_error("read", path);
        let size = file.metadata().map_err(failed())?.len();
        let mut writer = self.writer()?;
        let mut position = 0;
        while position < size {
            let (start, end) = data_extent(file, position, size).map_err(failed())?;
            writer.hole(start - position)?;
            position = start;
            while position < end {
                let count = writer
                    .fill(end - position, |room| file.read_at(room, position))?
                    .map_err(failed())?;
                if count == 0 {
                    return Err(failed()(std::io::Error::other(
                        "it became shorter meanwhile",
                    )));
                }
                position += count as u64;
            }
        }
        writer.finish()
    }
}

/// The next part of a file, from `position` on, that is not a hole; empty at the end.
fn data_extent(file: &File, position: u64, size: u64) -> std::io::Result<(u64, u64)> {
    use rustix::fs::{SeekFrom, seek};
    let start = match seek(file, SeekFrom::Data(position)) {
        Ok(start) => start.min(size),
        Err(rustix::io::Errno::NXIO) => return Ok((size, size)),
        // A file system that knows no holes: all is data.
        Err(rustix::io::Errno::INVAL) => return Ok((position, size)),
        Err(error) => return Err(error.into()),
    };
    if start == size {
        return Ok((size, size));
    }
    let end = seek(file, SeekFrom::Hole(start))?;
    Ok((start, end.min(size)))
}

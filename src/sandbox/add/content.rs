//! Contents of local files.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::digest::ContentHasher;
use crate::tarball::extent;

/// Bytes that are read at once.
const BUFFER: u64 = 256 << 10;

/// Reads the content of a file, but for its holes, and gives its digest. `each` gets the bytes and
/// their place.
///
/// # Errors
/// The file cannot be read, became shorter meanwhile, or `each` fails.
pub fn read_content(
    file: &File,
    each: &mut dyn FnMut(&[u8], u64) -> io::Result<()>,
) -> io::Result<[u8; 32]> {
    let mut hasher = ContentHasher::default();
    let (size, mut position) = (file.metadata()?.len(), 0);
    let mut buffer = vec![0; BUFFER.min(size) as usize];
    while let Some(part) = extent(file, position, size)? {
        hasher.add_zeros(part.start - position);
        position = part.start;
        while position < part.end {
            let length = BUFFER.min(part.end - position) as usize;
            let count = file.read_at(&mut buffer[..length], position)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            hasher.update(&buffer[..count]);
            each(&buffer[..count], position)?;
            position += count as u64;
        }
    }
    hasher.add_zeros(size - position);
    Ok(hasher.finish())
}

/// A local file is not as it was when the build was planned.
#[derive(Debug, thiserror::Error)]
#[error("it changed while it was read")]
pub(super) struct Changed;

impl Changed {
    pub(super) fn unless(same: bool) -> io::Result<()> {
        same.then_some(()).ok_or_else(|| Self.into())
    }

    pub(super) fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|error| error.is::<Self>())
    }
}

impl From<Changed> for io::Error {
    fn from(changed: Changed) -> Self {
        Self::other(changed)
    }
}

//! The digest of an object: over its size and its chunks that are not zero.
//!
//! Content is cut every [`CHUNK`] bytes. A chunk of zeros counts as a hole, whether or not the file
//! has one there, so that a sparse disk is hashed by its data and equals its dense copy.
//!
//! The digest is BLAKE3 key derivation, context `"vmfab object v0"`, over: size (u64, little
//! endian), then for each chunk that is not all zero its offset (u64) and the BLAKE3 of its bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rayon::prelude::*;

use crate::digest::{Digest, Hasher, ObjectId};

/// Chunk size in bytes.
pub(super) const CHUNK: u64 = 1 << 20;

/// The id of a file's content. Chunks are read and hashed in parallel; holes are not read.
pub(super) fn object_id(file: &File) -> io::Result<(ObjectId, u64)> {
    let size = file.metadata()?.len();
    let mut offsets = Vec::new();
    for (start, end) in data_extents(file, size)? {
        let first = start / CHUNK;
        let last = end.div_ceil(CHUNK);
        for index in first..last {
            if offsets.last() != Some(&(index * CHUNK)) {
                offsets.push(index * CHUNK);
            }
        }
    }
    let digests = || -> io::Result<Vec<(u64, Option<Digest>)>> {
        offsets
            .into_par_iter()
            .map_init(Vec::new, |buffer, offset| {
                buffer.resize(CHUNK.min(size - offset) as usize, 0);
                file.read_exact_at(buffer, offset)?;
                Ok((offset, chunk_digest(buffer)))
            })
            .collect()
    };
    // From a plain thread: the caller may be a thread of another rayon pool, which would start
    // other work of that pool while it waits, and come back only when that is done.
    let chunks = std::thread::scope(|scope| scope.spawn(digests).join())
        .map_err(|_| io::Error::other("a hashing thread panicked"))??;
    Ok((fold(size, chunks), size))
}

/// The id of bytes in memory.
pub(super) fn object_id_of_bytes(bytes: &[u8]) -> ObjectId {
    let chunks = bytes.chunks(CHUNK as usize).enumerate();
    fold(
        bytes.len() as u64,
        chunks.map(|(index, chunk)| (index as u64 * CHUNK, chunk_digest(chunk))),
    )
}

fn chunk_digest(bytes: &[u8]) -> Option<Digest> {
    let zero = bytes.iter().all(|&byte| byte == 0);
    (!zero).then(|| Digest::from_bytes(*blake3::hash(bytes).as_bytes()))
}

fn fold(size: u64, chunks: impl IntoIterator<Item = (u64, Option<Digest>)>) -> ObjectId {
    let mut hasher = Hasher::new("vmfab object v0");
    hasher.update_u64(size);
    for (offset, digest) in chunks {
        if let Some(digest) = digest {
            hasher.update_u64(offset).update(digest.as_bytes());
        }
    }
    ObjectId::new(hasher.finish())
}

/// The parts of a file that are not holes, as `start..end` in bytes.
fn data_extents(file: &File, size: u64) -> io::Result<Vec<(u64, u64)>> {
    use rustix::fs::{SeekFrom, seek};
    let mut extents = Vec::new();
    let mut position = 0;
    while position < size {
        let start = match seek(file, SeekFrom::Data(position)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            // A file system that knows no holes: all is data.
            Err(rustix::io::Errno::INVAL) => return Ok(vec![(0, size)]),
            Err(error) => return Err(error.into()),
        };
        let end = seek(file, SeekFrom::Hole(start))?;
        extents.push((start, end.min(size)));
        position = end;
    }
    Ok(extents)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn holes_count_as_zeros() {
        let mut dense = tempfile::tempfile().unwrap();
        dense.write_all(&vec![0; 3 << 20]).unwrap();
        dense.write_all_at(b"x", (2 << 20) + 5).unwrap();
        let sparse = tempfile::tempfile().unwrap();
        sparse.set_len(3 << 20).unwrap();
        sparse.write_all_at(b"x", (2 << 20) + 5).unwrap();
        assert_eq!(object_id(&dense).unwrap(), object_id(&sparse).unwrap());
        sparse.set_len((3 << 20) + 1).unwrap();
        assert_ne!(object_id(&dense).unwrap(), object_id(&sparse).unwrap());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_file_and_its_bytes_have_one_id(
            parts in prop::collection::vec((any::<bool>(), 0_usize..2_000_000), 0..4),
        ) {
            let mut bytes = Vec::new();
            for (zero, length) in parts {
                let start = bytes.len();
                bytes.extend((start..start + length).map(|i| if zero { 0 } else { (i % 251) as u8 }));
            }
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            prop_assert_eq!(object_id(&file).unwrap(), (object_id_of_bytes(&bytes), bytes.len() as u64));
        }
    }
}

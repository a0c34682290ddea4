//! What is in packs that may not be here.

use std::io::Read;
use std::sync::Arc;

use super::artifact::PackRef;
use super::find::open;
use super::{ShareError, Sharing};
use crate::registry::Repository;
use crate::store::{PackedChunk, chunks_of_table};

/// The longest table: that of a pack of tiny chunks.
const MAX_TABLE: u64 = 64 << 20;

impl Sharing<'_> {
    /// The chunks of a pack, in the order of the file: from the pack itself when it is here, or
    /// else from the last bytes of the one that is there. `None` where ranges are refused.
    ///
    /// # Errors
    /// It cannot be had, or is no pack.
    pub(super) fn chunks(
        &self,
        repository: &dyn Repository,
        pack: &PackRef,
    ) -> Result<Option<Arc<Vec<PackedChunk>>>, ShareError> {
        let name = pack.blob.digest;
        if let Some(chunks) = self.memory.table(&name) {
            return Ok(Some(chunks));
        }
        let found = match self.store.pack_chunks(&name)? {
            Some(chunks) => Some(chunks),
            None => self.read_table(repository, pack)?,
        };
        let chunks = found.map(Arc::new);
        if let Some(chunks) = &chunks {
            self.memory.saw_table(name, chunks.clone());
        }
        Ok(chunks)
    }

    /// The same from the repository alone.
    fn read_table(
        &self,
        repository: &dyn Repository,
        pack: &PackRef,
    ) -> Result<Option<Vec<PackedChunk>>, ShareError> {
        let invalid = |reason: &str| {
            let what = format!("pack {}", pack.blob.digest.short());
            ShareError::invalid(&repository.name(), what, reason)
        };
        let (from, size) = (pack.table_offset, pack.blob.size);
        if size - from > MAX_TABLE {
            return Err(invalid("has a table that is too long"));
        }
        let reader = open(repository, &pack.blob, Some(from..size))?;
        let failed = |error| ShareError::of_reading(&repository.name(), error);
        if reader.start != from {
            return Ok(None);
        }
        let mut table = Vec::new();
        let most = size - from + 1;
        reader
            .bytes
            .take(most)
            .read_to_end(&mut table)
            .map_err(failed)?;
        let chunks = chunks_of_table(&table, from, size);
        chunks
            .map(Some)
            .map_err(|error| invalid(&format!("is none: {error}")))
    }
}

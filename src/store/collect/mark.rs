//! Marking: which objects and chunks roots reach.

use std::collections::HashSet;

use super::catalogs::{Catalog, Catalogs};
use super::{ByShort, Roots, short};
use crate::digest::{Digest, ObjectId, Sha256};
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::format::{ChunkList, Kind};
use crate::store::pack::read_record;

/// What is live so far.
pub(super) struct Mark<'a> {
    store: &'a Store,
    pub(super) roots: &'a dyn Roots,
    objects: HashSet<Digest, ByShort>,
    /// Those whose references are marked.
    images: HashSet<Digest, ByShort>,
    /// Chunks, by the start of their keys.
    chunks: HashSet<u64, ByShort>,
    buffer: Vec<u8>,
    payload: Vec<u8>,
}

impl<'a> Mark<'a> {
    pub(super) fn new(store: &'a Store, roots: &'a dyn Roots) -> Self {
        Self {
            store,
            roots,
            objects: HashSet::default(),
            images: HashSet::default(),
            chunks: HashSet::default(),
            buffer: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// Where a pack is.
    pub(super) fn path(&self, pack: Sha256) -> std::path::PathBuf {
        self.store.records.files.path("packs", pack)
    }

    pub(super) fn is_live(&self, object: &Digest) -> bool {
        self.objects.contains(object)
    }

    /// All live objects.
    pub(super) fn objects(&self) -> HashSet<Digest, ByShort> {
        self.objects.clone()
    }

    /// All live chunks, by the start of their keys.
    pub(super) fn chunks(&self) -> HashSet<u64, ByShort> {
        self.chunks.clone()
    }

    pub(super) fn is_live_chunk(&self, chunk: &Digest) -> bool {
        self.chunks.contains(&short(chunk))
    }

    /// Marks what tags, roots and the caller name, and what is in journals that others write to. Asked again,
    /// it marks what came meanwhile.
    pub(super) fn roots(&mut self, catalogs: &Catalogs) -> Result<(), StoreError> {
        for (_, image) in self.store.tags()? {
            self.image(&image, catalogs)?;
        }
        for (_, objects) in self.store.roots()? {
            for object in objects {
                self.image(&object, catalogs)?;
            }
        }
        let named = self
            .roots
            .objects()
            .map_err(|error| StoreError::Refused(format!("roots cannot be read: {error}")))?;
        for object in named {
            self.image(&object, catalogs)?;
        }
        for catalog in catalogs.all.iter().filter(|one| one.open) {
            let objects = catalog.entries.iter().map(|entry| entry.record);
            for record in objects.filter(|record| record.kind != Kind::Action) {
                match record.kind {
                    Kind::Chunk => {
                        self.chunks.insert(short(&record.key));
                    }
                    _ => self.object(&record.key, catalogs)?,
                }
            }
        }
        let journals: Vec<ObjectId> = catalogs
            .results
            .iter()
            .filter(|result| catalogs.all[result.catalog as usize].open)
            .flat_map(|result| result.outputs.iter().map(|(_, object)| object.id))
            .collect();
        for object in journals {
            self.image(&object, catalogs)?;
        }
        Ok(())
    }

    /// Marks an object, and what it refers to when it is an image config.
    pub(super) fn image(&mut self, id: &ObjectId, catalogs: &Catalogs) -> Result<(), StoreError> {
        self.object(id.digest(), catalogs)?;
        if !self.images.insert(*id.digest()) {
            return Ok(());
        }
        for object in self.references(id, catalogs)? {
            self.object(object.digest(), catalogs)?;
        }
        Ok(())
    }

    /// What an object refers to; nothing when it is no image config.
    pub(super) fn references(
        &mut self,
        id: &ObjectId,
        catalogs: &Catalogs,
    ) -> Result<Vec<ObjectId>, StoreError> {
        let Some(&(catalog, entry)) = catalogs.objects.get(id.digest()) else {
            return Ok(Vec::new());
        };
        let catalog = &catalogs.all[catalog as usize];
        let entry = &catalog.entries[entry as usize];
        // Image configs are small.
        if entry.record.kind != Kind::Blob {
            return Ok(Vec::new());
        }
        read_record(
            &catalog.file,
            &catalog.path,
            entry,
            &mut self.buffer,
            &mut self.payload,
        )?;
        Ok(self.roots.references(&self.payload))
    }

    /// Marks an object and its chunks. One that is not in the store is passed over.
    pub(super) fn object(&mut self, id: &Digest, catalogs: &Catalogs) -> Result<(), StoreError> {
        let Some(&(catalog, entry)) = catalogs.objects.get(id) else {
            return Ok(());
        };
        if !self.objects.insert(*id) {
            return Ok(());
        }
        let catalog = &catalogs.all[catalog as usize];
        let entry = &catalog.entries[entry as usize];
        if entry.record.kind == Kind::Blob {
            return Ok(());
        }
        // A list that cannot be read may name any chunk: nothing may go before it is repaired.
        read_record(
            &catalog.file,
            &catalog.path,
            entry,
            &mut self.buffer,
            &mut self.payload,
        )?;
        let list = ChunkList::decode(&self.payload).map_err(|error| StoreError::Damaged {
            path: catalog.path.clone(),
            reason: error.to_string(),
        })?;
        self.chunks
            .extend(list.chunks.iter().map(|chunk| short(&chunk.id)));
        Ok(())
    }
}

/// The chunks of an object; none when it is a blob or cannot be read.
pub(super) fn chunks(catalog: &Catalog, entry: usize) -> Vec<Digest> {
    let entry = &catalog.entries[entry];
    let mut payload = Vec::new();
    let read = read_record(
        &catalog.file,
        &catalog.path,
        entry,
        &mut Vec::new(),
        &mut payload,
    );
    if entry.record.kind == Kind::Blob || read.is_err() {
        return Vec::new();
    }
    let list = ChunkList::decode(&payload).unwrap_or_default();
    list.chunks.into_iter().map(|chunk| chunk.id).collect()
}

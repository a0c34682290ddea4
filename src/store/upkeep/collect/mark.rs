//! Marking: which objects and chunks roots reach.

use std::collections::HashSet;
use std::path::Path;

use super::catalogs::{Catalog, Catalogs};
use super::{ByShort, Roots, short};
use crate::digest::{Digest, ObjectId, Sha256};
use crate::store::Store;
use crate::store::content::read;
use crate::store::error::{StoreError, damaged};
use crate::store::format::{ChunkList, Kind};
use crate::store::records::pack::read_record;

/// The longest image config, in bytes.
const MAX_CONFIG: u64 = 16 << 20;

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

    /// Marks what tags, roots and the caller name, and what is in journals that others write to.
    /// Asked again, it marks what came meanwhile.
    pub(super) fn roots(&mut self, catalogs: &Catalogs) -> Result<(), StoreError> {
        self.objects.reserve(catalogs.objects.len() / 2);
        for (_, image) in self.store.tags()? {
            self.image(&image, catalogs)?;
        }
        for (_, objects) in self.store.roots()? {
            for object in objects {
                self.object(object.digest(), catalogs)?;
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
                    _ => self.any(&ObjectId::new(record.key), catalogs)?,
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
            self.any(&object, catalogs)?;
        }
        Ok(())
    }

    /// Marks an image config and what it refers to. One that is not in the store is passed over;
    /// one that cannot be understood may refer to anything: nothing may go then.
    pub(super) fn image(&mut self, id: &ObjectId, catalogs: &Catalogs) -> Result<(), StoreError> {
        if !catalogs.objects.contains_key(id.digest()) || self.images.contains(id.digest()) {
            return Ok(());
        }
        let references = self.references(id, catalogs)?.ok_or_else(|| {
            StoreError::Refused(format!(
                "object {} has a name, but is not an image that this vmfab understands",
                id.short()
            ))
        })?;
        self.with_references(id, &references, catalogs)
    }

    /// Marks an object, and what it refers to when it is a small image config.
    pub(super) fn any(&mut self, id: &ObjectId, catalogs: &Catalogs) -> Result<(), StoreError> {
        let references = match self.kind(id, catalogs) {
            Some(Kind::Blob) if !self.images.contains(id.digest()) => {
                self.references(id, catalogs)?
            }
            _ => None,
        };
        match references {
            Some(references) => self.with_references(id, &references, catalogs),
            None => self.object(id.digest(), catalogs),
        }
    }

    fn with_references(
        &mut self,
        id: &ObjectId,
        references: &[ObjectId],
        catalogs: &Catalogs,
    ) -> Result<(), StoreError> {
        self.images.insert(*id.digest());
        self.object(id.digest(), catalogs)?;
        for object in references {
            self.object(object.digest(), catalogs)?;
        }
        Ok(())
    }

    fn kind(&self, id: &ObjectId, catalogs: &Catalogs) -> Option<Kind> {
        let &(catalog, entry) = catalogs.objects.get(id.digest())?;
        Some(
            catalogs.all[catalog as usize].entries[entry as usize]
                .record
                .kind,
        )
    }

    /// What an image config refers to; nothing when the object is none.
    pub(super) fn references(
        &mut self,
        id: &ObjectId,
        catalogs: &Catalogs,
    ) -> Result<Option<Vec<ObjectId>>, StoreError> {
        let Some(&(catalog, entry)) = catalogs.objects.get(id.digest()) else {
            return Ok(None);
        };
        let catalog = &catalogs.all[catalog as usize];
        let entry = &catalog.entries[entry as usize];
        read_record(
            &catalog.file,
            &catalog.path,
            entry,
            &mut self.buffer,
            &mut self.payload,
        )?;
        if entry.record.kind == Kind::Blob {
            return Ok(self.roots.references(&self.payload));
        }
        let list = decode_list(&self.payload, &catalog.path)?;
        if list.size > MAX_CONFIG {
            return Ok(None);
        }
        let mut config = vec![0; list.size as usize];
        let mut content = Vec::new();
        for chunk in &list.chunks {
            read::chunk(&self.store.records, id, chunk, &mut content)?;
            let start = chunk.offset as usize;
            config[start..start + content.len()].copy_from_slice(&content);
        }
        Ok(self.roots.references(&config))
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
        let list = decode_list(&self.payload, &catalog.path)?;
        self.chunks
            .extend(list.chunks.iter().map(|chunk| short(&chunk.id)));
        Ok(())
    }
}

fn decode_list(bytes: &[u8], path: &Path) -> Result<ChunkList, StoreError> {
    ChunkList::decode(bytes).map_err(damaged(path))
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

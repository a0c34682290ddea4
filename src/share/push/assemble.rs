//! An artifact out of objects of the store: packs that are there have some of their chunks, new
//! ones get the rest.

use std::collections::HashSet;
use std::sync::Arc;

use super::super::artifact::{Artifact, PackRef};
use super::super::distribution::{Distribution, Known, Needed, distribute, places};
use super::super::objects::{self, Content, Listed, runs_of};
use super::super::work::{self, Task};
use super::super::{ShareError, Sharing};
use super::Bundle;
use crate::digest::ObjectRef;
use crate::registry::{Blob, Repository};
use crate::store::{OutgoingPack, PackedChunk, Parts, StoreError};

impl Sharing<'_> {
    /// What the objects consist of.
    pub(super) fn contents(&self, bundle: &Bundle) -> Result<Vec<(ObjectRef, Parts)>, StoreError> {
        let mut seen = HashSet::new();
        let objects = bundle.objects.iter();
        objects
            .filter(|object| seen.insert(object.id))
            .map(|object| Ok((*object, self.store.parts(&object.id)?)))
            .collect()
    }

    /// What goes into which packs. Known ones that would be used and are gone are left out.
    fn layout(
        &self,
        repository: &dyn Repository,
        needed: &[Needed],
        known: &mut Vec<Known>,
    ) -> Result<Distribution, ShareError> {
        loop {
            let layout = distribute(needed, known);
            let kept = layout.kept.iter().map(|&number| known[number].pack.blob);
            let gone = self.gone(repository, kept.collect())?;
            if gone.is_empty() {
                return Ok(layout);
            }
            known.retain(|known| !gone.contains(&known.pack.blob.digest));
        }
    }

    /// The artifact, the packs that have to be made for it, and its list of objects.
    pub(super) fn assemble(
        &self,
        repository: &dyn Repository,
        bundle: &Bundle,
        contents: &[(ObjectRef, Parts)],
        mut known: Vec<Known>,
        task: &Task<'_>,
    ) -> Result<(Artifact, Vec<OutgoingPack>, Vec<u8>), ShareError> {
        let layout = self.layout(repository, &self.needed(contents)?, &mut known)?;
        let new = work::all(layout.new, self.parallel, |chunks| {
            task.check()?;
            Ok(self.store.outgoing(&chunks)?)
        })?;
        let kept = layout.kept.iter().map(|&number| &known[number]);
        let mut packs: Vec<(PackRef, Arc<Vec<PackedChunk>>)> = kept
            .map(|known| (known.pack, known.chunks.clone()))
            .collect();
        for pack in &new {
            let chunks = Arc::new(pack.chunks());
            self.memory.saw_table(pack.name(), chunks.clone());
            packs.push((pack_ref(pack), chunks));
        }
        let places = places(packs.iter().map(|(_, chunks)| chunks.as_slice()));
        let mut listed = Vec::new();
        for (object, parts) in contents {
            let content = match parts {
                Parts::Blob(bytes) => Content::Inline(bytes.clone()),
                Parts::List(list) => Content::Runs {
                    size: list.size,
                    runs: runs_of(list, &places).ok_or_else(|| {
                        ShareError::invalid("this vmfab", "a chunk", "is in no pack")
                    })?,
                },
            };
            listed.push(Listed {
                id: object.id,
                content,
            });
        }
        let list = objects::encode(&listed);
        let artifact = Artifact {
            kind: bundle.kind.to_owned(),
            config: Blob::of(&bundle.config),
            config_data: Some(bundle.config.clone()),
            objects: (!listed.is_empty()).then(|| Blob::of(&list)),
            packs: packs.into_iter().map(|(pack, _)| pack).collect(),
            boot_order: bundle.boot_order.as_deref().map(Blob::of),
            annotations: bundle.annotations.clone(),
        };
        Ok((artifact, new, list))
    }

    /// The chunks of all objects, each once.
    fn needed(&self, contents: &[(ObjectRef, Parts)]) -> Result<Vec<Needed>, ShareError> {
        let mut seen = HashSet::new();
        let mut needed = Vec::new();
        for (object, parts) in contents {
            let Parts::List(list) = parts else { continue };
            for chunk in list.chunks.iter().filter(|chunk| seen.insert(chunk.id)) {
                let stored = self.store.chunk_stored(&chunk.id)?;
                let stored = stored.ok_or_else(|| StoreError::DamagedObject {
                    id: object.id,
                    reason: format!("its chunk {} is not in the store", chunk.id.short()),
                })?;
                needed.push(Needed {
                    id: chunk.id,
                    stored,
                });
            }
        }
        Ok(needed)
    }
}

pub(super) fn pack_ref(pack: &OutgoingPack) -> PackRef {
    PackRef {
        blob: Blob {
            digest: pack.name(),
            size: pack.size(),
        },
        table_offset: pack.table_offset(),
    }
}

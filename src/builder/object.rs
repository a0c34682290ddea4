//! An object that is in the store already, or is had from an image in a registry.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::derivation::{BuildRequest, Builder, Outputs, Step};
use crate::digest::{ObjectId, ObjectRef};
use crate::event::Sink;
use crate::failure::Failure;
use crate::plan::BlobPlace;
use crate::registry::{Location, Platform, Registries, Version};
use crate::share::{Memory, ShareError, Sharing};
use crate::store::{Store, StoreError};

pub(super) struct Object {
    pub(super) store: Store,
    /// Images in registries, by the objects that they have.
    pub(super) artifacts: BTreeMap<ObjectId, BlobPlace>,
    pub(super) registries: Registries,
    pub(super) downloads: PathBuf,
    pub(super) memory: Memory,
    pub(super) sink: Arc<dyn Sink>,
}

/// Blobs that are moved at once.
const PARALLEL: usize = 4;

impl Builder for Object {
    fn build(&self, request: &BuildRequest<'_>) -> Result<Outputs, Failure> {
        let Step::Object(params) = super::step(request)? else {
            return Err(super::wrong_kind(request));
        };
        let object = ObjectRef {
            id: params.id,
            size: params.size,
        };
        if !self.store.has_object(&object) {
            let place = self.artifacts.get(&object.id);
            let place = place.ok_or_else(|| Failure::of_step(StoreError::NoObject(object.id)))?;
            self.bring(&object, place, request)?;
        }
        Ok(Outputs::from([("object".to_owned(), object)]))
    }
}

impl Object {
    /// Brings one object of an image in a registry.
    fn bring(
        &self,
        object: &ObjectRef,
        place: &BlobPlace,
        request: &BuildRequest<'_>,
    ) -> Result<(), Failure> {
        let location: Location = place.repository.parse().map_err(Failure::of_step)?;
        let version = Version::Digest(place.digest);
        let sharing = Sharing {
            store: &self.store,
            downloads: self.downloads.clone(),
            memory: self.memory.clone(),
            sink: &*self.sink,
            interrupt: request.interrupt,
            parallel: PARALLEL,
        };
        let pull = || -> Result<bool, ShareError> {
            let repository = self.registries.open(&location)?;
            let any = Platform {
                architecture: String::new(),
                os: String::new(),
                variant: None,
            };
            let found = sharing.find(&*repository, &version, &any)?;
            let Some(artifact) = found.and_then(|found| found.artifact) else {
                return Ok(false);
            };
            let wanted = HashSet::from([object.id]);
            sharing.pull(&*repository, &artifact, Some(&wanted), &place.name)?;
            Ok(self.store.has_object(object))
        };
        match pull() {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::verification(format!(
                "{} does not have object {}",
                place.name,
                object.id.short()
            ))
            .with_help("push the image again")),
            Err(ShareError::Store(error)) => Err(Failure::of_step(error)),
            Err(error @ (ShareError::Invalid { .. } | ShareError::Platform { .. })) => {
                Err(Failure::verification(error.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

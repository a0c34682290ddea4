//! An object that is in the store already, or is had from an image in a registry.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::derivation::{BuildError, BuildRequest, Builder, Outputs, Outside, Step};
use crate::digest::{ObjectId, ObjectRef};
use crate::event::Sink;
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
    fn build(&self, request: &BuildRequest<'_>) -> Result<Outputs, BuildError> {
        let Step::Object(params) = super::step(request)? else {
            return Err(super::wrong_kind(request));
        };
        let object = ObjectRef {
            id: params.id,
            size: params.size,
        };
        if !self.store.has_object(&object) {
            let place = self.artifacts.get(&object.id);
            let place = place.ok_or_else(|| BuildError::other(StoreError::NoObject(object.id)))?;
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
    ) -> Result<(), BuildError> {
        let location: Location = place.repository.parse().map_err(BuildError::other)?;
        let digits = place.digest.trim_start_matches("sha256:");
        let version = Version::Digest(digits.parse().map_err(BuildError::other)?);
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
        let failed = |kind, message: String, help| BuildError::Outside {
            kind,
            message,
            help,
        };
        match pull() {
            Ok(true) => Ok(()),
            Ok(false) => Err(failed(
                Outside::Verification,
                format!("{} does not have object {}", place.name, object.id.short()),
                vec!["push the image again".to_owned()],
            )),
            Err(error) if error.is_interrupted() => Err(BuildError::Interrupted),
            Err(ShareError::Store(error)) => Err(BuildError::other(error)),
            Err(error) => {
                let (kind, help) = match &error {
                    ShareError::Registry(error) => (Outside::Download, error.remedy()),
                    _ => (Outside::Verification, None),
                };
                Err(failed(kind, error.to_string(), help.into_iter().collect()))
            }
        }
    }
}

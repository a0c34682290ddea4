//! An object that is in the store already.

use crate::derivation::{BuildError, BuildRequest, Builder, Outputs, Step};
use crate::digest::ObjectRef;
use crate::store::{Store, StoreError};

pub(super) struct Object {
    pub(super) store: Store,
}

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
            return Err(BuildError::other(StoreError::NoObject(object.id)));
        }
        Ok(Outputs::from([("object".to_owned(), object)]))
    }
}

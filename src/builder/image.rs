//! The image config.

use crate::derivation::{BuildRequest, Builder, Outputs, Step};
use crate::failure::Failure;
use crate::image::{CONFIG_VERSION, ImageConfig};
use crate::store::Store;

pub(super) struct Image {
    pub(super) store: Store,
}

impl Builder for Image {
    fn build(&self, request: &BuildRequest<'_>) -> Result<Outputs, Failure> {
        let Step::Image(params) = super::step(request)? else {
            return Err(super::wrong_kind(request));
        };
        let config = ImageConfig {
            version: CONFIG_VERSION,
            template: params.template,
            disk: request
                .inputs_of("disk")
                .next()
                .ok_or_else(|| super::wrong_kind(request))?,
            kernel: request.inputs_of("kernel").next(),
            initrd: request.inputs_of("initrd").next(),
            layers: request.inputs_of("layer").collect(),
        };
        let object = self
            .store
            .put_bytes(&config.to_bytes())
            .map_err(Failure::of_step)?;
        Ok(Outputs::from([("config".to_owned(), object)]))
    }
}

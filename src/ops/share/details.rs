//! What a container image says of itself, before it is pulled.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::Context;
use super::pull::missing;
use super::sharing;
use crate::digest::Digest;
use crate::failure::Failure;
use crate::image::ContainerConfig;
use crate::registry::{Described, Location, Platform};
use crate::share::published::{What, what};

/// A container image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerDetails {
    /// The id that container engines give it: the digest of its config.
    pub id: Digest,
    pub labels: BTreeMap<String, String>,
}

/// What a container image for this host says of itself; nothing when something else is there.
///
/// # Errors
/// Nothing is there, or the registry fails.
pub fn container_details(
    context: &Context,
    from: &Location,
) -> Result<Option<ContainerDetails>, Failure> {
    /// The part of its config that is read.
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        config: ContainerConfig,
    }
    let repository = context.registries().open(from)?;
    let version = match from.version() {
        Some(version) => version,
        None => repository.only_version()?,
    };
    let store = context.store()?;
    let sharing = sharing(context, &store);
    let name = from.to_string();
    let found = sharing.find(&*repository, &version, &Platform::host())?;
    let found = found.ok_or_else(|| missing(&name, &*repository))?;
    if !matches!(what(&found.manifest, None), What::Container { .. }) {
        return Ok(None);
    }
    let bytes = sharing.config_of_others(&*repository, &found.manifest)?;
    let wrong =
        |why: String| Failure::verification(format!("{name}: its config cannot be read: {why}"));
    let config: Config =
        serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    let blob = found.manifest.config().blob().map_err(wrong)?;
    Ok(Some(ContainerDetails {
        id: Digest::from_bytes(*blob.digest.as_bytes()),
        labels: config.config.labels,
    }))
}

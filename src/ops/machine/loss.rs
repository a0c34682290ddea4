//! What is lost with a machine.

use serde::Serialize;

use super::super::Context;
use crate::checked::GuestPath;
use crate::machine::Machine;
use crate::world;

/// What only the machine has, and is lost when it is removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// Bytes of its own disks.
    pub stored_size: u64,
    /// Directories in which its service keeps data, as the `VOLUME`s of a Dockerfile say, and on
    /// which no volume is mounted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub directories: Vec<GuestPath>,
}

impl Loss {
    /// What the machine's disks and its image tell. An image that cannot be read names nothing.
    #[must_use]
    pub fn of(context: &Context, machine: &Machine) -> Self {
        let directories = machine.config().ok().and_then(|config| {
            let store = context.store().ok()?;
            let image = world::image_config(&store, &config.image).ok()?;
            let mounted = |path: &GuestPath| config.mounts.iter().any(|mount| *mount.at == **path);
            Some(
                image
                    .template
                    .volumes
                    .into_iter()
                    .filter(|path| !mounted(path))
                    .collect(),
            )
        });
        Self {
            stored_size: machine.stored_size(),
            directories: directories.unwrap_or_default(),
        }
    }
}

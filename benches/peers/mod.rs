//! The tools that vmfab is measured against.

mod borg;
mod casync;
mod debian;
mod docker;
mod files;
mod registry;
mod restic;
mod skopeo;
mod syft;

pub(crate) use borg::Borg;
pub(crate) use casync::Casync;
pub(crate) use debian::build_disk;
pub(crate) use docker::Docker;
pub(crate) use files::{b3sum, qcow2, zstd, zstd_to_file, zstd_to_nowhere};
pub(crate) use registry::Registry;
pub(crate) use restic::Restic;
pub(crate) use skopeo::{DiskLayout, pull as skopeo_pull};
pub(crate) use syft::syft;

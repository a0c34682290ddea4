//! The tools that vmfab is measured against.

mod debian;
mod docker;

pub(crate) use debian::build_disk;
pub(crate) use docker::Docker;

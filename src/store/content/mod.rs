//! The bytes of objects: cut into chunks, stored, read again, and kept as files.

pub(super) mod adopt;
pub(super) mod chunker;
pub(super) mod disks;
pub(super) mod ingest;
pub(super) mod materialise;
pub(super) mod read;
pub(super) mod resize;

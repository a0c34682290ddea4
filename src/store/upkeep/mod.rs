//! Work on whole stores: collecting what nothing needs, verifying, repairing, copying, measuring.

pub(super) mod collect;
pub(super) mod transfer;
pub(super) mod usage;
pub(super) mod verify;
pub(super) mod walk;
pub(super) mod watch;

//! The whole way, with the real tools: recipes are built, images booted and entered over SSH.
//!
//! All tests of a run share one home, into which the base image is bootstrapped once; what they
//! build starts from it. They assert on events, never on time. `VMFAB_TEST_BASE` names another
//! base image than `debian-12`.

mod builds;
mod confinement;
mod database;
mod failure;
mod files;
mod full;
mod interruption;
mod locking;
mod machine;
mod output;
mod rebuild;
mod refusal;
mod reports;
mod same;
mod sandbox;
mod seeds;
mod templates;
pub(crate) mod unprivileged;
mod updates;
mod watch;

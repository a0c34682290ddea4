//! Derivations: hashed steps, the graph that they form, and the contract of those who build them.
//!
//! All of it is pure. [`step`] holds the typed parameters of every kind of step, [`encoding`] the
//! canonical encoding and the action key with the table of what is hashed, [`static_key`] the names
//! of steps in lock files, [`graph`] the graph, [`builder`] the trait by which `executor` runs a
//! derivation without knowing its kind, [`cache`] the one by which it has the results of others,
//! [`scripts`] the texts that steps bring along.

pub mod builder;
pub mod cache;
pub mod encoding;
pub mod graph;
pub mod listing;
pub mod scripts;
pub mod static_key;
pub mod step;

pub use builder::{BuildRequest, Builder, Builders, Outputs, ResolvedInput, resolve_inputs};
pub use cache::{Cache, CacheError, CacheHit};
pub use encoding::action_key;
pub use graph::{Derivation, Graph, Input, NodeId};
pub use listing::{Listed, Listing};
pub use static_key::static_keys;
pub use step::Step;

/// The time that generated files carry: 2020-01-01T00:00:00Z, in seconds since 1970. Steps see it
/// as `SOURCE_DATE_EPOCH` (<https://reproducible-builds.org/specs/source-date-epoch/>).
pub const SOURCE_DATE_EPOCH: i64 = 1_577_836_800;

/// The time of a file that a recipe brings: the one that the user chose, or one that follows from
/// its content.
#[must_use]
pub fn file_time(chosen: Option<i64>, digest: &[u8; 32]) -> i64 {
    chosen.unwrap_or_else(|| content_time(digest))
}

/// The time of a file that a recipe brings, from a digest of its content: a time of the four years
/// before [`SOURCE_DATE_EPOCH`], in seconds since 1970. Web servers, caches and compilers take
/// equal sizes and times for equal content, so another content needs another time.
#[must_use]
pub fn content_time(digest: &[u8; 32]) -> i64 {
    const RANGE: u32 = 1 << 27;
    let [a, b, c, d, ..] = *digest;
    SOURCE_DATE_EPOCH - 1 - i64::from(u32::from_le_bytes([a, b, c, d]) % RANGE)
}

//! The contract between `executor`, which asks for results, and caches, which have those of others.

use super::builder::Outputs;
use crate::digest::ActionKey;

/// What a cache says an action made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheHit {
    /// The outputs. Their content need not be here.
    pub outputs: Outputs,
    /// The cache, for people: `ghcr.io/me/cache`.
    pub from: String,
}

/// Results of actions that others have built.
pub trait Cache: Send + Sync {
    /// What a cache says of this action. Brings no content. Never fails: a cache that is down or
    /// garbled knows nothing, and warns by itself, once.
    fn look_up(&self, key: &ActionKey) -> Option<CacheHit>;

    /// Brings outputs that `look_up` gave into the store, all of them or some: each whole, with
    /// everything that an image config among them names. What names others comes last, so that what
    /// is in the store has what it names. Called from several threads, with different keys at a
    /// time.
    ///
    /// # Errors
    /// They cannot be had; see [`CacheError`].
    fn bring(&self, key: &ActionKey, outputs: &Outputs) -> Result<(), CacheError>;

    /// The cache that results are offered to, as in [`CacheHit::from`]; nothing when there is none.
    fn pushes_to(&self) -> Option<String> {
        None
    }

    /// Takes a result that is in the store, in the order of the graph. `last`: it is what the build
    /// was for. Never fails: it warns by itself.
    fn offer(&self, key: &ActionKey, outputs: &Outputs, last: bool);

    /// Nothing more is offered.
    fn finish(&self) {}
}

/// Why a cache did not bring what it said it has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// It cannot be reached, or refuses: nothing else will come from it either.
    #[error("{0}")]
    Unreachable(String),
    /// It knows the result, and does not have its content: nothing is wrong.
    #[error("it does not have the content")]
    Absent,
    /// This result is not there whole, or is not what it should be; others may be.
    #[error("{0}")]
    Unusable(String),
}

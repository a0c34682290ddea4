//! The audit log: what was done in a home, by whom and when, in `log/audit.jsonl`.
//!
//! Each line is an entry, a JSON object that ends in `"hash"`: the SHA-256 of the line before that
//! field. `"before"` is the hash of the entry before, so a changed, removed or moved entry breaks
//! the chain. Somebody who can write to the file can also make the whole chain anew, or cut off its
//! end: only a hash that was noted elsewhere shows that.
//!
//! ```text
//! deed      what is recorded
//! append    adds an entry: one writer at a time, whatever the last one left
//! chain     reads entries and verifies that each follows the one before
//! ```
//!
//! Operations record by [`Context::record`](crate::world::Context::record), and by nothing else.

mod append;
mod chain;
mod deed;

use std::path::PathBuf;

use crate::digest::Sha256;
use crate::host::Home;

pub use chain::{Break, Chain, Entry, Head};
pub use deed::Deed;

/// What stands between the hash of an entry and what the hash is of.
const HASH: &str = ",\"hash\":\"";

/// The hash that the first entry has as that of the one before.
const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The audit log of a home.
#[derive(Debug, Clone)]
pub struct AuditLog {
    path: PathBuf,
}

impl AuditLog {
    #[must_use]
    pub fn of(home: &Home) -> Self {
        Self { path: home.audit() }
    }
}

/// A line of the file as what its hash is of, and the hash that it has.
fn parts(line: &str) -> Option<(&str, &str)> {
    let (content, rest) = line.rsplit_once(HASH)?;
    let hash = rest.strip_suffix("\"}")?;
    let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then_some((content, hash))
}

fn hash_of(content: &str) -> String {
    Sha256::of(content.as_bytes()).to_string()
}

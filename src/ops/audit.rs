//! What the audit log says, and whether it is what was written.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::Value;

use super::Context;
use crate::audit::{AuditLog, Break, Chain};
pub use crate::audit::{Entry, Head};
use crate::failure::{Failure, Kind};

/// The fewest digits of a hash that name it.
const SHORTEST_HASH: usize = 16;

/// Which entries to show. What is absent matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Something that the entry names, or its first digits: a tag, a machine, a digest, a key.
    pub about: Option<String>,
    /// The kind of deed, such as `image-built`.
    pub deed: Option<String>,
    pub user: Option<String>,
    /// How old it may be.
    pub since: Option<Duration>,
}

/// What verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    pub entries: usize,
    /// The last entry; nothing when the log is empty.
    pub head: Option<Head>,
    /// The number of the entry whose hash was noted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noted: Option<u64>,
    /// Bytes of a line that a killed process left; the next entry removes them.
    pub torn: usize,
    pub breaks: Vec<Break>,
}

/// The entries that match, the oldest first.
///
/// # Errors
/// The log cannot be read.
pub fn show(context: &Context, filter: &Filter) -> Result<Vec<Entry>, Failure> {
    let mut entries = read(context)?.entries;
    let begin = filter
        .since
        .and_then(|since| SystemTime::now().checked_sub(since))
        .map(|begin| humantime::format_rfc3339_millis(begin).to_string());
    entries.retain(|entry| {
        let names = |text: &str| entry.about.values().any(|value| is_named(value, text));
        filter.about.as_deref().is_none_or(names)
            && filter.deed.as_ref().is_none_or(|deed| entry.deed == *deed)
            && filter.user.as_ref().is_none_or(|user| {
                entry.user.as_ref() == Some(user) || entry.uid.to_string() == *user
            })
            // Times of this form are in the order of their texts.
            && begin.as_ref().is_none_or(|begin| entry.time >= *begin)
    });
    Ok(entries)
}

/// The last entry.
///
/// # Errors
/// There is none, or the log cannot be read.
pub fn head(context: &Context) -> Result<Head, Failure> {
    let head = read(context)?.head();
    head.ok_or_else(|| Failure::new(Kind::NotFound, "the audit log is empty"))
}

/// Verifies that each entry follows the one before, and that `noted`, the hash of an entry that was
/// noted elsewhere, is among them.
///
/// # Errors
/// The log cannot be read, or `noted` is no hash or of no entry.
pub fn verify(context: &Context, noted: Option<&str>) -> Result<Verified, Failure> {
    let chain = read(context)?;
    let noted = noted.map(|noted| find(&chain, noted)).transpose()?;
    Ok(Verified {
        entries: chain.entries.len(),
        head: chain.head(),
        noted,
        torn: chain.torn,
        breaks: chain.breaks,
    })
}

fn find(chain: &Chain, noted: &str) -> Result<u64, Failure> {
    let digits = noted.strip_prefix("sha256:").unwrap_or(noted);
    let digits = digits.to_ascii_lowercase();
    if digits.len() < SHORTEST_HASH || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(
            Failure::usage(format!("\"{noted}\" is no hash of an entry")).with_help(format!(
                "give at least {SHORTEST_HASH} digits of what \"vmfab audit show --head\" printed"
            )),
        );
    }
    let mut entries = chain.entries.iter();
    let entry = entries.find(|entry| entry.hash.starts_with(&digits));
    let entry = entry.ok_or_else(|| {
        Failure::verification(format!("no entry of the audit log has the hash {noted}"))
            .with_help("somebody cut off its end or wrote it anew since the hash was noted")
    })?;
    Ok(entry.number)
}

fn read(context: &Context) -> Result<Chain, Failure> {
    AuditLog::of(&context.home).read()
}

/// Whether a value is what a user calls by this: all of it, its beginning when that is a digest, or
/// a part of it between slashes and the like.
fn is_named(value: &Value, text: &str) -> bool {
    let bare = text.strip_prefix('@').unwrap_or(text);
    match value {
        Value::String(value) => {
            value.starts_with(bare)
                || value
                    .split(['/', ':', '@', ',', ' '])
                    .any(|part| part.starts_with(bare))
        }
        Value::Array(values) => values.iter().any(|value| is_named(value, text)),
        _ => false,
    }
}

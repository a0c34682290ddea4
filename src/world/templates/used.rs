//! Which templates of others a recipe has in it, by the files that were read for it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;

use super::super::Context;
use super::{kept, signed_name};
use crate::digest::Sha256;
use crate::failure::Failure;

/// A template that a recipe has in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) digest: Sha256,
    /// By whom, a phrase.
    pub(crate) signed: String,
}

/// Whether one of these files is of a package.
pub(crate) fn is_of_others(context: &Context, files: &[PathBuf]) -> bool {
    !directories(context, files).is_empty()
}

/// The templates that these files are of.
///
/// # Errors
/// What is known of one, or a file of keys, cannot be read.
pub(crate) fn used(context: &Context, files: &[PathBuf]) -> Result<Vec<Used>, Failure> {
    let mut used = Vec::new();
    for directory in directories(context, files) {
        let digest = directory.to_str().and_then(|text| text.parse().ok());
        let Some(digest) = digest else { continue };
        let Some(known) = kept::known(context, &digest)? else {
            used.push(Used {
                name: "what was removed".to_owned(),
                version: String::new(),
                digest,
                signed: "nobody".to_owned(),
            });
            continue;
        };
        let (name, version) = (known.template.clone(), known.version.to_string());
        let verdict = known.evidence().verify(context, &signed_name(&name))?;
        let accepted = verdict.accepted.first();
        let signed = match (accepted, verdict.rejected.first()) {
            (Some(by), _) if by.comment.is_empty() => by.key.clone(),
            (Some(by), _) => format!("{} ({})", by.key, by.comment),
            (None, Some(why)) => format!("nobody whom you trust: {why}"),
            (None, None) => "nobody".to_owned(),
        };
        used.push(Used {
            name: name.to_string(),
            version,
            digest,
            signed,
        });
    }
    Ok(used)
}

/// The names of the directories of packages that have these files.
fn directories<'a>(context: &Context, files: &'a [PathBuf]) -> BTreeSet<std::ffi::OsString> {
    let place = context.home.unpacked_templates();
    // Without packages nothing is of one.
    let Ok(place) = fs::canonicalize(place) else {
        return BTreeSet::new();
    };
    let name = |file: &'a PathBuf| {
        let real = fs::canonicalize(file).ok()?;
        let below = real.strip_prefix(&place).ok()?;
        below.iter().next().map(OsStr::to_owned)
    };
    files.iter().filter_map(name).collect()
}

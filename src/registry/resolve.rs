//! From a tag or digest to the manifest for a platform, through indexes: one rule for recipes,
//! `pull` and `push`.

use super::Fetched;
use super::model::{Described, Descriptor, Index, Manifest, Parsed, Platform, parse_manifest};
use super::platform;
use super::reference::Version;
use crate::digest::Sha256;

/// How many indexes may lead from one to the next.
const INDEXES: usize = 3;

/// What an index with one manifest that says no platform stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silent {
    /// That manifest: its config tells what it is for.
    Taken,
    Refused,
}

/// The manifest for a platform.
#[derive(Debug)]
pub struct Resolved {
    pub digest: Sha256,
    pub manifest: Manifest,
    /// The digests of the indexes that led to it.
    pub through: Vec<Sha256>,
}

/// Why there is no manifest.
#[derive(Debug)]
pub enum ResolveError<E> {
    /// It could not be fetched.
    Fetch(E),
    /// What was fetched is wrong: `the manifest` or `the index`, and why.
    Invalid(&'static str, String),
    /// The index has nothing for the platform; it has manifests for these.
    Platform(Vec<String>),
}

/// Resolves a version with manifests and indexes that `fetch` has; `None` when it has none.
///
/// # Errors
/// See [`ResolveError`].
pub fn resolve<E>(
    version: &Version,
    wanted: &Platform,
    silent: Silent,
    mut fetch: impl FnMut(&Version) -> Result<Option<Fetched>, E>,
) -> Result<Option<Resolved>, ResolveError<E>> {
    let mut version = version.clone();
    let mut through = Vec::new();
    for _ in 0..=INDEXES {
        let Some(fetched) = fetch(&version).map_err(ResolveError::Fetch)? else {
            return Ok(None);
        };
        let parsed = parse_manifest(&fetched.bytes, &fetched.media_type);
        let index = match parsed.map_err(|why| ResolveError::Invalid("the manifest", why))? {
            Parsed::Manifest(manifest) => {
                return Ok(Some(Resolved {
                    digest: fetched.digest,
                    manifest: *manifest,
                    through,
                }));
            }
            Parsed::Index(index) => index,
        };
        through.push(fetched.digest);
        let chosen = choose(&index, wanted, silent)
            .ok_or_else(|| ResolveError::Platform(platform::platforms(&index)))?;
        let blob = chosen.blob();
        let blob = blob.map_err(|why| ResolveError::Invalid("the index", why))?;
        version = Version::Digest(blob.digest);
    }
    let why = "names indexes that name indexes".to_owned();
    Err(ResolveError::Invalid("the index", why))
}

fn choose<'a>(index: &'a Index, wanted: &Platform, silent: Silent) -> Option<&'a Descriptor> {
    match index.manifests().as_slice() {
        [only] if silent == Silent::Taken && only.platform().is_none() => Some(only),
        _ => platform::choose(index, wanted),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::registry::{Blob, descriptor, index as index_of, media, to_bytes};

    /// An index of manifests for these platforms; `-` says none.
    fn index(platforms: &[&str], of: &[u8]) -> Vec<u8> {
        let manifests = platforms.iter().map(|platform| {
            let mut one = descriptor(media::INDEX, &Blob::of(of));
            if let Some((os, architecture)) = platform.split_once('/') {
                one.set_for(&Platform {
                    architecture: architecture.to_owned(),
                    os: os.to_owned(),
                    variant: None,
                });
            }
            one
        });
        to_bytes(&index_of(manifests.collect(), BTreeMap::new()))
    }

    fn resolved(index: &[u8], behind: &[u8], silent: Silent) -> String {
        let fetch = |version: &Version| match version {
            Version::Tag(_) => Ok(Some(fetched(index))),
            Version::Digest(_) => match behind.is_empty() {
                true => Err(()),
                false => Ok(Some(fetched(behind))),
            },
        };
        let tag = Version::Tag("tag".to_owned());
        match resolve(&tag, &Platform::linux("x86_64"), silent, fetch) {
            Ok(found) => format!("{}", found.is_some()),
            Err(ResolveError::Fetch(())) => "chosen".to_owned(),
            Err(ResolveError::Invalid(what, why)) => format!("{what} {why}"),
            Err(ResolveError::Platform(there)) => there.join(", "),
        }
    }

    fn fetched(bytes: &[u8]) -> Fetched {
        Fetched {
            digest: Sha256::of(bytes),
            media_type: media::INDEX.to_owned(),
            bytes: bytes.to_owned(),
        }
    }

    #[test]
    fn an_index_may_say_nothing_of_its_only_manifest() {
        let only = |platforms: &[&str], silent| resolved(&index(platforms, b""), b"", silent);
        assert_eq!(only(&["-"], Silent::Taken), "chosen");
        assert_eq!(only(&["-"], Silent::Refused), "");
        assert_eq!(only(&["-", "-"], Silent::Taken), "");
        assert_eq!(only(&["linux/amd64"], Silent::Refused), "chosen");
        let others = ["linux/arm64", "unknown/unknown"];
        assert_eq!(only(&others, Silent::Taken), "linux/arm64");
    }

    #[test]
    fn indexes_that_lead_nowhere_end() {
        let endless = index(&["linux/amd64"], b"again");
        let says = resolved(&endless, &endless, Silent::Taken);
        assert_eq!(says, "the index names indexes that name indexes");
    }
}

//! Git repositories: tags that name a version are versions; branches, tags and commits can be asked
//! for by name.

use std::collections::BTreeMap;

use semver::Version;

use super::super::{Context, git};
use super::directory;
use crate::failure::Failure;
use crate::instruction::{Address, Repository};
use crate::template::{Entry, Index, Package};

/// The most branches and tags that are looked at.
const MOST_REFERENCES: usize = 1000;

/// What a reference may stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Meaning {
    /// A tag of a version, of one template or of all that have it.
    Version(Option<String>, Version),
    Other,
}

/// What a repository has at its branches and tags. Commits that were seen `before` are not fetched
/// again.
pub(super) fn index(context: &Context, url: &str, before: &Index) -> Result<Index, Failure> {
    let address = address(url)?;
    let references = git::references(context, &address)?;
    if references.len() > MOST_REFERENCES {
        let message = format!("{url} has more than {MOST_REFERENCES} branches and tags");
        return Err(Failure::failed(message).with_help("templates need a repository of their own"));
    }
    let mut commits: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (commit, reference) in references {
        commits.entry(commit).or_default().push(reference);
    }
    let mut index = Index::default();
    for (commit, references) in commits {
        let names: Vec<&str> = references.iter().map(|name| short(name)).collect();
        let mut there = seen(before, &commit);
        if there.is_empty() {
            there = at_commit(context, &address, &commit)?;
        }
        for (name, mut entry) in there {
            let tags = references
                .iter()
                .filter(|name| name.starts_with("refs/tags/"));
            let released = tags.map(|tag| meaning(short(tag))).any(|tag| match tag {
                Meaning::Version(of, version) => {
                    version == entry.version && of.is_none_or(|of| name == of.as_str())
                }
                Meaning::Other => false,
            });
            entry.moving = !released;
            entry.references = names.iter().filter_map(|name| name.parse().ok()).collect();
            if !index.put(name.clone(), entry.clone()) {
                let other = index.versions(&name).iter();
                let same = other
                    .into_iter()
                    .find(|one| one.version == entry.version && !one.moving);
                if same.is_some_and(|same| same.digest != entry.digest) {
                    let message = format!("{url} has two tags of {name} {}", entry.version);
                    return Err(Failure::verification(message).with_help("remove one of the tags"));
                }
            }
        }
    }
    Ok(index)
}

fn address(url: &str) -> Result<Address, Failure> {
    // The form of a reference is known to mean git.
    let parsed = Repository::parse(&format!("{}#", url.trim_end_matches('#')))
        .or_else(|| Repository::parse(&format!("{}.git", url.trim_end_matches('/'))));
    match parsed {
        Some(Ok(repository)) => Ok(Address {
            url: url.to_owned(),
            ..repository.address
        }),
        Some(Err(message)) => Err(Failure::usage(format!("{url}: {message}"))),
        None => Ok(Address {
            url: url.to_owned(),
            login: None,
        }),
    }
}

fn short(reference: &str) -> &str {
    let known = ["refs/heads/", "refs/tags/"];
    let found = known.iter().find_map(|start| reference.strip_prefix(start));
    found.unwrap_or(reference)
}

/// `v1.2.0`, `1.2.0`, `web-1.2.0`, `web/v1.2.0`: a version, of one template or of all.
fn meaning(tag: &str) -> Meaning {
    let version = |text: &str| Version::parse(text.strip_prefix('v').unwrap_or(text)).ok();
    if let Some(version) = version(tag) {
        return Meaning::Version(None, version);
    }
    for (at, _) in tag.match_indices(['-', '/', '@']) {
        if let Some(version) = version(&tag[at + 1..]) {
            return Meaning::Version(Some(tag[..at].to_owned()), version);
        }
    }
    Meaning::Other
}

fn seen(before: &Index, commit: &str) -> Vec<(crate::checked::Name, Entry)> {
    let at = |entry: &&Entry| {
        let place = entry
            .place
            .as_deref()
            .and_then(|place| place.split_once(':'));
        place.is_some_and(|(other, _)| other == commit)
    };
    let all = before.iter().flat_map(|(name, versions)| {
        let there = versions.iter().filter(at);
        there.map(|entry| {
            (
                name.clone(),
                Entry {
                    hidden: None,
                    ..entry.clone()
                },
            )
        })
    });
    all.collect()
}

/// The templates in the files of a commit.
fn at_commit(
    context: &Context,
    address: &Address,
    commit: &str,
) -> Result<Vec<(crate::checked::Name, Entry)>, Failure> {
    let packages = checked_out(context, address, commit)?;
    let entries = packages.into_iter().map(|(below, package)| {
        let mut entry = Entry::of(&package);
        entry.place = format!("{commit}:{below}").parse().ok();
        (package.name().clone(), entry)
    });
    Ok(entries.collect())
}

fn checked_out(
    context: &Context,
    address: &Address,
    commit: &str,
) -> Result<Vec<(String, Package)>, Failure> {
    let all = context.home.unpacked_templates();
    std::fs::create_dir_all(&all).map_err(Failure::io("create", &all))?;
    let new = tempfile::tempdir_in(&all).map_err(Failure::io("create", &all))?;
    git::check_out(context, address, commit, new.path())?;
    let packages = directory::templates(new.path()).map_err(|failure| {
        let shown = new.path().display().to_string();
        let message = failure
            .message()
            .replace(&shown, &format!("{address} at {commit}"));
        failure.with_message(message)
    })?;
    let below = |path: &std::path::Path| {
        let below = path.strip_prefix(new.path()).unwrap_or(path);
        below.display().to_string()
    };
    Ok(packages
        .into_iter()
        .map(|(path, package)| (below(&path), package))
        .collect())
}

/// The bytes of a version, packed from the files of its commit.
pub(super) fn fetch(context: &Context, url: &str, entry: &Entry) -> Result<Vec<u8>, Failure> {
    let place = entry.place.as_deref().unwrap_or_default();
    let (commit, path) = place.split_once(':').unwrap_or((place, ""));
    let packages = checked_out(context, &address(url)?, commit)?;
    let found = packages.into_iter().find(|(below, _)| below == path);
    let package = found.map(|(_, package)| package).ok_or_else(|| {
        Failure::unknown("template in the repository at", format!("{commit}:{path}"))
    })?;
    Ok(package.bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_versions() {
        let of = |name: Option<&str>, version: &str| {
            Meaning::Version(name.map(str::to_owned), version.parse().unwrap())
        };
        for (tag, is) in [
            ("v1.2.0", of(None, "1.2.0")),
            ("1.2.0-rc.1", of(None, "1.2.0-rc.1")),
            ("web-1.2.0", of(Some("web"), "1.2.0")),
            ("my-web/v1.2.0", of(Some("my-web"), "1.2.0")),
            ("web@1.2.0-rc.1", of(Some("web"), "1.2.0-rc.1")),
            ("v1.2", Meaning::Other),
            ("nightly", Meaning::Other),
        ] {
            assert_eq!(meaning(tag), is, "{tag}");
        }
    }
}

//! What a repository of templates has: a line of JSON for each template, with all its versions.
//!
//! A repository may add versions. It must not change the bytes of one, and if it lists one no more,
//! that is noticed: [`Index::after`] compares with what was seen before.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use semver::Version;
use serde::{Deserialize, Serialize};

use super::name::TemplateRef;
use super::outline::{MOST_DEPENDENCIES, Outline};
use super::package::Package;
use crate::checked::{Line, Name};
use crate::digest::Sha256;
use crate::failure::Failure;

/// The most bytes of an index.
pub const MOST_BYTES: u64 = 128 << 20;
/// The most versions of all templates of one.
const MOST_VERSIONS: usize = 200_000;

/// The templates of a repository, by name, their versions in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index(BTreeMap<Name, Vec<Entry>>);

/// A version of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub version: Version,
    /// Of its package.
    pub digest: Sha256,
    /// Of its package, in bytes.
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Line>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<Line>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<Line>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Line>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Line>,
    /// Where in its repository it is; only in an index that this host made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Line>,
    /// Branches and tags of a git repository that stand for it; only in an index of this host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<Line>,
    /// Whether it is no release, but the state of a branch: its bytes change.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub moving: bool,
    /// When the repository was seen without it, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Template {
    name: Name,
    versions: Vec<Entry>,
}

/// A version that was seen, and that a repository lists no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hidden {
    pub name: Name,
    pub version: Version,
    /// Whether it is newer than all that are listed.
    pub newest: bool,
}

impl Entry {
    /// What an index says of a package.
    #[must_use]
    pub fn of(package: &Package) -> Self {
        let size = package.bytes().len() as u64;
        Self::told(package.outline(), package.digest(), size)
    }

    /// What a template says of itself, with its digest and size.
    #[must_use]
    pub fn told(outline: &Outline, digest: Sha256, size: u64) -> Self {
        let needs = outline.needs.iter().map(|need| need.template.to_string());
        Self {
            version: outline.version.clone(),
            digest,
            size,
            description: outline.description.clone(),
            author: outline.author.clone(),
            license: outline.license.clone(),
            tags: outline.tags.clone(),
            needs: needs.filter_map(|need| need.parse().ok()).collect(),
            place: None,
            references: Vec::new(),
            moving: false,
            hidden: None,
        }
    }

    /// The templates that it says it needs.
    ///
    /// # Errors
    /// One of them is no name of a template.
    pub fn needs(&self) -> Result<Vec<TemplateRef>, String> {
        self.needs.iter().map(|need| need.parse()).collect()
    }

    /// Whether ranges of versions have it.
    #[must_use]
    pub const fn is_release(&self) -> bool {
        !self.moving && self.hidden.is_none()
    }

    fn without_places(&self) -> Self {
        Self {
            place: None,
            references: Vec::new(),
            hidden: None,
            ..self.clone()
        }
    }
}

impl Index {
    /// Reads the text of an index; `whose` is for messages.
    ///
    /// # Errors
    /// It is none, or has more than an index may.
    pub fn parse(whose: &str, text: &str) -> Result<Self, Failure> {
        let wrong = |number: usize, why: &str| {
            let message = format!("the index of {whose} is wrong in line {number}: {why}");
            Failure::verification(message).with_help("whoever keeps the repository must repair it")
        };
        let mut index = Self::default();
        let mut versions = 0;
        for (number, line) in (1..).zip(text.lines()) {
            let read: Result<Template, _> = serde_json::from_str(line);
            let template = read.map_err(|error| wrong(number, &error.to_string()))?;
            versions += template.versions.len();
            if versions > MOST_VERSIONS {
                let why = format!("more than {MOST_VERSIONS} versions");
                return Err(wrong(number, &why));
            }
            if let Some(entry) = template
                .versions
                .iter()
                .find(|entry| entry.needs.len() > MOST_DEPENDENCIES || entry.needs().is_err())
            {
                let why = format!("what {} {} needs", template.name, entry.version);
                return Err(wrong(number, &why));
            }
            if index.0.contains_key(&template.name) {
                return Err(wrong(
                    number,
                    &format!("{} stands there twice", template.name),
                ));
            }
            for entry in template.versions {
                let (name, version) = (template.name.clone(), entry.version.clone());
                if !index.put(name, entry) {
                    return Err(wrong(number, &format!("{version} stands there twice")));
                }
            }
        }
        Ok(index)
    }

    /// The text of the index.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.text(Entry::clone)
    }

    /// The text for others, without what only this host knows.
    #[must_use]
    pub fn to_public_text(&self) -> String {
        self.text(Entry::without_places)
    }

    fn text(&self, entry: impl Fn(&Entry) -> Entry) -> String {
        let mut text = String::new();
        for (name, versions) in &self.0 {
            let template = Template {
                name: name.clone(),
                versions: versions.iter().map(&entry).collect(),
            };
            let line = serde_json::to_string(&template).unwrap_or_default();
            let _ = writeln!(text, "{line}");
        }
        text
    }

    /// Adds a version; tells whether there was no other of its number. A release and the state of
    /// a branch may have the same.
    pub fn put(&mut self, name: Name, entry: Entry) -> bool {
        let versions = self.0.entry(name).or_default();
        let key = |entry: &Entry| (entry.version.clone(), entry.moving, entry.place_if_moving());
        let found = versions.binary_search_by_key(&key(&entry), key);
        match found {
            Ok(_) => false,
            Err(at) => {
                versions.insert(at, entry);
                true
            }
        }
    }

    /// The versions of a template, in order.
    #[must_use]
    pub fn versions(&self, name: &str) -> &[Entry] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The versions of a template, to change them.
    pub fn versions_mut(&mut self, name: &str) -> Option<&mut Vec<Entry>> {
        self.0.get_mut(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Name, &[Entry])> {
        self.0.iter().map(|(name, all)| (name, all.as_slice()))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// This index as it is to be kept after another one of the same repository was seen: versions
    /// that are missing now stay, marked as hidden.
    ///
    /// # Errors
    /// A version has other bytes than before.
    pub fn after(mut self, whose: &str, before: &Self) -> Result<(Self, Vec<Hidden>), Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs());
        let mut hidden = Vec::new();
        for (name, versions) in &before.0 {
            for old in versions.iter().filter(|entry| !entry.moving) {
                let listed = self.versions(name);
                let same = listed
                    .iter()
                    .find(|entry| !entry.moving && entry.version == old.version);
                if let Some(same) = same {
                    if same.digest != old.digest {
                        let message = format!(
                            "{whose}/{name} {} changed its bytes under the same number: it was sha256:{} and is \
                             sha256:{}",
                            old.version, old.digest, same.digest
                        );
                        return Err(Failure::verification(message).with_help(
                            "a version never changes: whoever publishes it must give the change a new number; \
                             vmfab keeps the index that it had",
                        ));
                    }
                    continue;
                }
                let releases = listed.iter().filter(|entry| entry.is_release());
                hidden.push(Hidden {
                    name: name.clone(),
                    version: old.version.clone(),
                    newest: releases
                        .map(|entry| &entry.version)
                        .all(|one| *one < old.version),
                });
                let mut kept = old.clone();
                kept.hidden = kept.hidden.or(Some(now));
                self.put(name.clone(), kept);
            }
        }
        Ok((self, hidden))
    }
}

impl Entry {
    fn place_if_moving(&self) -> Option<Line> {
        self.place.clone().filter(|_| self.moving)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::template) fn entry(version: &str, digest: u8) -> Entry {
        Entry {
            version: version.parse().unwrap(),
            digest: Sha256::from_bytes([digest; 32]),
            size: 7,
            description: Some("a \"template\" of caf\u{e9}".parse().unwrap()),
            author: None,
            license: None,
            tags: vec!["web".parse().unwrap()],
            needs: vec!["alpine@^3".parse().unwrap()],
            place: None,
            references: Vec::new(),
            moving: false,
            hidden: None,
        }
    }

    fn index(entries: &[(&str, &str, u8)]) -> Index {
        let mut index = Index::default();
        for (name, version, digest) in entries {
            assert!(index.put(name.parse().unwrap(), entry(version, *digest)));
        }
        index
    }

    #[test]
    fn versions_keep_their_bytes_and_are_missed() {
        let before = index(&[("a", "1.0.0", 1), ("a", "1.1.0", 2), ("b", "1.0.0", 3)]);
        let changed = index(&[("a", "1.0.0", 1), ("a", "1.1.0", 9), ("b", "1.0.0", 3)]);
        let refused = changed.after("acme", &before).unwrap_err().to_string();
        assert!(
            refused.starts_with("acme/a 1.1.0 changed its bytes under the same number"),
            "{refused}"
        );
        let fewer = index(&[("a", "1.0.0", 1), ("b", "2.0.0", 4)]);
        let (kept, hidden) = fewer.after("acme", &before).unwrap();
        let told: Vec<_> = hidden
            .iter()
            .map(|one| format!("{} {} {}", one.name, one.version, one.newest))
            .collect();
        assert_eq!(told, ["a 1.1.0 true", "b 1.0.0 false"]);
        // It stays known, so that other bytes are refused later, too, and is not chosen.
        assert!(!kept.versions("a")[1].is_release());
        assert!(changed_later(&kept).is_err());
        let again = index(&[("a", "1.0.0", 1), ("a", "1.1.0", 2), ("b", "1.0.0", 3)]);
        let (kept, hidden) = again.after("acme", &kept).unwrap();
        assert_eq!(hidden.len(), 1);
        assert!(kept.versions("a")[1].is_release());
    }

    fn changed_later(kept: &Index) -> Result<(Index, Vec<Hidden>), Failure> {
        index(&[("a", "1.1.0", 9)]).after("acme", kept)
    }

    #[test]
    fn what_is_no_index() {
        let one = index(&[("a", "1.0.0", 1)]).to_text();
        let digest = "0".repeat(64);
        let wrong = |field: &str| {
            format!(
                "{{\"name\":\"a\",\"versions\":[{{\"version\":\"1.0.0\",\"digest\":\"{digest}\",\"size\":1,{field}}}]}}"
            )
        };
        for (text, why) in [
            ("x".to_owned(), "line 1"),
            (format!("{one}{one}"), "line 2: a stands there twice"),
            (one.replace("\"a\"", "\"../a\""), "is not a name"),
            (one.replace("1.0.0", "1"), "line 1"),
            (
                wrong("\"description\":\"a\\u001b[2J\""),
                "is not a line of text",
            ),
            (wrong("\"needs\":[\"../x@1\"]"), "what a 1.0.0 needs"),
        ] {
            let said = Index::parse("acme", &text).unwrap_err().to_string();
            assert!(said.contains(why), "{said} should say: {why}");
        }
    }

    proptest! {
        #[test]
        fn indexes_come_back_as_they_were(
            entries in prop::collection::btree_map(("[a-z]{1,4}", 0..3_u64, 0..3_u64), any::<u8>(), 0..20),
        ) {
            let mut index = Index::default();
            for ((name, major, minor), digest) in entries {
                index.put(name.parse().unwrap(), entry(&format!("{major}.{minor}.0"), digest));
            }
            prop_assert_eq!(&Index::parse("acme", &index.to_text()).unwrap(), &index);
            prop_assert_eq!(&Index::parse("acme", &index.to_public_text()).unwrap(), &index);
        }
    }
}

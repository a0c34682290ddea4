//! What a lock file says.

use std::collections::{BTreeMap, BTreeSet};

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::checked::{Address, Line, Name, Token};
use crate::digest::{Digest, Hasher, Sha256};
use crate::template::TemplateName;

/// All that a lock file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    /// What was locked, and what it uses, in order.
    pub targets: Vec<Target>,
    /// Content from outside, by its address.
    pub sources: BTreeMap<String, Source>,
    /// Steps that install packages, by their static key.
    pub steps: BTreeMap<Digest, PinnedStep>,
    /// Templates, each version for itself: recipes of one directory may need different ones.
    pub templates: BTreeMap<(TemplateName, Version), PinnedTemplate>,
}

/// An image of a recipe, with the parameters that it was locked with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The file's name in the directory of the lock, or the name of a built-in recipe.
    pub recipe: String,
    /// The image's name.
    pub image: String,
    /// Values of parameters.
    pub settings: BTreeMap<String, String>,
    /// Addresses of content that it uses.
    pub sources: BTreeSet<String>,
    /// Static keys of steps that it uses.
    pub steps: BTreeSet<Digest>,
    /// Templates that it is built on, with those that these need.
    pub templates: BTreeMap<TemplateName, Version>,
}

/// A version of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedTemplate {
    pub version: Version,
    /// Of its package; of the text of a recipe that comes with vmfab.
    pub digest: Sha256,
    /// The repository that it came from.
    pub source: Line,
}

/// Content from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Algorithm, `:` and lower-case hexadecimal digits.
    pub checksum: String,
    /// Its size in bytes, when that is known.
    pub size: Option<u64>,
    /// When that was found out: RFC 3339, in UTC, to the second.
    pub resolved: String,
}

/// A step that installs packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedStep {
    /// Its label, for people.
    pub label: String,
    /// What it installs; absent when its package manager does not tell.
    pub packages: Option<PackageSet>,
}

/// Packages, file by file, and the archives that they came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageSet {
    /// Archives, in the order in which the package manager reads them.
    pub archives: Vec<Archive>,
    /// Packages, sorted.
    pub packages: Vec<Package>,
}

/// One index of packages in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// What paths of files count from, with `/` at its end.
    pub url: Address,
    /// What its `Release` file says of it: `Suite`, `Codename`, `Origin`, `Label`, `Version`, where
    /// they are there.
    pub release: BTreeMap<Name, Line>,
}

/// One file of a package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    pub name: Token,
    pub version: Token,
    /// The architecture that it is for, or `all`.
    pub architecture: Token,
    /// Of the file.
    pub sha256: Sha256,
    /// Of the file, in bytes.
    pub size: u64,
    /// Its priority in the archive, which decides whether it belongs to the base of a tree; absent
    /// when it is `optional`, as most are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Token>,
    /// Which archive has it, counted from 0; absent when none of them lists it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<usize>,
    /// Path of the file in that archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<Token>,
}

impl PackageSet {
    /// The digest over the exact list: names, versions, architectures, contents and priorities.
    /// Where a file is to be had is left out: it does not change what is installed.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new("vmfab package set v1");
        hasher.update_u64(self.packages.len() as u64);
        for package in &self.packages {
            for field in [&package.name, &package.version, &package.architecture] {
                hasher.update_field(field.as_bytes());
            }
            hasher.update(package.sha256.as_bytes());
            let priority = package.priority.as_deref().unwrap_or_default();
            hasher.update_field(priority.as_bytes());
        }
        hasher.finish()
    }

    /// Where the file of a package is to be had, when an archive lists it.
    #[must_use]
    pub fn url(&self, package: &Package) -> Option<String> {
        let archive = self.archives.get(package.archive?)?;
        let file = package.file.as_deref()?;
        Some(format!("{}{}", archive.url, file.trim_start_matches("./")))
    }
}

impl Lock {
    /// Whether something was locked for a recipe.
    #[must_use]
    pub fn knows(&self, recipe: &str) -> bool {
        self.targets.iter().any(|target| target.recipe == recipe)
    }

    /// Puts a target in the place of the one for the same image with the same parameters, and drops
    /// what no target uses any more.
    pub fn put_target(&mut self, target: Target) {
        self.targets.retain(|other| {
            (&other.recipe, &other.image, &other.settings)
                != (&target.recipe, &target.image, &target.settings)
        });
        self.targets.push(target);
        self.targets.sort();
        self.drop_unused();
    }

    /// The templates that are pinned for a recipe. Those of the target with these parameters
    /// precede.
    #[must_use]
    pub fn templates_of(
        &self,
        recipe: &str,
        settings: &BTreeMap<String, String>,
    ) -> BTreeMap<TemplateName, PinnedTemplate> {
        let mut targets: Vec<&Target> = self.targets.iter().collect();
        targets.retain(|target| target.recipe == recipe);
        targets.sort_by_key(|target| target.settings == *settings);
        let all = targets.into_iter().flat_map(|target| &target.templates);
        all.filter_map(|(name, version)| {
            let pinned = self.templates.get(&(name.clone(), version.clone()))?;
            Some((name.clone(), pinned.clone()))
        })
        .collect()
    }

    /// Drops what no target uses.
    pub fn drop_unused(&mut self) {
        let targets = &self.targets;
        self.sources
            .retain(|url, _| targets.iter().any(|target| target.sources.contains(url)));
        self.steps
            .retain(|key, _| targets.iter().any(|target| target.steps.contains(key)));
        self.templates.retain(|(name, version), _| {
            let mut targets = targets.iter();
            targets.any(|target| target.templates.get(name) == Some(version))
        });
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::lock) fn key(text: &str) -> Digest {
        Hasher::new("test").update(text.as_bytes()).finish()
    }

    pub(in crate::lock) fn package(name: &str, version: &str) -> Package {
        Package {
            name: name.parse().unwrap(),
            version: version.parse().unwrap(),
            architecture: "amd64".parse().unwrap(),
            sha256: Sha256::from_bytes([7; 32]),
            size: 5,
            priority: None,
            archive: Some(0),
            file: Some(format!("pool/{name}.deb").parse().unwrap()),
        }
    }

    fn target(recipe: &str, steps: &[&str]) -> Target {
        Target {
            recipe: recipe.into(),
            image: "image".into(),
            settings: BTreeMap::new(),
            sources: BTreeSet::new(),
            steps: steps.iter().map(|text| key(text)).collect(),
            templates: BTreeMap::new(),
        }
    }

    #[test]
    fn each_target_keeps_what_it_uses() {
        let step = PinnedStep {
            label: "label".into(),
            packages: None,
        };
        let mut lock = Lock::default();
        for text in ["shared", "a", "b"] {
            lock.steps.insert(key(text), step.clone());
        }
        lock.put_target(target("a.kdl", &["shared", "a"]));
        assert_eq!(lock.steps.len(), 2);
        lock.steps.insert(key("b"), step);
        lock.put_target(target("b.kdl", &["shared", "b"]));
        assert_eq!(lock.steps.len(), 3);
        lock.put_target(target("a.kdl", &[]));
        assert_eq!(lock.targets.len(), 2);
        assert_eq!(
            lock.steps.keys().copied().collect::<BTreeSet<_>>(),
            BTreeSet::from([key("shared"), key("b")])
        );
        assert!(lock.knows("a.kdl") && !lock.knows("c.kdl"));
    }

    #[test]
    fn a_set_is_its_packages() {
        let set = PackageSet {
            archives: Vec::new(),
            packages: vec![package("a", "1")],
        };
        let mut elsewhere = set.clone();
        elsewhere.packages[0].file = None;
        assert_eq!(set.digest(), elsewhere.digest());
        let mut newer = set.clone();
        newer.packages[0].version = "2".parse().unwrap();
        assert_ne!(set.digest(), newer.digest());
        let mut other = set.clone();
        other.packages[0].sha256 = Sha256::from_bytes([8; 32]);
        assert_ne!(set.digest(), other.digest());
    }

    #[test]
    fn files_are_below_their_archive() {
        let mut set = PackageSet {
            archives: vec![Archive {
                url: "http://m/debian/".parse().unwrap(),
                release: BTreeMap::new(),
            }],
            packages: vec![package("a", "1")],
        };
        let url = |set: &PackageSet| set.url(&set.packages[0]);
        assert_eq!(url(&set).as_deref(), Some("http://m/debian/pool/a.deb"));
        set.packages[0].file = Some("./a.deb".parse().unwrap());
        assert_eq!(url(&set).as_deref(), Some("http://m/debian/a.deb"));
        set.packages[0].archive = Some(1);
        assert_eq!(url(&set), None);
    }
}

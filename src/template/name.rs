//! Names of templates, and what recipes ask for by them.

use std::fmt;
use std::str::FromStr;

use semver::VersionReq;
use serde::{Deserialize, Serialize};

use crate::checked::Name;

/// The namespace of the recipes that come with vmfab.
pub const BUILT_IN: &str = "vmfab";

/// A template of a namespace: `acme/python-dev`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TemplateName {
    pub namespace: Name,
    pub name: Name,
}

/// Which versions are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// A range of semantic versions: `^1.2`, `=1.0.3`, `>=1, <3`; `*` is any.
    Range(VersionReq),
    /// A branch, tag or commit of a git repository.
    Reference(String),
}

/// What a recipe or a user asks for: `python-dev`, `acme/python-dev@^1.2`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TemplateRef {
    pub namespace: Option<Name>,
    pub name: Name,
    pub wanted: Wanted,
}

impl TemplateName {
    /// A name in a namespace.
    #[must_use]
    pub const fn new(namespace: Name, name: Name) -> Self {
        Self { namespace, name }
    }

    #[must_use]
    pub fn is_built_in(&self) -> bool {
        self.namespace == BUILT_IN
    }
}

impl fmt::Display for TemplateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for TemplateName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((namespace, name)) = text.split_once('/') else {
            return Err(format!("\"{text}\" is not NAMESPACE/NAME"));
        };
        Ok(Self::new(part(namespace)?, part(name)?))
    }
}

impl TryFrom<String> for TemplateName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<TemplateName> for String {
    fn from(name: TemplateName) -> Self {
        name.to_string()
    }
}

impl Wanted {
    /// Any version.
    pub const ANY: Self = Self::Range(VersionReq::STAR);
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(range) => range.fmt(f),
            Self::Reference(reference) => f.write_str(reference),
        }
    }
}

impl TemplateRef {
    /// Whether a text after `from` asks for a template: it has a version. A digest after the `@` is
    /// that of an image in a registry, and an `@` at the beginning that of a tag.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        let (name, version) = text.split_once('@').unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
        !name.is_empty() && name.bytes().all(plain) && !version.contains(':')
    }
}

impl fmt::Display for TemplateRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)?;
        match &self.wanted {
            Wanted::Range(range) if *range == VersionReq::STAR => Ok(()),
            wanted => write!(f, "@{wanted}"),
        }
    }
}

impl FromStr for TemplateRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, wanted) = match text.split_once('@') {
            Some((name, wanted)) => (name, self::wanted(wanted)?),
            None => (text, Wanted::ANY),
        };
        let (namespace, name) = match name.split_once('/') {
            Some((namespace, name)) => (Some(part(namespace)?), part(name)?),
            None => (None, part(name)?),
        };
        Ok(Self {
            namespace,
            name,
            wanted,
        })
    }
}

/// What stands after the `@`. What begins like a range and is none is a mistake; other words name
/// something of a git repository.
fn wanted(text: &str) -> Result<Wanted, String> {
    if let Ok(range) = VersionReq::parse(text) {
        return Ok(Wanted::Range(range));
    }
    let first = text.chars().next().unwrap_or(' ');
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    let is_commit = text.len() >= 7 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_reference = first.is_ascii_alphabetic() && text.bytes().all(good);
    match (is_commit || is_reference) && !text.contains("..") {
        true => Ok(Wanted::Reference(text.to_owned())),
        false => Err(format!(
            "\"{text}\" is no range of versions, such as 1.2, ~1.2, =1.2.3 or \">=1, <3\""
        )),
    }
}

fn part(text: &str) -> Result<Name, String> {
    text.parse()
        .map_err(|error: crate::checked::Unfit| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_and_shown() {
        for (text, shown) in [
            ("python-dev", "python-dev"),
            ("python-dev@*", "python-dev"),
            ("python-dev@^1.2", "python-dev@^1.2"),
            ("alpine@3.22", "alpine@^3.22"),
            ("acme/a@>=1, <3", "acme/a@>=1, <3"),
            ("acme/a@main", "acme/a@main"),
            ("acme/a@0123abc", "acme/a@0123abc"),
        ] {
            let read: TemplateRef = text.parse().unwrap();
            assert_eq!(read.to_string(), shown);
        }
        for wrong in [
            "",
            "a@",
            "a@1.2.x.y",
            "a@^",
            "a/b/c",
            "../a",
            "a/..b@1",
            "a@-x",
            "a@../x",
            "a b@1",
        ] {
            assert!(wrong.parse::<TemplateRef>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn versions_tell_templates_from_images_and_tags() {
        for (text, is_one) in [
            ("alpine@3.22", true),
            ("acme/a@^1", true),
            ("acme/a@main", true),
            ("alpine", false),
            ("@tag", false),
            ("me/vm@sha256:12", false),
            ("debian:12@sha256:12", false),
            ("https://me@example.org/x", false),
        ] {
            assert_eq!(TemplateRef::is_one(text), is_one, "{text}");
        }
    }
}

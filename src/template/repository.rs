//! Repositories of templates, as the user names them.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::checked::Name;

/// The namespace of templates that were imported from files.
pub const LOCAL: &str = "local";

/// A repository of templates, and the namespace that the user gives to what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateRepository {
    pub namespace: Name,
    pub place: Place,
}

/// Where a repository of templates is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Packages, and directories with a template each.
    Directory(PathBuf),
    /// Tags are versions; branches and commits can be asked for by name.
    Git(String),
    /// `HOST/REPOSITORY`: the index is its tag `index`, and a template the repository below it.
    Registry(String),
}

impl Place {
    /// The kind of place by the form of a text: `oci://HOST/REPOSITORY` is one of a registry,
    /// `git+URL` or `URL.git` one of git, and the rest is a directory, which `path` finds.
    #[must_use]
    pub fn parse(text: &str, path: impl FnOnce(&str) -> PathBuf) -> Self {
        let schemes = ["git://", "ssh://"];
        let is_git = |text: &str| {
            let from_there = text.contains("://") || text.starts_with("git@");
            let named = from_there && text.trim_end_matches('/').ends_with(".git");
            named || schemes.iter().any(|scheme| text.starts_with(scheme))
        };
        if let Some(repository) = text.strip_prefix("oci://") {
            Self::Registry(repository.trim_end_matches('/').to_owned())
        } else if let Some(url) = text.strip_prefix("git+") {
            Self::Git(url.to_owned())
        } else if is_git(text) {
            Self::Git(text.to_owned())
        } else {
            Self::Directory(path(text))
        }
    }

    /// Whether a text is an address that is of none of these kinds.
    #[must_use]
    pub fn is_other_address(text: &str) -> bool {
        text.contains("://") && matches!(Self::parse(text, |_| PathBuf::new()), Self::Directory(_))
    }

    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Directory(_) => "directory",
            Self::Git(_) => "git",
            Self::Registry(_) => "registry",
        }
    }

    /// The directory, if it is one.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            _ => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::Git(url) if url.ends_with(".git") => f.write_str(url),
            Self::Git(url) => write!(f, "git+{url}"),
            Self::Registry(repository) => write!(f, "oci://{repository}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_their_form() {
        for (text, kind) in [
            ("oci://ghcr.io/acme/templates", "registry"),
            ("https://example.org/acme/templates.git", "git"),
            ("git@example.org:acme/templates.git", "git"),
            ("git+https://example.org/acme/templates", "git"),
            ("git://127.0.0.1:9418/templates", "git"),
            ("./templates", "directory"),
            ("/srv/templates.git", "directory"),
        ] {
            let place = Place::parse(text, |text| PathBuf::from(text));
            assert_eq!(place.kind(), kind, "{text}");
            assert_eq!(
                Place::parse(&place.to_string(), |text| PathBuf::from(text)),
                place
            );
            assert!(!Place::is_other_address(text), "{text}");
        }
        assert!(Place::is_other_address("https://example.org/templates"));
    }
}

//! What a recipe or a user names as the place of content.

use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::http::{Url, unescape};

/// Content from outside: where it is, and what to call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    url: String,
    name: String,
    location: Location,
}

/// Where bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Location {
    Web(Url),
    File(PathBuf),
    /// Where an [`Origin`](super::Origin) knows.
    Elsewhere,
}

impl Source {
    /// The source at an `http`, `https` or `file` URL, or at a path. It is called by its last part.
    ///
    /// # Errors
    /// The text names no file.
    pub fn new(text: &str) -> Result<Self, Failure> {
        let location = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("file") => {
                let path = rest.strip_prefix("localhost").unwrap_or(rest);
                if !path.starts_with('/') {
                    return Err(Failure::failed(format!(
                        "\"{text}\" is on another host: write file:///path"
                    )));
                }
                Location::File(PathBuf::from(unescape(path)))
            }
            Some((scheme, _)) if !scheme.contains('/') => {
                Location::Web(text.parse().map_err(Failure::other)?)
            }
            _ => Location::File(PathBuf::from(text)),
        };
        let no_file = || Failure::failed(format!("\"{text}\" names no file"));
        let (url, name) = match &location {
            Location::Web(url) => (url.to_string(), url.file_name()),
            Location::File(path) => {
                let directory = text.ends_with('/');
                let name = path.file_name().filter(|_| !directory);
                let name = name.map(|name| name.to_string_lossy().into_owned());
                let name = name.ok_or_else(no_file)?;
                (path.display().to_string(), name)
            }
            Location::Elsewhere => return Err(no_file()),
        };
        let name = if name.is_empty() { url.clone() } else { name };
        Ok(Self {
            url,
            name,
            location,
        })
    }

    /// A source that an [`Origin`](super::Origin) brings, with an address and a name for people.
    #[must_use]
    pub fn elsewhere(address: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            url: address.into(),
            name: name.into(),
            location: Location::Elsewhere,
        }
    }

    /// The same under another name for people.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..self
        }
    }

    /// Its URL without user name and password, or its path.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What to call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The last part of its URL or path: what lists of checksums call it.
    #[must_use]
    pub fn file_name(&self) -> String {
        match &self.location {
            Location::Web(url) => url.file_name(),
            Location::File(path) => path
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            Location::Elsewhere => self.name.clone(),
        }
    }

    /// The file, when it is one of this host.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match &self.location {
            Location::File(path) => Some(path),
            Location::Web(_) | Location::Elsewhere => None,
        }
    }

    pub(super) const fn location(&self) -> &Location {
        &self.location
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let web = Source::new("https://me:pw@a.org/x/b%20c.img?d").unwrap();
        assert_eq!(web.url(), "https://a.org/x/b%20c.img?d");
        assert_eq!((web.name(), web.file()), ("b c.img", None));
        for text in ["file:///a/b%20c", "FILE://localhost/a/b c", "/a/b c"] {
            let file = Source::new(text).unwrap();
            assert_eq!(file.file(), Some(Path::new("/a/b c")), "{text}");
            assert_eq!(file.name(), "b c");
        }
        assert_eq!(Source::new("../x").unwrap().file(), Some(Path::new("../x")));
        assert_eq!(
            Source::new("https://a.org").unwrap().name(),
            "https://a.org/"
        );
        assert_eq!(web.named("disk").name(), "disk");
        for bad in ["", "/", "a/", "file://host/a", "ftp://a/b", "http://"] {
            assert!(Source::new(bad).is_err(), "{bad}");
        }
    }
}

//! Names of images elsewhere, as people write them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::digest::Sha256;
use crate::image::local_scheme;

/// The registry of names without one, as for docker and podman.
const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag of names without one.
pub(super) const DEFAULT_TAG: &str = "latest";
/// Longest name of a repository (distribution specification: 255 with the host).
const MAX_NAME: usize = 255;

/// A tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// A mutable name: `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`.
    Tag(String),
    /// The SHA-256 of a manifest.
    Digest(Sha256),
}

impl Version {
    /// A tag.
    ///
    /// # Errors
    /// It has not the form of one.
    pub fn tag(text: &str) -> Result<Self, ParseReferenceError> {
        let first = text.bytes().next();
        let good = first.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && text.len() <= 128
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        match good {
            true => Ok(Self::Tag(text.to_owned())),
            false => Err(ParseReferenceError(format!(
                "\"{text}\" is no tag: up to 128 letters, digits, \".\", \"_\" and \"-\", not beginning with \".\" or \"-\""
            ))),
        }
    }
}

/// As in a URL: `TAG` or `sha256:…`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => write!(f, "sha256:{digest}"),
        }
    }
}

/// `HOST[:PORT]/NAME[:TAG][@sha256:…]`. Without a host it is Docker Hub's; without tag and digest,
/// `latest`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Host and port, as written; `docker.io` for Docker Hub.
    pub registry: String,
    /// The repository's name.
    pub repository: String,
    /// Its tag, when one was given or nothing was.
    pub tag: Option<String>,
    pub digest: Option<Sha256>,
}

impl Reference {
    /// What is asked for: the digest when there is one.
    #[must_use]
    pub fn version(&self) -> Version {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => Version::Digest(*digest),
            (None, Some(tag)) => Version::Tag(tag.clone()),
            (None, None) => Version::Tag(DEFAULT_TAG.to_owned()),
        }
    }

    /// `HOST/NAME`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same with another tag or digest.
    #[must_use]
    pub fn with(&self, version: &Version) -> Self {
        let (tag, digest) = match version {
            Version::Tag(tag) => (Some(tag.clone()), None),
            Version::Digest(digest) => (None, Some(*digest)),
        };
        Self {
            tag,
            digest,
            ..self.clone()
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@sha256:{digest}")?;
        }
        Ok(())
    }
}

/// A text is no reference, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseReferenceError(String);

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, ParseReferenceError> {
        let refuse = |why: String| {
            ParseReferenceError(format!("\"{text}\" is no reference of an image: {why}"))
        };
        let bare = ["docker://", "oci://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme))
            .unwrap_or(text);
        if bare.contains("://") {
            return Err(refuse(
                "write it without a scheme, as in registry.example/name:tag".to_owned(),
            ));
        }
        let (front, digest) = match bare.split_once('@') {
            None => (bare, None),
            Some((front, digest)) => {
                let digits = digest.strip_prefix("sha256:").ok_or_else(|| {
                    refuse("what is behind \"@\" must be sha256: and 64 digits".to_owned())
                })?;
                let digest: Sha256 = digits
                    .parse()
                    .map_err(|_| refuse("a SHA-256 has 64 hexadecimal digits".to_owned()))?;
                (front, Some(digest))
            }
        };
        let name_start = front.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match front[name_start..].split_once(':') {
            None => (front, None),
            Some((_, tag)) => {
                Version::tag(tag).map_err(|error| refuse(error.to_string()))?;
                let end = front.len() - tag.len() - 1;
                (&front[..end], Some(tag.to_owned()))
            }
        };
        if !name.contains('/') && is_host(name) {
            return Err(refuse(format!(
                "it is a registry without a repository, as in {front}/name"
            )));
        }
        let (registry, repository) = match name.split_once('/') {
            Some((host, rest)) if is_host(host) => (host.to_owned(), rest.to_owned()),
            Some(_) => (DEFAULT_REGISTRY.to_owned(), name.to_owned()),
            None => (DEFAULT_REGISTRY.to_owned(), format!("library/{name}")),
        };
        let registry = match registry.as_str() {
            "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY.to_owned(),
            _ => registry,
        };
        if registry.len() + 1 + repository.len() > MAX_NAME {
            return Err(refuse(format!("it is longer than {MAX_NAME} characters")));
        }
        let begins = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'[';
        if !registry.bytes().next().is_some_and(begins)
            || !registry
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
            || !has_good_port(&registry)
        {
            return Err(refuse(format!("\"{registry}\" is no host")));
        }
        if let Some(part) = repository.split('/').find(|part| !is_part(part)) {
            return Err(refuse(match part {
                "" => "a part of the name is empty".to_owned(),
                part if part.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                    format!("\"{part}\" has capital letters, which names of repositories may not")
                }
                part => format!(
                    "\"{part}\" may only have small letters and digits, with \".\", \"_\" or \"-\" between them"
                ),
            }));
        }
        let tag = match digest {
            None => Some(tag.unwrap_or_else(|| DEFAULT_TAG.to_owned())),
            Some(_) => tag,
        };
        Ok(Self {
            registry,
            repository,
            tag,
            digest,
        })
    }
}

/// Whether the first part of a name is a host: as docker tells.
fn is_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':'])
}

/// Whether what follows a host is nothing, or a port.
fn has_good_port(registry: &str) -> bool {
    let port = match registry.split_once(']') {
        Some((_, "")) => None,
        Some((_, rest)) => Some(rest.strip_prefix(':').unwrap_or_default()),
        None => registry.split_once(':').map(|(_, port)| port),
    };
    port.is_none_or(|port| port.parse().is_ok_and(|port: u16| port > 0))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_part(part: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = |byte: Option<u8>| byte.is_some_and(is_plain);
    ends(part.bytes().next())
        && ends(part.bytes().next_back())
        && part
            .bytes()
            .all(|byte| is_plain(byte) || b"._-".contains(&byte))
        && part
            .split(is_plain_char)
            .all(|separator| matches!(separator, "" | "." | "_" | "__") || is_dashes(separator))
}

const fn is_plain_char(character: char) -> bool {
    character.is_ascii_lowercase() || character.is_ascii_digit()
}

fn is_dashes(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'-')
}

/// Where images lie, as in skopeo's transports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A repository of a registry.
    Registry(Reference),
    /// `oci:DIR[:TAG]`: an OCI layout, a directory.
    Layout {
        path: PathBuf,
        /// The name in its index; the only one when absent.
        tag: Option<String>,
    },
    /// `oci-archive:FILE[:TAG]`: the same as a tar.
    Archive {
        path: PathBuf,
        /// The name in its index; the only one when absent.
        tag: Option<String>,
    },
    /// `docker-archive:FILE[:NAME]`: a tar as `docker save` writes it.
    DockerArchive {
        path: PathBuf,
        /// The whole name of an image in it, with its tag; the only one when absent.
        name: Option<String>,
    },
    /// `containers-storage:IMAGE`: a name or an id in the storage of podman.
    Storage(String),
}

impl Location {
    /// What is asked for, when the text says so.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        match self {
            Self::Registry(reference) => Some(reference.version()),
            Self::Layout { tag, .. } | Self::Archive { tag, .. } => tag.clone().map(Version::Tag),
            Self::DockerArchive { name, .. } => name.clone().map(Version::Tag),
            Self::Storage(_) => None,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, path, tag) = match self {
            Self::Registry(reference) => return reference.fmt(f),
            Self::Layout { path, tag } => ("oci", path, tag),
            Self::Archive { path, tag } => ("oci-archive", path, tag),
            Self::DockerArchive { path, name } => ("docker-archive", path, name),
            Self::Storage(image) => return write!(f, "containers-storage:{image}"),
        };
        write!(f, "{scheme}:{}", path.display())?;
        match tag {
            Some(tag) => write!(f, ":{tag}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Location {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, ParseReferenceError> {
        let local = |rest: &str| {
            let (path, tag) = match rest.rsplit_once(':') {
                // What has a slash is a part of the path.
                Some((path, tag)) if !tag.contains('/') => {
                    Version::tag(tag)?;
                    (path, Some(tag.to_owned()))
                }
                _ => (rest, None),
            };
            match path {
                "" => Err(ParseReferenceError(format!("\"{text}\" names no path"))),
                path => Ok((PathBuf::from(path), tag)),
            }
        };
        match local_scheme(text) {
            Some(("oci", rest)) => {
                let (path, tag) = local(rest)?;
                Ok(Self::Layout { path, tag })
            }
            Some(("oci-archive", rest)) => {
                let (path, tag) = local(rest)?;
                Ok(Self::Archive { path, tag })
            }
            // As for skopeo, the path ends with the first colon.
            Some(("docker-archive", rest)) => {
                let (path, name) = match rest.split_once(':') {
                    Some((path, name)) => (path, Some(name.parse::<Reference>()?.to_string())),
                    None => (rest, None),
                };
                if path.is_empty() {
                    return Err(ParseReferenceError(format!("\"{text}\" names no path")));
                }
                let path = PathBuf::from(path);
                Ok(Self::DockerArchive { path, name })
            }
            Some((_, image)) => {
                let begins = image.starts_with(|first: char| first.is_ascii_alphanumeric());
                if !begins || !image.bytes().all(|byte| byte.is_ascii_graphic()) {
                    let message = format!("\"{text}\" names no image of the storage");
                    return Err(ParseReferenceError(message));
                }
                Ok(Self::Storage(image.to_owned()))
            }
            None => text.parse().map(Self::Registry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        text.parse::<Reference>().unwrap().to_string()
    }

    #[test]
    fn references() {
        let digest = "a".repeat(64);
        for (text, is) in [
            ("debian", "docker.io/library/debian:latest"),
            ("debian:12", "docker.io/library/debian:12"),
            ("me/vm", "docker.io/me/vm:latest"),
            ("index.docker.io/me/vm", "docker.io/me/vm:latest"),
            ("oci://ghcr.io/me/vm:1.0", "ghcr.io/me/vm:1.0"),
            ("docker://localhost/vm", "localhost/vm:latest"),
            ("127.0.0.1:5000/a/b-c__d.e:x", "127.0.0.1:5000/a/b-c__d.e:x"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
        ] {
            assert_eq!(shown(text), is);
        }
        let pinned = format!("ghcr.io/me/vm@sha256:{digest}");
        assert_eq!(shown(&pinned), pinned);
        let both = format!("ghcr.io/me/vm:1@sha256:{digest}");
        assert_eq!(shown(&both), both);
        assert!(matches!(
            both.parse::<Reference>().unwrap().version(),
            Version::Digest(_)
        ));
    }

    #[test]
    fn what_is_no_reference() {
        for text in [
            "",
            "a//b",
            "a/../b",
            "../etc/passwd",
            "ghcr.io/Me/vm",
            "ghcr.io/me/vm:",
            "ghcr.io/me/vm:../x",
            "ghcr.io/me/vm:a/b",
            "ghcr.io/me/vm:.x",
            "ghcr.io/me/vm@sha256:12",
            "ghcr.io/me/vm@md5:12",
            "https://ghcr.io/me/vm",
            "ghcr.io/me/-vm",
            "ghcr.io/me/v._m",
            "gh cr.io/me/vm",
            "ghcr.io/me/vm:a b",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
        let long = format!("ghcr.io/{}", "a".repeat(250));
        assert!(long.parse::<Reference>().is_err());
    }

    #[test]
    fn locations() {
        let layout = |path: &str, tag: Option<&str>| Location::Layout {
            path: path.into(),
            tag: tag.map(str::to_owned),
        };
        assert_eq!("oci:out".parse(), Ok(layout("out", None)));
        assert_eq!("oci:/a/b:1".parse(), Ok(layout("/a/b", Some("1"))));
        assert_eq!("oci:a:1/b".parse(), Ok(layout("a:1/b", None)));
        assert!("oci:".parse::<Location>().is_err());
        assert!("oci:a:.b".parse::<Location>().is_err());
        assert!(matches!(
            "oci-archive:x.tar:y".parse(),
            Ok(Location::Archive { tag: Some(_), .. })
        ));
        let docker = |path: &str, name: Option<&str>| Location::DockerArchive {
            path: path.into(),
            name: name.map(str::to_owned),
        };
        assert_eq!("docker-archive:a.tar".parse(), Ok(docker("a.tar", None)));
        for (text, name) in [
            ("docker-archive:/a/b.tar:os", "docker.io/library/os:latest"),
            ("docker-archive:/a/b.tar:localhost/os:1", "localhost/os:1"),
        ] {
            assert_eq!(text.parse(), Ok(docker("/a/b.tar", Some(name))));
        }
        let storage = "containers-storage:localhost/os:1";
        assert_eq!(
            storage.parse(),
            Ok(Location::Storage("localhost/os:1".into()))
        );
        for wrong in [
            "docker-archive::os:1",
            "containers-storage:--all",
            "containers-storage:",
        ] {
            assert!(wrong.parse::<Location>().is_err(), "{wrong}");
        }
        assert!(matches!(
            "oci://ghcr.io/a/b".parse(),
            Ok(Location::Registry(_))
        ));
    }
}

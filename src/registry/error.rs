//! What can go wrong with registries, layouts and archives.

use std::io;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Kind};
use crate::host::apt_get;
use crate::http::HttpError;

/// Manifests or blobs could not be had or brought. No message holds a password or a token.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It is not there.
    #[error("{place} has no {what}")]
    Missing {
        place: String,
        /// What is missing, such as `manifest of tag "1"`.
        what: String,
    },
    /// There is no such repository, layout or archive.
    #[error("there is no {} {place}", .kind.noun())]
    Unknown {
        place: String,
        /// What it would be.
        kind: PlaceKind,
    },
    /// There are several manifests and no word of which is meant.
    #[error("{place} has several manifests, and no tag says which is meant ({})", listed(.tags))]
    Several {
        /// The layout or archive.
        place: String,
        /// The tags that are there.
        tags: Vec<String>,
    },
    /// The registry wants to know who asks, or does not let them.
    #[error("{registry} refuses access to {what}: {message}")]
    Denied {
        /// Host and port.
        registry: String,
        /// What was asked for.
        what: String,
        /// What it says.
        message: String,
        /// Whether credentials were sent.
        known: bool,
    },
    /// What the registry gave is not what it should be.
    #[error("{place}: {what} {reason}")]
    Invalid {
        place: String,
        what: String,
        reason: String,
    },
    /// The registry answered that it will not.
    #[error("{place} does not take {what}: {message}")]
    Refused {
        place: String,
        /// What it was asked to do.
        what: String,
        /// What it says.
        message: String,
    },
    /// The connection failed.
    #[error("{place}: {source}")]
    Http {
        place: String,
        source: Box<HttpError>,
    },
    /// Credentials cannot be used.
    #[error("credentials for {registry}: {message}")]
    Credentials {
        /// Host and port.
        registry: String,
        message: String,
        help: String,
    },
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        source: io::Error,
    },
    /// What was to be sent could not be read.
    #[error("cannot read what is to be sent: {0}")]
    Source(#[source] io::Error),
    /// A container engine of this host is needed.
    #[error("podman is not installed (needed for {place})")]
    NoEngine { place: String },
    /// A container engine of this host fails.
    #[error("{engine} cannot read {place}: {message}")]
    Engine {
        engine: &'static str,
        place: String,
        /// What it says.
        message: String,
    },
    /// The network is not to be used.
    #[error("offline, and {0} is in a registry")]
    Offline(String),
    /// The user gave up.
    #[error("interrupted")]
    Interrupted,
}

impl RegistryError {
    /// For `map_err`: an input or output error with what was tried, and on what.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Several { place, tags } => tags
                .first()
                .map(|tag| format!("say which, as in {place}:{tag}")),
            Self::Unknown { place, kind } => Some(kind.remedy(place)),
            Self::Missing { .. } => Some("\"vmfab tags\" lists what is there".to_owned()),
            Self::Denied {
                registry,
                known: false,
                ..
            } => Some(format!("log in with \"vmfab login {registry}\"")),
            Self::Denied { registry, .. } => Some(format!(
                "check that the account may do that; \"vmfab login {registry}\" takes another one"
            )),
            Self::Credentials { help, .. } => Some(help.clone()),
            Self::Offline(_) => Some("run it without --offline".to_owned()),
            Self::NoEngine { .. } => {
                let install = apt_get(["podman"].into_iter());
                Some(format!("install it: {install}; skopeo will do, too"))
            }
            Self::Http { source, .. } => match &**source {
                HttpError::Tls { .. } => Some(
                    "for an authority of your own write registry \"HOST:PORT\" ca=\"FILE\" into config.kdl; \
                     --plain-http and --insecure are for registries without one"
                        .to_owned(),
                ),
                error => error.remedy().or_else(|| {
                    let again = "try again: vmfab keeps what it transferred so far";
                    error.is_transient().then(|| again.to_owned())
                }),
            },
            _ => None,
        }
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        let kind = match &error {
            RegistryError::Interrupted => return Self::interrupted(),
            RegistryError::Http { source, .. } if source.kind() == Kind::Interrupted => {
                return Self::interrupted();
            }
            RegistryError::Missing { .. } | RegistryError::Unknown { .. } => Kind::NotFound,
            RegistryError::Invalid { .. } => Kind::Verification,
            RegistryError::Denied { .. }
            | RegistryError::Credentials { .. }
            | RegistryError::Offline(_) => Kind::Unavailable,
            RegistryError::Io { source, .. } => Kind::of_io(source),
            RegistryError::Http { source, .. } => source.kind(),
            RegistryError::NoEngine { .. } => Kind::Missing,
            RegistryError::Several { .. }
            | RegistryError::Refused { .. }
            | RegistryError::Engine { .. }
            | RegistryError::Source(_) => Kind::Failed,
        };
        Self::new(kind, error.to_string()).and_help(error.remedy())
    }
}

/// What has manifests and blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceKind {
    /// A repository of a registry.
    Repository,
    Layout,
    Archive,
    /// An image in the storage of a container engine.
    Image,
}

impl PlaceKind {
    const fn noun(self) -> &'static str {
        match self {
            Self::Repository => "repository",
            Self::Layout => "layout",
            Self::Archive => "archive",
            Self::Image => "image",
        }
    }

    /// What to do when it is not there.
    fn remedy(self, place: &str) -> String {
        match self {
            Self::Repository => {
                let registry = place.split('/').next().unwrap_or(place);
                format!(
                    "check the name; a registry also says so of a repository without tags, and of one that it does \
                     not show to everybody: \"vmfab login {registry}\""
                )
            }
            Self::Image => {
                "\"podman images\" lists what is there; root and each user have a storage of \
                            their own"
                    .to_owned()
            }
            Self::Layout | Self::Archive => {
                format!("check the path; \"vmfab push @TAG {place}:TAG\" makes one")
            }
        }
    }
}

/// Tags for a message; not all of very many.
fn listed(tags: &[String]) -> String {
    const SHOWN: usize = 20;
    match tags {
        [] => "none of them has a tag".to_owned(),
        [..] if tags.len() > SHOWN => {
            format!(
                "there are {}, … and {} more",
                tags[..SHOWN].join(", "),
                tags.len() - SHOWN
            )
        }
        [..] => format!("there are {}", tags.join(", ")),
    }
}

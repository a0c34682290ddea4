//! Which caches a build asks, and which one takes what it made.

use std::time::Duration;

use super::Context;
use crate::config::{CacheMode, CacheSettings};
use crate::derivation::Cache;
use crate::failure::Failure;
use crate::http::RetryPolicy;
use crate::registry::{Location, Reference, Registries};
use crate::share::{Memory, Results, ResultsOptions};

/// How long a connection to a cache may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a cache may say nothing.
const STALLED: Duration = Duration::from_secs(10);
/// How often a cache is asked again.
const RETRY: RetryPolicy = RetryPolicy {
    retries: 1,
    first: Duration::from_millis(200),
    longest: Duration::from_secs(2),
};

/// The caches of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheOptions {
    /// Repositories that are asked for results, in this order.
    pub read: Vec<Reference>,
    /// The repository that results are offered to.
    pub push: Option<Reference>,
    /// Whose content goes there.
    pub mode: CacheMode,
}

impl CacheOptions {
    /// Those that settings name.
    ///
    /// # Errors
    /// One is no repository.
    pub fn new(settings: &CacheSettings) -> Result<Self, Failure> {
        let repository = |text: &String| repository(text).map_err(Failure::usage);
        Ok(Self {
            read: settings
                .read
                .iter()
                .map(repository)
                .collect::<Result<_, _>>()?,
            push: settings.push.as_ref().map(repository).transpose()?,
            mode: settings.mode.unwrap_or_default(),
        })
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.read.is_empty() && self.push.is_none()
    }
}

/// The repository of a cache.
///
/// # Errors
/// The text is none, or names one artifact in it; says why.
pub fn repository(text: &str) -> Result<Reference, String> {
    let reference: Reference = text.parse().map_err(|error| format!("{error}"))?;
    let has_tag = match reference.tag.as_deref() {
        // What is added where nothing was given.
        Some("latest") => text.ends_with(":latest"),
        tag => tag.is_some(),
    };
    let what = match (&reference.digest, has_tag) {
        (None, false) => return Ok(reference),
        (Some(_), _) => "digest",
        (None, true) => "tag",
    };
    Err(format!(
        "\"{text}\" has a {what}: name a repository, such as ghcr.io/me/cache"
    ))
}

/// The caches as one, when there are any and the network may be used. They have less time than
/// other registries: what they do not say soon is built.
///
/// # Errors
/// The store fails, or a cache cannot be used whatever it says.
pub fn open(context: &Context, options: &CacheOptions) -> Result<Option<Box<dyn Cache>>, Failure> {
    if context.offline || options.is_empty() {
        return Ok(None);
    }
    let mut registries = context.registries_options();
    registries.retry = RETRY;
    registries.settings.connect = CONNECT;
    registries.settings.stalled = STALLED;
    let registries = Registries::new(registries, context.sink.clone(), context.interrupt.clone());
    let repository =
        |reference: &Reference| registries.open(&Location::Registry(reference.clone()));
    let results = Results::new(
        context.store()?,
        context.home.downloads(),
        Memory::new(context.home.registries()),
        context.sink.clone(),
        context.interrupt.clone(),
        ResultsOptions {
            read: options
                .read
                .iter()
                .map(repository)
                .collect::<Result<_, _>>()?,
            push: options.push.as_ref().map(repository).transpose()?,
            all_content: options.mode == CacheMode::Max,
        },
    );
    Ok(Some(Box::new(results)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_a_repository() {
        for (text, name) in [
            ("ghcr.io/me/cache", "ghcr.io/me/cache"),
            ("localhost:5000/cache", "localhost:5000/cache"),
            ("oci://ghcr.io/me/cache", "ghcr.io/me/cache"),
            ("me/latest", "docker.io/me/latest"),
        ] {
            assert_eq!(repository(text).unwrap().name(), name);
        }
        let digest = format!("ghcr.io/me/cache@sha256:{}", "0".repeat(64));
        let wrong = [
            "ghcr.io/me/cache:latest",
            "ghcr.io/me/cache:1",
            "localhost:5000",
            &digest,
            "https://ghcr.io/me/cache",
            "ghcr.io/Me/cache",
            "",
        ]
        .map(|text| repository(text).unwrap_err());
        insta::assert_snapshot!(wrong.join("\n"), @r#"
        "ghcr.io/me/cache:latest" has a tag: name a repository, such as ghcr.io/me/cache
        "ghcr.io/me/cache:1" has a tag: name a repository, such as ghcr.io/me/cache
        "localhost:5000" is no reference of an image: it is a registry without a repository, as in localhost:5000/name
        "ghcr.io/me/cache@sha256:0000000000000000000000000000000000000000000000000000000000000000" has a digest: name a repository, such as ghcr.io/me/cache
        "https://ghcr.io/me/cache" is no reference of an image: write it without a scheme, as in registry.example/name:tag
        "ghcr.io/Me/cache" is no reference of an image: "Me" has capital letters, which names of repositories may not
        "" is no reference of an image: a part of the name is empty
        "#);
    }
}

//! Bootable container images on this host.

use serde::Serialize;

use super::super::Context;
use super::{image, podman};
use crate::digest::Digest;

/// A container image on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContainerImage {
    pub id: Digest,
    /// The name without the tag; nothing when it has none.
    pub repository: Option<String>,
    pub tag: Option<String>,
    /// When it was made, or came to this host, in seconds since 1970.
    pub created: Option<u64>,
    /// Bytes.
    pub size: u64,
}

/// The images with the label of bootable containers: those in podman's storage, if there is one, and
/// those that were installed here. The newest come first.
#[must_use]
pub fn images(context: &Context) -> Vec<ContainerImage> {
    let mut found: Vec<ContainerImage> = Vec::new();
    for image in podman::bootable() {
        let entry = |name: Option<&String>| {
            let (repository, tag) = name.map_or((None, None), |name| split(name));
            ContainerImage {
                id: image.id,
                repository,
                tag,
                created: image.created(),
                size: image.size,
            }
        };
        match image.names() {
            [] => found.push(entry(None)),
            names => found.extend(names.iter().map(|name| entry(Some(name)))),
        }
    }
    for (container, image) in image::recorded(context) {
        let (repository, tag) = split(&container.reference);
        let entry = ContainerImage {
            id: container.id,
            repository,
            tag,
            created: image.created,
            size: image.stored_size,
        };
        let is_same = |one: &ContainerImage| {
            (one.id, &one.repository, &one.tag) == (entry.id, &entry.repository, &entry.tag)
        };
        if !found.iter().any(is_same) {
            found.push(entry);
        }
    }
    found.sort_by_key(|image| std::cmp::Reverse(image.created));
    found
}

/// `HOST:PORT/NAME:TAG` in its two parts.
fn split(name: &str) -> (Option<String>, Option<String>) {
    let name = name.split('@').next().unwrap_or(name);
    let (repository, tag) = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (name, None),
    };
    (Some(repository.to_owned()), tag.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_two_parts() {
        let parts = |name: &str| {
            let (repository, tag) = split(name);
            format!("{} {}", repository.unwrap(), tag.unwrap_or_default())
        };
        assert_eq!(parts("quay.io/a/b:1"), "quay.io/a/b 1");
        assert_eq!(parts("localhost:5000/b"), "localhost:5000/b ");
        assert_eq!(parts("localhost:5000/b:2@sha256:00"), "localhost:5000/b 2");
    }
}

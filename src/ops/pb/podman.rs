//! What podman has in its storage, if this host has podman.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::digest::Digest;
use crate::host::find_program;

/// An image in podman's storage.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct PodmanImage {
    #[serde(rename = "Id")]
    pub(super) id: Digest,
    /// What `images` says.
    #[serde(rename = "Names", default)]
    names: Option<Vec<String>>,
    /// What `inspect` says.
    #[serde(rename = "RepoTags", default)]
    tags: Option<Vec<String>>,
    /// Bytes.
    #[serde(rename = "Size", default)]
    pub(super) size: u64,
    #[serde(rename = "Labels", default)]
    labels: Option<BTreeMap<String, String>>,
    /// Seconds since 1970; a date in what `inspect` says.
    #[serde(rename = "Created", default)]
    created: serde_json::Value,
}

impl PodmanImage {
    /// Its names with tags.
    pub(super) fn names(&self) -> &[String] {
        let names = self.names.as_deref().or(self.tags.as_deref());
        names.unwrap_or_default()
    }

    pub(super) fn label(&self, name: &str) -> Option<&str> {
        let labels = self.labels.as_ref()?;
        labels.get(name).map(String::as_str)
    }

    pub(super) fn created(&self) -> Option<u64> {
        self.created.as_u64()
    }
}

/// The images with the label of bootable containers.
pub(super) fn bootable() -> Vec<PodmanImage> {
    let filter = "label=containers.bootc=1";
    ask(&["images", "--filter", filter, "--format", "json"])
}

/// The image that a name or the first digits of an id stand for there.
pub(super) fn image(name: &str) -> Option<PodmanImage> {
    let mut found = ask(&["image", "inspect", "--format", "json", "--", name]);
    (found.len() == 1).then(|| found.remove(0))
}

/// What podman answers; nothing without podman, and when it has nothing.
fn ask(arguments: &[&str]) -> Vec<PodmanImage> {
    let Some(podman) = find_program("podman") else {
        return Vec::new();
    };
    // It needs the user's environment: his configuration says where his storage is.
    let asked = Command::new(podman)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let bytes = asked.map(|output| output.stdout).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_podman() {
        let id = "3".repeat(64);
        let text = format!(
            r#"[{{"Id":"{id}","RepoTags":null,"Names":["quay.io/a/b:1"],"Size":5,"Created":7}}]"#
        );
        let listed: Vec<PodmanImage> = serde_json::from_str(&text).unwrap();
        assert_eq!(listed[0].names(), ["quay.io/a/b:1"]);
        assert_eq!((listed[0].size, listed[0].created()), (5, Some(7)));
        let text = format!(
            r#"[{{"Id":"{id}","RepoTags":["quay.io/a/b:1"],"Size":5,"Created":"2026-01-01T00:00:00Z"}}]"#
        );
        let inspected: Vec<PodmanImage> = serde_json::from_str(&text).unwrap();
        assert_eq!(inspected[0].names(), ["quay.io/a/b:1"]);
        assert_eq!(inspected[0].created(), None);
    }
}

//! What podman has in its storage, if this host has podman.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Command, Stdio};

use serde::Deserialize;
use tempfile::TempPath;

use super::super::Context;
use crate::digest::Digest;
use crate::event::Event;
use crate::failure::Failure;
use crate::host::{find_program, process};

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

/// Writes an image to an archive, which goes when it is dropped.
///
/// # Errors
/// Podman fails, or the user gives up.
pub(super) fn save(context: &Context, id: &Digest) -> Result<TempPath, Failure> {
    let directory = context.home.downloads();
    std::fs::create_dir_all(&directory).map_err(Failure::io("create", &directory))?;
    let file = tempfile::Builder::new()
        .prefix("podman-")
        .suffix(".tar")
        .tempfile_in(&directory)
        .map_err(Failure::io("create", &directory))?;
    let path = file.into_temp_path();
    let podman = find_program("podman").unwrap_or_else(|| "podman".into());
    context.emit(Event::Note {
        message: format!("reading the image {} from podman's storage", id.short()),
    });
    let mut save = Command::new(&podman)
        .args(["save", "--quiet", "--format", "oci-archive", "--output"])
        .arg(&path)
        .arg(id.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Failure::io("start", &podman))?;
    // It says little: nobody need read while it runs.
    let status = process::wait(&mut save, &context.interrupt);
    let status = status.map_err(Failure::io("wait for", &podman))?;
    if context.interrupt.requested() {
        return Err(Failure::interrupted());
    }
    if status.success() {
        return Ok(path);
    }
    let mut said = String::new();
    if let Some(mut output) = save.stderr.take() {
        let _ = output.read_to_string(&mut said);
    }
    let lines = said.lines().map(str::to_owned).collect();
    Err(Failure::failed("podman cannot save the image").with_output(lines))
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

//! Manifests and configs of container images, read and looked through. Pure.

use std::io::Read;

use serde::Deserialize;

use super::{Identified, wrong};
use crate::checked::Line;
use crate::digest::Checksum;
use crate::failure::Failure;
use crate::image::{ContainerConfig, HistoryEntry};
use crate::plan::{Container, ContainerLayer};
use crate::registry::{Described, Descriptor, Manifest, Platform, ToldPlatform};
use crate::tarball::Reader;

/// The config of a container image, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(super) struct Config {
    #[serde(flatten)]
    platform: ToldPlatform,
    #[serde(default)]
    config: Option<ContainerConfig>,
    #[serde(default)]
    author: Option<String>,
    rootfs: RootFs,
    #[serde(default)]
    history: Option<Vec<Entry>>,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// An entry of the history, whose texts may be of any kind.
#[derive(Debug, Clone, Deserialize)]
struct Entry {
    #[serde(default)]
    created_by: Option<String>,
    #[serde(default)]
    empty_layer: Option<bool>,
}

impl Config {
    /// What it says it is for, as far as it does.
    pub(super) fn platform(&self) -> Platform {
        self.platform.clone().into()
    }

    /// Reads a config.
    ///
    /// # Errors
    /// It is none; a phrase.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes)
            .map_err(|error| format!("its config is not that of a container image: {error}"))
    }

    /// The image with this manifest.
    pub(super) fn container(
        &self,
        image: &Identified<'_>,
        manifest: &Manifest,
    ) -> Result<Container, Failure> {
        let (layers, diff_ids) = (manifest.layers(), &self.rootfs.diff_ids);
        if layers.len() != diff_ids.len() {
            return Err(image.damaged(&format!(
                "its manifest has {} layers and its config has {}",
                layers.len(),
                diff_ids.len()
            )));
        }
        let mut container = Container::default();
        for (index, (layer, diff_id)) in layers.iter().zip(diff_ids).enumerate() {
            let number = index + 1;
            check_layer(layer)?;
            if !is_layer(layer.media_type().as_ref()) {
                return Err(wrong(
                    format!(
                        "its layer {number} has the media type {}, which is not a layer type",
                        layer.media_type()
                    ),
                    "layers are tar archives, uncompressed or compressed with gzip or zstd",
                ));
            }
            let checksum = diff_id.parse::<Checksum>().ok();
            let Some(diff_id) = checksum.and_then(|checksum| checksum.sha256()) else {
                return Err(image.damaged(&format!(
                    "its config has \"{diff_id}\" for layer {number}, which is not a SHA-256"
                )));
            };
            container.layers.push(ContainerLayer {
                diff_id,
                place: image.blob_place(layer, format!("layer {number} of {}", image.shown))?,
            });
        }
        *container.config = self.config.clone().unwrap_or_default();
        container.author = self.author.as_deref().map(Line::like);
        let history = self.history.iter().flatten();
        let history = history.map(|entry| HistoryEntry {
            created_by: Line::like(entry.created_by.as_deref().unwrap_or_default()),
            empty_layer: entry.empty_layer.unwrap_or_default(),
        });
        container.history = history.collect();
        Ok(container)
    }
}

/// Whether the layer with these first bytes begins with a file in the directory `disk`.
pub(super) fn begins_with_disk(head: &[u8]) -> bool {
    let stream: Box<dyn Read> = match head {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(head)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => match zstd::stream::read::Decoder::new(head) {
            Ok(decoder) => Box::new(decoder),
            Err(_) => return false,
        },
        _ => Box::new(head),
    };
    let mut archive = Reader::new(stream);
    // The rest of the layer is not there: an error is the end of what can be seen.
    while let Ok(Some(member)) = archive.member() {
        let path = member.name();
        let mut parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
        match (parts.next(), parts.next()) {
            (None, _) | (Some("disk"), None) => {}
            (Some("disk"), Some(_)) => return member.is_file(),
            (Some(_), _) => return false,
        }
    }
    false
}

fn is_layer(media_type: &str) -> bool {
    [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.layer.v1.tar",
    ]
    .iter()
    .any(|start| {
        let rest = media_type.strip_prefix(start);
        rest.is_some_and(|rest| matches!(rest, "" | "+gzip" | ".gzip" | "+zstd" | ".zstd"))
    })
}

/// Refuses layers whose bytes are elsewhere, or a secret.
pub(super) fn check_layer(layer: &Descriptor) -> Result<(), Failure> {
    let media_type = layer.media_type().as_ref();
    if media_type.contains("nondistributable")
        || media_type.contains("foreign")
        || layer.is_elsewhere()
    {
        return Err(wrong(
            format!(
                "its layer {} is not in the registry: it is only available elsewhere",
                layer.digest()
            ),
            "start from an image whose layers are all in its registry",
        ));
    }
    if media_type.ends_with("+encrypted") {
        return Err(wrong(
            format!("its layer {} is encrypted", layer.digest()),
            "decrypt it first: skopeo copy --decryption-key KEY docker://… oci:DIR:TAG, and start from that",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_of_layers() {
        for good in [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ] {
            assert!(is_layer(good), "{good}");
        }
        for bad in [
            "application/x-tar",
            "application/vnd.oci.image.layer.v1.tar+xz",
            "",
        ] {
            assert!(!is_layer(bad), "{bad}");
        }
    }

    #[test]
    fn configs_that_are_none() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"rootfs":{}}"#,
            r#"{"rootfs":{"diff_ids":[1]}}"#,
        ] {
            assert!(Config::read(text.as_bytes()).is_err(), "{text}");
        }
        let nothing =
            Config::read(br#"{"rootfs":{"diff_ids":[]},"config":{"Env":null,"Labels":null}}"#);
        assert!(nothing.is_ok(), "Docker writes null");
        let part = Config::read(br#"{"rootfs":{"diff_ids":[]},"architecture":"arm"}"#);
        assert_eq!(part.unwrap().platform().to_string(), "arm");
    }
}

//! What others publish as images of virtual machines: told by manifests and configs, without their
//! blobs (pure).
//!
//! | who | index | manifest | layers |
//! |---|---|---|---|
//! | KubeVirt's containerDisk | by platform | an ordinary image | a tar with `disk/FILE`, owned by 107 |
//! | KubeVirt's exports | | `application/vnd.kubevirt.virtualmachine.v1` | `application/vnd.kubevirt.disk.raw+gzip`, `….qcow2` |
//! | podman machine | by platform (`x86_64`) and the annotation `disktype` | an empty config | one `application/zstd` with a title |
//! | `oras push disk.qcow2` | | an empty config | one, of any type, with a title |
//!
//! Whether an ordinary image is a containerDisk only its layer tells.

use serde::Deserialize;

use crate::image::DiskFormat;
use crate::registry::{Blob, Described, Descriptor, Manifest, MediaType, media};

/// The annotation with a file's name.
const TITLE: &str = "org.opencontainers.image.title";
/// What artifacts of vmfab's begin with.
const OURS: &str = "application/vnd.vmfab.";

/// What a manifest is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// An artifact of vmfab's, of this type.
    Vmfab(String),
    /// A container image.
    Container {
        /// Whether it looks like a containerDisk: one layer, and nothing to run.
        looks_like_disk: bool,
    },
    Disk(DiskLayer),
    /// Something else: a phrase that goes on after `it is`.
    Other(String),
}

/// A layer that is a disk. Its format and compression are what its names say; its content decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskLayer {
    pub blob: Blob,
    /// The file's name, when it has one.
    pub title: Option<String>,
    /// The format of the disk.
    pub format: Option<DiskFormat>,
    /// How the blob is compressed: `gz`, `xz`, `zst` or `bz2`, as recipes call them.
    pub compression: Option<&'static str>,
}

/// Tells what a manifest is; with the bytes of its config, when they are known, more surely.
#[must_use]
pub fn what(manifest: &Manifest, config: Option<&[u8]>) -> What {
    let own_type = manifest.artifact_type().as_ref().map(MediaType::as_ref);
    let config_type = manifest.config().media_type().as_ref();
    let types = [own_type, Some(config_type)];
    if let Some(ours) = types
        .into_iter()
        .flatten()
        .find(|one| one.starts_with(OURS))
    {
        return What::Vmfab(ours.to_owned());
    }
    let is_container =
        own_type.is_none() && matches!(config_type, media::CONFIG | media::DOCKER_CONFIG);
    let layers = manifest.layers().iter();
    let layers: Vec<&Descriptor> = layers
        .filter(|one| one.media_type().as_ref() != media::EMPTY)
        .collect();
    if is_container
        && layers
            .iter()
            .all(|layer| is_tar(layer.media_type().as_ref()))
    {
        return What::Container {
            looks_like_disk: looks_like_disk(layers.len(), config),
        };
    }
    let mut disks = layers.iter().filter(|layer| is_disk(layer));
    match (disks.next(), disks.count()) {
        (None, _) => What::Other(match own_type {
            Some(own_type) => format!("an artifact of type {}", shown(own_type)),
            None => format!("an artifact with a config of type {}", shown(config_type)),
        }),
        (Some(layer), 0) => match layer.blob() {
            Ok(blob) => What::Disk(DiskLayer {
                blob,
                title: title(layer).map(str::to_owned),
                format: format(layer),
                compression: compression(layer),
            }),
            Err(reason) => What::Other(format!("a disk that {reason}")),
        },
        (Some(_), more) => What::Other(format!("an artifact with {} disks", more + 1)),
    }
}

/// For messages: text of others', without what a terminal could take for a command.
fn shown(text: &str) -> String {
    let text: String = text.chars().take(200).collect();
    text.escape_default().to_string()
}

fn title(layer: &Descriptor) -> Option<&str> {
    let title = layer.annotation(TITLE)?;
    Some(title.rsplit('/').next().unwrap_or(title))
}

/// The words of a media type.
fn words(media_type: &str) -> impl Iterator<Item = &str> {
    media_type.split(|character: char| !character.is_ascii_alphanumeric())
}

fn is_tar(media_type: &str) -> bool {
    words(media_type).any(|word| word == "tar")
}

/// Whether a layer is a disk by its media type, or, when that says nothing, by its name.
fn is_disk(layer: &Descriptor) -> bool {
    let has = |word| words(layer.media_type().as_ref()).any(|other| other == word);
    if has("json") || has("iso") {
        return false;
    }
    let says_disk = ["disk", "diskimage"].into_iter().any(has);
    if !has("tar") && (named_format(words(layer.media_type().as_ref())).is_some() || says_disk) {
        return true;
    }
    // oras calls any file a tar.
    title(layer).is_some_and(|title| disk_name(title).is_some())
}

fn named_format<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<DiskFormat> {
    words.find_map(DiskFormat::named)
}

/// The compression and the format that a file's name tells; `None` when it is not one of a disk.
fn disk_name(name: &str) -> Option<(Option<&'static str>, Option<DiskFormat>)> {
    let mut parts = name.rsplit('.');
    let mut last = parts.next()?;
    let compression = compression_named(last);
    if compression.is_some() {
        last = parts.next()?;
    }
    // There must be something before it.
    parts.next()?;
    match last {
        "img" => Some((compression, None)),
        other => DiskFormat::named(other).map(|format| (compression, Some(format))),
    }
}

fn compression_named(word: &str) -> Option<&'static str> {
    match word {
        "gz" | "gzip" => Some("gz"),
        "xz" => Some("xz"),
        "zst" | "zstd" => Some("zst"),
        "bz2" | "bzip2" => Some("bz2"),
        _ => None,
    }
}

fn format(layer: &Descriptor) -> Option<DiskFormat> {
    let by_name = title(layer).and_then(disk_name).and_then(|(_, own)| own);
    by_name.or_else(|| named_format(words(layer.media_type().as_ref())))
}

fn compression(layer: &Descriptor) -> Option<&'static str> {
    let by_name = title(layer).and_then(disk_name).and_then(|(own, _)| own);
    by_name.or_else(|| words(layer.media_type().as_ref()).find_map(compression_named))
}

/// Whether a container image is perhaps a containerDisk: it has one layer, and nothing that could
/// be run.
fn looks_like_disk(layers: usize, config: Option<&[u8]>) -> bool {
    #[derive(Deserialize)]
    struct Config {
        config: Option<Run>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Run {
        entrypoint: Option<Vec<String>>,
        cmd: Option<Vec<String>>,
    }
    let is_empty = |list: Option<Vec<String>>| list.is_none_or(|list| list.is_empty());
    let config = config.and_then(|bytes| serde_json::from_slice::<Config>(bytes).ok());
    layers == 1
        && config.is_some_and(|config| match config.config {
            None => true,
            Some(run) => is_empty(run.entrypoint) && is_empty(run.cmd),
        })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::digest::Sha256;
    use crate::registry::{self, Parsed, parse_manifest, to_bytes};

    fn layer(media_type: &str, title: &str) -> Descriptor {
        let blob = Blob {
            digest: Sha256::from_bytes([1; 32]),
            size: 5,
        };
        let mut layer = registry::descriptor(media_type, &blob);
        if !title.is_empty() {
            layer.annotate(TITLE, title);
        }
        layer
    }

    fn manifest(own_type: Option<&str>, config: &str, layers: &[Descriptor]) -> Manifest {
        registry::manifest(
            own_type,
            layer(config, ""),
            layers.to_vec(),
            BTreeMap::new(),
        )
    }

    const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

    #[test]
    fn one_layer_that_is_a_disk() {
        let empty = media::EMPTY;
        let unknown = Some("application/vnd.unknown.artifact.v1");
        let kubevirt = Some("application/vnd.kubevirt.virtualmachine.v1");
        let (qcow2, raw) = (Some(DiskFormat::Qcow2), Some(DiskFormat::Raw));
        for (own_type, config, media_type, title, format, compression) in [
            (None, empty, "application/vnd.qemu.qcow2", "", qcow2, None),
            (
                None,
                empty,
                "application/zstd",
                "podman-machine.x86_64.qemu.qcow2.zst",
                qcow2,
                Some("zst"),
            ),
            (
                None,
                empty,
                "application/zstd",
                "podman-machine.aarch64.applehv.raw.zst",
                raw,
                Some("zst"),
            ),
            (unknown, empty, TAR, "disk.qcow2", qcow2, None),
            (unknown, empty, TAR, "build/disk.img.gz", None, Some("gz")),
            (
                None,
                media::CONFIG,
                "application/octet-stream",
                "a.vmdk",
                Some(DiskFormat::Vmdk),
                None,
            ),
            (
                kubevirt,
                "application/vnd.kubevirt.virtualmachine.config.v1+json",
                "application/vnd.kubevirt.disk.raw+gzip",
                "",
                raw,
                Some("gz"),
            ),
            (
                None,
                empty,
                "application/vnd.diskimage.qcow2",
                "",
                qcow2,
                None,
            ),
            (None, empty, "application/x-qemu-disk", "", None, None),
        ] {
            let manifest = manifest(own_type, config, &[layer(media_type, title)]);
            let What::Disk(disk) = what(&manifest, None) else {
                panic!("{media_type} {title}: {:?}", what(&manifest, None));
            };
            assert_eq!(disk.format, format, "{media_type} {title}");
            assert_eq!(disk.compression, compression, "{media_type} {title}");
            assert_eq!(disk.blob.size, 5);
        }
    }

    #[test]
    fn what_is_no_disk() {
        let chart = manifest(
            None,
            "application/vnd.cncf.helm.config.v1+json",
            &[layer(
                "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
                "",
            )],
        );
        let empty = media::EMPTY;
        let two = [layer(TAR, "a.qcow2"), layer(TAR, "b.qcow2")];
        let named = |name: &str| manifest(None, empty, &[layer(TAR, name)]);
        let iso = manifest(None, empty, &[layer("application/vnd.diskimage.iso", "")]);
        for (manifest, says) in [
            (chart, "helm"),
            (manifest(None, empty, &two), "2 disks"),
            (manifest(None, empty, &[]), "empty"),
            (named("notes.txt"), "empty"),
            (named("qcow2"), "empty"),
            (iso, "empty"),
            (manifest(Some("x/\u{1b}[2J"), empty, &[]), "x/\\u{1b}[2J"),
        ] {
            let What::Other(text) = what(&manifest, None) else {
                panic!("{:?}", what(&manifest, None));
            };
            assert!(text.contains(says), "{text}");
        }
    }

    #[test]
    fn containers_and_ours() {
        let gzip = format!("{TAR}+gzip");
        let layers = [layer(&gzip, ""), layer(&gzip, "")];
        let of = |count: usize, config: &str| {
            let manifest = manifest(None, media::CONFIG, &layers[..count]);
            what(&manifest, Some(config.as_bytes()))
        };
        let container = |looks_like_disk| What::Container { looks_like_disk };
        assert_eq!(of(1, "{}"), container(true));
        assert_eq!(of(1, r#"{"config":{"Env":["A=b"]}}"#), container(true));
        assert_eq!(of(1, r#"{"config":{"Cmd":["sh"]}}"#), container(false));
        assert_eq!(of(2, "{}"), container(false));
        assert_eq!(of(1, "garbage"), container(false));
        let docker = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        let docker = manifest(None, media::DOCKER_CONFIG, &[layer(docker, "")]);
        assert_eq!(what(&docker, None), container(false));
        let kind = "application/vnd.vmfab.image.v1";
        let ours = manifest(Some(kind), "x/y", &[layer(TAR, "a.qcow2")]);
        assert_eq!(what(&ours, None), What::Vmfab(kind.to_owned()));
        let config = "application/vnd.vmfab.image.config.v1+json";
        let ours = manifest(None, config, &[]);
        assert_eq!(what(&ours, None), What::Vmfab(config.to_owned()));
    }

    proptest! {
        #[test]
        fn no_manifest_is_too_much(
            at in 0..1000_usize, byte: u8, cut in 0..2000_usize, config in ".{0,60}"
        ) {
            let layers = [layer(TAR, "a.qcow2.zst"), layer(media::EMPTY, "")];
            let mut bytes = to_bytes(&manifest(Some("x/y"), media::CONFIG, &layers));
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(length - cut.saturating_sub(1000) % length);
            if let Ok(Parsed::Manifest(parsed)) = parse_manifest(&bytes, media::MANIFEST) {
                let _ = what(&parsed, Some(config.as_bytes()));
            }
        }
    }
}

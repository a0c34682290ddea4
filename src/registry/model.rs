//! Manifests and indexes as JSON (OCI image specification 1.1, and Docker's of schema 2). Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Blob;
use crate::digest::Sha256;

/// The longest manifest that is read, in bytes: what registries take at most.
pub const MAX_MANIFEST: usize = 4 << 20;

/// Media types.
pub mod media {
    /// A manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An index of manifests.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// Docker's manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's index.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// The config of a container image.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// Docker's config of a container image.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// The two bytes `{}`.
    pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";

    /// Those of manifests and indexes, as they are asked for.
    pub const ALL_MANIFESTS: [&str; 4] = [MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX];
}

/// A reference to content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Algorithm, `:` and hexadecimal digits.
    pub digest: String,
    /// Its bytes.
    pub size: u64,
    /// Where else it can be had.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// What whoever made it says of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Its content, as base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// What kind of artifact the manifest is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// What the manifest is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// A blob.
    #[must_use]
    pub fn new(media_type: &str, blob: &Blob) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: format!("sha256:{}", blob.digest),
            size: blob.size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            data: None,
            artifact_type: None,
            platform: None,
        }
    }

    /// What it refers to.
    ///
    /// # Errors
    /// The digest is none, or not a SHA-256.
    pub fn blob(&self) -> Result<Blob, String> {
        let digits = self
            .digest
            .strip_prefix("sha256:")
            .ok_or_else(|| format!("has the digest \"{}\", which is no SHA-256", self.digest))?;
        // Parsing takes capital letters, which are another name.
        let digest: Option<Sha256> = digits.parse().ok();
        match digest.filter(|digest| digest.to_string() == digits) {
            Some(digest) => Ok(Blob {
                digest,
                size: self.size,
            }),
            None => Err(format!("has the digest \"{}\", which is none", self.digest)),
        }
    }
}

/// What an image is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, …: Go's names.
    pub architecture: String,
    /// `linux`, …
    pub os: String,
    /// `v7`, `v8`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// What the config of a container image says it is for: any part of it may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ToldPlatform {
    architecture: String,
    os: String,
    variant: Option<String>,
}

impl From<ToldPlatform> for Platform {
    fn from(told: ToldPlatform) -> Self {
        Self {
            architecture: told.architecture,
            os: told.os,
            variant: told.variant,
        }
    }
}

/// A manifest: one image or artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2.
    pub schema_version: u32,
    /// [`media::MANIFEST`] or Docker's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What kind of artifact it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Its config.
    pub config: Descriptor,
    /// Its blobs, in order.
    pub layers: Vec<Descriptor>,
    /// The manifest that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// What whoever made it says of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// The bytes that are uploaded: JSON without spaces, keys in a fixed order, so that equal manifests have one digest.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("manifests serialise to JSON")
    }
}

/// An index: manifests for several platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// 2.
    pub schema_version: u32,
    /// [`media::INDEX`] or Docker's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What kind of artifact it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests.
    pub manifests: Vec<Descriptor>,
    /// What whoever made it says of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// The bytes that are uploaded, as for manifests.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("indexes serialise to JSON")
    }
}

/// Either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// One image or artifact.
    Manifest(Box<Manifest>),
    /// Several.
    Index(Index),
}

/// Reads a manifest or an index. What the bytes say of themselves goes before `media_type`, which is what whoever
/// gave them says.
///
/// # Errors
/// They are neither, or of another version; a phrase that goes on after what it is.
pub fn parse_manifest(bytes: &[u8], media_type: &str) -> Result<Parsed, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        schema_version: Option<u32>,
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
    }
    let wrong = |error: serde_json::Error| format!("is no manifest: {error}");
    let head: Head = serde_json::from_slice(bytes).map_err(wrong)?;
    if head.schema_version != Some(2) {
        let version = head
            .schema_version
            .map_or_else(|| "none".to_owned(), |version| version.to_string());
        return Err(format!("is no manifest: its version is {version}, not 2"));
    }
    // Both at once is a way to show different things to different readers.
    if head.manifests.is_some() && head.layers.is_some() {
        return Err("is no manifest: it has both manifests and layers".to_owned());
    }
    match head.media_type.as_deref().unwrap_or(media_type) {
        media::INDEX | media::DOCKER_INDEX => serde_json::from_slice(bytes)
            .map(Parsed::Index)
            .map_err(wrong),
        media::MANIFEST | media::DOCKER_MANIFEST => serde_json::from_slice(bytes)
            .map(|manifest| Parsed::Manifest(Box::new(manifest)))
            .map_err(wrong),
        _ if head.media_type.is_none() && head.manifests.is_some() => serde_json::from_slice(bytes)
            .map(Parsed::Index)
            .map_err(wrong),
        _ if head.media_type.is_none() && head.layers.is_some() => serde_json::from_slice(bytes)
            .map(|manifest| Parsed::Manifest(Box::new(manifest)))
            .map_err(wrong),
        other => Err(format!(
            "has the media type {other}, which is no manifest's"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = r#"{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}"#;

    #[test]
    fn what_is_a_manifest() {
        let read = |text: String, media_type: &str| parse_manifest(text.as_bytes(), media_type);
        let manifest = format!(r#"{{"schemaVersion":2,"config":{EMPTY},"layers":[{EMPTY}]}}"#);
        let Ok(Parsed::Manifest(parsed)) = read(manifest.clone(), "") else {
            panic!("no manifest");
        };
        assert_eq!(parsed.to_bytes(), manifest.as_bytes());
        assert_eq!(parsed.config.blob().unwrap().size, 2);
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{EMPTY}]}}"#);
        assert!(matches!(read(index.clone(), ""), Ok(Parsed::Index(_))));
        assert!(matches!(
            read(index, media::DOCKER_INDEX),
            Ok(Parsed::Index(_))
        ));
        for (text, why) in [
            ("", "EOF"),
            ("{}", "its version is none"),
            (r#"{"schemaVersion":1,"layers":[]}"#, "its version is 1"),
            (r#"{"schemaVersion":2,"layers":[],"manifests":[]}"#, "both"),
            (
                r#"{"schemaVersion":2,"mediaType":"text/html","layers":[]}"#,
                "text/html",
            ),
            (r#"{"schemaVersion":2,"layers":[]}"#, "config"),
        ] {
            let error = read(text.to_owned(), media::MANIFEST).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn digests() {
        let with = |digest: &str| {
            let mut descriptor: Descriptor = serde_json::from_str(EMPTY).unwrap();
            descriptor.digest = digest.to_owned();
            descriptor.blob()
        };
        assert!(with(&format!("sha256:{}", "a".repeat(64))).is_ok());
        for digest in [
            "".to_owned(),
            format!("sha256:{}", "A".repeat(64)),
            format!("sha512:{}", "a".repeat(128)),
            "sha256:../../etc".to_owned(),
        ] {
            assert!(with(&digest).is_err(), "{digest}");
        }
    }
}

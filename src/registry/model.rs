//! Manifests and indexes as JSON (OCI image specification 1.1, and Docker's of schema 2). Pure.
//!
//! The types are those of [`oci_spec`]. Ours are [`Platform`], of which any part may be missing,
//! and the order in which documents are written: the crate keeps annotations in an order that
//! changes from run to run.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

pub use oci_spec::image::{Descriptor, ImageIndex as Index, ImageManifest as Manifest, MediaType};
use oci_spec::image::{ImageManifestBuilder, SCHEMA_VERSION, Sha256Digest};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::Blob;

/// The longest manifest that is read, in bytes: what registries take at most.
pub const MAX_MANIFEST: usize = 4 << 20;

/// Media types.
pub mod media {
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An index of manifests.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
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

/// What is asked of descriptors here.
pub trait Described {
    /// What it refers to.
    ///
    /// # Errors
    /// The digest is not a SHA-256; a phrase that goes on after what it is.
    fn blob(&self) -> Result<Blob, String>;

    fn annotation(&self, name: &str) -> Option<&str>;

    /// Sets an annotation.
    fn annotate(&mut self, name: &str, value: &str);

    /// Whether it names other addresses where its content is.
    fn is_elsewhere(&self) -> bool;

    /// The platform that it is for, when it says so.
    fn is_for(&self) -> Option<Platform>;

    /// Says what it is for.
    fn set_for(&mut self, platform: &Platform);
}

impl Described for Descriptor {
    fn blob(&self) -> Result<Blob, String> {
        let digest = self.as_digest_sha256().and_then(|hex| hex.parse().ok());
        let digest = digest
            .ok_or_else(|| format!("has the digest \"{}\", which is no SHA-256", self.digest()))?;
        let size = self.size();
        Ok(Blob { digest, size })
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        Some(self.annotations().as_ref()?.get(name)?)
    }

    fn annotate(&mut self, name: &str, value: &str) {
        let mut all = self.annotations().clone().unwrap_or_default();
        all.insert(name.to_owned(), value.to_owned());
        self.set_annotations(Some(all));
    }

    fn is_elsewhere(&self) -> bool {
        self.urls().as_ref().is_some_and(|urls| !urls.is_empty())
    }

    fn is_for(&self) -> Option<Platform> {
        let platform = self.platform().as_ref()?;
        Some(Platform {
            architecture: platform.architecture().to_string(),
            os: platform.os().to_string(),
            variant: platform.variant().clone(),
        })
    }

    fn set_for(&mut self, platform: &Platform) {
        let mut spec = oci_spec::image::Platform::default();
        spec.set_architecture(platform.architecture.as_str().into());
        spec.set_os(platform.os.as_str().into());
        spec.set_variant(platform.variant.clone());
        self.set_platform(Some(spec));
    }
}

/// The descriptor of a blob.
#[must_use]
pub fn descriptor(media_type: &str, blob: &Blob) -> Descriptor {
    let digest = Sha256Digest::from_str(&blob.digest.to_string());
    let digest = digest.expect("a SHA-256 has 64 digits");
    Descriptor::new(media_type.into(), blob.size, digest)
}

/// A manifest that has all but what it is about.
#[must_use]
pub fn manifest(
    artifact_type: Option<&str>,
    config: Descriptor,
    layers: Vec<Descriptor>,
    annotations: BTreeMap<String, String>,
) -> Manifest {
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(media::MANIFEST)
        .config(config)
        .layers(layers)
        .build();
    let mut manifest = manifest.expect("nothing that it needs is missing");
    manifest.set_artifact_type(artifact_type.map(Into::into));
    manifest.set_annotations(some(annotations));
    manifest
}

/// An index of these manifests.
#[must_use]
pub fn index(manifests: Vec<Descriptor>, annotations: BTreeMap<String, String>) -> Index {
    let mut index = Index::default();
    index.set_media_type(Some(media::INDEX.into()));
    index.set_manifests(manifests);
    index.set_annotations(some(annotations));
    index
}

fn some(annotations: BTreeMap<String, String>) -> Option<HashMap<String, String>> {
    (!annotations.is_empty()).then(|| annotations.into_iter().collect())
}

/// The annotations of a document, sorted.
#[must_use]
pub fn sorted(annotations: &Option<HashMap<String, String>>) -> BTreeMap<String, String> {
    annotations.clone().into_iter().flatten().collect()
}

/// The bytes of a manifest or index: JSON without spaces, keys and annotations in a fixed order, so
/// that equal documents have one digest.
#[must_use]
pub fn to_bytes(document: &impl Serialize) -> Vec<u8> {
    let value = serde_json::to_value(document).expect("documents serialise to JSON");
    serde_json::to_vec(&Ordered(&value)).expect("JSON serialises")
}

/// JSON with the keys of the specification's documents in its order, and all others behind them.
struct Ordered<'a>(&'a Value);

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        const KEYS: [&str; 11] = [
            "schemaVersion",
            "mediaType",
            "digest",
            "size",
            "urls",
            "artifactType",
            "config",
            "layers",
            "manifests",
            "subject",
            "annotations",
        ];
        match self.0 {
            Value::Object(object) => {
                let mut entries: Vec<_> = object.iter().collect();
                // Equal places stay in the order of the map, which is sorted.
                entries.sort_by_key(|(key, _)| {
                    KEYS.iter()
                        .position(|known| known == key)
                        .unwrap_or(KEYS.len())
                });
                to.collect_map(
                    entries
                        .into_iter()
                        .map(|(key, value)| (key, Ordered(value))),
                )
            }
            Value::Array(list) => to.collect_seq(list.iter().map(Ordered)),
            other => other.serialize(to),
        }
    }
}

/// What an image is for, or is wanted for. Parts that are not known are empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Platform {
    /// `amd64`, `arm64`, …: Go's names.
    pub architecture: String,
    /// `linux`, …
    pub os: String,
    /// `v7`, `v8`, …
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// One image or artifact.
    Manifest(Box<Manifest>),
    Index(Box<Index>),
}

/// Reads a manifest or an index. What the bytes say of themselves goes before `media_type`, which
/// is what whoever gave them says.
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
            .map(|index| Parsed::Index(Box::new(index)))
            .map_err(wrong),
        media::MANIFEST | media::DOCKER_MANIFEST => serde_json::from_slice(bytes)
            .map(|manifest| Parsed::Manifest(Box::new(manifest)))
            .map_err(wrong),
        _ if head.media_type.is_none() && head.manifests.is_some() => serde_json::from_slice(bytes)
            .map(|index| Parsed::Index(Box::new(index)))
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
    use serde_json::json;

    use super::*;

    const EMPTY: &str = r#"{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}"#;

    #[test]
    fn what_is_a_manifest() {
        let read = |text: String, media_type: &str| parse_manifest(text.as_bytes(), media_type);
        let manifest = format!(r#"{{"schemaVersion":2,"config":{EMPTY},"layers":[{EMPTY}]}}"#);
        let Ok(Parsed::Manifest(parsed)) = read(manifest.clone(), "") else {
            panic!("no manifest");
        };
        assert_eq!(to_bytes(&parsed), manifest.as_bytes());
        assert_eq!(parsed.config().blob().unwrap().size, 2);
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
            let text = json!({"mediaType": "x/y", "digest": digest, "size": 2});
            let descriptor: Descriptor = serde_json::from_value(text).map_err(|e| e.to_string())?;
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

    #[test]
    fn equal_documents_have_equal_bytes() {
        let annotations = ["b", "a", "c", "d"].map(|name| (name.to_owned(), "1".to_owned()));
        let make = || {
            let mut one = descriptor(media::MANIFEST, &Blob::of(b"x"));
            one.annotate("z", "1");
            one.annotate("y", "2");
            one.set_for(&Platform::linux("arm64"));
            to_bytes(&index(vec![one], annotations.clone().into()))
        };
        let text = String::from_utf8(make()).unwrap();
        assert!(
            text.starts_with(r#"{"schemaVersion":2,"mediaType":"#),
            "{text}"
        );
        assert!(
            text.contains(r#""annotations":{"y":"2","z":"1"},"platform""#),
            "{text}"
        );
        assert!(
            text.ends_with(r#""annotations":{"a":"1","b":"1","c":"1","d":"1"}}"#),
            "{text}"
        );
        assert!((0..20).all(|_| make() == text.as_bytes()));
    }
}

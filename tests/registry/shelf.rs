//! An image in a registry, and what can be made of it by hand.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use vmfab::registry::{Repository, Version};

use super::home::{Home, disk};
use super::{User, blob, put, read};
use crate::support::proxy::Proxy;
use crate::support::registry::Registry;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The repository `web` with an image under `1`.
pub(super) struct Shelf {
    pub(super) registry: Registry,
    pub(super) proxy: Proxy,
    pub(super) repository: Arc<dyn Repository>,
    /// Who pushed it.
    pub(super) maker: Home,
}

impl Shelf {
    /// An image with some MiB on its disk.
    pub(super) fn new(size: usize) -> Self {
        Self::of(&disk(1, size << 20))
    }

    /// An image with this disk.
    pub(super) fn of(disk: &[u8]) -> Self {
        let registry = Registry::start();
        let maker = Home::new();
        maker.image("web", disk);
        maker.push("@web", &registry.at("web:1"));
        Self {
            proxy: Proxy::start(registry.port()),
            repository: User::with(|options| {
                // It looks for every layer of a manifest.
                options.settings.stalled = Duration::from_secs(60);
            })
            .open(&registry.at("web")),
            registry,
            maker,
        }
    }

    /// Where a tag is, behind the proxy.
    pub(super) fn at(&self, tag: &str) -> String {
        self.proxy.at(&format!("web:{tag}"))
    }

    /// What is under a tag.
    #[track_caller]
    pub(super) fn manifest(&self, tag: &str) -> Value {
        let version = Version::tag(tag).unwrap();
        let fetched = self.repository.manifest(&version).unwrap().unwrap();
        serde_json::from_slice(&fetched.bytes).unwrap()
    }

    /// Puts a manifest or index under a tag.
    #[track_caller]
    pub(super) fn name(&self, tag: &str, content: &Value) -> Value {
        let kind = match content["manifests"] {
            Value::Null => MANIFEST,
            _ => INDEX,
        };
        let bytes = content.to_string().into_bytes();
        let version = Version::tag(tag).unwrap();
        self.repository
            .put_manifest(&version, kind, &bytes)
            .unwrap();
        descriptor(kind, &bytes)
    }

    /// Puts the manifest of the image under another tag, changed.
    #[track_caller]
    pub(super) fn changed(&self, tag: &str, change: impl FnOnce(&mut Value)) {
        let mut manifest = self.manifest("1");
        change(&mut manifest);
        self.name(tag, &manifest);
    }

    /// Puts a blob.
    #[track_caller]
    pub(super) fn blob(&self, kind: &str, bytes: &[u8]) -> Value {
        put(&*self.repository, bytes).unwrap();
        descriptor(kind, bytes)
    }

    /// The bytes of a layer of the image.
    #[track_caller]
    pub(super) fn layer(&self, number: usize) -> Vec<u8> {
        let layer = &self.manifest("1")["layers"][number];
        let descriptor: vmfab::registry::Descriptor =
            serde_json::from_value(layer.clone()).unwrap();
        use vmfab::registry::Described as _;
        let reader = self.repository.read_blob(&descriptor.blob().unwrap(), None);
        read(reader.unwrap()).unwrap()
    }
}

/// What names bytes.
pub(super) fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    let blob = blob(bytes);
    json!({ "mediaType": kind, "digest": format!("sha256:{}", blob.digest), "size": blob.size })
}

/// The hexadecimal digits of a descriptor's digest.
pub(super) fn digits(descriptor: &Value) -> String {
    let digest = descriptor["digest"].as_str().unwrap();
    digest.strip_prefix("sha256:").unwrap().to_owned()
}

//! What a manifest of vmfab's says (`store-format/oci-mapping.md`). Pure.

use std::collections::BTreeMap;

use base64ct::{Base64, Encoding};

use super::boot_order::MAX_BYTES as MAX_BOOT_ORDER;
use crate::registry::{
    Blob, Described, Descriptor, Manifest, MediaType, descriptor, manifest, media, sorted,
};

/// `artifactType` of an image.
pub const IMAGE: &str = "application/vnd.vmfab.image.v1";
/// `artifactType` of the result of a step.
pub const RESULT: &str = "application/vnd.vmfab.result.v1";
/// The config of an image.
pub(super) const IMAGE_CONFIG: &str = "application/vnd.vmfab.image.config.v1+json";
/// The config of a result.
pub(super) const RESULT_CONFIG: &str = "application/vnd.vmfab.result.config.v1+json";
/// The list of objects.
pub(super) const OBJECTS: &str = "application/vnd.vmfab.objects.v1+zstd";
pub(super) const PACK: &str = "application/vnd.vmfab.pack.v1";
/// What a boot reads of the disk.
pub(super) const BOOT_ORDER: &str = "application/vnd.vmfab.boot-order.v1+json";
/// An annotation that is `true` when the layers of the image are in the artifact.
pub const LAYERS: &str = "org.vmfab.layers";
/// Where the table of a pack begins, in bytes.
const TABLE: &str = "org.vmfab.pack.table";

/// The longest config that is read.
pub(super) const MAX_CONFIG: u64 = 16 << 20;
/// The longest list of objects that is read.
pub(super) const MAX_OBJECTS: u64 = 64 << 20;
/// The most packs of an artifact that is made here.
pub(super) const MAX_PACKS: usize = 90;
/// The most packs of an artifact that is read.
const MAX_READ_PACKS: usize = 1000;
/// The longest config that is in the manifest, too.
const MAX_DATA: usize = 64 << 10;

/// A pack as an artifact names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PackRef {
    pub blob: Blob,
    /// Where its table begins.
    pub table_offset: u64,
}

/// One artifact of vmfab's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// [`IMAGE`] or [`RESULT`].
    pub kind: String,
    pub config: Blob,
    /// The config, when the manifest has it.
    pub config_data: Option<Vec<u8>>,
    /// The list of its objects; `None` when it has no content.
    pub objects: Option<Blob>,
    /// The packs, by the numbers that the list uses.
    pub packs: Vec<PackRef>,
    /// The order in which a boot reads the disk of an image, when it was recorded.
    pub boot_order: Option<Blob>,
    /// What whoever made it says of it.
    pub annotations: BTreeMap<String, String>,
}

impl Artifact {
    /// Whether it has the layers of its image.
    #[must_use]
    pub fn has_layers(&self) -> bool {
        self.annotations
            .get(LAYERS)
            .is_some_and(|has| has == "true")
    }

    /// Whether it has all that another one of the same kind would have with this config, these
    /// annotations and this boot order.
    pub(super) fn covers(
        &self,
        config: &Blob,
        annotations: &BTreeMap<String, String>,
        boot_order: Option<&Blob>,
    ) -> bool {
        let mut own = self.annotations.clone();
        if !annotations.contains_key(LAYERS) {
            own.remove(LAYERS);
        }
        let is_ordered = boot_order.is_none() || self.boot_order.as_ref() == boot_order;
        self.config == *config && own == *annotations && is_ordered
    }

    #[must_use]
    pub fn to_manifest(&self) -> Manifest {
        let config_type = match self.kind.as_str() {
            RESULT => RESULT_CONFIG,
            _ => IMAGE_CONFIG,
        };
        let mut config = descriptor(config_type, &self.config);
        let data = self
            .config_data
            .as_ref()
            .filter(|data| data.len() <= MAX_DATA)
            .map(|data| Base64::encode_string(data));
        config.set_data(data);
        let objects = self.objects.iter().map(|blob| descriptor(OBJECTS, blob));
        let packs = self.packs.iter().map(|pack| {
            let mut descriptor = descriptor(PACK, &pack.blob);
            descriptor.annotate(TABLE, &pack.table_offset.to_string());
            descriptor
        });
        let order = self.boot_order.iter();
        let order = order.map(|blob| descriptor(BOOT_ORDER, blob));
        let mut layers: Vec<Descriptor> = objects.chain(packs).chain(order).collect();
        if layers.is_empty() {
            // A manifest has a layer; this one stands for none.
            layers.push(descriptor(media::EMPTY, &empty()));
        }
        manifest(Some(&self.kind), config, layers, self.annotations.clone())
    }

    /// What a manifest says; `None` when it is none of vmfab's.
    ///
    /// # Errors
    /// It is one of vmfab's and wrong: a phrase that goes on after what it is.
    pub fn of_manifest(manifest: &Manifest) -> Result<Option<Self>, String> {
        let kind = manifest.artifact_type().as_ref().map(MediaType::as_ref);
        // Registries of old drop the artifact type; the config's media type tells as well.
        let kind = match (kind, manifest.config().media_type().as_ref()) {
            (Some(IMAGE) | None, IMAGE_CONFIG) => IMAGE,
            (Some(RESULT) | None, RESULT_CONFIG) => RESULT,
            (Some(kind), _) if kind.starts_with("application/vnd.vmfab.") => {
                return Err(format!(
                    "is of a kind that this vmfab does not know ({kind}); a newer vmfab may"
                ));
            }
            _ => return Ok(None),
        };
        let config = manifest.config().blob()?;
        if config.size > MAX_CONFIG {
            return Err(format!("has a config of {} bytes", config.size));
        }
        let data = manifest.config().data().as_deref();
        let config_data = match data.map(Base64::decode_vec) {
            None => None,
            Some(Ok(data)) if Blob::of(&data) == config => Some(data),
            Some(_) => return Err("has a config that is not what its digest says".to_owned()),
        };
        let mut artifact = Self {
            kind: kind.to_owned(),
            config,
            config_data,
            objects: None,
            packs: Vec::new(),
            boot_order: None,
            annotations: sorted(manifest.annotations()),
        };
        for layer in manifest.layers() {
            let blob = layer.blob()?;
            match layer.media_type().as_ref() {
                OBJECTS if artifact.objects.is_none() && blob.size <= MAX_OBJECTS => {
                    artifact.objects = Some(blob);
                }
                PACK if artifact.packs.len() == MAX_READ_PACKS => {
                    return Err(format!("has more than {MAX_READ_PACKS} packs"));
                }
                PACK => artifact.packs.push(PackRef {
                    blob,
                    table_offset: table_offset(layer)?,
                }),
                BOOT_ORDER if artifact.boot_order.is_none() && blob.size <= MAX_BOOT_ORDER => {
                    artifact.boot_order = Some(blob);
                }
                BOOT_ORDER => return Err("has two boot orders, or one that is too long".into()),
                media::EMPTY => {}
                OBJECTS => return Err("has two lists of objects, or one that is too long".into()),
                other => {
                    return Err(format!(
                        "has a layer that this vmfab does not know ({other}); a newer vmfab may"
                    ));
                }
            }
        }
        Ok(Some(artifact))
    }
}

fn table_offset(layer: &Descriptor) -> Result<u64, String> {
    layer
        .annotation(TABLE)
        .and_then(|text| text.parse().ok())
        .filter(|&offset| offset <= layer.size() && layer.size() < 1 << 32)
        .ok_or_else(|| format!("has a pack without \"{TABLE}\", or a wrong one"))
}

/// The blob of the two bytes `{}`.
pub(super) fn empty() -> Blob {
    Blob::of(b"{}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::to_bytes;

    fn artifact() -> Artifact {
        let config = br#"{"a":1}"#.to_vec();
        Artifact {
            kind: IMAGE.to_owned(),
            config: Blob::of(&config),
            config_data: Some(config),
            objects: Some(Blob::of(b"objects")),
            packs: vec![PackRef {
                blob: Blob::of(b"a pack"),
                table_offset: 3,
            }],
            boot_order: Some(Blob::of(b"an order")),
            annotations: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        }
    }

    #[test]
    fn manifests_round_trip() {
        let one = artifact();
        let read = Artifact::of_manifest(&one.to_manifest());
        assert_eq!(read, Ok(Some(one.clone())));
        insta::assert_snapshot!(String::from_utf8(to_bytes(&one.to_manifest())).unwrap());
        let none = Artifact {
            kind: RESULT.to_owned(),
            objects: None,
            packs: Vec::new(),
            boot_order: None,
            ..one
        };
        assert_eq!(Artifact::of_manifest(&none.to_manifest()), Ok(Some(none)));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let with = |change: fn(&mut Manifest)| {
            let mut manifest = artifact().to_manifest();
            change(&mut manifest);
            Artifact::of_manifest(&manifest)
        };
        assert_eq!(
            with(|manifest| {
                manifest.set_artifact_type(None);
                let config = manifest.config().clone();
                manifest.set_config(descriptor(media::CONFIG, &config.blob().unwrap()));
            }),
            Ok(None)
        );
        let wrong: [fn(&mut Manifest); 7] = [
            |manifest| {
                manifest.set_artifact_type(Some("application/vnd.vmfab.image.v9".into()));
            },
            |manifest| {
                let mut config = manifest.config().clone();
                config.set_data(Some("e30=".into()));
                manifest.set_config(config);
            },
            |manifest| {
                let mut config = manifest.config().clone();
                config.set_size(MAX_CONFIG + 1);
                manifest.set_config(config);
            },
            |manifest| {
                manifest.layers_mut()[0].set_media_type("text/plain".into());
            },
            |manifest| {
                manifest.layers_mut()[1].set_annotations(None);
            },
            |manifest| manifest.layers_mut()[1].annotate(TABLE, "99"),
            |manifest| {
                manifest.layers_mut()[1].set_digest("x:y".parse().unwrap());
            },
        ];
        for change in wrong {
            assert!(with(change).is_err());
        }
        assert!(
            with(|manifest| {
                manifest.set_artifact_type(None);
            })
            .unwrap()
            .is_some()
        );
    }
}

//! `index.json`: which manifests a layout names. Pure.
//!
//! What others have written there stays as it is, known or not: an index is changed as JSON.

use serde_json::{Map, Value, json};

use super::super::{
    Blob, Described, Descriptor, Index, MediaType, Version, descriptor, is_referrers_tag, media,
};
use crate::digest::Sha256;

/// The annotation that holds a tag (OCI image specification, image layout).
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The content of an `index.json`.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// As it was written.
    document: Map<String, Value>,
    /// What its `manifests` are.
    manifests: Vec<Descriptor>,
}

impl Names {
    /// An index that names nothing.
    pub(super) fn empty() -> Self {
        let mut document = Map::new();
        document.insert("schemaVersion".to_owned(), json!(2));
        document.insert("mediaType".to_owned(), json!(media::INDEX));
        document.insert("manifests".to_owned(), json!([]));
        Self {
            document,
            manifests: Vec::new(),
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is none; a phrase that goes on after `index.json`.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let wrong = |error: serde_json::Error| format!("is no index: {error}");
        let mut document: Map<String, Value> = serde_json::from_slice(bytes).map_err(wrong)?;
        // Go writes an empty list so.
        if document.get("manifests").is_some_and(Value::is_null) {
            document.insert("manifests".to_owned(), json!([]));
        }
        let index: Index =
            serde_json::from_value(Value::Object(document.clone())).map_err(wrong)?;
        if index.schema_version() != 2 {
            let version = index.schema_version();
            return Err(format!("is no index: its version is {version}, not 2"));
        }
        Ok(Self {
            document,
            manifests: index.manifests().clone(),
        })
    }

    /// The manifest of a tag.
    ///
    /// # Errors
    /// There are several; a phrase that goes on after `index.json`.
    pub(super) fn find(&self, tag: &str) -> Result<Option<&Descriptor>, String> {
        let mut found = self.manifests.iter().filter(|one| name(one) == Some(tag));
        let first = found.next();
        match first.zip(found.find(|one| first.is_some_and(|first| first.digest() != one.digest())))
        {
            Some(_) => Err(format!("has several manifests with the name {tag:?}")),
            None => Ok(first),
        }
    }

    /// What is said of the manifest with a digest.
    pub(super) fn of_digest(&self, digest: &Sha256) -> Option<&Descriptor> {
        let digest = Version::Digest(*digest).to_string();
        let mut all = self.manifests.iter();
        all.find(|one| one.digest().as_ref() == digest)
    }

    /// The only manifest, whatever it is called; `None` when there are several or none.
    pub(super) fn only(&self) -> Option<&Descriptor> {
        let about_others = |one: &&Descriptor| name(one).is_some_and(is_referrers_tag);
        let mut others = self.manifests.iter().filter(|one| !about_others(one));
        let first = others.next()?;
        match others.all(|one| one.digest() == first.digest()) {
            true => Some(first),
            false => None,
        }
    }

    /// How many entries there are.
    pub(super) const fn len(&self) -> usize {
        self.manifests.len()
    }

    /// The names that are tags, sorted. Others have names that only they understand.
    pub(super) fn tags(&self) -> Vec<String> {
        let names = self.manifests.iter().filter_map(name);
        let mut tags: Vec<String> = names
            .filter(|name| Version::tag(name).is_ok() && !is_referrers_tag(name))
            .map(str::to_owned)
            .collect();
        tags.sort_unstable();
        tags.dedup();
        tags
    }

    /// Names a manifest: instead of the one that has the tag, or, without a tag, instead of the one
    /// that has no name. Others stay.
    pub(super) fn set(
        &mut self,
        tag: Option<&str>,
        media_type: &str,
        artifact_type: Option<MediaType>,
        blob: &Blob,
    ) {
        let unnamed = self.manifests.iter().filter(|one| name(one).is_none());
        // Several without a name are somebody's own business.
        let keep_unnamed = tag.is_some() || unnamed.count() > 1;
        let mut descriptor = descriptor(media_type, blob);
        descriptor.set_artifact_type(artifact_type);
        if let Some(tag) = tag {
            descriptor.annotate(REF_NAME, tag);
        }
        let stays = |one: &Descriptor| match name(one) {
            None => keep_unnamed && (tag.is_some() || one.digest() != descriptor.digest()),
            other => other != tag,
        };
        let kept: Vec<bool> = self.manifests.iter().map(stays).collect();
        let mut keep = kept.iter();
        self.manifests
            .retain(|_| keep.next().copied().unwrap_or(true));
        if let Some(Value::Array(list)) = self.document.get_mut("manifests") {
            let mut keep = kept.iter();
            list.retain(|_| keep.next().copied().unwrap_or(true));
            list.push(serde_json::to_value(&descriptor).expect("descriptors serialise to JSON"));
        }
        self.manifests.push(descriptor);
    }

    /// What is written.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.document).expect("indexes serialise to JSON")
    }
}

fn name(descriptor: &Descriptor) -> Option<&str> {
    let name = descriptor.annotation(REF_NAME);
    name.filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blob(byte: u8) -> Blob {
        Blob {
            digest: Sha256::from_bytes([byte; 32]),
            size: 7,
        }
    }

    fn digest_of(names: &Names, tag: &str) -> Option<String> {
        let found = names.find(tag).unwrap();
        found.map(|descriptor| descriptor.digest().to_string())
    }

    #[test]
    fn a_tag_is_replaced_and_others_stay() {
        let mut names = Names::empty();
        names.set(Some("b"), media::MANIFEST, None, &blob(1));
        names.set(Some("a"), media::MANIFEST, None, &blob(1));
        names.set(Some("b"), media::INDEX, Some("x/y".into()), &blob(2));
        let names = Names::parse(&names.to_bytes()).unwrap();
        assert_eq!(names.tags(), ["a", "b"]);
        assert_eq!(
            digest_of(&names, "a"),
            Some(format!("sha256:{}", blob(1).digest))
        );
        let second = names.find("b").unwrap().unwrap();
        assert_eq!(second.blob().unwrap(), blob(2));
        assert_eq!(second.media_type(), &media::INDEX.into());
        assert_eq!(second.artifact_type(), &Some("x/y".into()));
        assert_eq!(names.find("c").unwrap(), None);
        assert_eq!(names.only(), None);
        assert!(names.of_digest(&blob(2).digest).is_some());
    }

    #[test]
    fn one_without_a_name_is_replaced_several_are_not() {
        let mut names = Names::empty();
        names.set(None, media::MANIFEST, None, &blob(1));
        assert_eq!(names.only().unwrap().blob().unwrap(), blob(1));
        names.set(None, media::MANIFEST, None, &blob(2));
        assert_eq!(names.only().unwrap().blob().unwrap(), blob(2));
        names.set(Some("1"), media::MANIFEST, None, &blob(2));
        assert_eq!(names.only().unwrap().blob().unwrap(), blob(2));
        assert_eq!(names.len(), 2);
        let entry = |byte| serde_json::to_value(descriptor(media::MANIFEST, &blob(byte)));
        let manifests = [entry(1).unwrap(), entry(2).unwrap()];
        let text = json!({"schemaVersion": 2, "manifests": manifests}).to_string();
        let mut names = Names::parse(text.as_bytes()).unwrap();
        names.set(None, media::MANIFEST, None, &blob(3));
        names.set(None, media::MANIFEST, None, &blob(3));
        assert_eq!(names.len(), 3);
    }

    #[test]
    fn what_is_not_known_stays() {
        let digest = format!("sha512:{}", "a".repeat(128));
        let other = json!({
            "mediaType": "x/y", "digest": digest, "size": 1, "new": [1],
            "platform": {"architecture": "amd64", "os": "windows", "os.version": "10"},
            "annotations": {REF_NAME: "docker.io/library/x:1"},
        });
        let text = json!({"schemaVersion": 2, "manifests": [other], "future": {"a": 1}});
        let mut names = Names::parse(text.to_string().as_bytes()).unwrap();
        assert!(names.tags().is_empty());
        names.set(Some("1"), media::MANIFEST, None, &blob(1));
        let written: Value = serde_json::from_slice(&names.to_bytes()).unwrap();
        assert_eq!(written["future"], text["future"]);
        assert_eq!(written["manifests"][0], other);
        assert_eq!(written["manifests"][1]["annotations"][REF_NAME], "1");
    }

    #[test]
    fn two_manifests_of_one_name_are_refused() {
        let entry = |byte| {
            let mut descriptor = descriptor(media::MANIFEST, &blob(byte));
            descriptor.annotate(REF_NAME, "1");
            serde_json::to_value(descriptor).unwrap()
        };
        let of = |entries: &[Value]| {
            let text = json!({"schemaVersion": 2, "manifests": entries}).to_string();
            Names::parse(text.as_bytes()).unwrap()
        };
        assert!(of(&[entry(1), entry(1)]).find("1").unwrap().is_some());
        assert!(of(&[entry(1), entry(2)]).find("1").is_err());
    }

    #[test]
    fn what_is_no_index() {
        let null = br#"{"schemaVersion":2,"manifests":null}"#;
        assert_eq!(Names::parse(null).unwrap().len(), 0);
        for text in [
            "",
            "[]",
            "{}",
            r#"{"schemaVersion":2}"#,
            r#"{"schemaVersion":3,"manifests":[]}"#,
            r#"{"schemaVersion":2,"manifests":{}}"#,
            r#"{"schemaVersion":2,"manifests":[{"digest":"x"}]}"#,
            r#"{"schemaVersion":2,"manifests":[]}x"#,
        ] {
            let error = Names::parse(text.as_bytes()).unwrap_err();
            assert!(error.starts_with("is no index"), "{error}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(Names::parse(deep.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_index_or_refused(
            place in 0..400_usize, byte: u8, cut in 0..400_usize, tag in "[a-z]{1,3}"
        ) {
            let mut names = Names::empty();
            names.set(Some("a"), media::MANIFEST, None, &blob(1));
            names.set(None, media::INDEX, Some("x/y".into()), &blob(2));
            let mut bytes = names.to_bytes();
            let length = bytes.len();
            bytes[place % length] = byte;
            bytes.truncate(length - cut.saturating_sub(200) % length);
            if let Ok(mut names) = Names::parse(&bytes) {
                let before = names.len();
                let _ = (names.find(&tag), names.only(), names.tags());
                names.set(Some(&tag), media::MANIFEST, None, &blob(3));
                prop_assert!(names.find(&tag).unwrap().is_some());
                let again = Names::parse(&names.to_bytes()).unwrap();
                prop_assert_eq!(again.tags(), names.tags());
                prop_assert!(names.len() <= before + 1);
            }
        }
    }
}

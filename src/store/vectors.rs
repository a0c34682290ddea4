//! The stores in `store-format/vectors/v1`, whole and broken, which were not written by this
//! program.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::*;
use crate::digest::{ActionKey, Digest, ObjectId, ObjectRef};

/// What a reader finds, as `store-format/vectors/v1/README.md` says.
#[derive(Deserialize)]
struct Expected {
    refused: bool,
    #[serde(default)]
    objects: Vec<Object>,
    #[serde(default)]
    lost: Vec<ObjectId>,
    #[serde(default)]
    actions: Vec<Action>,
    #[serde(default)]
    no_result: Vec<Digest>,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(default)]
    damaged: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Object {
    object: ObjectId,
    size: u64,
    content: Option<Digest>,
}

#[derive(Deserialize)]
struct Action {
    action: Digest,
    outputs: BTreeMap<String, Output>,
}

#[derive(Deserialize)]
struct Output {
    object: ObjectId,
    size: u64,
}

#[derive(Deserialize)]
struct Tag {
    tag: String,
    objects: Vec<ObjectId>,
}

fn vectors() -> Vec<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("store-format/vectors/v1/stores");
    let mut found: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    found.sort();
    assert!(found.len() > 90);
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, to) = (
            entry.as_ref().unwrap(),
            to.join(entry.as_ref().unwrap().file_name()),
        );
        let kind = entry.file_type().unwrap();
        if kind.is_symlink() {
            symlink(fs::read_link(entry.path()).unwrap(), to).unwrap();
        } else if kind.is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// What is not as expected.
fn differences(root: &Path, expected: &Expected) -> Vec<String> {
    let mut wrong = Vec::new();
    let store = match Store::open(root) {
        Ok(_) if expected.refused => return vec!["it is not refused".to_owned()],
        Err(_) if expected.refused => return wrong,
        opened => opened.unwrap(),
    };
    for Object {
        object,
        size,
        content,
    } in &expected.objects
    {
        let whole = ObjectRef {
            id: *object,
            size: *size,
        };
        if !store.has_object(&whole) {
            wrong.push(format!("{object} is not there with its size"));
        }
        match (store.read_object(object), content) {
            (Ok(bytes), Some(content)) => {
                if blake3::hash(&bytes).as_bytes() != content.as_bytes()
                    || bytes.len() as u64 != *size
                {
                    wrong.push(format!("{object} has other bytes"));
                }
            }
            (Err(_), None) => {}
            (Ok(_), None) => wrong.push(format!("{object} can be read")),
            (Err(error), Some(_)) => wrong.push(format!("{object} cannot be read: {error}")),
        }
    }
    for object in &expected.lost {
        if store.read_object(object).is_ok() {
            wrong.push(format!("{object} can be read"));
        }
    }
    for Action { action, outputs } in &expected.actions {
        let found = store.action(&ActionKey::new(*action));
        let outputs = outputs.iter().map(|(name, output)| {
            let (id, size) = (output.object, output.size);
            (name.clone(), ObjectRef { id, size })
        });
        if found.as_ref().map(|found| &found.outputs) != Some(&outputs.collect()) {
            wrong.push(format!("{action} gives {found:?}"));
        }
    }
    for key in &expected.no_result {
        if let Some(found) = store.action(&ActionKey::new(*key)) {
            wrong.push(format!("{key} gives {found:?}"));
        }
    }
    for Tag { tag, objects } in &expected.tags {
        if store.tag(&tag.parse().unwrap()).ok().flatten() != objects.first().copied() {
            wrong.push(format!("tag {tag}"));
        }
    }
    let tags = fs::read_dir(root.join("tags")).unwrap();
    for name in tags.filter_map(|entry| entry.unwrap().file_name().into_string().ok()) {
        if let Ok(tag) = name.parse()
            && let Ok(Some(object)) = store.tag(&tag)
            && !expected.tags.iter().any(|tag| tag.tag == name)
        {
            wrong.push(format!("there is a tag {name} of {object}"));
        }
    }
    wrong
}

#[test]
fn stores_are_read_as_in_the_vectors() {
    let mut wrong = Vec::new();
    for vector in vectors() {
        let name = vector.file_name().unwrap().to_str().unwrap().to_owned();
        let expected: Expected =
            serde_json::from_slice(&fs::read(vector.join("expected.json")).unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("store");
        copy(&vector.join("store"), &root);
        let mut note = |when: &str| {
            let found = std::panic::catch_unwind(|| differences(&root, &expected))
                .unwrap_or_else(|_| vec!["a panic".to_owned()]);
            wrong.extend(found.iter().map(|found| format!("{name}{when}: {found}")));
        };
        note("");
        if expected.refused {
            continue;
        }
        // One who writes takes nothing away, and leaves what is damaged alone.
        if let Ok(object) = Store::open(&root).unwrap().put_bytes(b"something new") {
            note(" after a write");
            let read = Store::open(&root).unwrap().read_object(&object.id);
            if read.ok().as_deref() != Some(b"something new") {
                wrong.push(format!("{name}: what is written cannot be read"));
            }
        }
        for path in &expected.damaged {
            if fs::read(root.join(path)).ok() != fs::read(vector.join("store").join(path)).ok() {
                wrong.push(format!("{name}: {} was changed", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

//! What a container image is: its config, and the tree that its layers make.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::Value;
use tar::EntryType;

use super::base::sha256;

/// Members of the config that both write; times and ids are left out.
const MEMBERS: [&str; 12] = [
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "Shell",
    "StopSignal",
    "User",
    "Volumes",
    "WorkingDir",
];
/// Longer contents are shown as a digest.
const SHOWN: usize = 400;

/// A layout with one image.
pub(super) struct Layout {
    config: Value,
    layers: Vec<Vec<u8>>,
}

/// Everything below the root, by path.
pub(super) type Entries = BTreeMap<Vec<u8>, Entry>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Equal for the names of one file.
    file: usize,
    is_directory: bool,
    /// All but the name.
    what: String,
}

impl Layout {
    pub(super) fn read(path: &Path) -> Self {
        let json = |path: PathBuf| -> Value {
            let text = fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            serde_json::from_slice(&text).unwrap()
        };
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap().replace(':', "/");
            path.join("blobs").join(digest)
        };
        let index = json(path.join("index.json"));
        let manifest = json(blob(&index["manifests"][0]));
        let layers = manifest["layers"].as_array().unwrap().iter();
        let layers = layers.map(|layer| {
            let bytes = fs::read(blob(layer)).unwrap();
            if !bytes.starts_with(&[0x1f, 0x8b]) {
                return bytes;
            }
            let mut plain = Vec::new();
            let mut decoder = GzDecoder::new(Cursor::new(bytes));
            decoder.read_to_end(&mut plain).unwrap();
            plain
        });
        Self {
            layers: layers.collect(),
            config: json(blob(&manifest["config"])),
        }
    }

    /// The tree.
    pub(super) fn entries(&self) -> Entries {
        entries(&self.layers)
    }

    /// The config, and the tree as far as it is not that of `base`.
    pub(super) fn lines(&self, base: &Entries) -> Vec<String> {
        let mut lines = Vec::new();
        let config = &self.config["config"];
        for name in MEMBERS {
            match &config[name] {
                Value::Null => {}
                Value::String(text) if text.is_empty() => {}
                Value::Array(items) if name == "Env" || name == "OnBuild" => {
                    lines.extend(items.iter().map(|item| format!("{name} {item}")));
                }
                Value::Object(items) if name != "Healthcheck" => {
                    for (key, value) in items {
                        let value = match value {
                            Value::String(text) => format!(" {text:?}"),
                            _ => String::new(),
                        };
                        lines.push(format!("{name} {key}{value}"));
                    }
                }
                Value::Array(items) if items.is_empty() => {}
                value => lines.push(format!("{name} {value}")),
            }
        }
        if let Some(author) = self.config["author"].as_str() {
            lines.push(format!("author {author:?}"));
        }
        lines.extend(self::lines(&self.entries(), base));
        lines
    }
}

/// The tree that layers make, lowest first.
fn entries(layers: &[Vec<u8>]) -> Entries {
    let mut entries = Entries::new();
    let mut file = 0;
    for layer in layers {
        let mut own = Entries::new();
        let mut archive = tar::Archive::new(&layer[..]);
        for entry in archive.entries().unwrap() {
            file += 1;
            let mut entry = entry.unwrap();
            let path = absolute(&entry.path_bytes());
            if path.is_empty() {
                continue;
            }
            let at = path.iter().rposition(|byte| *byte == b'/');
            let (directory, last) = path.split_at(at.map_or(0, |at| at + 1));
            if last == b".wh..wh..opq" {
                entries.retain(|known, _| !known.starts_with(directory));
            } else if let Some(gone) = last.strip_prefix(b".wh.") {
                remove(&mut entries, &[directory, gone].concat());
            } else if entry.header().entry_type() == EntryType::Link {
                let target = absolute(&entry.link_name_bytes().unwrap());
                let linked = own.get(&target).or_else(|| entries.get(&target));
                let linked = linked.expect("a hard link to a file before it").clone();
                own.insert(path, linked);
            } else {
                own.insert(path, Entry::of(&mut entry, file));
            }
        }
        for (path, entry) in own {
            if !entry.is_directory {
                remove(&mut entries, &path);
            }
            entries.insert(path, entry);
        }
    }
    entries
}

/// The tree as far as it is not that of `base`.
fn lines(entries: &Entries, base: &Entries) -> Vec<String> {
    let mut lines = Vec::new();
    let mut first: BTreeMap<usize, &Vec<u8>> = BTreeMap::new();
    for (path, entry) in entries {
        let name = shown(path);
        let original = *first.entry(entry.file).or_insert(path);
        if base.get(path).is_some_and(|known| known.what == entry.what) && original == path {
            continue;
        }
        lines.push(match original == path {
            true => format!("{name} {}", entry.what),
            false => format!("{name} is {}", shown(original)),
        });
    }
    let gone = base.keys().filter(|path| !entries.contains_key(*path));
    lines.extend(gone.map(|path| format!("{} is gone", shown(path))));
    lines
}

/// A path from the root, which itself is empty.
fn absolute(name: &[u8]) -> Vec<u8> {
    let parts = name.split(|byte| *byte == b'/');
    let parts = parts.filter(|part| !part.is_empty() && *part != b".");
    parts.flat_map(|part| [b"/", part].concat()).collect()
}

fn remove(entries: &mut Entries, path: &[u8]) {
    let below = [path, b"/"].concat();
    entries.retain(|known, _| known != path && !known.starts_with(&below));
}

/// A name, with quotes when there is anything odd in it.
fn shown(path: &[u8]) -> String {
    let text = path.escape_ascii().to_string();
    match text.as_bytes() == path && !text.contains(' ') {
        true => text,
        false => format!("\"{text}\""),
    }
}

impl Entry {
    fn of(entry: &mut tar::Entry<'_, &[u8]>, file: usize) -> Self {
        let header = entry.header();
        let kind = header.entry_type();
        let mode = header.mode().unwrap() & 0o7777;
        let (uid, gid) = (header.uid().unwrap(), header.gid().unwrap());
        let mut attributes = BTreeMap::new();
        for extension in entry.pax_extensions().unwrap().into_iter().flatten() {
            let extension = extension.unwrap();
            if let Some(name) = extension.key().unwrap().strip_prefix("SCHILY.xattr.") {
                let value = extension.value_bytes().escape_ascii().to_string();
                attributes.insert(name.to_owned(), value);
            }
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let mut what = match kind {
            EntryType::Directory => format!("directory {mode:o} {uid}:{gid}"),
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap();
                format!("symlink {uid}:{gid} to {}", shown(&target))
            }
            EntryType::Regular | EntryType::Continuous => {
                let content = match std::str::from_utf8(&content) {
                    Ok(text) if text.len() <= SHOWN => format!("{text:?}"),
                    _ => format!("{} bytes, sha256 {}", content.len(), sha256(&content)),
                };
                format!("file {mode:o} {uid}:{gid} {content}")
            }
            other => format!("{other:?} {mode:o} {uid}:{gid}").to_lowercase(),
        };
        for (name, value) in attributes {
            what += &format!(" {name}={value}");
        }
        Self {
            file,
            is_directory: kind == EntryType::Directory,
            what,
        }
    }
}

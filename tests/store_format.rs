//! The format of the store, read by `store-format/reader.py`, which was written from the text
//! alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use vmfab::digest::{ActionKey, Hasher, ObjectId, ObjectRef};
use vmfab::store::{ActionResult, CollectOptions, Roots, Store};

use crate::support::tool;

/// A script of the format, by the Python that Debian's packages are for.
fn script(name: &str) -> Command {
    let module = Command::new("/usr/bin/python3")
        .args(["-c", "import zstandard"])
        .output();
    assert!(
        module.is_ok_and(|module| module.status.success()),
        "zstandard is not installed: install the Debian package python3-zstandard"
    );
    tool("b3sum", "b3sum");
    let format = Path::new(env!("CARGO_MANIFEST_DIR")).join("store-format");
    let mut command = Command::new("/usr/bin/python3");
    command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(format.join(name));
    command
}

#[track_caller]
fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}:\n{}{}",
        text(&output.stdout[..output.stdout.len().min(10_000)]),
        text(&output.stderr)
    );
    output.stdout
}

#[test]
fn the_reader_agrees_on_the_vectors() {
    run(&mut script("vectors/check.py"));
}

/// Bytes that do not compress, from a seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut reader = blake3::Hasher::new();
    reader
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

fn tar() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, size) in [
        ("small", 3000),
        ("large", 150_000),
        ("after", 10),
        ("edge", 65_536),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        let data = noise(size, size as usize);
        builder
            .append_data(&mut header, name, data.as_slice())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

/// Content of many shapes.
fn shapes() -> Vec<Vec<u8>> {
    let text: Vec<u8> = (0..20_000)
        .flat_map(|n| format!("line {n}\n").into_bytes())
        .collect();
    vec![
        vec![],
        b"short".to_vec(),
        vec![0; 16_384],
        vec![0; 1 << 20],
        noise(1, 16_384),
        noise(2, 16_385),
        noise(3, 1_000_000),
        [
            noise(4, 100_000),
            vec![0; 300_000],
            noise(5, 50_000),
            vec![0; 5000],
        ]
        .concat(),
        text,
        vec![7; 700_000],
        tar(),
    ]
}

fn line(kind: &str, name: &str, objects: &[&ObjectRef]) -> Value {
    let ids: Vec<String> = objects.iter().map(|object| object.id.to_string()).collect();
    json!({ kind: name, "objects": ids })
}

fn outputs(objects: &[(&str, &ObjectRef)]) -> ActionResult {
    let outputs = objects
        .iter()
        .map(|(name, object)| ((*name).to_owned(), **object));
    ActionResult {
        outputs: outputs.collect(),
    }
}

/// What the reader lists but for the times of results.
fn listed(root: &Path) -> Vec<Value> {
    let stdout = String::from_utf8(run(script("reader.py").arg(root))).unwrap();
    let mut lines: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for line in &mut lines {
        line.as_object_mut().unwrap().remove("time");
    }
    lines
}

/// The reader lists these things and reads the same bytes.
#[track_caller]
fn reads(root: &Path, objects: &BTreeMap<ObjectId, Vec<u8>>, others: &[Value]) {
    let mut expected: Vec<Value> = objects
        .iter()
        .map(|(id, content)| json!({ "object": id, "size": content.len() }))
        .collect();
    expected.extend_from_slice(others);
    assert_eq!(listed(root), expected);
    let store = Store::open(root).unwrap();
    for (id, content) in objects {
        let read = run(script("reader.py").arg(root).arg(id.to_string()));
        assert!(read == *content, "{id} of {} bytes", content.len());
        assert!(store.read_object(id).unwrap() == *content);
    }
}

struct Nothing;

impl Roots for Nothing {
    fn objects(&self) -> Result<Vec<ObjectId>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Vec::new())
    }

    fn references(&self, _config: &[u8]) -> Option<Vec<ObjectId>> {
        Some(Vec::new())
    }

    fn interrupted(&self) -> bool {
        false
    }
}

#[test]
fn the_reader_reads_what_vmfab_writes() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("store");
    let store = Store::open(&root).unwrap();
    let shapes = shapes();
    let put: Vec<ObjectRef> = shapes
        .iter()
        .map(|content| store.put(&mut content.as_slice()).unwrap())
        .collect();
    let mut objects: BTreeMap<ObjectId, Vec<u8>> =
        put.iter().map(|object| object.id).zip(shapes).collect();
    let key = ActionKey::new(Hasher::new("test").finish());
    store
        .put_action(&key, outputs(&[("old", &put[1])]))
        .unwrap();
    let result = outputs(&[("a", &put[0]), ("layer", &put[7])]);
    store.put_action(&key, result.clone()).unwrap();
    store
        .put_tag(&"latest".parse().unwrap(), &put[1].id)
        .unwrap();
    store
        .put_root(
            &"machine".parse().unwrap(),
            &[put[10].id, put[7].id, put[3].id],
        )
        .unwrap();
    let action = json!({ "action": key.digest().to_hex(), "outputs": result.outputs.iter().map(|(name, object)| {
        (name.clone(), json!({ "object": object.id, "size": object.size }))
    }).collect::<BTreeMap<_, _>>() });
    let names = [
        line("tag", "latest", &[&put[1]]),
        line("root", "machine", &[&put[10], &put[7], &put[3]]),
    ];
    // While a writer has its journal.
    reads(
        &root,
        &objects,
        &[std::slice::from_ref(&action), &names].concat(),
    );
    drop(store);
    // Journals are sealed, packs written anew, and an index is made.
    let options = CollectOptions {
        older_than: Duration::ZERO,
        keep_last: 0,
        max_size: None,
        dry_run: false,
    };
    Store::open(&root)
        .unwrap()
        .collect(&Nothing, &options)
        .unwrap();
    objects.retain(|id, _| [1, 3, 7, 10].iter().any(|&kept| put[kept].id == *id));
    reads(&root, &objects, &names);
}

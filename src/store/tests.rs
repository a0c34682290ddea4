//! The store as its users see it, with several processes played by several `Store`s.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};

use proptest::prelude::*;

use super::*;
use crate::digest::ObjectRef;

struct Fixture {
    directory: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        Self { directory, store }
    }

    /// Another process.
    fn other(&self) -> Store {
        Store::open(self.store.root()).unwrap()
    }

    fn files(&self, directory: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.store.root().join(directory)).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

/// Bytes that do not compress, from a seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

fn read(store: &Store, object: &ObjectRef) -> Vec<u8> {
    let mut bytes = Vec::new();
    store
        .open_object(&object.id)
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

#[test]
fn large_content_goes_to_packs_and_comes_back() {
    let fixture = Fixture::new();
    let mut bytes = noise(1, 40 << 20);
    bytes[5 << 20..7 << 20].fill(0);
    let object = fixture.store.put(&mut bytes.as_slice()).unwrap();
    assert_eq!(fixture.files("packs").len(), 2);
    for store in [fixture.store.clone(), fixture.other()] {
        assert!(store.has_object(&object));
        assert!(read(&store, &object) == bytes);
        let path = store.materialise(&object.id).unwrap();
        assert!(fs::read(&path).unwrap() == bytes);
        let meta = fs::metadata(&path).unwrap();
        assert!(meta.blocks() * 512 <= 38 << 20);
    }
    // Again, it takes nothing but time.
    let before = fixture.files("packs");
    assert_eq!(fixture.other().put(&mut bytes.as_slice()).unwrap(), object);
    assert_eq!(fixture.files("packs"), before);
}

#[test]
fn a_reader_knows_where_data_is() {
    let fixture = Fixture::new();
    let mut bytes = noise(1, 1 << 20);
    bytes[200 << 10..300 << 10].fill(0);
    bytes[900 << 10..].fill(0);
    let large = fixture.store.put(&mut bytes.as_slice()).unwrap();
    let reader = fixture.store.open_object(&large.id).unwrap();
    let kib = |parts: Vec<std::ops::Range<u64>>| -> Vec<(u64, u64)> {
        parts.iter().map(|p| (p.start >> 10, p.end >> 10)).collect()
    };
    let all = kib(reader.data_in(0..1 << 20));
    assert_eq!(all, [(0, 200), (300, 900)]);
    let some = kib(reader.data_in(150 << 10..301 << 10));
    assert_eq!(some, [(150, 200), (300, 301)]);
    assert_eq!(reader.data_in(250 << 10..251 << 10), []);
    assert_eq!(reader.data_in(950 << 10..5 << 20), []);
    let small = fixture.store.put_bytes(b"content").unwrap();
    let reader = fixture.store.open_object(&small.id).unwrap();
    let parts = reader.data_in(2..9);
    assert_eq!((parts.len(), &parts[0]), (1, &(2..7)));
}

#[test]
fn small_content_is_seen_by_others_at_once() {
    let fixture = Fixture::new();
    let other = fixture.other();
    let objects: Vec<ObjectRef> = (0..100_u32)
        .map(|n| fixture.store.put_bytes(&n.to_le_bytes()).unwrap())
        .collect();
    for (n, object) in objects.iter().enumerate() {
        assert_eq!(
            other.read_object(&object.id).unwrap(),
            (n as u32).to_le_bytes()
        );
    }
    // Both write, each to a journal of its own.
    let theirs = other.put_bytes(b"theirs").unwrap();
    assert_eq!(fixture.files("journals").len(), 2);
    assert!(fixture.store.has_object(&theirs));
    drop((other, fixture.store));
}

#[test]
fn a_journal_is_taken_over_and_becomes_a_pack() {
    let fixture = Fixture::new();
    let first = fixture.store.put_bytes(b"first").unwrap();
    let root = fixture.store.root().to_owned();
    let Fixture { directory, store } = fixture;
    drop(store);
    let journal = fs::read_dir(root.join("journals"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    // What a killed writer leaves.
    let mut torn = fs::read(journal.path()).unwrap();
    torn.extend_from_within(32..50);
    fs::write(journal.path(), torn).unwrap();

    let store = Store::open(&root).unwrap();
    let objects: Vec<ObjectRef> = (0..3000)
        .map(|n| store.put_bytes(&noise(n, 400)).unwrap())
        .collect();
    assert_eq!(fs::read_dir(root.join("journals")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(root.join("packs")).unwrap().count(), 1);
    for store in [store, Store::open(&root).unwrap()] {
        assert_eq!(store.read_object(&first.id).unwrap(), b"first");
        for (n, object) in objects.iter().enumerate() {
            assert_eq!(store.read_object(&object.id).unwrap(), noise(n as u64, 400));
        }
    }
    drop(directory);
}

#[test]
fn many_packs_get_an_index() {
    let fixture = Fixture::new();
    let objects: Vec<ObjectRef> = (0..60)
        .map(|n| {
            fixture
                .store
                .put(&mut noise(n, 700_000).as_slice())
                .unwrap()
        })
        .collect();
    assert!(!fixture.files("index").is_empty());
    let other = fixture.other();
    for (n, object) in objects.iter().enumerate() {
        assert!(read(&other, object) == noise(n as u64, 700_000));
    }
    // It is a cache.
    for path in fixture.files("index") {
        fs::remove_file(path).unwrap();
    }
    let other = fixture.other();
    assert!(
        objects
            .iter()
            .all(|object| read(&other, object).len() == 700_000)
    );
}

#[test]
fn a_store_of_another_format_is_refused() {
    let fixture = Fixture::new();
    let path = fixture.store.root().join("format.json");
    for (text, expected) in [
        (r#"{"version":0}"#, "has format version 0"),
        (
            r#"{"format":"vmfab-store","version":2}"#,
            "has format version 2",
        ),
        (
            r#"{"format":"vmfab-store","version":1,"incompatible":["zeta"]}"#,
            "does not know: zeta",
        ),
        ("", "format.json is damaged"),
        (&"x".repeat(70_000), "format.json is damaged"),
    ] {
        fs::write(&path, text).unwrap();
        let error = Store::open(fixture.store.root()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let object = fixture.store.put_bytes(b"x").unwrap();
    fs::write(
        &path,
        r#"{"format":"vmfab-store","version":1,"read_only_compatible":["new"]}"#,
    )
    .unwrap();
    let store = fixture.other();
    assert_eq!(store.read_object(&object.id).unwrap(), b"x");
    let error = store.put_bytes(b"y").unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
}

#[test]
fn damage_is_an_error_and_never_other_bytes() {
    let fixture = Fixture::new();
    let bytes = noise(3, 900_000);
    let object = fixture.store.put(&mut bytes.as_slice()).unwrap();
    let pack = fixture.files("packs").remove(0);
    fs::set_permissions(&pack, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let file = File::options().read(true).write(true).open(&pack).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 500_000).unwrap();
    file.write_all_at(&[byte[0] ^ 4], 500_000).unwrap();
    let store = fixture.other();
    let error = store.materialise(&object.id).unwrap_err();
    assert!(matches!(error, StoreError::DamagedObject { .. }), "{error}");
    assert!(
        error.to_string().contains(pack.to_str().unwrap()),
        "{error}"
    );
    let error = store.read_object(&object.id).unwrap_err();
    assert!(matches!(error, StoreError::DamagedObject { .. }), "{error}");
    // What is whole of it can be read.
    let mut part = [0; 10];
    store
        .open_object(&object.id)
        .unwrap()
        .read_exact_at(&mut part, 0)
        .unwrap();
    assert_eq!(part, bytes[..10]);
    assert!(
        !fixture
            .directory
            .path()
            .join("cache/disks")
            .join(object.id.to_string())
            .exists()
    );
}

#[test]
fn links_are_not_followed() {
    let fixture = Fixture::new();
    let object = fixture
        .store
        .put(&mut noise(3, 900_000).as_slice())
        .unwrap();
    let pack = fixture.files("packs").remove(0);
    let elsewhere = fixture.directory.path().join("elsewhere");
    fs::rename(&pack, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &pack).unwrap();
    assert!(fixture.other().read_object(&object.id).is_err());
}

#[test]
fn a_sweep_removes_what_nobody_writes() {
    let fixture = Fixture::new();
    let written = fixture.store.temporary().unwrap();
    let (_, left) = fixture.store.temporary().unwrap().keep().unwrap();
    fixture.store.sweep();
    assert!(written.path().exists());
    assert!(!left.exists());
}

fn content() -> impl Strategy<Value = Vec<(bool, usize, u64)>> {
    prop::collection::vec((any::<bool>(), 0_usize..600_000, any::<u64>()), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_file_its_bytes_and_a_stream_are_one_object(parts in content(), step in 1_usize..100_000) {
        let fixture = Fixture::new();
        let bytes: Vec<u8> = parts
            .iter()
            .flat_map(|(zero, length, seed)| if *zero { vec![0; *length] } else { noise(*seed, *length) })
            .collect();
        let sparse = tempfile::NamedTempFile::new().unwrap();
        sparse.as_file().set_len(bytes.len() as u64).unwrap();
        let mut at = 0;
        for (zero, length, _) in &parts {
            if !zero {
                sparse.as_file().write_all_at(&bytes[at..at + length], at as u64).unwrap();
            }
            at += length;
        }
        let object = fixture.store.put_file(sparse.as_file(), sparse.path()).unwrap();
        prop_assert_eq!(object, fixture.store.put_bytes(&bytes).unwrap());
        let mut writer = fixture.store.writer().unwrap();
        for part in bytes.chunks(step) {
            io::Write::write_all(&mut writer, part).unwrap();
        }
        prop_assert_eq!(object, writer.finish().unwrap());
        prop_assert!(read(&fixture.store, &object) == bytes);
        let path = fixture.store.materialise(&object.id).unwrap();
        prop_assert!(fs::read(path).unwrap() == bytes);
        let reader = fixture.store.open_object(&object.id).unwrap();
        for at in (0..bytes.len()).step_by(step) {
            let mut part = vec![0; (bytes.len() - at).min(50_000)];
            reader.read_exact_at(&mut part, at as u64).unwrap();
            prop_assert!(part == bytes[at..at + part.len()]);
        }
    }
}

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};

use super::*;
use crate::digest::{ActionKey, Hasher, ObjectRef};
use crate::host::Interrupt;
use crate::store::ActionResult;

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

fn flip(path: &Path, at: u64) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

struct Fixture {
    directory: tempfile::TempDir,
    large: ObjectRef,
    other: ObjectRef,
    small: Vec<ObjectRef>,
}

fn key(n: u64) -> ActionKey {
    ActionKey::new(Hasher::new("test").update_u64(n).finish())
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        let large = store.put(&mut noise(1, 900_000).as_slice()).unwrap();
        let other = store.put(&mut noise(2, 900_000).as_slice()).unwrap();
        let small = (0..20)
            .map(|n| store.put_bytes(&noise(n, 300)).unwrap())
            .collect();
        for (n, object) in [(1, large), (2, other)] {
            let outputs = BTreeMap::from([("disk".to_owned(), object)]);
            store.put_action(&key(n), ActionResult { outputs }).unwrap();
        }
        Self {
            directory,
            large,
            other,
            small,
        }
    }

    fn open(&self) -> Store {
        Store::open(self.directory.path().join("store")).unwrap()
    }

    fn files(&self, directory: &str) -> Vec<PathBuf> {
        let directory = self.directory.path().join("store").join(directory);
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// The data pack with the chunks of the large object.
    fn pack(&self) -> PathBuf {
        let store = self.open();
        let files = self.files("packs");
        let other = |path: &PathBuf| {
            let aside = self.directory.path().join("aside");
            fs::rename(path, &aside).unwrap();
            let readable = self.open().read_object(&self.large.id).is_ok();
            fs::rename(&aside, path).unwrap();
            readable
        };
        drop(store);
        files.into_iter().find(|path| !other(path)).unwrap()
    }

    fn repair(&self, dry_run: bool) -> Repaired {
        let interrupt = Interrupt::new().unwrap();
        let watch = Watch::new(&interrupt, &|_, _| {});
        self.open().repair(dry_run, &watch).unwrap()
    }

    fn is_whole(&self) -> bool {
        let interrupt = Interrupt::new().unwrap();
        let watch = Watch::new(&interrupt, &|_, _| {});
        let report = self.open().verify(false, &watch).unwrap();
        report.is_whole()
    }
}

#[test]
fn what_is_damaged_is_dropped_and_built_again() {
    let fixture = Fixture::new();
    let pack = fixture.pack();
    flip(&pack, 400_000);
    let planned = fixture.repair(true);
    assert!(!fixture.is_whole() && pack.exists());
    let report = fixture.repair(false);
    assert_eq!(report.dropped, [fixture.large.id]);
    assert_eq!(report.dropped, planned.dropped);
    assert_eq!((report.results, report.in_use), (1, 0));
    assert!(report.salvaged > 3 && report.files == 2, "{report:?}");
    assert!(fixture.is_whole());
    let store = fixture.open();
    assert!(!store.has_object(&fixture.large));
    assert_eq!(store.action(&key(1)), None);
    assert!(store.action(&key(2)).is_some());
    assert!(store.read_object(&fixture.other.id).unwrap() == noise(2, 900_000));
    // Made again, it is there again, with the chunks that were whole.
    assert_eq!(
        store.put(&mut noise(1, 900_000).as_slice()).unwrap(),
        fixture.large
    );
    drop(store);
    assert!(fixture.is_whole());
    assert_eq!(
        fixture.repair(false),
        Repaired {
            found: fixture.repair(false).found,
            ..Repaired::default()
        }
    );
}

#[test]
fn a_disk_in_the_cache_makes_its_object_again() {
    let fixture = Fixture::new();
    fixture.open().materialise(&fixture.large.id).unwrap();
    flip(&fixture.pack(), 400_000);
    let report = fixture.repair(false);
    assert_eq!(
        (report.restored, report.dropped),
        (vec![fixture.large.id], vec![])
    );
    assert!(fixture.is_whole());
    assert!(fixture.open().read_object(&fixture.large.id).unwrap() == noise(1, 900_000));
}

#[test]
fn a_damaged_journal_keeps_what_is_whole() {
    let fixture = Fixture::new();
    let journal = fixture.files("journals").remove(0);
    flip(&journal, 2000);
    assert!(!fixture.is_whole());
    fixture.repair(false);
    assert!(fixture.is_whole());
    let store = fixture.open();
    let lost = fixture
        .small
        .iter()
        .filter(|object| store.read_object(&object.id).is_err());
    assert_eq!(lost.count(), 1);
    assert_eq!(fixture.files("journals").len(), 0);
}

#[test]
fn packs_without_a_head_or_a_table_are_searched() {
    for at in [3, -3] {
        let fixture = Fixture::new();
        let pack = fixture.pack();
        let size = fs::metadata(&pack).unwrap().len();
        flip(&pack, if at > 0 { 3 } else { size - 3 });
        let report = fixture.repair(false);
        assert!(
            report.salvaged > 3 && report.dropped.is_empty(),
            "{report:?}"
        );
        assert!(fixture.is_whole());
        let store = fixture.open();
        assert!(store.read_object(&fixture.other.id).unwrap() == noise(2, 900_000));
        assert!(store.read_object(&fixture.large.id).unwrap() == noise(1, 900_000));
        assert!(store.action(&key(1)).is_some());
    }
}

#[test]
fn names_that_name_nothing_go() {
    let fixture = Fixture::new();
    fs::write(fixture.directory.path().join("store/tags/bad"), "x").unwrap();
    let report = fixture.repair(false);
    assert_eq!(report.names.len(), 1);
    assert!(fixture.is_whole());
}

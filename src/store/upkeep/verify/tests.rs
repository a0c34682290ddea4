//! Damage of every kind is found, and what is whole is not blamed.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};

use proptest::prelude::*;

use super::*;
use crate::digest::ObjectRef;
use crate::host::Interrupt;

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

fn verify(root: &Path, quick: bool) -> Verified {
    let interrupt = Interrupt::new().unwrap();
    let store = Store::open(root).unwrap();
    store
        .verify(quick, &Watch::new(&interrupt, &|_, _| {}))
        .unwrap()
}

/// A store with two data packs, a catalog pack with small things in it, an index of them, and a
/// journal.
fn sample(root: &Path) -> Vec<ObjectRef> {
    let store = Store::open(root).unwrap();
    let mut objects = Vec::new();
    for seed in 0..2 {
        objects.push(store.put_bytes(&noise(seed, 900_000)).unwrap());
    }
    for seed in 2..40 {
        let text = vec![seed as u8; 9000 * seed as usize];
        objects.push(store.put_bytes(&text).unwrap());
    }
    store.records.seal_own().unwrap();
    crate::store::records::index::rebuild(&store.records).unwrap();
    let journaled = store.put_bytes(b"in the journal").unwrap();
    store
        .put_tag(&"tag".parse().unwrap(), &journaled.id)
        .unwrap();
    store
        .put_root(&"root".parse().unwrap(), &[objects[0].id, journaled.id])
        .unwrap();
    objects.push(journaled);
    objects
}

fn files(root: &Path, directory: &str) -> Vec<PathBuf> {
    let mut files = list(&root.join(directory)).unwrap();
    files.sort();
    files
}

fn flip(path: &Path, at: u64) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn a_whole_store_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let objects = sample(directory.path());
    for quick in [true, false] {
        let report = verify(directory.path(), quick);
        assert!(report.is_whole(), "{report:?}");
        assert_eq!(report.objects, objects.len() as u64);
        assert_eq!((report.packs, report.journals), (3, 1));
    }
}

#[test]
fn what_a_killed_writer_left_is_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    sample(directory.path());
    let journal = files(directory.path(), "journals").remove(0);
    let mut bytes = fs::read(&journal).unwrap();
    bytes.extend_from_within(32..60);
    fs::write(&journal, &bytes).unwrap();
    assert!(verify(directory.path(), false).is_whole());
    // But records behind that are not reached.
    let end = bytes.len() - 28;
    bytes.extend_from_within(32..end);
    fs::write(&journal, &bytes).unwrap();
    let report = verify(directory.path(), true);
    assert_eq!(report.damaged_files[0].kind, FileKind::Journal);
}

#[test]
fn what_is_gone_is_missed() {
    let directory = tempfile::tempdir().unwrap();
    let objects = sample(directory.path());
    let packs = files(directory.path(), "packs");
    for pack in &packs {
        let bytes = fs::read(pack).unwrap();
        fs::remove_file(pack).unwrap();
        let report = verify(directory.path(), true);
        assert!(!report.damaged_objects.is_empty(), "{}", pack.display());
        fs::write(pack, bytes).unwrap();
    }
    assert!(verify(directory.path(), false).is_whole());
    for pack in &packs {
        fs::remove_file(pack).unwrap();
    }
    let report = verify(directory.path(), false);
    let damaged: Vec<_> = report
        .damaged_objects
        .iter()
        .map(|one| one.object)
        .collect();
    assert_eq!(damaged, [objects[0].id]);
}

#[test]
fn caches_and_names_are_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    sample(directory.path());
    let index = files(directory.path(), "index").remove(0);
    let size = fs::metadata(&index).unwrap().len();
    flip(&index, size - 10);
    fs::write(directory.path().join("tags/bad"), "x").unwrap();
    fs::write(directory.path().join("roots/bad"), "\n").unwrap();
    fs::write(directory.path().join("tags/.hidden"), "x").unwrap();
    let report = verify(directory.path(), true);
    let kinds: Vec<_> = report.damaged_files.iter().map(|file| file.kind).collect();
    assert_eq!(kinds, [FileKind::Index, FileKind::Root, FileKind::Tag]);
}

#[test]
fn an_interrupt_ends_it() {
    let directory = tempfile::tempdir().unwrap();
    sample(directory.path());
    let interrupt = Interrupt::new().unwrap();
    interrupt.request();
    let store = Store::open(directory.path()).unwrap();
    let error = store
        .verify(false, &Watch::new(&interrupt, &|_, _| {}))
        .unwrap_err();
    assert!(matches!(error, StoreError::Interrupted), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_flipped_bit_anywhere_is_found(pack in 0_usize..3, place: prop::sample::Index) {
        let directory = tempfile::tempdir().unwrap();
        sample(directory.path());
        let pack = files(directory.path(), "packs").remove(pack);
        let size = fs::metadata(&pack).unwrap().len();
        // Half of them in the table.
        let at = match place.index(2) {
            0 => place.index(size as usize) as u64,
            _ => size - 1 - place.index(3000.min(size as usize)) as u64,
        };
        flip(&pack, at);
        let report = verify(directory.path(), false);
        prop_assert_eq!(report.damaged_files.len(), 1, "{:?}", report);
        prop_assert_eq!(&report.damaged_files[0].path, &pack);
        if report.damaged_files[0].records.is_some_and(|records| records > 0) {
            let actually: Vec<_> = report.damaged_objects.iter().map(|one| one.object).collect();
            let store = Store::open(directory.path()).unwrap();
            let ids = store.objects_beginning("", 1000).unwrap();
            let unreadable: Vec<_> = ids
                .into_iter()
                .filter(|id| store.read_object(id).is_err())
                .collect();
            prop_assert_eq!(actually, unreadable);
        }
        verify(directory.path(), true);
    }
}

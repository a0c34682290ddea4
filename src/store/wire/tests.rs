use std::io::Read;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::store::Chunk;
use crate::store::format::{HEADER, RECORD};

pub(super) fn store() -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("store")).unwrap();
    (directory, store)
}

/// Bytes that do not repeat.
pub(super) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

pub(super) fn list(store: &Store, object: &ObjectRef) -> ChunkList {
    match store.parts(&object.id).unwrap() {
        Parts::List(list) => list,
        Parts::Blob(_) => panic!("it is small"),
    }
}

pub(super) fn pack(store: &Store, object: &ObjectRef) -> OutgoingPack {
    let mut seen = HashSet::new();
    let chunks: Vec<Digest> = list(store, object)
        .chunks
        .iter()
        .map(|chunk| chunk.id)
        .filter(|id| seen.insert(*id))
        .collect();
    store.outgoing(&chunks).unwrap()
}

pub(super) fn bytes(pack: &OutgoingPack, offset: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    pack.open(offset).read_to_end(&mut bytes).unwrap();
    bytes
}

pub(super) fn begin(store: &Store, directory: &TempDir, pack: &OutgoingPack) -> IncomingPack {
    let (name, size) = (pack.name(), pack.size());
    let begun = store.incoming(directory.path(), name, size, pack.table_offset());
    begun.unwrap().unwrap()
}

/// Takes all of `bytes`.
pub(super) fn take(incoming: &mut IncomingPack, mut bytes: &[u8]) -> Result<(), IncomingError> {
    while incoming.take(&mut bytes)? > 0 {}
    Ok(())
}

#[test]
fn an_object_travels_from_store_to_store() {
    let (_a, from) = store();
    let (b, to) = store();
    let content = [noise(1, 3_000_000), vec![0; 1 << 20], noise(2, 70_000)].concat();
    let object = from.put(&mut &content[..]).unwrap();
    let pack = pack(&from, &object);
    let all = bytes(&pack, 0);
    assert_eq!(all.len() as u64, pack.size());
    for offset in [1, 31, 32, 40, 5000, 2_000_000, all.len() - 100, all.len()] {
        assert_eq!(bytes(&pack, offset as u64), all[offset..], "from {offset}");
    }
    let tail = &all[pack.table_offset() as usize..];
    let told = chunks_of_table(tail, pack.table_offset(), pack.size()).unwrap();
    assert_eq!(told, pack.chunks());

    let mut incoming = begin(&to, &b, &pack);
    for part in all.chunks(70_001) {
        take(&mut incoming, part).unwrap();
    }
    assert_eq!(incoming.finish().unwrap(), pack.chunks());
    assert!(to.has_pack(&pack.name()).unwrap());
    assert_eq!(to.pack_chunks(&pack.name()).unwrap(), Some(pack.chunks()));
    assert!(!to.has_object(&object));
    assert_eq!(
        to.put_list(&list(&from, &object), &HashSet::new()).unwrap(),
        object
    );
    assert_eq!(to.read_object(&object.id).unwrap(), content);
    let watched = crate::host::Interrupt::new().unwrap();
    let verified = to.verify(false, &crate::store::Watch::new(&watched, &|_, _| {}));
    assert!(verified.unwrap().is_whole());
}

#[test]
fn the_same_chunks_make_the_same_pack_wherever_they_lie() {
    let (_a, one) = store();
    let (_b, other) = store();
    let (first, second) = (noise(1, 900_000), noise(2, 2_000_000));
    let object = one.put(&mut &second[..]).unwrap();
    other.put(&mut &first[..]).unwrap();
    // Beside other content, and a part of it before.
    other.put(&mut &second[..700_000]).unwrap();
    other.put(&mut &second[..]).unwrap();
    assert_eq!(
        bytes(&pack(&one, &object), 0),
        bytes(&pack(&other, &object), 0)
    );
}

#[test]
fn bytes_come_in_parts_of_any_length() {
    let (_a, from) = store();
    let object = from.put(&mut &noise(1, 400_000)[..]).unwrap();
    let pack = pack(&from, &object);
    let all = bytes(&pack, 0);
    for length in [
        1,
        2,
        HEADER,
        RECORD,
        RECORD + 1,
        999,
        65_536,
        262_145,
        all.len(),
    ] {
        let (b, to) = store();
        let mut incoming = begin(&to, &b, &pack);
        for part in all.chunks(length) {
            take(&mut incoming, part).unwrap();
        }
        let chunks = incoming.finish().unwrap();
        assert_eq!(chunks, pack.chunks(), "{length}");
        assert_eq!(to.pack_chunks(&pack.name()).unwrap().unwrap(), chunks);
    }
}

#[test]
fn receiving_goes_on_where_it_ended() {
    let (_a, from) = store();
    let (b, to) = store();
    let object = from.put(&mut &noise(1, 3_000_000)[..]).unwrap();
    let pack = pack(&from, &object);
    let all = bytes(&pack, 0);
    let mut incoming = begin(&to, &b, &pack);
    take(&mut incoming, &all[..1_500_000]).unwrap();
    let (name, size) = (pack.name(), pack.size());
    let other = to.incoming(b.path(), name, size, pack.table_offset());
    assert!(other.unwrap().is_none(), "another one receives it");
    drop(incoming);

    let mut incoming = begin(&to, &b, &pack);
    assert_eq!(incoming.position(), 1_500_000);
    take(&mut incoming, &all[1_500_000..]).unwrap();
    incoming.finish().unwrap();
    assert_eq!(
        to.put_list(&list(&from, &object), &HashSet::new()).unwrap(),
        object
    );
    assert_eq!(std::fs::read_dir(b.path()).unwrap().count(), 1, "the store");

    // What lies there and is something else is not gone on with.
    let path = b.path().join(format!("{name}.pack.partial"));
    std::fs::write(path, &all[100..10_000]).unwrap();
    assert_eq!(begin(&to, &b, &pack).position(), 0);
}

#[test]
fn a_list_without_its_chunks_is_refused() {
    let (_a, from) = store();
    let (_b, to) = store();
    let object = from.put(&mut &noise(1, 300_000)[..]).unwrap();
    assert!(to.put_list(&list(&from, &object), &HashSet::new()).is_err());
    assert!(!to.has_object(&object));
    assert!(to.outgoing(&[list(&from, &object).chunks[0].id]).is_err());
}

#[test]
fn a_list_with_other_lengths_than_those_of_its_chunks_is_refused() {
    let (_a, store) = store();
    let object = store.put(&mut &noise(1, 300_000)[..]).unwrap();
    let right = list(&store, &object);
    let chunk = right.chunks[0];
    // The same chunks one after the other, as long as is said.
    let said = |lengths: &[(Chunk, i64)]| {
        let mut wrong = ChunkList::default();
        for &(chunk, more) in lengths {
            let length = u32::try_from(i64::from(chunk.length) + more).unwrap();
            wrong.chunks.push(Chunk {
                offset: wrong.size,
                length,
                id: chunk.id,
            });
            wrong.size += u64::from(length);
        }
        store.put_list(&wrong, &HashSet::new())
    };
    assert!(said(&[(chunk, 0), (chunk, 0)]).is_ok());
    let last = right.chunks[right.chunks.len() - 1];
    for lengths in [
        &[(chunk, 1)][..],
        &[(chunk, -1)],
        &[(chunk, 0), (last, -1)],
        &[(chunk, 0), (last, 0), (chunk, 1)],
        &[(chunk, 0), (chunk, -1), (last, 1)],
    ] {
        let error = said(lengths).unwrap_err().to_string();
        assert!(error.contains("has another length"), "{lengths:?}: {error}");
    }
}

#[test]
fn single_chunks_are_taken() {
    let (_a, from) = store();
    let (_b, to) = store();
    let object = from.put(&mut &noise(1, 1_000_000)[..]).unwrap();
    let pack = pack(&from, &object);
    let all = bytes(&pack, 0);
    let mut intake = to.intake().unwrap();
    let mut scratch = Vec::new();
    for chunk in pack.chunks() {
        let record = &all[chunk.offset as usize..chunk.end() as usize];
        let header = verify_chunk(record, &chunk.id, &mut scratch).unwrap();
        intake.take(&header, record).unwrap();
        let mut wrong = record.to_vec();
        wrong[100] ^= 1;
        assert!(verify_chunk(&wrong, &chunk.id, &mut scratch).is_err());
        let other = Digest::from_bytes([0; 32]);
        assert!(verify_chunk(record, &other, &mut scratch).is_err());
    }
    intake.finish().unwrap();
    assert_eq!(
        to.put_list(&list(&from, &object), &HashSet::new()).unwrap(),
        object
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is changed in a pack: it is refused, and nothing of it can be found.
    #[test]
    fn a_changed_pack_is_refused(at in any::<prop::sample::Index>(), bit in 0_u8..8, cut in any::<bool>()) {
        let (_a, from) = store();
        let (b, to) = store();
        let object = from.put(&mut &noise(1, 100_000)[..]).unwrap();
        let pack = pack(&from, &object);
        let mut all = bytes(&pack, 0);
        let at = at.index(all.len());
        if cut {
            all.truncate(at);
        } else {
            all[at] ^= 1 << bit;
        }
        let mut incoming = begin(&to, &b, &pack);
        let taken = all.chunks(1000).try_for_each(|part| take(&mut incoming, part));
        if taken.is_ok() {
            prop_assert!(incoming.finish().is_err());
        }
        prop_assert!(!to.has_pack(&pack.name()).unwrap());
        prop_assert!(to.put_list(&list(&from, &object), &HashSet::new()).is_err());
    }
}

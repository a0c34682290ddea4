//! Packs that say of their chunks that they are others.

use std::time::Duration;

use tempfile::TempDir;

use super::tests::{begin, bytes, list, noise, pack, store, take};
use super::*;
use crate::host::Interrupt;
use crate::store::faults::workload::NoRoots;
use crate::store::format::{HEADER, decode_payload, encode_record, encode_table};
use crate::store::records::received::is_marked;
use crate::store::upkeep::verify::Verified;
use crate::store::{Chunk, CollectOptions, Watch};

/// A pack in which `wrong` chunks, by their number, have other content than they say, with right
/// sums all the same; its bytes, and where its table begins.
pub(crate) fn lying(
    honest: &[u8],
    chunks: &[PackedChunk],
    wrong: impl Fn(usize) -> bool,
) -> (Vec<u8>, u64) {
    let mut entries = Vec::new();
    let mut lie = honest[..HEADER].to_vec();
    for (number, chunk) in chunks.iter().enumerate() {
        let record = &honest[chunk.offset as usize..chunk.end() as usize];
        let (header, payload) = RecordHeader::decode_record(record).unwrap();
        let mut content = Vec::new();
        decode_payload(&header, payload, &mut content).unwrap();
        content[0] ^= u8::from(wrong(number));
        let offset = lie.len() as u32;
        entries.push(Entry {
            record: encode_record(&mut lie, Kind::Chunk, &chunk.id, &content),
            offset,
        });
    }
    let end = lie.len() as u64;
    lie.extend(encode_table(&entries, end));
    (lie, end)
}

fn receive(store: &Store, directory: &TempDir, (pack, table): &(Vec<u8>, u64)) -> Sha256 {
    let name = Sha256::of(pack);
    let begun = store.incoming(directory.path(), name, pack.len() as u64, *table);
    let mut incoming = begun.unwrap().unwrap();
    for part in pack.chunks(100_000) {
        take(&mut incoming, part).unwrap();
    }
    incoming.finish().unwrap();
    assert!(is_marked(&store.records.files, &name));
    name
}

/// An object in a store of its own.
struct Origin {
    _directory: TempDir,
    store: Store,
    content: Vec<u8>,
    object: ObjectRef,
}

impl Origin {
    fn new(length: usize) -> Self {
        let (directory, store) = store();
        let content = noise(1, length);
        let object = store.put(&mut &content[..]).unwrap();
        Self {
            _directory: directory,
            store,
            content,
            object,
        }
    }

    fn list(&self) -> ChunkList {
        list(&self.store, &self.object)
    }

    fn pack(&self) -> OutgoingPack {
        pack(&self.store, &self.object)
    }

    /// Its pack, with lies.
    fn lying(&self, wrong: impl Fn(usize) -> bool) -> (Vec<u8>, u64) {
        let pack = self.pack();
        lying(&bytes(&pack, 0), &pack.chunks(), wrong)
    }
}

/// An object that has the first chunks of another one.
fn beginning(list: &ChunkList, count: usize) -> ChunkList {
    let chunks: Vec<Chunk> = list.chunks[..count].to_vec();
    let last = chunks.last().unwrap();
    ChunkList {
        size: last.offset + u64::from(last.length),
        chunks,
    }
}

fn none() -> HashSet<Sha256> {
    HashSet::new()
}

fn verify(store: &Store) -> Verified {
    let interrupt = Interrupt::new().unwrap();
    let verified = store.verify(false, &Watch::new(&interrupt, &|_, _| {}));
    verified.unwrap()
}

fn repair(store: &Store) {
    let interrupt = Interrupt::new().unwrap();
    let watch = Watch::new(&interrupt, &|_, _| {});
    store.repair(false, &watch).unwrap();
}

/// Another process collects all but these.
fn collect(store: Store, keep: &[ObjectRef]) -> Store {
    let ids: Vec<ObjectId> = keep.iter().map(|object| object.id).collect();
    store.put_root(&"kept".parse().unwrap(), &ids).unwrap();
    let root = store.root().to_owned();
    drop(store);
    let store = Store::open(root).unwrap();
    let options = CollectOptions {
        older_than: Duration::ZERO,
        keep_last: 0,
        max_size: None,
        dry_run: false,
    };
    store.collect(&NoRoots, &options).unwrap();
    store
}

fn files(store: &Store, directory: &str) -> usize {
    let entries = std::fs::read_dir(store.root().join(directory));
    entries.unwrap().count()
}

#[test]
fn a_pack_that_lies_about_its_content_harms_only_what_it_came_for() {
    let origin = Origin::new(1_000_000);
    let (b, to) = store();
    let name = receive(&to, &b, &origin.lying(|number| number % 2 == 1));
    let own = HashSet::from([name]);
    let whole = origin.list();
    let part = beginning(&whole, 2);
    let ids: Vec<Digest> = whole.chunks.iter().map(|chunk| chunk.id).collect();

    assert_eq!(to.put_list(&whole, &own).unwrap(), origin.object);
    let error = to.read_object(&origin.object.id).unwrap_err().to_string();
    assert!(error.contains("does not match its key"), "{error}");

    // Only what is right counts for others.
    assert!(to.has_chunk(&ids[0], &none()).unwrap());
    assert!(!to.has_chunk(&ids[1], &none()).unwrap());
    assert!(to.has_chunk(&ids[1], &own).unwrap());
    assert!(to.put_list(&beginning(&whole, 1), &none()).is_ok());
    let error = to.put_list(&part, &none()).unwrap_err().to_string();
    assert!(error.contains("is not in the store"), "{error}");
    assert!(to.outgoing(&ids).is_err());
    assert!(to.resize(&origin.object.id, 900_000).is_err());
    let change = 0..4096;
    let spliced = to.splice(
        &origin.object,
        origin.object.size,
        std::slice::from_ref(&change),
        &mut |offset, buffer| {
            let start = offset as usize;
            buffer.copy_from_slice(&origin.content[start..start + buffer.len()]);
            Ok(())
        },
    );
    assert!(spliced.is_err());

    // The true content heals all of it.
    assert_eq!(to.put(&mut &origin.content[..]).unwrap(), origin.object);
    assert!(to.read_object(&origin.object.id).unwrap() == origin.content);
    let first = to.put_list(&part, &none()).unwrap();
    assert!(to.read_object(&first.id).unwrap() == origin.content[..first.size as usize]);
    let sent = to.outgoing(&pack_ids(&origin)).unwrap();
    assert!(bytes(&sent, 0) == bytes(&origin.pack(), 0));
    let verified = verify(&to);
    assert_eq!(verified.damaged_files.len(), 1);
    assert_eq!(verified.damaged_objects, []);
    drop(sent);
    repair(&to);
    assert!(verify(&to).is_whole());
    assert!(!to.has_pack(&name).unwrap());
    assert_eq!(files(&to, "received"), 0);
    assert!(to.read_object(&origin.object.id).unwrap() == origin.content);
}

fn pack_ids(origin: &Origin) -> Vec<Digest> {
    origin.pack().chunks().iter().map(|one| one.id).collect()
}

#[test]
fn what_is_right_in_a_received_pack_is_not_stored_again() {
    let origin = Origin::new(2_000_000);
    let (b, to) = store();
    let pack = origin.pack();
    let mut incoming = begin(&to, &b, &pack);
    take(&mut incoming, &bytes(&pack, 0)).unwrap();
    incoming.finish().unwrap();
    assert!(is_marked(&to.records.files, &pack.name()));
    assert_eq!(to.put(&mut &origin.content[..]).unwrap(), origin.object);
    assert_eq!(files(&to, "packs"), 1);
    assert!(verify(&to).is_whole());
}

#[test]
fn garbage_collection_copies_no_lies_and_the_mark_goes_with_the_pack() {
    let origin = Origin::new(1_000_000);
    let (b, to) = store();
    let name = receive(&to, &b, &origin.lying(|number| number == 1));
    let whole = origin.list();
    let own = HashSet::from([name]);
    let kept = to.put_list(&beginning(&whole, 2), &own).unwrap();
    // As long as all of it is needed, it stays with its mark.
    let all = to.put_list(&whole, &own).unwrap();
    let to = collect(to, &[all, kept]);
    assert!(to.has_pack(&name).unwrap());
    assert!(is_marked(&to.records.files, &name));

    let to = collect(to, &[kept]);
    assert!(!to.has_pack(&name).unwrap());
    assert_eq!(files(&to, "received"), 0);
    let [right, wrong] = [0, 1].map(|number: usize| whole.chunks[number].id);
    assert!(to.has_chunk(&right, &none()).unwrap());
    assert!(!to.has_chunk(&wrong, &own).unwrap());
    let records = |id| to.records.locate(&id, &[Kind::Chunk]).unwrap().len();
    assert_eq!((records(right), records(wrong)), (1, 0));
    assert!(to.read_object(&kept.id).is_err());
    to.put(&mut &origin.content[..]).unwrap();
    assert!(to.read_object(&kept.id).is_ok());
    assert!(verify(&to).is_whole());
}

#[test]
fn a_mark_without_a_pack_means_nothing_and_goes() {
    let origin = Origin::new(300_000);
    let (b, to) = store();
    let pack = origin.pack();
    // Killed between the mark and the pack.
    drop(crate::store::records::received::mark(&to.records.files, [&pack.name()]).unwrap());
    assert!(!to.has_pack(&pack.name()).unwrap());
    assert!(verify(&to).is_whole());
    let to = collect(to, &[]);
    assert_eq!(files(&to, "received"), 0);
    // While somebody marks, none goes.
    let marking = crate::store::records::received::mark(&to.records.files, [&pack.name()]).unwrap();
    let to = collect(to, &[]);
    assert_eq!(files(&to, "received"), 1);
    drop(marking);
    let mut incoming = begin(&to, &b, &pack);
    take(&mut incoming, &bytes(&pack, 0)).unwrap();
    incoming.finish().unwrap();
    assert_eq!(files(&to, "received"), 1);
}

#[test]
fn a_backup_has_the_mark_and_relies_on_no_lie() {
    let origin = Origin::new(200_000);
    let (b, to) = store();
    let (_c, backup) = store();
    let name = receive(&to, &b, &origin.lying(|_| true));
    let interrupt = Interrupt::new().unwrap();
    let watch = Watch::new(&interrupt, &|_, _| {});
    backup.bring(&to, false, &watch).unwrap();
    assert!(backup.has_pack(&name).unwrap());
    assert!(is_marked(&backup.records.files, &name));
    let id = origin.list().chunks[0].id;
    assert!(!backup.has_chunk(&id, &none()).unwrap());
    // What another store has in a journal comes in spite of it.
    assert_eq!(files(&origin.store, "packs"), 0);
    backup.bring(&origin.store, false, &watch).unwrap();
    assert!(backup.read_object(&origin.object.id).unwrap() == origin.content);
    // What was not received has no mark.
    backup.put(&mut &noise(2, 1_000_000)[..]).unwrap();
    to.bring(&backup, false, &watch).unwrap();
    assert_eq!(files(&to, "received"), 1);
    assert!(files(&to, "packs") > 1);
}

#[test]
fn a_pack_of_other_records_is_refused() {
    let origin = Origin::new(300_000);
    let (b, to) = store();
    let mut other = bytes(&origin.pack(), 0)[..HEADER].to_vec();
    let id = list_of_nothing();
    let record = encode_record(&mut other, Kind::Blob, &id, b"");
    let end = other.len() as u64;
    let entry = Entry {
        record,
        offset: HEADER as u32,
    };
    other.extend(encode_table(&[entry], end));
    let name = Sha256::of(&other);
    let begun = to.incoming(b.path(), name, other.len() as u64, end);
    let error = take(&mut begun.unwrap().unwrap(), &other).unwrap_err();
    assert!(error.to_string().contains("other records"), "{error}");
    assert_eq!(files(&to, "packs") + files(&to, "received"), 0);
}

fn list_of_nothing() -> Digest {
    *ChunkList::default().id().digest()
}

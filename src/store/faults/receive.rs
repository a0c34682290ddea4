//! A pack that comes whole from elsewhere.

use std::collections::HashSet;
use std::io::Read;
use std::sync::LazyLock;

use super::workload::CONTENTS;
use crate::digest::{Digest, Sha256};
use crate::store::content::ingest::list_of;
use crate::store::error::StoreError;
use crate::store::records::received::is_marked;
use crate::store::{ChunkList, IncomingError, Store};

/// What comes as a pack.
struct Received {
    list: ChunkList,
    bytes: Vec<u8>,
    table: u64,
    name: Sha256,
}

/// Content 12 from elsewhere. Its chunks are in another order, so that no pack of a process here
/// has that name.
static RECEIVED: LazyLock<Received> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("elsewhere")).unwrap();
    store.put(&mut &CONTENTS[12].1[..]).unwrap();
    let list = list_of(&CONTENTS[12].1);
    let chunks: Vec<Digest> = list.chunks.iter().rev().map(|chunk| chunk.id).collect();
    assert!(chunks.len() > 1);
    let pack = store.outgoing(&chunks).unwrap();
    let mut bytes = Vec::new();
    pack.open(0).read_to_end(&mut bytes).unwrap();
    Received {
        list,
        bytes,
        table: pack.table_offset(),
        name: pack.name(),
    }
});

/// Receives the pack, and stores the object for which it came.
pub(super) fn receive(store: &Store) -> Result<(), StoreError> {
    let wanted = &*RECEIVED;
    let failed = |error| match error {
        IncomingError::Store(error) => error,
        error => panic!("{error}"),
    };
    if !store.has_pack(&wanted.name)? {
        let directory = store.root().join("tmp");
        let size = wanted.bytes.len() as u64;
        let incoming = store.incoming(&directory, wanted.name, size, wanted.table);
        let mut incoming = incoming.map_err(failed)?.unwrap();
        let position = incoming.position() as usize;
        let mut bytes = &wanted.bytes[position..];
        while incoming.take(&mut bytes).map_err(failed)? > 0 {}
        incoming.finish().map_err(failed)?;
    }
    let put = store.put_list(&wanted.list, &HashSet::from([wanted.name]))?;
    assert_eq!(put, CONTENTS[12].0);
    Ok(())
}

/// The pack is not there without its mark.
pub(super) fn check_mark(store: &Store) {
    let name = RECEIVED.name;
    let there = store.has_pack(&name).unwrap();
    let marked = is_marked(&store.records.files, &name);
    assert!(marked || !there, "a pack without its mark");
}

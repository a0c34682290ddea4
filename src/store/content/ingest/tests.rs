//! Splicing against putting the whole.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "ranges are what is spliced"
)]

use std::cell::Cell;
use std::ops::Range;

use proptest::prelude::*;

use crate::digest::ObjectRef;
use crate::store::{Store, StoreError};

/// Bytes that look random, from a seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Parts of a disk: files, free space, and what gives the longest chunks.
fn part() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        5 => (any::<u64>(), 1_usize..90).prop_map(|(seed, blocks)| noise(seed, blocks * 4096)),
        3 => (1_usize..60).prop_map(|blocks| vec![0; blocks * 4096]),
        1 => (1_usize..150).prop_map(|blocks| vec![7; blocks * 4096]),
        1 => (any::<u64>(), 0_usize..10_000).prop_map(|(seed, length)| noise(seed, length)),
    ]
}

/// What happens in a place: new bytes, zeros, bytes as they were, or the bytes from elsewhere.
#[derive(Debug, Clone)]
enum Change {
    Noise(u64),
    Zeros,
    Nothing,
    From(usize),
}

fn change() -> impl Strategy<Value = (usize, usize, Change)> {
    let length = prop_oneof![0_usize..3, 1_usize..9000, 0_usize..300_000];
    let change = prop_oneof![
        3 => any::<u64>().prop_map(Change::Noise),
        2 => Just(Change::Zeros),
        1 => Just(Change::Nothing),
        1 => any::<usize>().prop_map(Change::From),
    ];
    (any::<usize>(), length, change)
}

/// Makes changes; gives the ranges in which they are.
fn apply(content: &mut [u8], changes: &[(usize, usize, Change)], aligned: bool) -> Vec<Range<u64>> {
    let size = content.len();
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (at, length, change) in changes {
        let mut start = at % (size + 1);
        let mut end = (start + length).min(size);
        if aligned {
            start -= start % 4096;
            end = end.next_multiple_of(4096).min(size);
        }
        if ranges.iter().any(|r| start < r.end && r.start < end) {
            continue;
        }
        let target = &mut content[start..end];
        match change {
            Change::Noise(seed) => target.copy_from_slice(&noise(*seed, end - start)),
            Change::Zeros => target.fill(0),
            Change::Nothing => {}
            Change::From(from) => {
                let from = from % (size - (end - start) + 1);
                content.copy_within(from..from + (end - start), start);
            }
        }
        ranges.push(start..end);
    }
    ranges.sort_by_key(|range| (range.start, range.end));
    let ranges = ranges.into_iter();
    ranges.map(|r| r.start as u64..r.end as u64).collect()
}

struct Fixture {
    _directory: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        Self {
            _directory: directory,
            store,
        }
    }

    fn put(&self, content: &[u8]) -> ObjectRef {
        self.store.put(&mut &*content).unwrap()
    }

    /// Splices `content` from `base`; tells how many bytes were asked for, too.
    fn splice(
        &self,
        base: &ObjectRef,
        content: &[u8],
        changed: &[Range<u64>],
    ) -> Result<(ObjectRef, usize), StoreError> {
        let asked = Cell::new(0);
        let mut read = |offset: u64, buffer: &mut [u8]| {
            asked.set(asked.get() + buffer.len());
            buffer.copy_from_slice(&content[offset as usize..offset as usize + buffer.len()]);
            Ok(())
        };
        let size = content.len() as u64;
        let object = self.store.splice(base, size, changed, &mut read)?;
        Ok((object, asked.get()))
    }

    fn read(&self, object: &ObjectRef) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut reader = self.store.open_object(&object.id).unwrap();
        std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
        bytes
    }
}

fn tar_of(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (number, data) in parts.iter().enumerate() {
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        let name = format!("file-{number}");
        builder
            .append_data(&mut header, name, data.as_slice())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn splicing_gives_what_putting_gives(
        parts in prop::collection::vec(part(), 0..12),
        grown in prop::collection::vec(part(), 0..3),
        changes in prop::collection::vec(change(), 0..6),
        aligned: bool,
        in_tar in prop::bool::weighted(0.15),
    ) {
        let fixture = Fixture::new();
        let old = if in_tar { tar_of(&parts) } else { parts.concat() };
        let base = fixture.put(&old);
        let mut new = old.clone();
        // What grows is zeros at first, and a part of it is written in a second step.
        new.resize(old.len() + grown.concat().len(), 0);
        let changed = apply(&mut new, &changes, aligned);
        let (spliced, _) = fixture.splice(&base, &new, &changed).unwrap();
        prop_assert_eq!(spliced, Fixture::new().put(&new));
        prop_assert!(fixture.read(&spliced) == new);

        let mut last = new.clone();
        last[old.len()..].copy_from_slice(&grown.concat());
        let tail = old.len() as u64..last.len() as u64;
        let (last_spliced, _) = fixture.splice(&spliced, &last, &[tail]).unwrap();
        prop_assert_eq!(last_spliced, Fixture::new().put(&last));
    }
}

#[test]
fn only_what_is_near_a_change_is_read() {
    let fixture = Fixture::new();
    let mut content = noise(1, 24 << 20);
    content[8 << 20..12 << 20].fill(0);
    let base = fixture.put(&content);
    let changed = [5 << 20..6 << 20, 9 << 20..(9 << 20) + 1, 20 << 20..20 << 20];
    content[5 << 20..6 << 20].copy_from_slice(&noise(2, 1 << 20));
    content[9 << 20] = 1;
    let (spliced, asked) = fixture.splice(&base, &content, &changed).unwrap();
    assert_eq!(spliced, Fixture::new().put(&content));
    assert!(asked < 3 << 20, "{asked}");

    // No change is none.
    assert_eq!(fixture.splice(&base, &content, &[]).unwrap().0, base);
    let same = [0..1, 7 << 20..8 << 20, (24 << 20) - 1..24 << 20];
    let (again, asked) = fixture.splice(&spliced, &content, &same).unwrap();
    assert_eq!(again, spliced);
    assert!(asked < 4 << 20, "{asked}");
}

#[test]
fn content_becomes_a_tar_and_is_one_no_more() {
    let fixture = Fixture::new();
    let tar = tar_of(&[noise(1, 300_000), noise(2, 9), noise(3, 200_000)]);
    let mut disk = tar.clone();
    disk[257..262].copy_from_slice(b"notar");
    let (of_tar, of_disk) = (fixture.put(&tar), fixture.put(&disk));
    let magic = [257..262];
    let (object, _) = fixture.splice(&of_tar, &disk, &magic).unwrap();
    assert_eq!(object, of_disk);
    let (object, _) = fixture.splice(&of_disk, &tar, &magic).unwrap();
    assert_eq!(object, of_tar);
}

#[test]
fn what_cannot_be_is_refused() {
    let fixture = Fixture::new();
    let content = noise(1, 1 << 20);
    let base = fixture.put(&content);
    let refused = |content: &[u8], changed: &[Range<u64>]| {
        let error = fixture.splice(&base, content, changed).unwrap_err();
        assert!(matches!(error, StoreError::Refused(_)), "{error}");
    };
    refused(&content[1..], &[]);
    refused(&content, &[5..6, 2..3]);
    refused(&content, &[2..7, 6..8]);
    refused(&content, &[2..content.len() as u64 + 1]);
    let other = ObjectRef {
        size: base.size - 1,
        ..base
    };
    let error = fixture.splice(&other, &content, &[]).unwrap_err();
    assert!(matches!(error, StoreError::DamagedObject { .. }), "{error}");
    let failed = fixture
        .store
        .splice(&base, base.size, &[3..4], &mut |_, _| {
            Err(std::io::Error::other("the overlay is gone"))
        });
    assert!(
        failed
            .unwrap_err()
            .to_string()
            .contains("the overlay is gone")
    );
}

#[test]
fn chunks_of_another_process_are_stored_again() {
    let fixture = Fixture::new();
    // Small enough to lie in the journal of the one that put it.
    let mut content = noise(1, 300 << 10);
    let base = fixture.put(&content);
    let journals = || -> u64 {
        let entries = std::fs::read_dir(fixture.store.root().join("journals")).unwrap();
        entries.map(|e| e.unwrap().metadata().unwrap().len()).sum()
    };
    let before = journals();
    let other = Store::open(fixture.store.root()).unwrap();
    content[100_000] ^= 1;
    let mut read = |offset: u64, buffer: &mut [u8]| {
        buffer.copy_from_slice(&content[offset as usize..offset as usize + buffer.len()]);
        Ok(())
    };
    let spliced = other
        .splice(&base, base.size, &[100_000..100_001], &mut read)
        .unwrap();
    assert!(journals() > before + (290 << 10));
    assert_eq!(spliced, fixture.put(&content));
}

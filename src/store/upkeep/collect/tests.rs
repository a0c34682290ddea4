//! Garbage collection against what must stay and what must go, with other processes at work.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::PathBuf;

use super::*;
use crate::digest::{Hasher, ObjectRef};
use crate::store::{ActionResult, TagName};

/// Image configs of these tests are the texts of object ids.
#[derive(Default)]
struct Named {
    objects: Vec<ObjectId>,
    /// Done when roots are asked for the n-th time.
    meanwhile: Option<(usize, Box<dyn Fn()>)>,
    asked: std::cell::Cell<usize>,
    /// Done once, after marking and before anything is taken away.
    after_marking: std::cell::RefCell<Option<Box<dyn FnOnce()>>>,
}

impl Roots for Named {
    fn objects(&self) -> Result<Vec<ObjectId>, Box<dyn std::error::Error + Send + Sync>> {
        self.asked.set(self.asked.get() + 1);
        if let Some((when, work)) = &self.meanwhile
            && *when == self.asked.get()
        {
            work();
        }
        Ok(self.objects.clone())
    }

    fn references(&self, config: &[u8]) -> Option<Vec<ObjectId>> {
        let text = std::str::from_utf8(config).ok()?;
        text.lines().map(|line| line.parse().ok()).collect()
    }

    fn interrupted(&self) -> bool {
        if let Some(work) = self.after_marking.take() {
            work();
        }
        false
    }
}

const NOTHING: CollectOptions = CollectOptions {
    older_than: Duration::ZERO,
    keep_last: 0,
    max_size: None,
    dry_run: false,
};

struct Fixture {
    directory: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory }
    }

    /// A process.
    fn open(&self) -> Store {
        Store::open(self.directory.path().join("store")).unwrap()
    }

    fn packs(&self) -> Vec<PathBuf> {
        let packs = fs::read_dir(self.directory.path().join("store/packs")).unwrap();
        packs.map(|entry| entry.unwrap().path()).collect()
    }

    fn collect(&self, options: &CollectOptions) -> Collection {
        self.open().collect(&Named::default(), options).unwrap()
    }
}

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
    let mut reader = store.open_object(&object.id).unwrap();
    reader.read_to_end(&mut bytes).unwrap();
    bytes
}

fn tag(name: &str) -> TagName {
    name.parse().unwrap()
}

fn key(n: u64) -> ActionKey {
    ActionKey::new(Hasher::new("test").update_u64(n).finish())
}

fn result(name: &str, object: ObjectRef) -> ActionResult {
    ActionResult {
        outputs: BTreeMap::from([(name.to_owned(), object)]),
    }
}

/// A disk, and an image config that refers to it.
fn image(store: &Store, seed: u64) -> (ObjectRef, ObjectRef) {
    let disk = store.put(&mut noise(seed, 2 << 20).as_slice()).unwrap();
    let config = store
        .put_bytes(format!("{}\n", disk.id).as_bytes())
        .unwrap();
    (config, disk)
}

#[test]
fn what_no_root_reaches_goes() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let (kept, kept_disk) = image(&store, 1);
    let (dead, dead_disk) = image(&store, 2);
    let rooted = store.put(&mut noise(3, 900_000).as_slice()).unwrap();
    store.put_action(&key(1), result("config", kept)).unwrap();
    // What stays for a name need not be made again, and what is gone must.
    store.put_action(&key(2), result("config", dead)).unwrap();
    store.put_tag(&tag("kept"), &kept.id).unwrap();
    store.put_root(&tag("root"), &[rooted.id]).unwrap();
    drop(store);

    let before = fixture.packs();
    let planned = fixture.collect(&CollectOptions {
        dry_run: true,
        ..NOTHING
    });
    assert_eq!(fixture.packs(), before);
    let report = fixture.collect(&NOTHING);
    assert_eq!(
        report.objects,
        Tally {
            kept: 3,
            removed: 2
        }
    );
    assert_eq!(
        report.results,
        Tally {
            kept: 1,
            removed: 1
        }
    );
    assert_eq!(report.dropped[0].key, key(2));
    assert_eq!(
        (planned.objects, planned.results),
        (report.objects, report.results)
    );
    assert!(report.after < report.before - (2 << 20) && planned.after < planned.before);

    let store = fixture.open();
    assert!(read(&store, &kept_disk) == noise(1, 2 << 20));
    assert!(read(&store, &rooted) == noise(3, 900_000));
    assert!(!store.has_object(&dead_disk));
    assert_eq!(store.action(&key(1)), Some(result("config", kept)));
    assert_eq!(store.action(&key(2)), None);
    assert_eq!(fixture.packs().len(), 3);
    drop(store);
    let again = fixture.collect(&NOTHING);
    assert_eq!(
        again.packs,
        Tally {
            kept: 3,
            removed: 0
        }
    );
}

#[test]
fn results_stay_by_age_and_by_size() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for n in 1..=3 {
        let (config, disk) = image(&store, n);
        store.put_action(&key(n), result("disk", disk)).unwrap();
        store
            .put_action(&key(10 + n), result("config", config))
            .unwrap();
    }
    drop(store);
    let young = CollectOptions {
        older_than: Duration::from_secs(3600),
        ..NOTHING
    };
    assert_eq!(
        fixture.collect(&young).results,
        Tally {
            kept: 6,
            removed: 0
        }
    );
    let small = CollectOptions {
        max_size: Some(5 << 20),
        ..young.clone()
    };
    let report = fixture.collect(&small);
    assert!(
        report.after < 5 << 20 && report.after > 4 << 20,
        "{report:?}"
    );
    assert!(
        report
            .dropped
            .iter()
            .all(|dropped| dropped.reason == Reason::Size)
    );
    let last = CollectOptions {
        keep_last: 1,
        ..NOTHING
    };
    let report = fixture.collect(&last);
    // Its disk with it. The disk's own result went, unless it is older by a second: then it costs
    // nothing any more.
    assert!(
        (1..=2).contains(&report.results.kept),
        "{:?}",
        report.results
    );
    let store = fixture.open();
    let newest = (11..=13).find_map(|n| store.action(&key(n))).unwrap();
    let config = store.read_object(&newest.outputs["config"].id).unwrap();
    let disk: ObjectId = String::from_utf8(config).unwrap().trim().parse().unwrap();
    assert_eq!(store.open_object(&disk).unwrap().size(), 2 << 20);
}

#[test]
fn what_a_running_process_relies_on_stays() {
    let fixture = Fixture::new();
    let first = fixture.open();
    let (config, disk) = image(&first, 1);
    drop(first);
    // Recorded by a build that will tag it later, or not.
    let running = fixture.open();
    assert!(running.has_object(&config));
    let put = running.put(&mut noise(5, 800_000).as_slice()).unwrap();
    let report = fixture.collect(&NOTHING);
    assert!(
        report.put_back > 0 || report.objects.removed == 0,
        "{report:?}"
    );
    running.put_tag(&tag("late"), &config.id).unwrap();
    assert!(read(&running, &disk) == noise(1, 2 << 20));
    assert!(read(&running, &put) == noise(5, 800_000));
    drop(running);
    fixture.collect(&NOTHING);
    let store = fixture.open();
    assert!(read(&store, &disk) == noise(1, 2 << 20));
    assert!(!store.has_object(&put));
}

#[test]
fn what_is_named_while_it_goes_stays() {
    // When roots are asked for the second time, catalogs are in the trash; the third time, data
    // packs.
    for when in [2, 3] {
        let fixture = Fixture::new();
        let store = fixture.open();
        let (config, disk) = image(&store, 1);
        let (other, _) = image(&store, 2);
        store.put_tag(&tag("other"), &other.id).unwrap();
        drop(store);
        let late = fixture.open();
        assert!(late.has_object(&config));
        let roots = Named {
            // It tags, ends, and leaves no session behind.
            meanwhile: Some((
                when,
                Box::new({
                    let late = std::cell::RefCell::new(Some(late));
                    move || {
                        let late = late.borrow_mut().take().unwrap();
                        late.put_tag(&tag("late"), &config.id).unwrap();
                    }
                }),
            )),
            ..Named::default()
        };
        fixture.open().collect(&roots, &NOTHING).unwrap();
        let store = fixture.open();
        assert!(read(&store, &disk) == noise(1, 2 << 20), "{when}");
    }
}

#[test]
fn what_is_put_meanwhile_stays() {
    for when in [2, 3] {
        let fixture = Fixture::new();
        let store = fixture.open();
        let dead = store.put(&mut noise(1, 2 << 20).as_slice()).unwrap();
        drop(store);
        let root = fixture.directory.path().join("store");
        let roots = Named {
            meanwhile: Some((
                when,
                // The same content, whose chunks are known, or are on their way out.
                Box::new(move || {
                    let store = Store::open(&root).unwrap();
                    let object = store.put(&mut noise(1, 2 << 20).as_slice()).unwrap();
                    store.put_root(&tag("again"), &[object.id]).unwrap();
                }),
            )),
            ..Named::default()
        };
        fixture.open().collect(&roots, &NOTHING).unwrap();
        assert!(read(&fixture.open(), &dead) == noise(1, 2 << 20), "{when}");
    }
}

#[test]
fn mostly_dead_packs_are_written_anew() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let mut bytes = noise(1, 10 << 20);
    store.put(&mut bytes.as_slice()).unwrap();
    // Shares its first chunks.
    bytes.truncate(2 << 20);
    let part = store.put(&mut bytes.as_slice()).unwrap();
    store.put_root(&tag("part"), &[part.id]).unwrap();
    drop(store);
    let report = fixture.collect(&NOTHING);
    assert!(report.after < 3 << 20, "{report:?}");
    assert!(read(&fixture.open(), &part) == bytes);
}

#[test]
fn a_killed_collection_loses_nothing() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let object = store.put(&mut noise(1, 2 << 20).as_slice()).unwrap();
    store.put_root(&tag("root"), &[object.id]).unwrap();
    drop(store);
    let trash = fixture.directory.path().join("store/trash");
    for pack in fixture.packs() {
        fs::rename(&pack, trash.join(pack.file_name().unwrap())).unwrap();
    }
    // Readers do not wait for the next collection.
    assert!(read(&fixture.open(), &object) == noise(1, 2 << 20));
    assert_eq!(fs::read_dir(&trash).unwrap().count(), 0);
}

#[test]
fn one_collection_at_a_time() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let _lock = store.try_lock("gc").unwrap();
    let error = fixture
        .open()
        .collect(&Named::default(), &NOTHING)
        .unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error}");
}

#[test]
fn small_chunks_that_are_shared_meanwhile_stay() {
    let fixture = Fixture::new();
    let store = fixture.open();
    // Below what gets packs of its own: its chunks are in a catalog.
    let shared = noise(1, 300_000);
    store.put(&mut shared.as_slice()).unwrap();
    drop(store);
    let root = fixture.directory.path().join("store");
    let more = [shared.clone(), noise(2, 50_000)].concat();
    // It finds the chunks in a pack that is on its way out, names what it made of them, and ends.
    let work = move || {
        let store = Store::open(&root).unwrap();
        let object = store.put(&mut more.as_slice()).unwrap();
        store.put_root(&tag("more"), &[object.id]).unwrap();
    };
    let roots = Named {
        after_marking: std::cell::RefCell::new(Some(Box::new(work))),
        ..Named::default()
    };
    fixture.open().collect(&roots, &NOTHING).unwrap();
    let store = fixture.open();
    let object = store.roots().unwrap()[0].1[0];
    let mut bytes = Vec::new();
    store
        .open_object(&object)
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    assert!(bytes == [shared, noise(2, 50_000)].concat());
}

#[test]
fn what_a_large_config_refers_to_stays() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let disk = store.put(&mut noise(1, 900_000).as_slice()).unwrap();
    // Longer than a blob may be.
    let config = format!("{}\n", disk.id).repeat(600);
    let config = store.put_bytes(config.as_bytes()).unwrap();
    store.put_tag(&tag("large"), &config.id).unwrap();
    drop(store);
    fixture.collect(&NOTHING);
    assert!(read(&fixture.open(), &disk) == noise(1, 900_000));
}

#[test]
fn an_image_that_is_not_understood_stops_it() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let config = store.put_bytes(b"of a newer version").unwrap();
    store.put_tag(&tag("newer"), &config.id).unwrap();
    drop(store);
    let error = fixture
        .open()
        .collect(&Named::default(), &NOTHING)
        .unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error}");
}

#[test]
fn where_something_is_stays_known_as_long_as_it_is_there() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let kept = store.put_bytes(&[1; 100_000]).unwrap();
    let gone = store.put_bytes(&[2; 100_000]).unwrap();
    store.put_root(&tag("root"), &[kept.id]).unwrap();
    for (number, object) in [(1, kept), (2, gone)] {
        store
            .put_action(&key(number), result("packages", object))
            .unwrap();
    }
    drop(store);
    fixture.collect(&NOTHING);
    let store = fixture.open();
    assert!(store.action(&key(1)).is_some());
    assert!(store.action(&key(2)).is_none());
}

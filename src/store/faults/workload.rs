//! A workload of two processes on one host, and a model of what they were told is done.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use super::Faults;
use super::receive::{check_mark, receive};
use crate::digest::{ActionKey, Hasher, ObjectId, ObjectRef};
use crate::host::Interrupt;
use crate::store::content::ingest::list_of;
use crate::store::error::StoreError;
use crate::store::records::Records;
use crate::store::records::index;
use crate::store::{ActionResult, CollectOptions, FileKind, Roots, Store, TagName, Watch};

/// What one process does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Open,
    Close,
    /// Puts a content, by its number.
    Put(usize),
    /// Receives a content as a pack.
    Receive(usize),
    Tag(&'static str, usize),
    Untag(&'static str),
    /// Records a result under a key.
    Act(&'static str, usize),
    /// Makes a pack of the journal.
    Seal,
    /// Makes an index.
    Merge,
    Sweep,
    /// Collects all that has no name.
    Collect,
}

impl Step {
    /// Whether later steps need that it is done.
    pub(super) const fn is_needed(self) -> bool {
        matches!(self, Open | Close | Put(_) | Receive(_))
    }
}

use Step::{Act, Close, Collect, Merge, Open, Put, Receive, Seal, Sweep, Tag, Untag};

/// The workload: who, and what.
pub(super) const STEPS: &[(usize, Step)] = &[
    (0, Open),
    (0, Put(0)),
    (0, Put(1)),
    (0, Act("one", 1)),
    (0, Tag("a", 1)),
    (1, Open),
    (1, Put(5)),
    (1, Put(2)),
    (1, Put(6)),
    (0, Tag("b", 2)),
    (0, Tag("a", 6)),
    (0, Put(3)),
    (1, Act("two", 3)),
    (0, Receive(12)),
    (1, Put(12)),
    (0, Put(7)),
    (0, Put(8)),
    (1, Put(4)),
    (1, Tag("c", 4)),
    (0, Merge),
    (0, Act("one", 7)),
    (0, Close),
    (0, Open),
    (0, Put(9)),
    (0, Tag("a", 9)),
    (1, Untag("b")),
    (1, Seal),
    (1, Close),
    (0, Put(10)),
    (1, Open),
    (1, Sweep),
    (1, Put(11)),
    (1, Merge),
    (1, Tag("b", 11)),
    (0, Tag("c", 10)),
    (0, Act("two", 10)),
    (1, Collect),
    (0, Receive(12)),
    (0, Tag("e", 12)),
    (1, Put(3)),
    (0, Put(4)),
    (0, Tag("d", 4)),
    (0, Close),
    (0, Open),
    (0, Untag("c")),
    (1, Close),
    (0, Collect),
    (0, Put(8)),
];

/// Contents with the objects that they are.
pub(super) static CONTENTS: LazyLock<Vec<(ObjectRef, Vec<u8>)>> = LazyLock::new(|| {
    let large = noise(1, 120_000);
    let mut disk = noise(2, 20_000);
    disk.resize(60_000, 0);
    disk.extend_from_slice(&large[..70_000]);
    let contents = [
        b"small".to_vec(),
        // Several packs.
        large.clone(),
        // Shares chunks with the one before, and has a hole.
        disk,
        // One pack.
        noise(3, 18_000),
        // Compresses, and so goes to the journal with its chunks.
        vec![7; 20_000],
        noise(5, 100),
        // Chunks in the journal, of which another one has some.
        [vec![7; 20_000], vec![8; 4096]].concat(),
        // So that journals are sealed.
        noise(7, 1500),
        noise(8, 3000),
        noise(9, 2000),
        noise(10, 17_000),
        noise(11, 400),
        // Comes as a pack.
        noise(12, 150_000),
    ];
    contents
        .into_iter()
        .map(|bytes| {
            let id = list_of(&bytes).id();
            let size = bytes.len() as u64;
            (ObjectRef { id, size }, bytes)
        })
        .collect()
});

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

fn tag(name: &str) -> TagName {
    name.parse().unwrap()
}

fn key(name: &str) -> ActionKey {
    ActionKey::new(Hasher::new("fault test").update(name.as_bytes()).finish())
}

fn result(content: usize) -> ActionResult {
    ActionResult {
        outputs: BTreeMap::from([("out".to_owned(), CONTENTS[content].0)]),
    }
}

const EVERYTHING: CollectOptions = CollectOptions {
    older_than: Duration::ZERO,
    keep_last: 0,
    max_size: None,
    dry_run: false,
};

/// Nothing but tags; contents refer to nothing.
pub(in crate::store) struct NoRoots;

impl Roots for NoRoots {
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

/// What must be there, and what may be.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    /// Contents that were put.
    put: BTreeSet<usize>,
    /// What a tag names: more than one while it is being moved.
    tags: BTreeMap<&'static str, BTreeSet<Option<usize>>>,
    /// Results under a key, and whether there may be none.
    actions: BTreeMap<&'static str, BTreeSet<Option<usize>>>,
    /// All results that there ever were under a key.
    results: BTreeMap<&'static str, BTreeSet<usize>>,
}

impl Model {
    fn begin(&mut self, step: Step) {
        let none = || BTreeSet::from([None]);
        match step {
            Tag(name, content) => {
                let values = self.tags.entry(name).or_insert_with(none);
                values.insert(Some(content));
            }
            Untag(name) => {
                self.tags.entry(name).or_insert_with(none).insert(None);
            }
            Act(name, content) => {
                let values = self.actions.entry(name).or_insert_with(none);
                values.insert(Some(content));
                self.results.entry(name).or_default().insert(content);
            }
            Collect => {
                // Processes that live rely on what they put, but who checks afterwards asks another
                // one.
                self.put.clear();
                for values in self.actions.values_mut() {
                    values.insert(None);
                }
            }
            Open | Close | Put(_) | Receive(_) | Seal | Merge | Sweep => {}
        }
    }

    fn done(&mut self, step: Step) {
        match step {
            Put(content) | Receive(content) => drop(self.put.insert(content)),
            Tag(name, content) => drop(self.tags.insert(name, BTreeSet::from([Some(content)]))),
            Untag(name) => drop(self.tags.insert(name, BTreeSet::from([None]))),
            // Of results of the same second any one counts.
            Act(name, _) => drop(
                self.actions
                    .get_mut(name)
                    .map(|values| values.remove(&None)),
            ),
            Open | Close | Seal | Merge | Sweep | Collect => {}
        }
    }
}

/// Two processes at work on one store.
pub(super) struct Host {
    pub(super) root: PathBuf,
    pub(super) faults: Arc<Faults>,
    pub(super) model: Model,
    stores: [Option<Store>; 2],
    ended: Vec<Weak<Records>>,
}

impl Host {
    pub(super) fn new(root: &Path, faults: Arc<Faults>, model: Model) -> Self {
        Self {
            root: root.to_owned(),
            faults,
            model,
            stores: [None, None],
            ended: Vec::new(),
        }
    }

    pub(super) fn step(&mut self, (who, step): (usize, Step)) -> Result<(), StoreError> {
        self.model.begin(step);
        match step {
            Open => {
                let store = Store::open_on(&self.root, &self.faults)?;
                self.ended.push(Arc::downgrade(&store.records));
                self.stores[who] = Some(store);
            }
            Close => {
                self.stores[who] = None;
                self.wait(1);
            }
            _ => self.work(self.stores[who].clone().unwrap(), step)?,
        }
        self.model.done(step);
        Ok(())
    }

    fn work(&self, store: Store, step: Step) -> Result<(), StoreError> {
        match step {
            Put(content) => {
                let (object, bytes) = &CONTENTS[content];
                let mut writer = store.writer()?;
                let failed = |error: io::Error| match error.downcast() {
                    Ok(error) => error,
                    Err(error) => panic!("{error}"),
                };
                writer.write_all(bytes).map_err(failed)?;
                assert_eq!(writer.finish()?, *object);
                Ok(())
            }
            Receive(_) => receive(&store),
            Tag(name, content) => store.put_tag(&tag(name), &CONTENTS[content].0.id),
            Untag(name) => store.remove_tag(&tag(name)).map(drop),
            Act(name, content) => store.put_action(&key(name), result(content)),
            Seal => store.records.seal_own(),
            Merge => index::merge(&store.records),
            Sweep => {
                store.sweep();
                Ok(())
            }
            Collect => store.collect(&NoRoots, &EVERYTHING).map(drop),
            Open | Close => unreachable!(),
        }
    }

    /// Checks what the processes see.
    pub(super) fn check(&self) {
        for store in self.stores.iter().flatten() {
            check_store(store, &self.model, Survives::All);
        }
    }

    /// Checks that what has a name can be read, even while changes fail.
    pub(super) fn check_names(&self) {
        for store in self.stores.iter().flatten() {
            check_tags(store, &self.model);
        }
    }

    /// All processes end.
    pub(super) fn end(&mut self) {
        self.stores = [None, None];
        self.wait(0);
    }

    /// Threads of a process that has ended may go on for a moment.
    fn wait(&self, living: usize) {
        let live = || {
            let live = self.ended.iter().filter(|store| store.strong_count() > 0);
            live.count()
        };
        for _ in 0..2000 {
            if live() <= living {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("a store is in use for ever");
    }
}

/// What of what was done must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Survives {
    All,
    Named,
}

/// Opens a store as the next process, and checks it against the model. Then what is left over must
/// go away.
pub(super) fn check(root: &Path, model: &Model, survives: Survives) {
    // Even on a normal host, limits do not matter to a reader.
    let store = Store::open(root).unwrap();
    check_store(&store, model, survives);
    assert_verified(&store, survives);
    check_store(&store, model, survives);
    check_mark(&store);
    store.sweep();
    drop(store);
    for directory in ["tmp", "sessions", "trash"] {
        let left: Vec<_> = fs::read_dir(root.join(directory)).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Nothing may be wrong. But a loss of power can leave whole records behind torn ones, in what was
/// not forced to disk of a journal: no object misses them, and a repair mends it.
fn assert_verified(store: &Store, survives: Survives) {
    let interrupt = Interrupt::new().unwrap();
    let watch = Watch::new(&interrupt, &|_, _| {});
    let mut verified = store.verify(false, &watch).unwrap();
    let files = &verified.damaged_files;
    let torn = !files.is_empty() && files.iter().all(|file| file.kind == FileKind::Journal);
    if survives == Survives::Named && torn && verified.damaged_objects.is_empty() {
        store.repair(false, &watch).unwrap();
        verified = store.verify(false, &watch).unwrap();
    }
    assert!(verified.is_whole(), "{verified:?}");
}

fn check_tags(store: &Store, model: &Model) {
    for (name, values) in &model.tags {
        let value = store.tag(&tag(name)).unwrap().map(number);
        assert!(values.contains(&value), "@{name} is {value:?}: {values:?}");
        if let Some(content) = value {
            assert!(reads(store, content), "@{name}: content {content}");
        }
    }
}

fn check_store(store: &Store, model: &Model, survives: Survives) {
    let all = survives == Survives::All;
    check_tags(store, model);
    for content in 0..CONTENTS.len() {
        let has = store.has_object(&CONTENTS[content].0);
        assert!(
            has || !all || !model.put.contains(&content),
            "content {content} is gone"
        );
        assert!(!has || reads(store, content), "content {content}");
    }
    for (name, values) in &model.actions {
        let value = store.action(&key(name));
        let value = value.map(|result| number(result.outputs["out"].id));
        let known = match value {
            Some(content) if !all => model.results[name].contains(&content),
            _ if !all => true,
            value => values.contains(&value),
        };
        assert!(known, "{name} is {value:?}: {values:?}");
    }
}

fn number(id: ObjectId) -> usize {
    let found = CONTENTS.iter().position(|(object, _)| object.id == id);
    found.expect("an object that was never put")
}

fn reads(store: &Store, content: usize) -> bool {
    let (object, bytes) = &CONTENTS[content];
    let read = store.read_object(&object.id).unwrap();
    read == *bytes
}

//! Many processes on one store, some of them killed, against a model of what they were told is
//! done.
//!
//! The processes are this test's program run again, in the role of [`worker`]. Each has tags and
//! roots of its own and writes to a log what it is about to do and what is done. By environment it
//! runs for longer: `VMFAB_STRESS_SECONDS`, `VMFAB_STRESS_WORKERS`, `VMFAB_STRESS_SEED`.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use vmfab::digest::{ActionKey, Hasher, ObjectId, ObjectRef};
use vmfab::host::Interrupt;
use vmfab::store::{
    ActionResult, CollectOptions, Roots, Store, StoreError, TagName, Verified, Watch,
};

use super::noise;

/// Different contents.
const CONTENTS: u64 = 48;
/// Names that a process moves.
const NAMES: u64 = 4;
const EVERYTHING: CollectOptions = CollectOptions {
    older_than: Duration::ZERO,
    keep_last: 0,
    max_size: None,
    dry_run: false,
};

fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(format!("VMFAB_STRESS_{name}"));
    text.map_or(default, |text| text.parse().unwrap())
}

/// Numbers from a seed.
struct Random(Cell<u64>);

impl Random {
    fn below(&self, end: u64) -> u64 {
        self.0.set(self.0.get().wrapping_add(1));
        let bytes = noise(self.0.get(), 8);
        u64::from_le_bytes(bytes.try_into().unwrap()) % end
    }
}

/// Content by its number: of all sizes, and with parts of others.
fn content(number: u64) -> Vec<u8> {
    match number % 6 {
        0 => noise(number, 700),
        1 => vec![number as u8; 30_000],
        2 => noise(number, 20_000),
        3 => [
            noise(number, 5000),
            vec![0; 50_000],
            noise(number / 12, 90_000),
        ]
        .concat(),
        4 => [noise(number / 12, 600_000), noise(number, 3000)].concat(),
        _ => noise(number, 16_000),
    }
}

/// The contents that an image of this number consists of.
fn parts(number: u64) -> [u64; 3] {
    [number, number * 7 + 1, number * 5 + 3].map(|part| part % CONTENTS)
}

fn action_key(number: u64) -> ActionKey {
    ActionKey::new(Hasher::new("stress").update(&number.to_le_bytes()).finish())
}

/// Tags name images: texts of the ids of what they consist of.
struct Named;

impl Roots for Named {
    fn objects(&self) -> Result<Vec<ObjectId>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Vec::new())
    }

    fn references(&self, config: &[u8]) -> Option<Vec<ObjectId>> {
        let text = String::from_utf8_lossy(config);
        Some(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    fn interrupted(&self) -> bool {
        false
    }
}

fn verify(store: &Store, quick: bool) -> Result<Verified, StoreError> {
    let interrupt = Interrupt::new().unwrap();
    store.verify(quick, &Watch::new(&interrupt, &|_, _| {}))
}

/// Puts what an image consists of, and the image.
fn put_image(store: &Store, number: u64) -> (ObjectId, Vec<ObjectId>) {
    let put = |part| store.put_bytes(&content(part)).unwrap().id;
    let objects: Vec<ObjectId> = parts(number).into_iter().map(put).collect();
    let text: String = objects.iter().map(|id| format!("{id}\n")).collect();
    (store.put_bytes(text.as_bytes()).unwrap().id, objects)
}

fn check_image(store: &Store, id: &ObjectId, number: u64) {
    let config = String::from_utf8(store.read_object(id).unwrap()).unwrap();
    let objects: Vec<ObjectId> = config.lines().map(|line| line.parse().unwrap()).collect();
    check_parts(store, &objects, number);
}

fn check_parts(store: &Store, objects: &[ObjectId], number: u64) {
    assert_eq!(objects.len(), 3);
    for (object, part) in objects.iter().zip(parts(number)) {
        assert!(
            store.read_object(object).unwrap() == content(part),
            "{object}: {part}"
        );
    }
}

/// What a worker works with.
struct Worker {
    root: PathBuf,
    store: Store,
    random: Random,
    slot: u64,
    log: File,
    /// What this process put: it stays while the process runs.
    put: Vec<(ObjectRef, u64)>,
    names: BTreeMap<String, u64>,
}

impl Worker {
    fn note(&mut self, text: &str) {
        self.log.write_all(format!("{text}\n").as_bytes()).unwrap();
    }

    fn step(&mut self) {
        let number = self.random.below(CONTENTS);
        let key = self.random.below(CONTENTS);
        let name = format!("{}-{}", self.slot, self.random.below(NAMES));
        match self.random.below(100) {
            0..20 => {
                let object = self.store.put_bytes(&content(number)).unwrap();
                self.put.push((object, number));
            }
            20..35 => self.put_name(&name, number),
            35..45 => self.remove_name(&name),
            45..55 => self.check_name(),
            55..65 => {
                let out = self.store.put_bytes(&content(key)).unwrap();
                let outputs = BTreeMap::from([("out".to_owned(), out)]);
                let result = ActionResult { outputs };
                self.store.put_action(&action_key(key), result).unwrap();
            }
            65..77 => {
                if let Some(result) = self.store.action(&action_key(key)) {
                    self.put.push((result.outputs["out"], key));
                    self.check_put();
                }
            }
            77..85 => self.check_put(),
            85..88 => self.materialise(),
            88..93 => match self.store.collect(&Named, &EVERYTHING) {
                Ok(_) | Err(StoreError::Busy { .. }) => {}
                Err(error) => panic!("gc: {error}"),
            },
            93..95 => match verify(&self.store, number.is_multiple_of(2)) {
                Ok(verified) => assert!(verified.is_whole(), "{verified:?}"),
                Err(StoreError::Busy { .. }) => {}
                Err(error) => panic!("verify: {error}"),
            },
            95 => self.store.sweep(),
            _ => {
                self.put.clear();
                self.store = Store::open(&self.root).unwrap();
            }
        }
    }

    fn put_name(&mut self, name: &str, number: u64) {
        let (image, objects) = put_image(&self.store, number);
        let tag: TagName = name.parse().unwrap();
        self.note(&format!("begin {name} {number}"));
        // Even ones are tags, odd ones are roots.
        if name.ends_with(['0', '2']) {
            self.store.put_tag(&tag, &image).unwrap();
        } else {
            self.store.put_root(&tag, &objects).unwrap();
        }
        self.note(&format!("done {name} {number}"));
        self.names.insert(name.to_owned(), number);
    }

    fn remove_name(&mut self, name: &str) {
        let tag: TagName = name.parse().unwrap();
        self.note(&format!("begin {name} none"));
        if name.ends_with(['0', '2']) {
            self.store.remove_tag(&tag).unwrap();
        } else {
            self.store.remove_root(&tag).unwrap();
        }
        self.note(&format!("done {name} none"));
        self.names.remove(name);
    }

    fn check_name(&self) {
        let Some((name, number)) = self.names.iter().next() else {
            return;
        };
        let found = named(&self.store, name).unwrap();
        found.check(&self.store, *number);
    }

    fn check_put(&self) {
        if !self.put.is_empty() {
            let at = self.random.below(self.put.len() as u64) as usize;
            let (object, number) = &self.put[at];
            assert!(self.store.has_object(object), "{} is gone", object.id);
            assert!(self.store.read_object(&object.id).unwrap() == content(*number));
        }
    }

    fn materialise(&self) {
        if let Some((object, number)) = self.put.last() {
            let path = self.store.materialise(&object.id).unwrap();
            assert!(fs::read(path).unwrap() == content(*number));
        }
    }
}

/// What a name keeps.
enum Kept {
    Image(ObjectId),
    Objects(Vec<ObjectId>),
}

impl Kept {
    fn check(&self, store: &Store, number: u64) {
        match self {
            Self::Image(id) => check_image(store, id, number),
            Self::Objects(objects) => check_parts(store, objects, number),
        }
    }

    /// Which image it is.
    fn number(&self, store: &Store) -> u64 {
        let first = match self {
            Self::Image(id) => {
                let config = String::from_utf8(store.read_object(id).unwrap()).unwrap();
                config.lines().next().unwrap().parse().unwrap()
            }
            Self::Objects(objects) => objects[0],
        };
        let bytes = store.read_object(&first).unwrap();
        (0..CONTENTS)
            .find(|number| content(*number) == bytes)
            .unwrap()
    }
}

fn named(store: &Store, name: &str) -> Option<Kept> {
    let tag: TagName = name.parse().unwrap();
    if name.ends_with(['0', '2']) {
        store.tag(&tag).unwrap().map(Kept::Image)
    } else {
        store.root_objects(&tag).unwrap().map(Kept::Objects)
    }
}

/// A process of [`processes_on_one_store`].
fn worker(directory: &Path) {
    let slot = setting("SLOT", 0);
    let root = directory.join("home/store");
    let log = directory.join(format!("log-{slot}"));
    let mut worker = Worker {
        store: Store::open(&root).unwrap(),
        root,
        random: Random(Cell::new(setting("SEED", 0))),
        slot,
        log: OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .unwrap(),
        put: Vec::new(),
        names: BTreeMap::new(),
    };
    let end = directory.join("end");
    while !end.exists() {
        worker.step();
    }
}

fn start(directory: &Path, slot: u64, seed: u64) -> Child {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.join(format!("output-{slot}")))
        .unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "store::stress::processes_on_one_store",
            "--nocapture",
        ])
        .env("VMFAB_STRESS_DIRECTORY", directory)
        .env("VMFAB_STRESS_SLOT", slot.to_string())
        .env("VMFAB_STRESS_SEED", seed.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// What each name may keep, by the logs.
fn model(directory: &Path, workers: u64) -> (BTreeMap<String, BTreeSet<Option<u64>>>, usize) {
    let mut names: BTreeMap<String, BTreeSet<Option<u64>>> = BTreeMap::new();
    let mut facts = 0;
    for slot in 0..workers {
        let mut log = String::new();
        let file = File::open(directory.join(format!("log-{slot}")));
        file.unwrap().read_to_string(&mut log).unwrap();
        for line in log.lines() {
            let [what, name, value] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
            let values = names
                .entry(name.to_owned())
                .or_insert_with(|| BTreeSet::from([None]));
            let value = value.parse().ok();
            if what == "done" {
                values.clear();
                facts += 1;
            }
            values.insert(value);
        }
    }
    (names, facts)
}

#[test]
fn processes_on_one_store() {
    if let Some(directory) = std::env::var_os("VMFAB_STRESS_DIRECTORY") {
        return worker(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let workers = setting("WORKERS", 4);
    let seed = setting("SEED", 1);
    let random = Random(Cell::new(seed << 32));
    let mut children: Vec<Child> = (0..workers)
        .map(|slot| start(directory, slot, random.below(u64::MAX)))
        .collect();
    let until = Instant::now() + Duration::from_secs(setting("SECONDS", 10));
    let mut kills = 0;
    let failed = |slot: u64, status| -> ! {
        let output = fs::read_to_string(directory.join(format!("output-{slot}"))).unwrap();
        panic!("seed {seed}, worker {slot}: {status}\n{output}")
    };
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(random.below(250)));
        let slot = random.below(workers);
        let child = &mut children[slot as usize];
        if let Some(status) = child.try_wait().unwrap() {
            failed(slot, status);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        *child = start(directory, slot, random.below(u64::MAX));
    }
    fs::write(directory.join("end"), "").unwrap();
    for (child, slot) in children.iter_mut().zip(0..) {
        let status = child.wait().unwrap();
        if !status.success() {
            failed(slot, status);
        }
    }
    let (names, facts) = model(directory, workers);
    let _ = writeln!(std::io::stderr(), "{kills} kills, {facts} names changed");
    assert!(
        kills > 5 && facts > 20,
        "{kills} kills, {facts} names changed"
    );
    // The first store relies on what it reads: another one collects.
    check(directory, &names);
    let store = Store::open(directory.join("home/store")).unwrap();
    store.collect(&Named, &EVERYTHING).unwrap();
    drop(store);
    let (verified, expected) = check(directory, &names);
    // A result stays as long as all that it names stays for a name: it keeps nothing by itself.
    assert_eq!(verified.objects, expected);
    for left in ["tmp", "sessions", "trash", "journals"] {
        let left: Vec<_> = fs::read_dir(directory.join("home/store").join(left))
            .unwrap()
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Checks that all names keep what they may, and that nothing is wrong. Gives how many objects they
/// keep.
fn check(directory: &Path, names: &BTreeMap<String, BTreeSet<Option<u64>>>) -> (Verified, u64) {
    let store = Store::open(directory.join("home/store")).unwrap();
    // Configs are objects too: numbers behind those of contents.
    let mut expected = BTreeSet::new();
    for (name, values) in names {
        let kept = named(&store, name);
        let value = kept.as_ref().map(|kept| kept.number(&store));
        assert!(values.contains(&value), "{name} is {value:?}: {values:?}");
        if let (Some(kept), Some(number)) = (kept, value) {
            kept.check(&store, number);
            expected.extend(parts(number));
            if matches!(kept, Kept::Image(_)) {
                expected.insert(CONTENTS + number);
            }
        }
    }
    let verified = verify(&store, false).unwrap();
    assert!(verified.is_whole(), "{verified:?}");
    (verified, expected.len() as u64)
}

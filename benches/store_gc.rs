//! Garbage collection: many small objects, every second one dead, so that each pack has both kinds.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::lab::{Lab, copy_tree, middle, remove, time};
use crate::peers::Restic;
use crate::store::{Store, json};
use crate::table::{Limit, Row};

/// A directory has so many objects; a command line has no room for all of them.
const BATCH: usize = 10_000;
const BATCHES: usize = 10;
const RUNS: usize = 3;

pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    let files = lab.path("gc-files");
    for number in 0..BATCHES * BATCH {
        let file = files.join(name(number));
        if number % BATCH == 0 {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
        }
        fs::write(file, content(number)).unwrap();
    }
    let (marks, wholes) = collections(lab, &files);
    // This takes the dead half of the files away.
    let prune = middle(prunes(lab, &files));
    vec![
        Row {
            what: "store gc, 100,000 objects, half of them dead: mark",
            vmfab: middle(marks).into(),
            limit: Limit::Most(Duration::from_millis(50).into()),
        },
        Row {
            what: "store gc, 100,000 objects, half of them dead",
            vmfab: middle(wholes).into(),
            limit: Limit::Ratio {
                peer: "restic prune",
                needs: prune.into(),
                most: 0.1,
            },
        },
    ]
}

fn name(number: usize) -> String {
    format!("{}/{number:05}", number / BATCH)
}

/// One KiB of hexadecimal digits: it compresses to half of it.
fn content(number: usize) -> String {
    let mut bytes = [0; 512];
    blake3::Hasher::new()
        .update(&number.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The times of marking and of whole collections.
fn collections(lab: &Lab, files: &Path) -> (Vec<Duration>, Vec<Duration>) {
    let [full, used] = ["gc", "gc-used"].map(|name| lab.path(name));
    let store = Store::new(&full);
    let add = |command: &mut Command, numbers: &mut dyn Iterator<Item = usize>| {
        time(command.current_dir(files).args(numbers.map(name)));
    };
    for batch in 0..BATCHES {
        let first = batch * BATCH;
        add(&mut store.command("add"), &mut (first..first + BATCH));
    }
    for batch in 0..BATCHES {
        let mut command = store.command("add");
        command.args(["--keep", &format!("kept-{batch}")]);
        let first = batch * BATCH;
        add(&mut command, &mut (first..first + BATCH).step_by(2));
    }
    let [alive, dead] = [0, 1].map(|number| store.object(&files.join(name(number))));
    let once = |_| {
        copy_tree(&full, &used);
        let store = Store::open(&used);
        let started = Instant::now();
        let report = json(store.command("gc").args(["--older-than=0s", "--json"]));
        let took = started.elapsed();
        let mark = report["mark_seconds"].as_f64().unwrap();
        assert!(has(lab, &store, &alive), "store gc: a kept object is gone");
        assert!(!has(lab, &store, &dead), "store gc: a dead object is there");
        (Duration::from_secs_f64(mark), took)
    };
    (0..RUNS).map(once).unzip()
}

fn has(lab: &Lab, store: &Store, object: &str) -> bool {
    let output = lab.path("gc-object");
    remove(&output);
    let result = store.get_command(object, &output).output().unwrap();
    result.status.success()
}

/// How long restic takes for the same.
fn prunes(lab: &Lab, files: &Path) -> Vec<Duration> {
    let [full, used] = ["gc-restic", "gc-restic-used"].map(|name| lab.path(name));
    let repository = Restic::init(&full);
    repository.backup(files);
    for number in (1..BATCHES * BATCH).step_by(2) {
        fs::remove_file(files.join(name(number))).unwrap();
    }
    repository.backup(files);
    repository.forget_first();
    let once = |_| {
        copy_tree(&full, &used);
        Restic::open(&used).prune()
    };
    (0..RUNS).map(once).collect()
}

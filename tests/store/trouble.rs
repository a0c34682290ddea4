//! Kills, errors and a full disk under the real program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use vmfab::store::{Store, TagName};

use super::noise;
use crate::cli::{Bench, Ran};
use crate::support::tool;

/// System calls that change files, as far as the architecture has them.
const CALLS: [&str; 10] = [
    "pwrite64",
    "write",
    "rename",
    "renameat",
    "fsync",
    "ftruncate",
    "unlink",
    "unlinkat",
    "mkdir",
    "flock",
];
/// Of the calls of one kind, so many meet a fault.
const SAMPLE: usize = 3;

/// What is disturbed: files are added, or garbage is collected.
const ADD: [&str; 3] = ["add", "--keep", "after"];
const COLLECT: [&str; 3] = ["gc", "--older-than=0s", "--keep-last=0"];

/// A store that has something, and what is to be added to it.
struct Fixture {
    bench: Bench,
    files: Vec<PathBuf>,
}

impl Fixture {
    fn new() -> Self {
        let bench = Bench::new();
        // In between: a blob, a pack of its own, chunks that go to the journal, several packs.
        let files = [(1, 100), (2, 700_000), (3, 40_000), (4, 900_000)].map(|(seed, length)| {
            let path = bench.home.path().join(format!("file-{seed}"));
            fs::write(&path, noise(seed, length)).unwrap();
            path
        });
        let fixture = Self {
            bench,
            files: files.to_vec(),
        };
        let garbage = fixture.bench.home.path().join("garbage");
        fs::write(&garbage, noise(5, 600_000)).unwrap();
        let first = fixture.files[0].to_str().unwrap();
        fixture
            .store(&["add", "--keep", "before", first])
            .ends_with(0);
        fixture
            .store(&["add", garbage.to_str().unwrap()])
            .ends_with(0);
        fixture
    }

    fn root(&self) -> PathBuf {
        self.bench.home.path().join("store")
    }

    fn store(&self, arguments: &[&str]) -> Ran {
        let mut command = self.bench.command(["store"]);
        Ran::from(command.args(arguments).output().unwrap())
    }

    /// Does what is to be disturbed; `tracer` runs the program.
    fn run(&self, tracer: &[&str], job: &[&str]) -> Ran {
        let mut command = tool("strace", "strace");
        command.args(tracer).arg(env!("CARGO_BIN_EXE_vmfab"));
        command.arg("store").args(job);
        if job == ADD {
            command.args(&self.files);
        }
        command.env("VMFAB_HOME", self.bench.home.path());
        Ran::from(command.env("LC_ALL", "C.UTF-8").output().unwrap())
    }

    /// What a next process finds, with what must be kept: nothing is wrong, and names are kept
    /// whole.
    fn check(&self, must: &[&str]) {
        let verified = self.bench.run(["store", "verify"]);
        assert_eq!(
            verified.code,
            Some(0),
            "{}{}",
            verified.stdout,
            verified.stderr
        );
        let store = Store::open(self.root()).unwrap();
        let roots: BTreeMap<TagName, _> = store.roots().unwrap().into_iter().collect();
        for name in must {
            assert!(roots.contains_key(&name.parse().unwrap()), "{name}");
        }
        for (name, objects) in roots {
            let files = if name.as_str() == "before" {
                &self.files[..1]
            } else {
                &self.files
            };
            assert_eq!(objects.len(), files.len());
            for (object, file) in objects.iter().zip(files) {
                assert!(store.read_object(object).unwrap() == fs::read(file).unwrap());
            }
        }
    }

    /// Nothing is left over, and what was tried works now.
    fn check_again(&self) {
        let files = self.files.iter().map(|file| file.to_str().unwrap());
        let add: Vec<&str> = ADD.into_iter().chain(files).collect();
        self.store(&COLLECT).ends_with(0);
        self.store(&add).ends_with(0);
        self.check(&["before", "after"]);
        Store::open(self.root()).unwrap().sweep();
        for directory in ["tmp", "sessions", "trash"] {
            let left = fs::read_dir(self.root().join(directory)).unwrap();
            assert_eq!(left.count(), 0, "{directory}");
        }
    }
}

/// How often a thread makes each call, at most.
fn count_calls(log: &Path) -> BTreeMap<String, usize> {
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in fs::read_to_string(log).unwrap().lines() {
        let mut words = line.split_whitespace();
        let (Some(thread), Some(call)) = (words.next(), words.next()) else {
            continue;
        };
        let Some((call, _)) = call.split_once('(') else {
            continue;
        };
        *counts
            .entry((call.to_owned(), thread.to_owned()))
            .or_default() += 1;
    }
    let mut most = BTreeMap::new();
    for ((call, _), count) in counts {
        let most: &mut usize = most.entry(call).or_default();
        *most = count.max(*most);
    }
    most
}

/// A few numbers from 1 to `most`, with the first and the last.
fn sample(most: usize) -> BTreeSet<usize> {
    let steps = SAMPLE.min(most).max(2) - 1;
    (0..=steps)
        .map(|step| 1 + (most - 1) * step / steps)
        .collect()
}

/// Does a job while the calls of a sample meet this fault. Gives how many runs failed, of how many.
fn meet(fault: &str, job: &[&str], expect: impl Fn(&Ran)) -> (usize, usize) {
    let fixture = Fixture::new();
    let log = fixture.bench.home.path().join("log");
    let calls = format!("trace={}", CALLS.map(|call| format!("?{call}")).join(","));
    let log_path = log.to_str().unwrap().to_owned();
    let tracer = ["-f", "-qq", "-o", &log_path, "-e", &calls];
    fixture.run(&tracer, job).ends_with(0);
    let counts = count_calls(&log);
    assert!(counts.values().sum::<usize>() > 20, "{counts:?}");
    let (mut failed, mut runs) = (0, 0);
    for (call, most) in counts {
        for number in sample(most) {
            let fixture = Fixture::new();
            let inject = format!("inject={call}:{fault}:when={number}");
            let ran = fixture.run(&[&tracer[..], &["-e", &inject]].concat(), job);
            let text = format!("{inject}\n{}{}", ran.stdout, ran.stderr);
            assert!(!ran.stderr.contains("panicked"), "{text}");
            expect(&ran);
            runs += 1;
            failed += usize::from(ran.code != Some(0));
            let must: &[&str] = if ran.code == Some(0) && job == ADD {
                &["before", "after"]
            } else {
                &["before"]
            };
            let check = std::panic::AssertUnwindSafe(|| {
                fixture.check(must);
                fixture.check_again();
            });
            assert!(std::panic::catch_unwind(check).is_ok(), "{text}");
        }
    }
    (failed, runs)
}

/// strace dies of the signal that its program died of.
fn kill(job: &[&str]) {
    let (failed, runs) = meet("signal=KILL", job, |ran| {
        assert!(ran.code.is_none() || ran.code == Some(0), "{}", ran.stderr);
    });
    assert!(failed > 10 && failed + 2 >= runs, "{failed} of {runs}");
}

fn fail(fault: &str, job: &[&str], told: &str) {
    let (failed, runs) = meet(fault, job, |ran| {
        assert!(
            ran.code == Some(0) || ran.stderr.contains(told),
            "{}",
            ran.stderr
        );
    });
    assert!(failed > 5, "{failed} of {runs}");
}

#[test]
fn a_kill_at_any_call_of_add() {
    kill(&ADD);
}

#[test]
fn a_kill_at_any_call_of_gc() {
    kill(&COLLECT);
}

#[test]
fn an_error_at_any_call_of_add() {
    fail("error=EIO", &ADD, "Input/output error");
}

#[test]
fn an_error_at_any_call_of_gc() {
    fail("error=EIO", &COLLECT, "Input/output error");
}

#[test]
fn no_room_at_any_call_of_add() {
    fail("error=ENOSPC", &ADD, "No space left on device");
}

#[test]
fn a_full_disk_is_told_and_harms_nothing() {
    let bench = Bench::new();
    let directory = bench.home.path();
    for (name, seed, length) in [
        ("small", 1, 600_000),
        ("large", 2, 5 << 20),
        ("other", 3, 700_000),
    ] {
        fs::write(directory.join(name), noise(seed, length)).unwrap();
    }
    fs::create_dir(directory.join("home")).unwrap();
    // The file system is there for this shell only.
    let script = r#"
        cd "$1" && mount -t tmpfs -o size=4m none home && export VMFAB_HOME="$1/home" || exit 9
        run() { "$2" store $3 >"$1.out" 2>"$1.err"; echo "$1 $?"; }
        run small "$2" "add small --keep small"
        run large "$2" "add large --keep large"
        run whole "$2" "verify"
        run other "$2" "add other --keep other"
        dd if=/dev/zero of=home/filler bs=1k 2>dd.err
        run full "$2" "add large"
        run read "$2" "get $(cat home/store/roots/small)"
        run roots "$2" "roots"
        rm home/filler
        run again "$2" "verify"
    "#;
    let mut command = tool("unshare", "util-linux");
    command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    command.arg(directory).arg(env!("CARGO_BIN_EXE_vmfab"));
    let ran = Ran::from(command.output().unwrap());
    let expected = [
        "small 0", "large 1", "whole 0", "other 0", "full 1", "read 0", "roots 0", "again 0",
    ];
    assert_eq!(
        ran.stdout.lines().collect::<Vec<_>>(),
        expected,
        "{}",
        ran.stderr
    );
    for run in ["large", "full"] {
        let told = fs::read_to_string(directory.join(run).with_extension("err")).unwrap();
        assert!(
            told.contains("No space left on device") && told.contains("free some space"),
            "{told}"
        );
    }
    let read = fs::read(directory.join("read.out")).unwrap();
    assert!(read == fs::read(directory.join("small")).unwrap());
}

//! What people do with machines all day: a list, snapshots of a guest that writes, images of
//! machines.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::lab::{Lab, middle, printed, time};
use crate::table::{Limit, Quantity, Row};
use crate::up_warm::Project;

const MACHINES: usize = 50;
const ROUNDS: usize = 10;
/// How long the guest is watched, with a snapshot and without.
const WINDOW: Duration = Duration::from_secs(1);
/// Writes a block to the disk again and again, and says so each time.
const WRITES: &str = "while [ ! -e stop ]; do \
    dd if=/dev/zero of=block bs=4k count=1 conv=fsync 2>/dev/null; echo written; done";
/// How much the guest writes before each commit.
const ROLE: u64 = 16 << 20;
const CUSTOM: u64 = 4 << 20;

/// `vmfab list` of many machines, one of which runs: the whole process.
pub(crate) fn list(lab: &mut Lab) -> Vec<Row> {
    let project = Project::with_image(lab);
    time(&mut project.vmfab(&["up"]));
    let clones: Vec<String> = (1..MACHINES).map(|number| format!("m{number}")).collect();
    for name in &clones {
        time(&mut project.vmfab(&["clone", "project", name]));
    }
    let times = (0..3 * ROUNDS).map(|_| time(&mut project.vmfab(&["list"])));
    let row = Row {
        what: "list of 50 machines, one of them running",
        vmfab: middle(times.collect()).into(),
        limit: Limit::Most(Duration::from_millis(50).into()),
    };
    for name in &clones {
        time(&mut project.vmfab(&["rm", "--force", name]));
    }
    vec![row]
}

/// A guest that writes, and when it did.
struct Writer {
    guest: std::process::Child,
    written: Arc<Mutex<Vec<Instant>>>,
    watcher: JoinHandle<()>,
}

impl Writer {
    /// `session` runs [`WRITES`].
    fn start(session: &mut Command) -> Self {
        let session = session.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut guest = session.spawn().unwrap();
        let lines = BufReader::new(guest.stdout.take().unwrap()).lines();
        let written = Arc::<Mutex<Vec<_>>>::default();
        let watcher = {
            let written = Arc::clone(&written);
            std::thread::spawn(move || {
                for _ in lines.map_while(Result::ok) {
                    written.lock().unwrap().push(Instant::now());
                }
            })
        };
        std::thread::sleep(3 * WINDOW);
        Self {
            guest,
            written,
            watcher,
        }
    }

    /// The longest time between two writes from when a command begins until a while after its end.
    fn longest(&self, command: impl FnOnce()) -> Duration {
        let started = Instant::now();
        command();
        let ended = (started + WINDOW).max(Instant::now());
        // One of the two may come later.
        std::thread::sleep((ended + WINDOW).saturating_duration_since(Instant::now()));
        let written = self.written.lock().unwrap();
        let pairs = written.windows(2);
        let within = pairs.filter(|pair| pair[1] >= started && pair[0] <= ended);
        within.map(|pair| pair[1] - pair[0]).max().unwrap()
    }

    /// `session` makes a file named `stop`.
    fn end(mut self, session: &mut Command) {
        time(session);
        self.guest.wait().unwrap();
        self.watcher.join().unwrap();
    }
}

/// How long a guest that writes stands still when a snapshot of it is made.
pub(crate) fn snapshot_running(lab: &mut Lab) -> Vec<Row> {
    let project = Project::with_image(lab);
    time(&mut project.vmfab(&["up"]));
    let ssh = |line: &str| project.vmfab(&["ssh", "project", "--", line]);
    let writer = Writer::start(&mut ssh(WRITES));
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        without.push(writer.longest(|| {}));
        let name = format!("running{round}");
        let mut snapshot = project.vmfab(&["snapshot", "create", &name, "--machine", "project"]);
        with.push(writer.longest(|| {
            time(&mut snapshot);
        }));
    }
    writer.end(&mut ssh("touch stop"));
    vec![Row {
        what: "snapshot of a guest that writes: longest time without a write",
        vmfab: middle(with).into(),
        limit: beyond(middle(without)),
    }]
}

/// What a guest stands still by itself, and what a snapshot may add.
fn beyond(itself: Duration) -> Limit {
    Limit::Most((itself + Duration::from_millis(100)).into())
}

/// The same with file systems that are frozen, beside a guest that freezes and thaws them by itself.
pub(crate) fn snapshot_quiesced(lab: &mut Lab) -> Vec<Row> {
    lab.disk();
    time(lab.vmfab().args(["boot", "@debian-12", "--name", "quiet"]));
    let ssh = |line: &str| {
        let mut command = lab.vmfab();
        command.args(["ssh", "quiet", "--", line]);
        command
    };
    let writer = Writer::start(&mut ssh(WRITES));
    let (mut with, mut itself) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let mut freeze = ssh("sync; sudo sh -c 'fsfreeze -f /; fsfreeze -u /'");
        itself.push(writer.longest(|| {
            time(&mut freeze);
        }));
        let mut snapshot = lab.vmfab();
        snapshot
            .args(["snapshot", "create", &format!("quiet{round}")])
            .args(["--machine", "quiet", "--quiesce"]);
        with.push(writer.longest(|| {
            time(&mut snapshot);
        }));
    }
    writer.end(&mut ssh("touch stop"));
    time(lab.vmfab().args(["rm", "--force", "quiet"]));
    vec![Row {
        what: "snapshot --quiesce of a guest that writes: longest time without a write",
        vmfab: middle(with).into(),
        limit: beyond(middle(itself)),
    }]
}

/// What images of machines add to those that they are of.
pub(crate) fn commit_sizes(lab: &mut Lab) -> Vec<Row> {
    lab.disk();
    let run = |words: &[&str]| time(lab.vmfab().args(words));
    let write = |name: &str, bytes: u64| {
        let line = format!("head -c {bytes} /dev/urandom > {name}; sync");
        run(&["ssh", name, "--", &line]);
    };
    let commit = |name: &str, tag: &str| {
        let made = printed(lab.vmfab().args(["commit", name, tag, "--json"]));
        let made: serde_json::Value = serde_json::from_str(&made).unwrap();
        let bytes = |size: &str| Quantity::Bytes(made[size].as_u64().unwrap());
        (bytes("stored_size"), bytes("own_size"))
    };
    run(&["boot", "@debian-12", "--name", "role"]);
    write("role", ROLE);
    let (stored, role) = commit("role", "@role");
    run(&["boot", "@role", "--name", "custom"]);
    write("custom", CUSTOM);
    let (_, custom) = commit("custom", "@custom");
    run(&["rm", "--force", "role", "custom"]);
    let row = |what, own, written| Row {
        what,
        vmfab: own,
        limit: Limit::None {
            peer: "what was written by hand",
            needs: Quantity::Bytes(written),
        },
    };
    vec![
        Row {
            what: "commit, base to role: bytes that only the role has",
            vmfab: role,
            limit: Limit::Ratio {
                peer: "the whole image",
                needs: stored,
                most: 0.25,
            },
        },
        row(
            "commit, base to role, 16 MiB written: own bytes",
            role,
            ROLE,
        ),
        row(
            "commit, role to custom, 4 MiB written: own bytes",
            custom,
            CUSTOM,
        ),
    ]
}

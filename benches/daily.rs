//! What people do with machines all day: a snapshot of a guest that writes. The guest is that of
//! [`up_warm`](crate::up_warm).

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::lab::{Lab, middle, time};
use crate::table::{Limit, Row};
use crate::up_warm::Project;

const ROUNDS: usize = 10;
/// How long the guest is watched, with a snapshot and without.
const WINDOW: Duration = Duration::from_secs(1);
/// Writes a block to the disk again and again, and says so each time.
const WRITES: &str = "while [ ! -e stop ]; do \
    dd if=/dev/zero of=block bs=4k count=1 conv=fsync 2>/dev/null; echo written; done";

/// How long a guest that writes stands still when a snapshot of it is made.
pub(crate) fn snapshot_running(lab: &mut Lab) -> Vec<Row> {
    let project = Project::with_image(lab);
    time(&mut project.vmfab(&["up"]));
    let mut guest = project
        .vmfab(&["ssh", "project", "--", WRITES])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(guest.stdout.take().unwrap()).lines();
    let written = Arc::new(Mutex::new(Vec::new()));
    let watcher = {
        let written = Arc::clone(&written);
        std::thread::spawn(move || {
            for _ in lines.map_while(Result::ok) {
                written.lock().unwrap().push(Instant::now());
            }
        })
    };
    std::thread::sleep(3 * WINDOW);
    // The longest time between two writes, one of which lies in the window.
    let longest = |started: Instant| {
        std::thread::sleep((started + 2 * WINDOW).saturating_duration_since(Instant::now()));
        let written = written.lock().unwrap();
        let pairs = written.windows(2);
        let within = pairs.filter(|pair| pair[1] >= started && pair[0] <= started + WINDOW);
        within.map(|pair| pair[1] - pair[0]).max().unwrap()
    };
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        without.push(longest(Instant::now()));
        let started = Instant::now();
        let name = format!("running{round}");
        time(&mut project.vmfab(&["snapshot", "create", &name, "--machine", "project"]));
        with.push(longest(started));
    }
    time(&mut project.vmfab(&["ssh", "project", "--", "touch stop"]));
    guest.wait().unwrap();
    watcher.join().unwrap();
    vec![Row {
        what: "snapshot of a guest that writes: longest time without a write",
        vmfab: middle(with).into(),
        limit: Limit::Most((middle(without) + Duration::from_millis(100)).into()),
    }]
}

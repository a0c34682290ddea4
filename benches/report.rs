//! Reports of 5,000 steps, and what it costs a build to be recorded.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use vmfab::event::{Event, PlannedStep, Silent, Sink};
use vmfab::host::Home;
use vmfab::ops::builds::Recorder;

use crate::lab::{Lab, middle, time, vmfab};
use crate::synthetic::Synthetic;
use crate::table::{Limit, Quantity, Row};
use crate::webdriver::Browser;

const ROUNDS: usize = 5;
/// Steps of the build that is recorded.
const STEPS: usize = 40;

pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    let home = lab.path("reports");
    let large = Synthetic::large();
    large.record(&home);
    let file = lab.path("report.html");
    let write = || {
        let mut command = vmfab(&home);
        time(command.args(["report", large.id, "--output"]).arg(&file))
    };
    let written = (0..ROUNDS).map(|_| write()).collect();
    let browser = Browser::start(1280, 800);
    let open = || {
        browser.open(&file);
        let drawn = "requestAnimationFrame(() => setTimeout(() => done(performance.now())))";
        let drawn = browser.wait(drawn).as_f64().unwrap();
        Duration::from_secs_f64(drawn / 1000.0)
    };
    let opened = (0..ROUNDS).map(|_| open()).collect();
    let most = |what, vmfab, limit| Row {
        what,
        vmfab,
        limit: Limit::Most(limit),
    };
    let size = fs::metadata(&file).unwrap().len();
    let log = home.join("builds").join(format!("{}.log", large.id));
    let ms = |ms| Quantity::from(Duration::from_millis(ms));
    vec![
        most(
            "report of 5,000 steps, written",
            middle::<Duration>(written).into(),
            ms(300),
        ),
        most(
            "report of 5,000 steps, size",
            Quantity::Bytes(size),
            Quantity::Bytes(3 << 20),
        ),
        most(
            "report of 5,000 steps, opened",
            middle::<Duration>(opened).into(),
            ms(2000),
        ),
        // A hundredth of 5,000 steps of 50 ms on two processors.
        most(
            "5,000 steps, recorded",
            recorded(&log, &lab.path("recorded-large")).into(),
            ms(1250),
        ),
        small(lab),
    ]
}

/// What it costs a build of short steps to be recorded: its events are recorded once more.
fn small(lab: &mut Lab) -> Row {
    lab.ensure_built();
    let steps: String = (0..STEPS)
        .map(|number| format!("    run \"echo {number} | tee /etc/step-{number}\"\n"))
        .collect();
    let recipe = lab.path("recorded.kdl");
    let text = format!("image \"recorded\" {{\n    from \"debian-12\"\n{steps}}}\n");
    fs::write(&recipe, text).unwrap();
    let built = time(lab.vmfab().arg("build").arg(&recipe));
    let builds = fs::read_dir(lab.home().join("builds")).unwrap();
    let logs = builds.map(|entry| entry.unwrap().path());
    let log = logs
        .filter(|path| path.extension().is_some_and(|ending| ending == "log"))
        .max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap())
        .unwrap();
    Row {
        what: "40 short steps, recorded",
        vmfab: recorded(&log, &lab.path("recorded-small")).into(),
        limit: Limit::Ratio {
            peer: "the build",
            needs: built.into(),
            most: 0.01,
        },
    }
}

/// How long it takes to record the events of a log.
fn recorded(log: &Path, home: &Path) -> Duration {
    let text = fs::read_to_string(log).unwrap();
    let values = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut plan: Vec<PlannedStep> = Vec::new();
    let mut events = Vec::new();
    for value in values {
        match value["event"] == "plan" {
            true => plan = serde_json::from_value(value["plan"].clone()).unwrap(),
            false => events.extend(serde_json::from_value::<Event>(value)),
        }
    }
    for event in &mut events {
        if let Event::BuildStarted { plan: own, .. } = event {
            *own = plan.clone().into();
        }
    }
    let recorder = Recorder::new(Home::at(home), Arc::new(Silent), "build", None).unwrap();
    let started = Instant::now();
    for event in events {
        recorder.emit(event);
    }
    recorder.end(None);
    started.elapsed()
}

//! Reports of builds: what is in them, and how a browser shows them.

mod browser;

use serde_json::Value;

use super::cli::Bench;
use super::support::{Synthetic, SyntheticStep};

fn report(bench: &Bench, build: &Synthetic) -> Value {
    build.record(bench.home.path());
    let ran = bench.run(["report", build.id, "--json"]);
    let ran = ran.ends_with(0);
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn five_thousand_steps_fit_into_three_mebibytes() {
    let bench = Bench::new();
    let build = Synthetic::large();
    build.record(bench.home.path());
    let file = bench.home.path().join("large.html");
    let ran = bench.run([
        "report",
        build.id,
        "--quiet",
        "--output",
        file.to_str().unwrap(),
    ]);
    assert_eq!(ran.ends_with(0).stdout.trim(), file.to_str().unwrap());
    let size = std::fs::metadata(&file).unwrap().len();
    assert!(size < 3 << 20, "{size} bytes");
    // All of them are in it, with what they ran and printed.
    let data = report(&bench, &build);
    let steps = data["graphs"][0]["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 5000);
    assert!(
        steps
            .iter()
            .all(|step| step["key"].is_string() && step["params"].is_array())
    );
    let logs = steps.iter().filter(|step| step["log"]["text"].is_string());
    assert!(logs.count() > 1000);
}

#[test]
fn a_report_says_what_ran_why_and_when() {
    let bench = Bench::new();
    let data = report(&bench, &Synthetic::hostile());
    assert_eq!(data["outcome"], "failed");
    let graph = &data["graphs"][0];
    let steps = graph["steps"].as_array().unwrap();
    let states: Vec<_> = steps
        .iter()
        .map(|step| step["state"].as_str().unwrap())
        .collect();
    let expected = [
        "cached", "built", "built", "built", "built", "failed", "skipped",
    ];
    assert_eq!(states, expected);
    assert_eq!(graph["counts"]["built"], 4);
    assert_eq!(graph["critical"], serde_json::json!([1, 2, 3, 5]));
    assert_eq!(
        (&graph["critical_time"], &graph["jobs"]),
        (&4000.into(), &8.into())
    );
    let reason = steps[3]["reasons"][0].as_str().unwrap();
    assert_eq!(
        reason,
        "command was \"old\", is \"make evil: packages nginx\""
    );
    assert_eq!(steps[4]["check"], true);
    assert!(
        steps[4]["log"]["text"]
            .as_str()
            .unwrap()
            .starts_with("syntax is ok\n")
    );
    assert_eq!(steps[6]["reads"], serde_json::json!([[0, 3], [5, 5]]));
    assert_eq!(steps[6]["edges"], serde_json::json!([5]));
    // Neither terminals nor readers are misled.
    for step in steps {
        // A value in a reason is JSON, where they are letters and digits.
        let text = step.to_string().replace("\\\\u", "");
        let harmful = ["\\u001b", "\u{2028}", "\u{202e}"];
        assert!(!harmful.iter().any(|one| text.contains(one)), "{text}");
    }
}

/// Logs had no times and no graph, and nothing was kept of what went into a build.
#[test]
fn records_of_earlier_versions_are_read() {
    let bench = Bench::new();
    let build = Synthetic {
        steps: vec![SyntheticStep::new("old: run a", "run", &[])],
        ..Synthetic::hostile()
    };
    build.record(bench.home.path());
    let builds = bench.home.path().join("builds");
    for ending in ["inputs", "before"] {
        std::fs::remove_file(builds.join(format!("{}.0.{ending}", build.id))).unwrap();
    }
    let log = builds.join(format!("{}.log", build.id));
    let text = std::fs::read_to_string(&log).unwrap();
    let old = text
        .lines()
        .filter(|line| !line.contains("\"plan\""))
        .map(|line| {
            let mut event: Value = serde_json::from_str(line).unwrap();
            event.as_object_mut().unwrap().remove("at");
            event.as_object_mut().unwrap().remove("jobs");
            format!("{event}\n")
        });
    std::fs::write(&log, old.collect::<String>()).unwrap();
    let data: Value = {
        let ran = bench.run(["report", "--json"]).ends_with(0);
        serde_json::from_str(&ran.stdout).unwrap()
    };
    let step = &data["graphs"][0]["steps"][0];
    assert_eq!(
        (&step["name"], &step["time"]),
        (&"old: run a".into(), &1000.into())
    );
    assert!(
        data["notes"][0].as_str().unwrap().contains("earlier vmfab"),
        "{data}"
    );
    let said = bench
        .run(["builds", "logs", "-v", build.id])
        .ends_with(0)
        .stderr;
    assert!(said.contains("old: run a"), "{said}");
    let history = bench
        .run(["history", "--since", "100y"])
        .ends_with(0)
        .stdout;
    let line = history
        .lines()
        .find(|line| line.starts_with(build.id))
        .unwrap();
    assert!(line.contains("failed"), "{history}");
}

#[test]
fn what_is_wrong_with_a_report_is_said() {
    let bench = Bench::new();
    let none = bench.run(["report"]).ends_with(3).stderr;
    assert!(none.contains("no build has a record"), "{none}");
    let build = Synthetic::hostile();
    build.record(bench.home.path());
    let unknown = bench.run(["report", "ffff"]).ends_with(3).stderr;
    assert!(unknown.contains("vmfab builds --all"), "{unknown}");
    let other = bench.home.path().join("index.html");
    std::fs::write(&other, "mine").unwrap();
    let write = |path: &str| bench.run(["report", build.id, "--output", path]);
    let refused = write(other.to_str().unwrap()).ends_with(2).stderr;
    assert!(refused.contains("exists and is not a page"), "{refused}");
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "mine");
    let nowhere = write("/nowhere/report.html").ends_with(3).stderr;
    assert!(nowhere.contains("/nowhere does not exist"), "{nowhere}");
    let file = bench.home.path().join("report.html");
    let said = write(file.to_str().unwrap()).ends_with(0).stdout;
    assert!(
        said.contains("build 00000000dead, failed, 5 of 7 steps ran"),
        "{said}"
    );
    // A report is replaced.
    write(file.to_str().unwrap()).ends_with(0);
}

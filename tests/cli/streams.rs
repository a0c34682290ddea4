//! Standard output, standard error, the log file.

use std::io;

use serde_json::Value;

use super::{Bench, Ran};

#[test]
fn colours_are_for_terminals_and_for_those_who_ask() {
    let bench = Bench::new();
    let escape = '\u{1b}';
    for arguments in ["biuld", "image inspect none", "help build", "doctor"] {
        let colored = |extra: &str, no_color| {
            bench
                .on_terminal(&format!("{arguments} {extra}"), no_color)
                .contains(escape)
        };
        assert!(colored("", None), "{arguments}");
        assert!(!colored("", Some("1")), "NO_COLOR=1 {arguments}");
        assert!(
            colored("", Some("")),
            "an empty NO_COLOR counts as not set: {arguments}"
        );
    }
    let plain = bench.run(["image", "inspect", "none"]).ends_with(3);
    assert!(!plain.stderr.contains(escape));
    let always = bench
        .run(["image", "inspect", "none", "--color", "always"])
        .ends_with(3);
    assert!(always.stderr.contains(escape));
    let always = bench.run(["--color=always", "biuld"]).ends_with(2);
    assert!(always.stderr.contains(escape));
    let never = bench.on_terminal("image inspect none --color never", None);
    assert!(!never.contains(escape), "{never:?}");
}

#[test]
fn a_reader_who_has_enough_is_no_error() {
    let bench = Bench::new();
    bench.image("docker");
    for arguments in [
        &["--help"][..],
        &["images"],
        &["images", "--json"],
        &["image", "inspect", "@docker"],
        &["completions", "bash"],
        &["man"],
    ] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let output = bench.command(arguments).stdout(writer).output().unwrap();
        let ran = Ran::from(output).ends_with(0);
        assert_eq!(ran.stderr, "", "{arguments:?}");
    }
}

#[test]
fn a_full_standard_output_is_an_error() {
    let bench = Bench::new();
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let ran = Ran::from(bench.command(["man"]).stdout(full).output().unwrap()).ends_with(1);
    assert!(
        ran.stderr.contains("cannot write to standard output"),
        "{}",
        ran.stderr
    );
}

#[test]
fn the_log_has_the_time_and_the_end() {
    let bench = Bench::new();
    let log = bench.home.path().join("events.jsonl");
    let log_argument = log.to_str().unwrap();
    bench.run(["images", "--log", log_argument]).ends_with(0);
    bench
        .run(["image", "rm", "@x", "--log", log_argument])
        .ends_with(3);
    let lines: Vec<Value> = std::fs::read_to_string(&log)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let events: Vec<_> = lines
        .iter()
        .map(|line| line["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        events,
        [
            "command-started",
            "note",
            "command-finished",
            "command-started",
            "command-finished"
        ]
    );
    assert!(
        lines
            .iter()
            .all(|line| line["time"].as_str().unwrap().ends_with('Z'))
    );
    assert_eq!(lines[2]["exit_code"], 0);
    assert_eq!(lines[4]["exit_code"], 3);
    assert_eq!(lines[4]["kind"], "not-found");
    let ran = bench
        .run(["images", "--log", "/no/such/directory/log"])
        .ends_with(1);
    assert!(
        ran.stderr.contains("/no/such/directory/log"),
        "{}",
        ran.stderr
    );
}

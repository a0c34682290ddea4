//! Standard output, standard error, the log file.

use std::{fs, io};

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
fn diagnostics_go_where_they_are_asked_for() {
    let bench = Bench::new();
    fs::write(
        bench.home.path().join("a.kdl"),
        "image \"a\" { layer { fetch \"http://127.0.0.1:1/x?key=s3cret\" } }\n",
    )
    .unwrap();
    let recipe = bench.home.path().join("a.kdl");
    let recipe = recipe.to_str().unwrap();
    let trace = bench.home.path().join("trace.jsonl");
    let tracing = ["lock", recipe, "--trace", trace.to_str().unwrap()];
    let ran = bench.run(tracing).ends_with(1);
    assert!(!ran.stderr.contains("close"), "{}", ran.stderr);
    let lines = fs::read_to_string(&trace).unwrap();
    let requests: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["span"]["name"] == "request")
        .collect();
    assert_eq!(requests[0]["span"]["url"], "http://127.0.0.1:1/x");
    assert_eq!(
        requests[0]["span"]["error"],
        "127.0.0.1 refused the connection"
    );
    assert!(!lines.contains("s3cret"), "{lines}");

    let with_filter = |filter: &str| {
        let mut command = bench.command(["lock", recipe]);
        Ran::from(command.env("VMFAB_LOG", filter).output().unwrap())
    };
    let ran = with_filter("vmfab::http=debug").ends_with(1);
    assert!(
        ran.stderr.contains("request{method=GET url="),
        "{}",
        ran.stderr
    );
    let ran = with_filter("error").ends_with(1);
    assert!(!ran.stderr.contains("request{"), "{}", ran.stderr);
    let ran = with_filter("loud").ends_with(2);
    assert!(
        ran.stderr.contains("VMFAB_LOG is \"loud\""),
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

//! `build` and `plan`, as far as they go without building.

use super::{Bench, Ran};

#[test]
fn a_plan_shows_steps_and_runs_none() {
    let bench = Bench::new();
    let ran = bench.run(["plan", "debian-12"]).ends_with(0);
    let states: Vec<_> = ran
        .stdout
        .lines()
        .map(|line| line.split_whitespace().nth(1).unwrap_or_default())
        .collect();
    assert_eq!(states[..3], ["STATE", "build", "depends"], "{}", ran.stdout);
    assert!(ran.stdout.contains("0 cached"), "{}", ran.stdout);
    let dry = bench.run(["build", "debian-12", "--dry-run"]).ends_with(0);
    assert_eq!(dry.stdout, ran.stdout);

    let plan = bench
        .run(["plan", "debian-12", "--json"])
        .ends_with(0)
        .json();
    assert_eq!(plan["name"], "debian-12");
    assert_eq!(plan["steps"][0]["builder"], "bootstrap");
    assert_eq!(plan["steps"][0]["key"].as_str().unwrap().len(), 64);
    assert_eq!(plan["steps"][1]["inputs"][0], 0);
    assert!(
        plan["steps"][1]["key"].is_null(),
        "its input is not known yet"
    );
}

#[test]
fn a_wrong_recipe_is_shown_with_its_line() {
    let bench = Bench::new();
    let file = bench.home.path().join("wrong.kdl");
    let text = "image \"a\" {\n    from \"debian-12\"\n    pakages \"x\"\n    run 3\n}\n";
    std::fs::write(&file, text).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = bench.command(arguments);
        Ran::from(command.current_dir(bench.home.path()).output().unwrap()).ends_with(4)
    };
    insta::assert_snapshot!(run(&["build", "wrong.kdl"]).stderr, @r#"
    error: unknown node "pakages" in "image"
       ╭─[wrong.kdl:3:5]
     2 │     from "debian-12"
     3 │     pakages "x"
       ·     ───┬───
       ·        ╰── unknown node
     4 │     run 3
       ╰────
      help: did you mean "packages"?

    error: an argument of "run" must be a string
       ╭─[wrong.kdl:4:9]
     3 │     pakages "x"
     4 │     run 3
       ·         ┬
       ·         ╰── this is a number
     5 │ }
       ╰────
      help: write it in quotes: "3"

    error: wrong.kdl has 2 mistakes
    "#);
    let error = run(&["plan", "wrong.kdl", "--json"]).json_error();
    assert_eq!(error["kind"], "recipe");
    assert_eq!(
        (&error["file"], &error["line"], &error["column"]),
        (&"wrong.kdl".into(), &3.into(), &5.into())
    );
    assert_eq!(error["related"].as_array().unwrap().len(), 2);
    assert_eq!(error["related"][0]["help"], "did you mean \"packages\"?");
}

#[test]
fn a_recipe_that_is_not_there() {
    let bench = Bench::new();
    insta::assert_snapshot!(bench.run(["build", "dokcer"]).ends_with(3).stderr, @r#"
    error: there is no recipe "dokcer"
      help: did you mean "docker"?
    "#);
    insta::assert_snapshot!(bench.run(["build", "x.kdl"]).ends_with(3).stderr, @r#"
    error: there is no recipe "x.kdl"
      help: give the path of a recipe file, or one of the built-in recipes: alpine, debian-12, docker, kata, kubernetes, lxd, observer, ubuntu-24.04, ubuntu-24.04-cloud
    "#);
}

#[test]
fn missing_programs_are_found_before_any_work() {
    let bench = Bench::new();
    let empty = tempfile::tempdir().unwrap();
    let mut command = bench.command(["build", "debian-12"]);
    let ran = Ran::from(command.env("PATH", empty.path()).output().unwrap()).ends_with(5);
    assert!(ran.stderr.contains("mmdebstrap"), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("sudo apt-get install bubblewrap"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("start "), "{}", ran.stderr);
    let log = bench.home.path().join("log");
    assert!(!log.exists() || std::fs::read_dir(log).unwrap().next().is_none());
}

//! Steps that fail, and what is left then.

use super::super::support::{Build, Lab, Ran, Recipes};

#[test]
fn a_failed_step_is_explained_and_leaves_the_store_intact() {
    let recipes = Recipes::new();
    let with_middle = |middle: &str| {
        recipes.image(
            "failing",
            &format!(
                r#"
                run "echo first > /first"
                run "{middle}"
                run "echo last > /last"
                "#
            ),
        );
    };
    let broken = "echo before; echo to the error stream >&2; exit 37";
    with_middle(broken);
    let failed = recipes.build("failing").ends_with(1);
    let name = format!("failing: run {broken}");
    let name = name.chars().take(40).collect::<String>();
    assert_eq!(failed.ended("failed").len(), 1);
    assert_eq!(failed.ended("built"), ["failing: run echo first > /first"]);
    assert!(
        failed
            .ended("skipped")
            .contains(&"failing: run echo last > /last")
    );
    let error = failed.error();
    assert_eq!(error["kind"], "failed");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(&name), "{message}");
    assert!(message.ends_with("exited with code 37"), "{message}");
    assert_eq!(error["command"], broken);
    assert_eq!(
        error["output"],
        serde_json::json!(["before", "to the error stream"])
    );
    let log = std::fs::read_to_string(error["log"].as_str().unwrap()).unwrap();
    assert_eq!(log, "before\nto the error stream\n");
    let tags = Lab::get().run(["images", "--quiet"]).ends_with(0).stdout;
    assert!(!tags.contains("failing"), "{tags}");

    // For people, all of that as text.
    let mut command = Lab::get().command();
    command
        .args(["build", "failing.kdl"])
        .current_dir(recipes.directory());
    let text = Ran::of(&mut command).ends_with(1).stderr;
    for part in [
        &name,
        "exited with code 37",
        "| before",
        "| to the error stream",
        "log: ",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }

    with_middle("echo repaired");
    let repaired = recipes.build("failing").succeeds();
    assert!(
        repaired
            .ended("cached")
            .contains(&"failing: run echo first > /first")
    );
    assert_eq!(repaired.started()[0], "failing: run echo repaired");
}

#[test]
fn other_steps_go_on_only_when_asked() {
    let recipes = Recipes::new();
    // The checks do not need each other; the disk does not need them.
    recipes.image(
        "going-on",
        r#"
        check "exit 3"
        check "sleep 1; echo second"
        "#,
    );
    let stopped = recipes.build_with("going-on", ["--jobs", "1"]).ends_with(1);
    assert_eq!(stopped.ended("failed"), ["going-on: check exit 3"]);
    assert!(
        stopped
            .ended("skipped")
            .contains(&"going-on: check sleep 1; echo second")
    );
    let kept_going = recipes
        .build_with("going-on", ["--jobs", "1", "--keep-going"])
        .ends_with(1);
    assert_eq!(kept_going.ended("failed"), ["going-on: check exit 3"]);
    assert_eq!(kept_going.ended("skipped"), ["going-on: image"]);
    assert!(kept_going.output().contains(&"second"));
    // A failed check leaves no image.
    let tags = Lab::get().run(["images", "--quiet"]).ends_with(0).stdout;
    assert!(!tags.contains("going-on"), "{tags}");
}

#[test]
fn each_limit_is_named() {
    let recipes = Recipes::new();
    recipes.image(
        "limited",
        r#"
        check timeout="1s" "sleep 1000 # time"
        check processes=8 "for i in $(seq 20); do sleep 1000 & done; wait # processes"
        check memory="64M" "head -c 200000000 /dev/zero > /dev/shm/x; sleep 1000 # files in memory"
        check memory="64M" "head -c 20000000 /dev/zero > /dev/shm/x; sleep 1 # few"
        check memory="64M" "perl -e 'my %number = (x86_64 => 319, aarch64 => 279); chomp(my $m = `uname -m`); my $name = q(x); open(my $file, q(>&=), syscall($number{$m}, $name, 0)) or die; print $file q(x) x 1000000 for 1..200; sleep 1000' # a file without a name"
        check memory="64M" "perl -e 'my $id = shmget(0, 200000000, 0600) // die; shmwrite($id, q(x) x 1000000, 1000000 * $_, 1000000) or die for 0..199; sleep 1000' # a segment"
        check memory="64M" "x=$(head -c 200000000 /dev/zero | tr '\\0' x); sleep 1000 # memory"
        "#,
    );
    let failed = recipes.build_with("limited", ["--keep-going"]).ends_with(1);
    let error = failed.error();
    let errors: Vec<&str> = error["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["message"].as_str().unwrap())
        .collect();
    assert_eq!(errors.len(), 6, "{errors:?}");
    for (step, limit) in [
        ("check sleep", "took longer than its limit of 1 s"),
        ("check for", "used more than its limit of 8 processes"),
        ("check head", "used more than its limit of 64 MiB of memory"),
        (
            "check perl -e 'my %",
            "used more than its limit of 64 MiB of memory",
        ),
        (
            "check perl -e 'my $id",
            "used more than its limit of 64 MiB of memory",
        ),
        ("check x=", "used more than its limit of 64 MiB of memory"),
    ] {
        let found = errors
            .iter()
            .any(|e| e.contains(step) && e.ends_with(limit));
        assert!(found, "{step}, {limit}: {errors:?}");
    }
}

#[test]
fn a_step_that_writes_without_end_is_ended() {
    let recipes = Recipes::new();
    recipes.image("endless", r#"check "echo first; cat /dev/zero""#);
    recipes.write("config.kdl", "limits step-log=\"1M\"\n");
    let mut command = recipes.command("endless");
    command.env("VMFAB_CONFIG", recipes.path("config.kdl"));
    let error = Build::of(&mut command).ends_with(1).error();
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("wrote more than 1 MiB of output"),
        "{message}"
    );
    assert!(message.contains("step-log"), "{message}");
    let log = std::fs::metadata(error["log"].as_str().unwrap()).unwrap();
    assert!(log.len() < 2 << 20, "{}", log.len());
}

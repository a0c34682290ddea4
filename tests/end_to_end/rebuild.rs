//! What is built again, and what is not.

use std::collections::BTreeMap;

use super::super::support::{Build, Lab, Ran, Recipes, command_in};

#[test]
fn the_base_is_built_from_scratch_once() {
    let lab = Lab::get();
    assert!(lab.base.started()[0].contains(": bootstrap "));
    assert_eq!(lab.base.ended("cached"), [""; 0]);
    let mut again = lab.command();
    again.args([
        "build",
        "--json",
        lab.base.result()["name"].as_str().unwrap(),
    ]);
    let again = Build::of(&mut again).succeeds();
    assert_eq!(again.started(), [""; 0]);
    assert_eq!(again.image(), lab.base.image());
}

#[test]
fn only_what_depends_on_a_change_is_built_again() {
    let recipes = Recipes::new();
    let with_last = |last: &str| {
        recipes.image(
            "changing",
            &format!(
                r#"
                run "echo first > /first # of changing"
                file "/second" {{ content "second\n" }}
                run "{last}"
                check "test -s /first"
                "#
            ),
        );
        recipes.build("changing").succeeds()
    };
    let first = with_last("echo third > /third");
    assert_eq!(
        first.started()[..3],
        [
            "changing: run echo first > /first # of changing",
            "changing: file /second",
            "changing: run echo third > /third"
        ]
    );
    // Of the base's own steps the system layer, the disk and the image are not shared.
    let of_base = Lab::get().base.events("step-finished").count();
    assert_eq!(first.ended("cached").len(), of_base - 3);

    let second = with_last("echo third > /third");
    assert_eq!(second.started(), [""; 0]);
    assert_eq!(
        second.ended("cached").len(),
        second.events("step-finished").count()
    );
    assert_eq!(second.image(), first.image());
    assert_eq!(second.result()["tags_moved"], false);

    let changed = with_last("echo changed > /third");
    let mut started = changed.started();
    started.sort_unstable();
    assert_eq!(
        started,
        [
            "changing: check test -s /first",
            "changing: disk 2G",
            "changing: image",
            "changing: run echo changed > /third",
            "changing: system",
        ]
    );
    assert_ne!(changed.image(), first.image());

    // And back: all of that is still there.
    let back = with_last("echo third > /third");
    assert_eq!(back.started(), [""; 0]);
    assert_eq!(back.image(), first.image());
    assert_eq!(back.result()["tags_moved"], true);
}

#[test]
fn a_step_that_comes_out_the_same_stops_the_rebuild() {
    let recipes = Recipes::new();
    let with_comment = |comment: &str| {
        recipes.image(
            "cut-off",
            &format!(
                r#"
                run "echo a > /a # {comment}"
                run "cat /a > /b"
                "#
            ),
        );
        recipes.build("cut-off").succeeds()
    };
    let first = with_comment("one");
    let second = with_comment("two");
    assert_eq!(second.started(), ["cut-off: run echo a > /a # two"]);
    assert_eq!(second.image(), first.image());
}

#[test]
fn a_build_twice_gives_the_same_bits() {
    let recipes = Recipes::new();
    // From the tag: the bootstrap is not to be repeated here. `unprivileged` does that.
    recipes.image_from_tag(
        "certain",
        r#"
        packages "sl"
        user "certain" sudo=#true
        run "date +%s%N > /dev/null; mkdir /certain; echo certain > /certain/file"
        "#,
    );
    let checked = recipes.build_with("certain", ["--check"]).succeeds();
    let finished: Vec<_> = checked.events("step-finished").collect();
    assert_eq!(checked.result()["checked"], finished.len());
    // Once to have it, and once to compare. What another test may have done before, the base's own
    // steps, runs only once.
    let own = |name: &str| name.starts_with("certain: ");
    let steps = finished
        .iter()
        .filter(|event| own(event["name"].as_str().unwrap()));
    let started = checked.started();
    let started = started.into_iter().filter(|name| own(name)).count();
    assert_eq!(started, 2 * steps.count());
}

#[test]
fn a_step_that_is_left_to_chance_is_found() {
    let recipes = Recipes::new();
    recipes.image_from_tag(
        "chance",
        r#"
        run "echo certain > /certain"
        run "head -c 16 /dev/urandom > /chance"
        "#,
    );
    let build = recipes.build_with("chance", ["--check"]).ends_with(6);
    let error = build.error();
    assert_eq!(error["kind"], "verification");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("chance: run head -c 16 /dev/urandom > /chance"),
        "{message}"
    );
    assert!(!message.contains("echo certain"), "{message}");
}

#[test]
fn two_processes_run_each_step_once() {
    let recipes = Recipes::new();
    recipes.image(
        "shared",
        r#"
        run "echo working; sleep 2; echo 1 > /shared-1"
        run "sleep 1; echo 2 > /shared-2"
        "#,
    );
    let mut first = recipes.start("shared");
    first.until_line("working");
    let second = recipes.build("shared").succeeds();
    let first = first.finish().succeeds();
    let mut counts = BTreeMap::new();
    first.count_started(&mut counts);
    second.count_started(&mut counts);
    assert_eq!(counts.len(), 5, "{counts:?}");
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    assert_eq!(first.image(), second.image());
}

#[test]
fn explain_names_the_files_and_every_changed_step() {
    let recipes = Recipes::new();
    for name in ["site/index.html", "site/about.html", "site/logo.svg"] {
        recipes.write(name, "first\n");
    }
    let with_port = |port: &str| {
        recipes.image_from_tag(
            "explained",
            &format!(
                r#"
                copy "site" "/srv/site"
                run "echo explained"
                file "/etc/port" {{ content "{port}\n" }}
                "#
            ),
        );
    };
    with_port("80");
    recipes.build("explained").succeeds();
    with_port("81");
    recipes.write("site/about.html", "second\n");
    recipes.write("site/new.html", "first\n");
    let mut command = Lab::get().command();
    command.args(["explain", "explained.kdl"]);
    let said = Ran::of(command.current_dir(recipes.directory())).ends_with(0);
    let has = |text: &str| assert!(said.stdout.contains(text), "{text} in:\n{}", said.stdout);
    has("site changed: about.html, new.html\n");
    // A step behind the first one that changed says what changed about it, too.
    has("explained: file /etc/port\n");
    assert!(!said.stdout.contains("tree was"), "{}", said.stdout);
}

/// In a home of its own: the collection would take from the others what they rely on.
#[test]
fn a_collection_keeps_what_images_with_tags_are_made_of() {
    let recipes = Recipes::new();
    recipes.image("kept", "run \"echo kept > /kept\"\ncheck \"test -s /kept\"");
    let backup = recipes.path("backup");
    Ran::of(Lab::get().command().args(["store", "backup"]).arg(&backup)).ends_with(0);
    let home = recipes.path("home");
    let run = |arguments: &[&str]| {
        let mut command = command_in(&home);
        command.args(arguments).current_dir(recipes.directory());
        command
    };
    let backup = backup.to_str().unwrap();
    Ran::of(&mut run(&["store", "restore", backup])).ends_with(0);
    let build = || Build::of(&mut run(&["build", "kept.kdl", "--json"])).succeeds();
    let first = build();
    assert!(!first.started().is_empty());
    let collect = ["store", "gc", "--older-than", "0s", "--keep-last", "0"];
    Ran::of(&mut run(&collect)).ends_with(0);
    let again = build();
    assert_eq!(again.started(), [""; 0]);
    assert_eq!(again.image(), first.image());

    // The id of what has no tag any more is one that commands take, until it is collected.
    let removed = Ran::of(&mut run(&["image", "rm", "@kept"]))
        .ends_with(0)
        .stdout;
    let id = removed
        .trim_end()
        .strip_prefix("removed @kept (was ")
        .and_then(|rest| rest.strip_suffix(')'));
    let id = id.unwrap_or_else(|| panic!("{removed}"));
    Ran::of(&mut run(&["image", "tag", id, "@again"])).ends_with(0);
    Ran::of(&mut run(&["image", "rm", "@again"])).ends_with(0);
    Ran::of(&mut run(&collect)).ends_with(0);
    Ran::of(&mut run(&["image", "inspect", id])).ends_with(3);
    assert!(build().started().contains(&"kept: image"));
}

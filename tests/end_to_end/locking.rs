//! Locks: builds that repeat without network, and moving to what there is today.

use std::fs;

use serde_json::Value;

use super::super::support::{Archive, Build, Lab, Ran, Recipes, base, program, tool};

/// The program in a directory of recipes, with the home of the run.
fn vmfab<const N: usize>(recipes: &Recipes, arguments: [&str; N]) -> Ran {
    let mut command = Lab::get().command();
    Ran::of(command.args(arguments).current_dir(recipes.directory()))
}

/// `vmfab build NAME.kdl --locked --rebuild` where there is no network at all.
fn rebuild_without_network(recipes: &Recipes, name: &str) -> Build {
    let mut unshare = tool("unshare", "util-linux");
    if !rustix::process::getuid().is_root() {
        unshare.args(["--map-root-user", "--map-auto"]);
    }
    unshare
        .args(["--net", "--", program(), "build", "--json", "--locked"])
        .args(["--rebuild", &format!("{name}.kdl")])
        .env("VMFAB_HOME", Lab::get().home())
        .env("LC_ALL", "C.UTF-8")
        .current_dir(recipes.directory());
    Build::of(&mut unshare)
}

/// A recipe on the finished base image whose packages come from `archive` only.
fn on_archive(recipes: &Recipes, name: &str, archive: &Archive, more: &str) {
    let url = archive.url();
    recipes.image_from_tag(
        name,
        &format!(
            r#"
            file "/etc/apt/sources.list" {{ content "deb [trusted=yes] {url} ./\n" }}
            packages "tiny"
            run "cat /usr/share/tiny # of {name}"
            {more}
            "#
        ),
    );
}

fn lock_file(recipes: &Recipes) -> String {
    fs::read_to_string(recipes.path("vmfab.lock")).unwrap()
}

#[test]
fn a_locked_image_is_built_again_without_network() {
    let recipes = Recipes::new();
    recipes.image("locked", r#"packages "hello" recommends=#true"#);
    let unlocked = recipes.build("locked").succeeds();

    let locked = vmfab(&recipes, ["lock", "locked.kdl", "--json"]).ends_with(0);
    let locked = locked.json();
    let steps = locked["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 2, "{locked}");
    assert!(steps[0]["packages"].as_u64().unwrap() > 100, "{locked}");
    assert_eq!(steps[1]["packages"], 1, "{locked}");
    let text = lock_file(&recipes);
    let hello = text.lines().filter(|line| line.contains("\"hello\""));
    assert_eq!(hello.count(), 1, "{text}");
    assert!(text.contains("file=\"pool/main/h/hello/hello_"), "{text}");
    vmfab(&recipes, ["lock", "--check", "locked.kdl"]).ends_with(0);

    // The lock has what was built: nothing runs again.
    let mut again = recipes.command("locked");
    let again = Build::of(again.arg("--locked")).succeeds();
    assert_eq!(again.started(), [""; 0]);
    assert_eq!(again.image(), unlocked.image());

    let offline = rebuild_without_network(&recipes, "locked").succeeds();
    assert!(offline.started()[0].contains(": bootstrap "));
    assert_eq!(offline.ended("cached"), [""; 0]);
    assert_eq!(offline.image(), unlocked.image(), "on {}", base());
    // Locking again finds nothing else.
    let locked = vmfab(&recipes, ["lock", "locked.kdl", "--json"]).ends_with(0);
    assert_eq!(locked.json()["changed"], false);
    assert_eq!(lock_file(&recipes), text);
}

#[test]
fn an_update_shows_what_changes() {
    let archive = Archive::new();
    archive.publish("tiny", "1.0", "tiny-old");
    archive.publish("tiny-old", "1", "");
    let recipes = Recipes::new();
    on_archive(&recipes, "moving", &archive, "");
    vmfab(&recipes, ["lock", "moving.kdl"]).ends_with(0);
    // It ran steps, and other terminals could see it.
    let builds = vmfab(&recipes, ["builds", "--all", "--json"])
        .ends_with(0)
        .json();
    let mut builds = builds.as_array().unwrap().iter();
    let record = builds.find(|one| one["command"] == "lock" && one["image"] == "moving");
    assert_eq!(record.unwrap()["ended"]["outcome"], "done");
    let first = recipes.build_with("moving", ["--locked"]).succeeds();
    assert_eq!(first.output(), ["1.0"]);

    archive.withdraw("tiny", "1.0");
    archive.withdraw("tiny-old", "1");
    archive.publish("tiny", "2.0", "tiny-new");
    archive.publish("tiny-new", "7", "");
    // What the archive has now does not count.
    let again = rebuild_without_network(&recipes, "moving").succeeds();
    assert!(again.output().contains(&"1.0"), "{:?}", again.output());
    assert_eq!(again.image(), first.image());

    let before = lock_file(&recipes);
    let changes = |value: &Value| -> Vec<String> {
        let packages = value["steps"][0]["packages"].as_array().unwrap().iter();
        let change = |package: &Value| {
            let version = |name: &str| package[name].as_str().unwrap_or("none").to_owned();
            let name = package["name"].as_str().unwrap();
            format!("{name} {} {}", version("was"), version("is"))
        };
        packages.map(change).collect()
    };
    let expected = ["tiny 1.0 2.0", "tiny-new none 7", "tiny-old 1 none"];
    let dry = vmfab(&recipes, ["update", "--dry-run", "--json"]).ends_with(0);
    assert_eq!(changes(&dry.json()), expected);
    assert_eq!(dry.json()["written"], false);
    assert_eq!(lock_file(&recipes), before);

    let updated = vmfab(&recipes, ["update", "tiny"]).ends_with(0);
    assert!(
        updated.stdout.contains("tiny 1.0 → 2.0"),
        "{}",
        updated.stdout
    );
    assert_ne!(lock_file(&recipes), before);
    let second = recipes.build_with("moving", ["--locked"]).succeeds();
    assert!(
        !second
            .started()
            .iter()
            .any(|step| step.contains("packages"))
    );
    assert_eq!(second.output(), ["2.0"]);

    let text = lock_file(&recipes);
    let nothing = vmfab(&recipes, ["update"]).ends_with(0);
    assert!(
        nothing.stdout.contains("nothing changed"),
        "{}",
        nothing.stdout
    );
    assert_eq!(lock_file(&recipes), text);
    let unknown = vmfab(&recipes, ["update", "tinyy"]).ends_with(3);
    assert!(
        unknown.stderr.contains("did you mean \"tiny\""),
        "{}",
        unknown.stderr
    );

    // As it was: the old packages are still in the store.
    recipes.write("vmfab.lock", &before);
    let back = recipes.build_with("moving", ["--locked"]).succeeds();
    assert_eq!(back.image(), first.image());
}

#[test]
fn what_the_store_lacks_is_downloaded_or_missed() {
    let archive = Archive::new();
    archive.publish("tiny", "1.0", "");
    let recipes = Recipes::new();
    on_archive(&recipes, "fetching", &archive, "");
    vmfab(&recipes, ["lock", "fetching.kdl"]).ends_with(0);
    let text = lock_file(&recipes);
    let package = text.lines().find(|line| line.contains("package \"tiny\""));
    let package = package.unwrap().to_owned();

    // A lock that somebody else made, of a package that was never here.
    archive.withdraw("tiny", "1.0");
    let theirs = archive.publish("tiny", "1.5", "");
    let line = |sha256: &str| {
        let size = theirs.size;
        format!(
            "    package \"tiny\" \"1.5\" \"all\" sha256=\"{sha256}\" size={size} \
             file=\"./tiny_1.5_all.deb\""
        )
    };
    recipes.write("vmfab.lock", &text.replace(&package, &line(&theirs.sha256)));
    let built = recipes.build_with("fetching", ["--locked"]).succeeds();
    assert!(built.output().contains(&"1.5"), "{:?}", built.output());
    // Now it is.
    rebuild_without_network(&recipes, "fetching").succeeds();

    // What comes must be what is locked.
    let other = "0".repeat(64);
    recipes.write("vmfab.lock", &text.replace(&package, &line(&other)));
    let url = format!("{}tiny_1.5_all.deb", archive.url());
    let refused = |build: Build| {
        let error = build.ends_with(1).error();
        let text = format!("{} {}", error["message"], error["help"]);
        for part in ["tiny 1.5", &url, "vmfab update", "snapshot.debian.org"] {
            assert!(text.contains(part), "no {part} in {text}");
        }
    };
    refused(recipes.build_with("fetching", ["--locked"]));
    archive.withdraw("tiny", "1.5");
    refused(recipes.build_with("fetching", ["--locked"]));
}

#[test]
fn steps_that_are_not_locked_are_told() {
    let archive = Archive::new();
    archive.publish("tiny", "1.0", "");
    archive.publish("more", "1.0", "");
    let recipes = Recipes::new();
    on_archive(&recipes, "growing", &archive, "");
    let refused = recipes.build_with("growing", ["--locked"]).ends_with(4);
    let message = refused.error()["message"].to_string();
    assert!(message.contains("has nothing for growing.kdl"), "{message}");
    vmfab(&recipes, ["lock", "--check", "growing.kdl"]).ends_with(6);
    vmfab(&recipes, ["lock", "growing.kdl"]).ends_with(0);
    let first = lock_file(&recipes);
    assert_eq!(
        recipes
            .build("growing")
            .succeeds()
            .events("warning")
            .count(),
        0
    );

    on_archive(&recipes, "growing", &archive, r#"packages "more""#);
    let built = recipes.build("growing").succeeds();
    let warnings: Vec<String> = built.events("warning").map(Value::to_string).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("growing: packages more"),
        "{warnings:?}"
    );
    assert!(
        warnings[0].contains("vmfab lock growing.kdl"),
        "{warnings:?}"
    );
    let refused = recipes.build_with("growing", ["--locked"]).ends_with(4);
    assert_eq!(refused.error()["kind"], "recipe");
    vmfab(&recipes, ["plan", "--locked", "growing.kdl"]).ends_with(4);
    let check = vmfab(&recipes, ["lock", "--check", "growing.kdl"]).ends_with(6);
    assert!(
        check.stderr.contains("growing: packages more"),
        "{}",
        check.stderr
    );

    // A second recipe has entries of its own in the same file.
    on_archive(&recipes, "other", &archive, "");
    vmfab(&recipes, ["lock", "growing.kdl"]).ends_with(0);
    vmfab(&recipes, ["lock", "other.kdl"]).ends_with(0);
    recipes.build_with("growing", ["--locked"]).succeeds();
    vmfab(&recipes, ["lock", "--check", "other.kdl"]).ends_with(0);

    // Back again: what is not needed any more goes.
    on_archive(&recipes, "growing", &archive, "");
    vmfab(&recipes, ["lock", "--check", "growing.kdl"]).ends_with(6);
    vmfab(&recipes, ["lock", "growing.kdl"]).ends_with(0);
    fs::remove_file(recipes.path("other.kdl")).unwrap();
    assert_eq!(lock_file(&recipes).matches("package \"tiny\"").count(), 1);
    assert!(!lock_file(&recipes).contains("package \"more\""));
    assert!(lock_file(&recipes).starts_with(first.lines().next().unwrap()));
}

#[test]
fn a_lock_of_a_newer_program_is_left_alone() {
    let recipes = Recipes::new();
    recipes.image_from_tag("newer", "");
    recipes.write("vmfab.lock", "version 2\nfuture thing=1\n");
    for arguments in [
        ["build", "newer.kdl"],
        ["lock", "newer.kdl"],
        ["plan", "newer.kdl"],
    ] {
        let refused = vmfab(&recipes, arguments).ends_with(4);
        assert!(refused.stderr.contains("version 2"), "{}", refused.stderr);
    }
    vmfab(&recipes, ["update"]).ends_with(4);
    assert_eq!(lock_file(&recipes), "version 2\nfuture thing=1\n");
    // Without a lock, and in a home that remembers nothing, there is nothing to update.
    fs::remove_file(recipes.path("vmfab.lock")).unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut command = Lab::get().command();
    command.arg("update").env("VMFAB_HOME", home.path());
    Ran::of(command.current_dir(recipes.directory())).ends_with(3);
}

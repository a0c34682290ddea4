//! Roles: the tags that they get, and where `boot` and `create` look before they build.

use std::fs;

use serde_json::Value;

use super::home::Home;
use crate::support::registry::Registry;

/// A home whose catalogue has the role `tool`, and what its configuration says beyond that.
fn home(configuration: &str) -> Home {
    let home = Home::new();
    home.configure(&format!(
        "downloads retries=0\nrecipes \"recipes\"\n{configuration}\n"
    ));
    fs::create_dir(home.path("recipes")).unwrap();
    fs::write(home.path("disk.raw"), vec![7; 1 << 20]).unwrap();
    fs::write(
        home.path("recipes/tool.kdl"),
        "recipe \"tool\" { param \"base\" default=\"debian-12\"; }\n\
         image \"tool\" { from \"../disk.raw\"; }\n",
    )
    .unwrap();
    home
}

fn tags(built: &Value) -> Vec<&str> {
    let tags = built["tags"].as_array().unwrap().iter();
    tags.map(|tag| tag.as_str().unwrap()).collect()
}

/// Builds the role; gives the last line of what is told.
#[track_caller]
fn build(home: &Home, more: &[&str]) -> Value {
    let words = ["build", "tool", "--json"].iter().chain(more).copied();
    let said = home.run(&words.collect::<Vec<_>>()).ends_with(0).stdout;
    serde_json::from_str(said.lines().last().unwrap()).unwrap()
}

#[test]
fn an_image_of_a_role_is_also_named_after_its_base() {
    let home = home("");
    assert_eq!(tags(&build(&home, &[])), ["tool", "debian-12-tool"]);
    let mine = build(&home, &["--set", "base=@mine"]);
    assert_eq!(tags(&mine), ["tool", "mine-tool"]);
    let file = build(&home, &["--set", "base=./mine.raw"]);
    assert_eq!(tags(&file), ["tool"]);
    assert_eq!(tags(&build(&home, &["--tag", "@own"])), ["own"]);
    let file = home.path("recipes/tool.kdl");
    let file = file.to_str().unwrap();
    let words = ["build", file, "--json"];
    let said = home.run(&words).ends_with(0).stdout;
    let built: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(tags(&built), ["tool", "debian-12-tool"]);
}

#[test]
fn a_role_is_taken_from_the_store_then_from_the_registry_then_built() {
    let registry = Registry::start();
    let place = registry.at("team");
    let first = home("");
    let image = build(&first, &[])["image"].clone();
    first.push("@tool", &format!("{place}/tool:debian-12"));

    let source = |home: &Home| home.json(&["images"])[0]["source"]["how"].clone();
    let second = home(&format!("roles \"{place}\""));
    second
        .run(&["create", "one", "--from", "tool"])
        .ends_with(0);
    assert_eq!(source(&second), "pulled");
    let entries = second.json(&["images"]);
    let found: Vec<_> = entries
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["tag"])
        .collect();
    assert_eq!(found, ["debian-12-tool", "tool"]);
    assert_eq!(entries[0]["image"], image);

    // What the registry lacks is built, and so is what nobody asks it for.
    let third = home(&format!("roles \"{place}/others\""));
    let said = third.run(&["create", "one", "--from", "tool"]).ends_with(0);
    assert_eq!(source(&third), "built");
    assert!(!said.stderr.contains("warning"), "{}", said.stderr);
    drop(registry);

    // The store needs no registry, under either name.
    second.run(&["image", "rm", "@tool"]).ends_with(0);
    second
        .run(&["create", "two", "--from", "tool"])
        .ends_with(0);
    assert_eq!(source(&second), "pulled");

    let fourth = home(&format!("roles \"{place}\""));
    let said = fourth
        .run(&["create", "one", "--from", "tool"])
        .ends_with(0);
    assert_eq!(source(&fourth), "built");
    assert!(
        said.stderr.contains("building tool instead"),
        "{}",
        said.stderr
    );
}

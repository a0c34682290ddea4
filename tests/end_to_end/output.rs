//! Disks written to files, opened by other tools.

use serde_json::Value;

use super::super::support::{Lab, Ran, Recipes, base, tool};

#[test]
fn every_format_is_opened_by_qemu() {
    let recipes = Recipes::new();
    recipes.image("written", r#"run "echo written > /written""#);
    let qemu_img = |arguments: &[&str]| {
        let mut command = tool("qemu-img", "qemu-utils");
        Ran::of(command.args(arguments).current_dir(recipes.directory())).ends_with(0)
    };
    for format in ["raw", "qcow2", "vmdk", "vhdx"] {
        let file = format!("disk.{format}");
        // By the end of the name, except once.
        let build = match format {
            "raw" => recipes.build_with("written", ["-o", "disk.img", "--format", "raw"]),
            _ => recipes.build_with("written", ["--output", &file]),
        };
        let build = build.succeeds();
        let file = if format == "raw" { "disk.img" } else { &file };
        let output = build.result()["output"].as_str().unwrap();
        assert!(output.ends_with(file), "{output}");
        let info: Value = qemu_img(&["info", "--output=json", file]).json();
        assert_eq!(info["format"], format);
        assert_eq!(info["virtual-size"], 2_u64 << 30);
        qemu_img(&["compare", "-f", "raw", "-F", format, "disk.img", file]);
        if format != "raw" {
            std::fs::remove_file(recipes.path(file)).unwrap();
        }
    }
    let mut check = tool("e2fsck", "e2fsprogs");
    Ran::of(check.args(["-f", "-n"]).arg(recipes.path("disk.img"))).ends_with(0);
    let mut read = tool("debugfs", "e2fsprogs");
    let read = read
        .args(["-R", "cat /written"])
        .arg(recipes.path("disk.img"));
    assert_eq!(Ran::of(read).ends_with(0).stdout, "written\n");

    // A file that is there stays, and nothing is done.
    let refused = recipes.build_with("written", ["--output", "disk.img"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    let message = refused.error()["message"].to_string();
    assert!(message.contains("disk.img"), "{message}");
    assert_eq!(refused.events("build-started").count(), 0);
}

#[test]
fn an_image_tells_when_and_how_it_came_here() {
    let recipes = Recipes::new();
    recipes.image_from_tag("recorded", r#"run "echo recorded > /recorded""#);
    let built = recipes.build("recorded").succeeds();
    let lab = Lab::get();
    let list = lab.run(["images", "--json"]).ends_with(0).json();
    let entry = list.as_array().unwrap().iter();
    let entry = entry.clone().find(|one| one["tag"] == "recorded").unwrap();
    assert_eq!(entry["source"]["how"], "built");
    let recipe = entry["source"]["recipe"].as_str().unwrap();
    assert!(recipe.ends_with("/recorded.kdl"), "{recipe}");
    assert!(entry["created"].as_u64().unwrap() > 1_700_000_000);

    // The steps of the base are known from the build of the base.
    let history = lab.run(["image", "history", "@recorded", "--json"]);
    let history = history.ends_with(0).json();
    let steps = history.as_array().unwrap().iter();
    let steps: Vec<_> = steps.map(|one| one["step"].as_str().unwrap()).collect();
    assert!(steps[1].contains("run echo recorded"), "{steps:?}");
    let first = format!("{}: bootstrap", base());
    assert!(steps.last().unwrap().starts_with(&first), "{steps:?}");

    // So is the step that brought a package.
    let bill = lab.run(["image", "sbom", "@recorded", "--json"]);
    let bill = bill.ends_with(0).json();
    let mut packages = bill["packages"].as_array().unwrap().iter();
    let dash = packages.find(|one| one["name"] == "dash").unwrap();
    assert!(dash["step"].as_str().unwrap().starts_with(&first), "{dash}");
    assert!(dash["license"].as_str().is_some(), "{dash}");

    // The record is no part of the image.
    let record = format!("log/images/{}.json", built.image());
    std::fs::remove_file(lab.home().join(record)).unwrap();
    let again = recipes.build("recorded").succeeds();
    assert_eq!(again.image(), built.image());
    let shown = lab.run(["image", "inspect", "@recorded"]).ends_with(0);
    assert!(shown.stdout.contains("built from /"), "{}", shown.stdout);
}

#[test]
fn a_recipe_can_come_on_standard_input() {
    let recipes = Recipes::new();
    recipes.write("greeting", "hello\n");
    recipes.image_from_tag("piped", r#"file "/greeting" source="greeting""#);
    let mut command = Lab::get().command();
    let recipe = std::fs::File::open(recipes.path("piped.kdl")).unwrap();
    command
        .args(["build", "-", "--json"])
        .current_dir(recipes.directory())
        .stdin(recipe);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    // Another recipe name, the same disk.
    let disk = |tag: &str| {
        let found = Lab::get().run(["image", "inspect", tag, "--json"]);
        found.ends_with(0).json()["config"]["disk"].clone()
    };
    let piped = disk("@piped");
    recipes.build("piped").succeeds();
    assert_eq!(disk("@piped"), piped);

    let mut lock = Lab::get().command();
    let refused = Ran::of(lock.args(["lock", "-"])).ends_with(2);
    assert!(
        refused.stderr.contains("cannot have a lock file"),
        "{}",
        refused.stderr
    );
}

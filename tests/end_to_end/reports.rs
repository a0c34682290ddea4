//! Reports of builds that ran, and the history that they are in.

use std::fs;

use serde_json::{Value, json};

use super::super::support::{Lab, Ran, Recipes};

/// The data of the report of the last build of an image, and the builds of it so far.
#[track_caller]
fn last(image: &str) -> (Value, Vec<Value>) {
    let lab = Lab::get();
    let history = lab.run(["history", image, "--json"]).ends_with(0).json();
    let history = history.as_array().unwrap().clone();
    let id = history.last().unwrap()["id"].as_str().unwrap();
    let report = lab.run(["report", id, "--json"]).ends_with(0).json();
    (report, history)
}

#[track_caller]
fn step<'r>(report: &'r Value, name: &str) -> &'r Value {
    let mut steps = report["graphs"][0]["steps"].as_array().unwrap().iter();
    let found = steps.find(|step| step["name"] == name);
    found.unwrap_or_else(|| panic!("no step {name}: {report:#}"))
}

#[test]
fn a_build_is_reported_whatever_becomes_of_it() {
    let recipes = Recipes::new();
    let image = |command: &str| {
        let steps = format!("        run \"{command}\"\n        check \"echo all is well\"");
        recipes.image("reported", &steps);
    };
    let report = ["--report", "reported.html"];
    image("echo reported 1");
    recipes.build_with("reported", report).succeeds();
    let page = fs::read_to_string(recipes.path("reported.html")).unwrap();
    assert!(page.starts_with("<!doctype html><!-- vmfab page -->"));
    let (data, _) = last("reported");
    assert_eq!(data["outcome"], "done");
    let ran = step(&data, "reported: run echo reported 1");
    assert_eq!(ran["state"], "built");
    assert_eq!(
        ran["reasons"],
        json!(["was not part of the last build on this host"])
    );
    assert_eq!(ran["params"][0], json!(["command", "echo reported 1"]));
    assert_eq!(ran["log"]["text"], "reported 1");
    assert!(
        ran["start"].is_u64() && ran["time"].is_u64() && ran["lane"].is_u64(),
        "{ran}"
    );
    assert_eq!(ran["outputs"][0][0], "layer");
    let check = step(&data, "reported: check echo all is well");
    assert_eq!(
        (&check["check"], &check["log"]["text"]),
        (&json!(true), &json!("all is well"))
    );
    let graph = &data["graphs"][0];
    assert!(graph["critical"].as_array().unwrap().len() > 1, "{graph:#}");
    let parts = graph["parts"].as_array().unwrap();
    for role in ["disk", "layer"] {
        let mut of_role = parts.iter().filter(|part| part["role"] == role);
        let all_there = of_role.all(|part| part["stored"].as_u64() >= part["new"].as_u64());
        assert!(
            all_there && parts.iter().any(|part| part["role"] == role),
            "{parts:#?}"
        );
    }
    let packages = graph["packages"][0]["packages"].as_array().unwrap();
    assert!(
        packages.iter().any(|package| package[0] == "bash"),
        "{packages:?}"
    );

    // Keys are those of the plan.
    let mut plan = Lab::get().command();
    plan.args(["plan", "reported.kdl", "--json"])
        .current_dir(recipes.directory());
    let plan = Ran::of(&mut plan).ends_with(0).json();
    let planned = plan["steps"].as_array().unwrap();
    for (planned, shown) in planned.iter().zip(graph["steps"].as_array().unwrap()) {
        let key = planned["key"].as_str().unwrap();
        assert!(
            key.starts_with(shown["key"].as_str().unwrap()),
            "{planned} {shown}"
        );
    }

    // Nothing runs: the build leaves a record all the same, for it is reported.
    recipes.build_with("reported", report).succeeds();
    let (data, _) = last("reported");
    assert_eq!(
        step(&data, "reported: run echo reported 1")["state"],
        "cached"
    );
    assert_eq!(
        step(&data, "reported: check echo all is well")["log"]["text"],
        "all is well"
    );
    // And without a report it is in the history.
    recipes.build("reported").succeeds();

    image("echo reported 2");
    recipes.build_with("reported", report).succeeds();
    let (data, _) = last("reported");
    let reasons = &step(&data, "reported: run echo reported 2")["reasons"];
    assert_eq!(
        reasons,
        &json!(["command was \"echo reported 1\", is \"echo reported 2\""])
    );

    image("echo broken; exit 3");
    recipes.build_with("reported", report).ends_with(1);
    let (data, history) = last("reported");
    assert_eq!(data["outcome"], "failed");
    let broken = step(&data, "reported: run echo broken; exit 3");
    assert_eq!(
        (&broken["state"], &broken["log"]["text"]),
        (&json!("failed"), &json!("broken"))
    );
    assert!(
        broken["reasons"][0]
            .as_str()
            .unwrap()
            .contains("echo reported 2"),
        "{broken}"
    );
    assert_eq!(step(&data, "reported: image")["state"], "skipped");
    assert!(
        fs::read_to_string(recipes.path("reported.html"))
            .unwrap()
            .contains("broken")
    );

    let outcomes: Vec<_> = history
        .iter()
        .map(|one| one["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes, ["done", "done", "done", "done", "failed"]);
    let built: Vec<_> = history
        .iter()
        .map(|one| one["steps"]["built"].as_u64().unwrap())
        .collect();
    assert_eq!((built[1], built[2], built[4]), (0, 0, 0));
    let shown = Lab::get().run(["history", "reported"]).ends_with(0).stdout;
    assert!(
        shown.contains("100 %") && shown.contains("5 builds"),
        "{shown}"
    );
}

#[test]
fn a_plan_is_drawn() {
    let recipes = Recipes::new();
    recipes.image("drawn", "        run \"echo '</svg>' drawn\"");
    let plan = |format: &str| {
        let mut command = Lab::get().command();
        command
            .args(["plan", "drawn.kdl", "--format", format])
            .current_dir(recipes.directory());
        Ran::of(&mut command).ends_with(0)
    };
    let svg = plan("svg").stdout;
    assert!(
        svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"),
        "{svg}"
    );
    assert!(
        svg.contains("&lt;/svg&gt;") && svg.contains("class=\"build\""),
        "{svg}"
    );
    let dot = plan("dot").stdout;
    assert!(
        dot.contains("tooltip=\"build\"") && dot.contains(" -> "),
        "{dot}"
    );
    let json = plan("json").json();
    assert_eq!(json["name"], "drawn");
    let mut both = Lab::get().command();
    both.args(["plan", "drawn.kdl", "--json", "--format", "svg"])
        .current_dir(recipes.directory());
    let refused = Ran::of(&mut both).ends_with(2).stderr;
    assert!(refused.contains("different things"), "{refused}");
}

//! A template is tested in a machine of its own.

use crate::support::{Lab, Machine, Ran, Recipes, base};

#[test]
fn tests_of_a_template_run_in_its_machine() {
    let recipes = Recipes::new();
    let text = r#"
recipe "tested-template" version="1.0.0" {
    requires memory="512M"
    param "greeting" default="hello"
}
image "tested-template" {
    from "BASE"
    user "dev"
    run "id -un > ~/who; pwd > ~/where" name="Who" user="dev" workdir="/srv/app"
    file "/etc/greeting" {
        content "${greeting}\n"
    }
    test "what was built" {
        run "test $(cat ~/who) = dev; test $(cat ~/where) = /srv/app" user="dev"
        file "/home/dev/who" contains="dev"
        port 22
    }
    test "greets" {
        file "/etc/greeting" contains="hello"
    }
}
"#;
    recipes.write("template.kdl", &text.replace("BASE", &base()));
    let directory = recipes.path("");
    let report = recipes.path("report.xml");
    let _turn = Machine::turn();
    let lab = Lab::get();
    let mut command = lab.command();
    command
        .args(["template", "test", "--json", "--timeout", "900"])
        .args(["--matrix", "greeting=hello,bye", "--home"])
        .arg(lab.home())
        .arg("--junit")
        .arg(&report)
        .arg(&directory);
    let tested = Ran::of(&mut command);
    assert_eq!(tested.code, Some(1), "{}{}", tested.stdout, tested.stderr);
    let last = tested.stdout.lines().last().unwrap();
    let json: serde_json::Value = serde_json::from_str(last).unwrap();
    let cases = json["cases"].as_array().unwrap();
    let failed: Vec<bool> = cases
        .iter()
        .map(|case| !case["failure"].is_null())
        .collect();
    let only_the_last = [false, false, false, false, false, false, false, true];
    assert_eq!(failed, only_the_last, "{json:#}");
    assert_eq!(cases[7]["parameters"]["greeting"], "bye");
    let junit = std::fs::read_to_string(report).unwrap();
    assert!(junit.contains("tests=\"8\" failures=\"1\""), "{junit}");
    let machines = lab.run(["list", "--json"]).stdout;
    assert!(!machines.contains("tested-template"), "{machines}");
}

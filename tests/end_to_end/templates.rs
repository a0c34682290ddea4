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

#[test]
fn a_machine_is_created_of_a_published_template() {
    let recipes = Recipes::new();
    let lab = Lab::get();
    let publish = |name: &str, body: &str| {
        let text = format!(
            "recipe \"{name}\" version=\"1.0.0\" {{\n    description \"For tests\"\n    \
             requires memory=\"1100M\"\n    param \"word\"\n}}\n\
             image \"{name}\" {{\n    from \"{}\"\n{body}}}\n",
            base()
        );
        let directory = recipes.path(name);
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("template.kdl"), text).unwrap();
        std::fs::write(directory.join("motd"), "from the package\n").unwrap();
        let import = ["template", "import", directory.to_str().unwrap()];
        lab.run(import).ends_with(0);
    };
    let create = |name: &str| {
        let wanted = format!("local/{name}@^1");
        let arguments = ["create", "published", "--json", "--template", &wanted];
        let mut command = lab.command();
        command.args(arguments).args(["--set", "word=hosts"]);
        Ran::of(command.current_dir(recipes.path("")))
    };
    let body =
        "    copy \"./motd\" \"/etc/motd\"\n    file \"/etc/word\" { content \"${word}\"; }\n";
    publish("published-template", body);
    // The package is used, not what lies here.
    std::fs::remove_dir_all(recipes.path("published-template")).unwrap();
    let created = create("published-template").ends_with(0);
    let json: serde_json::Value =
        serde_json::from_str(created.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(json["state"], "stopped", "{json:#}");
    assert_eq!(json["memory"], 1100 << 20, "{json:#}");
    lab.run(["rm", "published"]).ends_with(0);
    lab.run(["image", "inspect", "@published-template"])
        .ends_with(0);
    // What was changed in the cache is not believed.
    let cache = lab.home().join("cache/templates");
    let unpacked = std::fs::read_dir(&cache).unwrap().next().unwrap().unwrap();
    std::fs::write(unpacked.path().join("motd"), "from somebody\n").unwrap();
    let again = create("published-template").ends_with(0);
    assert!(!again.stderr.contains("1 of"), "{}", again.stderr);
    let motd = std::fs::read_to_string(unpacked.path().join("motd")).unwrap();
    assert_eq!(motd, "from the package\n");
    lab.run(["rm", "published"]).ends_with(0);

    std::fs::write(cache.join("outside"), "of somebody else\n").unwrap();
    std::fs::write(cache.join("outside.txt"), "of somebody else\n").unwrap();
    for (name, body) in [
        ("reads-the-host", "    copy \"/etc/hostname\" \"/stolen\"\n"),
        (
            "reads-what-it-is-told",
            "    copy \"/etc/${word}\" \"/stolen\"\n",
        ),
        ("climbs", "    file \"/stolen\" source=\"../outside\"\n"),
        (
            "reads-requirements",
            "    python requirements=\"../outside.txt\"\n",
        ),
    ] {
        publish(name, body);
        let refused = create(name);
        assert_ne!(refused.code, Some(0), "{name}");
        let why = refused.stderr;
        assert!(why.contains("is outside of the template"), "{why}");
    }
    let gone = create("published-tempalte").ends_with(3);
    assert!(gone.stderr.contains("did you mean"), "{}", gone.stderr);
}

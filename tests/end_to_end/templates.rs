//! A template is tested in a machine of its own.

use std::process::Command;

use crate::support::{Lab, Machine, Ran, Recipes, Terminal, base};

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
    share "all" host="." guest="/srv/host"
    run "id -un > ~/who; pwd > ~/where" name="Who" user="dev" workdir="/srv/app"
    file "/etc/greeting" {
        content "${greeting}\n"
    }
    test "what was built" {
        run "test ! -e /srv/host/template.kdl; ! mountpoint -q /srv/host"
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

/// Publishes a template into the repository `local`.
fn publish(recipes: &Recipes, name: &str, version: &str, body: &str) {
    let text = format!(
        "recipe \"{name}\" version=\"{version}\" {{\n    description \"For tests\"\n}}\n\
         image \"{name}\" {{\n    from \"{}\"\n    disk size=\"2G\"\n{body}\n}}\n",
        base()
    );
    recipes.write(&format!("{name}/template.kdl"), &text);
    let directory = recipes.path(name);
    let import = ["template", "import", directory.to_str().unwrap()];
    Lab::get().run(import).ends_with(0);
}

fn create(recipes: &Recipes, machine: &str, template: &str) -> Command {
    let mut command = Lab::get().command();
    command.args(["create", machine, "--template", template]);
    command.current_dir(recipes.path(""));
    command
}

#[test]
fn steps_of_others_have_limits_that_they_do_not_raise() {
    let recipes = Recipes::new();
    let cases = [
        ("time=3", "sleep 100000", "limit of 3 s"),
        (
            "processes=150",
            "bomb() { bomb | bomb & }; bomb; sleep 100000",
            "limit of 150 processes",
        ),
        (
            "memory=\"200M\"",
            "x=$(head -c 900M /dev/zero | tr '\\\\0' x); sleep 100000",
            "limit of 200 MiB of memory",
        ),
        (
            "disk=\"64M\"",
            "cat /dev/zero > /var/fill",
            "limit of 64 MiB to the disk",
        ),
        (
            "disk=\"64M\"",
            "exec 3> /var/fill; rm /var/fill; cat /dev/zero >&3",
            "limit of 64 MiB to the disk",
        ),
    ];
    for (index, (limit, command, refusal)) in cases.into_iter().enumerate() {
        let name = format!("greedy-{index}");
        let body = format!("    run timeout=\"9h\" memory=\"900G\" processes=100000 \"{command}\"");
        publish(&recipes, &name, "1.0.0", &body);
        recipes.write("config.kdl", &format!("limits template-{limit}\n"));
        let mut command = create(&recipes, &name, &format!("local/{name}"));
        let ran = Ran::of(command.env("VMFAB_CONFIG", recipes.path("config.kdl"))).ends_with(1);
        let said = ran.stderr.replace("\n  │ ", " ");
        assert!(said.contains(refusal), "{name}: {said}");
        let raised = limit.split('=').next().unwrap();
        let raised = format!("limits template-{raised} in the configuration");
        assert!(said.contains(&raised), "{name}: {said}");
    }
    // The user's own recipe has none of these limits.
    recipes.write("config.kdl", "limits template-time=1\n");
    recipes.image("not-of-others", "    run \"sleep 2\"");
    let mut own = recipes.command("not-of-others");
    Ran::of(own.env("VMFAB_CONFIG", recipes.path("config.kdl"))).ends_with(0);
}

#[test]
fn what_a_template_of_others_asks_for_is_shown_before_it_is_built() {
    let recipes = Recipes::new();
    let body = |more: &str| {
        format!(
            "    run \"true # {more}\" name=\"Harmless\" network=#true\n    \
             port 8080 name=\"web\"\n    share \"data\" host=\"./data\" guest=\"/data\" read-only=#true"
        )
    };
    std::fs::create_dir(recipes.path("data")).unwrap();
    publish(&recipes, "asking", "1.0.0", &body("first"));
    let ask = |answer: &str| {
        let command = create(&recipes, "asking", "local/asking");
        let terminal = Terminal::open(200, 40, &command);
        let screen = terminal.wait(|screen| screen.contains("Build it? [y/N]"));
        terminal.line(answer);
        (terminal, screen)
    };
    let (terminal, screen) = ask("n");
    for expected in [
        "local/asking 1.0.0 is a template of others",
        "signed by    nobody",
        "run \"Harmless\": true # first",
        "ports        8080 (web)",
        "data at /data, read-only",
        "each step    3600 s, 4G of memory, 4096 processes, 16G of disk",
    ] {
        assert!(screen.contains(expected), "{expected}: {screen}");
    }
    terminal.shows("vmfab built nothing");
    let missing = Lab::get().run(["image", "inspect", "@asking"]);
    assert_eq!(missing.code, Some(3), "{}", missing.stderr);
    let (terminal, _) = ask("y");
    terminal.wait(|screen| screen.contains("Share it?"));
    terminal.line("n");
    terminal.ends();
    Lab::get().run(["rm", "asking"]).ends_with(0);
    let audit = ["audit", "show", "--deed", "template-accepted", "asking"];
    let audit = Lab::get().run(audit).ends_with(0).stdout;
    assert!(audit.contains("local/asking"), "{audit}");

    // What was agreed to is not asked again.
    let mut again = create(&recipes, "asking", "local/asking");
    let again = Ran::of(again.arg("--no-shares")).ends_with(0);
    assert!(!again.stderr.contains("of others"), "{}", again.stderr);
    Lab::get().run(["rm", "asking"]).ends_with(0);
    // Another version is another template. Without a terminal it is shown.
    publish(&recipes, "asking", "1.0.1", &body("second"));
    let mut newer = create(&recipes, "asking", "local/asking");
    let newer = Ran::of(newer.args(["--yes", "--no-shares"])).ends_with(0);
    assert!(newer.stderr.contains("true # second"), "{}", newer.stderr);
    Lab::get().run(["rm", "asking"]).ends_with(0);
}

#[test]
fn a_template_is_tested_in_an_empty_home() {
    let recipes = Recipes::new();
    let text = format!(
        "recipe \"of-a-tag\" version=\"1.0.0\"\nimage \"of-a-tag\" {{\n    from \"@{}\"\n}}\n",
        base()
    );
    recipes.write("template.kdl", &text);
    let lab = Lab::get();
    let directory = recipes.path("");
    let ran = lab.run(["template", "test", directory.to_str().unwrap()]);
    let ran = ran.ends_with(1);
    // The user has this image, and the template does not see it.
    lab.run(["image", "inspect", &format!("@{}", base())])
        .ends_with(0);
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(said.contains(&format!("@{}", base())), "{said}");
    assert!(said.contains("build"), "{said}");
    let entries = std::fs::read_dir(lab.home()).unwrap();
    let left = entries.map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left
        .filter(|name| name.to_string_lossy().starts_with(".test-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

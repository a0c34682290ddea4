//! `build` and `plan`, as far as they go without building.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

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
    error: no recipe "dokcer" found
      help: did you mean "docker"?
    "#);
    insta::assert_snapshot!(bench.run(["build", "x.kdl"]).ends_with(3).stderr, @r#"
    error: no file "x.kdl" found
      help: give the path of a recipe (FILE.kdl) or of a disk
    "#);
    let ran = bench.run(["boot", "./x.qcow2"]).ends_with(3);
    assert!(
        ran.stderr.contains("no file \"./x.qcow2\" found"),
        "{}",
        ran.stderr
    );
}

/// What a project folder offers in place of these files is not waited for and not followed.
#[test]
fn a_dockerfile_and_its_ignore_file_are_regular_files() {
    use std::os::unix::fs::symlink;
    let bench = Bench::new();
    let at = |name: &str| bench.home.path().join(name);
    let pipe = |name: &str| {
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, at(name), fifo, 0o644.into(), 0).unwrap();
    };
    pipe("Dockerfile.pipe");
    symlink("/dev/zero", at("Dockerfile.zero")).unwrap();
    std::fs::write(at("Dockerfile"), "FROM scratch\nCOPY . /\n").unwrap();
    let refused = |name: &str, why: &str| {
        let error = bench
            .run(["plan", at(name).to_str().unwrap(), "--json"])
            .ends_with(4)
            .json_error();
        assert!(error.to_string().contains(why), "{error:#}");
    };
    refused("Dockerfile.pipe", "not a regular file");
    refused("Dockerfile.zero", "not named like a Dockerfile");
    pipe(".dockerignore");
    refused("Dockerfile", "not a regular file");
    std::fs::remove_file(at(".dockerignore")).unwrap();
    symlink("/dev/zero", at(".dockerignore")).unwrap();
    refused("Dockerfile", "not a regular file");
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
    let logs = std::fs::read_dir(log).into_iter().flatten().flatten();
    let mut steps = logs.filter(|entry| entry.path().extension().is_some());
    assert!(steps.next().is_none());
}

/// Recipes that would take all memory, or all the stack: each ends with its place and what to do.
#[test]
fn recipes_have_bounds() {
    let bench = Bench::new();
    let directory = bench.home.path();
    let deep = "a {".repeat(3000) + &"}".repeat(3000);
    let dropped = "a /-{".repeat(3000) + &"}".repeat(3000);
    let steps = format!(
        "image \"a\" {{\nfrom \"debian-12\"\n{}}}\n",
        "run \"x\"\n".repeat(5000)
    );
    let unknown = format!("image \"a\" {{\n{}}}\n", "x\n".repeat(20_000));
    let mut chain = String::new();
    for number in 0..900 {
        chain += &format!("image \"i{number}\" {{ from \"i{}\" }}\n", number + 1);
    }
    chain += "image \"i900\" { from \"debian-12\" }\n";
    let mut doubling = "recipe \"d\" { param \"x\" default=\"0123456789\" }\n".to_owned();
    for number in 0..60 {
        let next = number + 1;
        doubling += &format!(
            "image \"i{number}\" {{ from \"./doubling.kdl#i{next}\" {{ set \"x\" \"${{x}}${{x}}\" }} }}\n"
        );
    }
    doubling += "image \"i60\" { from \"debian-12\" }\n";
    let include = "x".repeat((4 << 20) + 1);
    for (name, text, message) in [
        ("deep", deep, "nodes are nested more than 64 levels deep"),
        (
            "dropped",
            dropped,
            "nodes are nested more than 64 levels deep",
        ),
        ("steps", steps, "has 5002 steps, more than 1000"),
        (
            "unknown",
            unknown,
            "has 20001 mistakes; these are the first 50",
        ),
        ("chain", chain, "has a chain of more than 64 bases"),
        ("doubling", doubling, "the text of the recipe is too long"),
        ("large", include, "it has more than 4194304 bytes"),
    ] {
        std::fs::write(directory.join(format!("{name}.kdl")), text).unwrap();
        let mut command = bench.command(["plan", &format!("{name}.kdl")]);
        let ran = Ran::from(command.current_dir(directory).output().unwrap());
        let stderr = ran.ends_with(4).stderr;
        assert!(stderr.contains(message), "{name}: {stderr}");
        assert!(stderr.contains("help: "), "{name}: {stderr}");
        assert!(stderr.len() < 100_000, "{name}: {} bytes", stderr.len());
    }
    // The configuration raises what is not fixed.
    let config = directory.join("config.kdl");
    std::fs::write(&config, "limits image-steps=5001\n").unwrap();
    let few = "image \"a\" {\nfrom \"debian-12\"\nrun \"x\"\n}\n";
    std::fs::write(directory.join("few.kdl"), few).unwrap();
    let plan = |steps| {
        std::fs::write(&config, format!("limits image-steps={steps}\n")).unwrap();
        let mut command = bench.command(["plan", "few.kdl"]);
        command.env("VMFAB_CONFIG", &config);
        Ran::from(command.current_dir(directory).output().unwrap())
    };
    let refused = plan(1).ends_with(4).stderr;
    assert!(refused.contains("limits image-steps=1000"), "{refused}");
    plan(20).ends_with(0);
}

#[test]
fn what_is_not_utf_8_is_told_with_its_line() {
    let bench = Bench::new();
    let directory = bench.home.path();
    let latin = b"image \"a\" {\n    from \"debian-12\"\n    run \"echo caf\xe9\"\n}\n";
    std::fs::write(directory.join("latin.kdl"), latin).unwrap();
    for arguments in [["plan", "latin.kdl"], ["fmt", "latin.kdl"]] {
        let mut command = bench.command(arguments);
        let ran = Ran::from(command.current_dir(directory).output().unwrap());
        assert!(
            ran.stderr.contains("line 3 has the byte 0xE9"),
            "{}",
            ran.stderr
        );
        assert_ne!(ran.code, Some(0));
    }
}

#[test]
fn no_line_is_shown_of_a_file_that_is_no_recipe() {
    let bench = Bench::new();
    let path = |name: &str| bench.home.path().join(name);
    std::fs::write(path("secret"), "root:$6$hash:19000 {\n").unwrap();
    std::os::unix::fs::symlink(path("secret"), path("link.kdl")).unwrap();
    let link = path("link.kdl").display().to_string();
    for other in ["secret", "link.kdl", "/etc/shadow"] {
        for text in [
            format!("include \"{other}\"\n"),
            format!("image \"a\" {{ from \"./{other}\" }}\n"),
        ] {
            std::fs::write(path("main.kdl"), &text).unwrap();
            let main = path("main.kdl").display().to_string();
            for (command, path) in [("plan", &main), ("fmt", &main), ("fmt", &link)] {
                let ran = bench.run([command, path]);
                let said = ran.stdout + &ran.stderr;
                assert!(!said.contains("$6$") && !said.contains(":19000"), "{said}");
            }
            assert_ne!(bench.run(["plan", &main]).code, Some(0));
        }
    }
    // What a link named as a recipe leads to is not shown either.
    let ran = bench.run(["plan", &link]).ends_with(4);
    assert!(!ran.stderr.contains("$6$"), "{}", ran.stderr);
}

/// A parameter needs a value only where an image uses it, or one that this image starts from.
#[test]
fn a_parameter_is_asked_of_who_uses_it() {
    let bench = Bench::new();
    let directory = bench.home.path();
    let text = r#"
recipe "r" {
    param "domain"
    param "unused"
}
image "plain" { from "debian-12" }
image "site" { from "plain"; run "echo ${domain}" }
image "both" { from "site"; run "echo ${domain}" }
"#;
    std::fs::write(directory.join("r.kdl"), text).unwrap();
    let plan = |arguments: &[&str]| {
        let mut command = bench.command(["plan", "r.kdl"]);
        Ran::from(
            command
                .args(arguments)
                .current_dir(directory)
                .output()
                .unwrap(),
        )
    };
    plan(&["plain"]).ends_with(0);
    for image in ["site", "both"] {
        let stderr = plan(&[image]).ends_with(4).stderr;
        assert_eq!(stderr.matches("has no value").count(), 1, "{stderr}");
        assert!(stderr.contains("\"domain\" has no value"), "{stderr}");
        assert!(stderr.contains("r.kdl:3:11"), "{stderr}");
        plan(&[image, "--set", "domain=a.org"]).ends_with(0);
    }
}

#[test]
fn the_name_of_an_image_is_a_string() {
    let bench = Bench::new();
    let directory = bench.home.path();
    for name in ["5", "#true", "#null", "1.5"] {
        let text = format!("image {name} {{ from \"debian-12\" }}\n");
        std::fs::write(directory.join("r.kdl"), text).unwrap();
        let mut command = bench.command(["plan", "r.kdl"]);
        let ran = Ran::from(command.current_dir(directory).output().unwrap());
        let stderr = ran.ends_with(4).stderr;
        assert!(
            stderr.contains("the name of an image must be a string"),
            "{stderr}"
        );
    }
}

/// Kata's recipe plans the engine that is chosen, and no other.
#[test]
fn kata_runs_under_containerd_or_docker() {
    let bench = Bench::new();
    let plan = |engine: &str| {
        let set = format!("engine={engine}");
        bench.run(["plan", "kata", "--json", "--set", &set])
    };
    let names = |engine: &str| {
        let plan = plan(engine).ends_with(0).json();
        let steps = plan["steps"].as_array().unwrap().iter();
        let names = steps.map(|step| step["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>().join("\n")
    };
    for (engine, other) in [("containerd", "docker"), ("docker", "containerd")] {
        let names = names(engine);
        let enabled = format!("kata-{engine}: service enable {engine}");
        assert!(names.contains(&enabled), "{names}");
        assert!(names.contains("kata: fetch kata-static-"), "{names}");
        assert!(!names.contains(&format!("kata-{other}: ")), "{names}");
    }
    let wrong = plan("podman").ends_with(4).stderr;
    assert!(
        wrong.contains("choices are containerd and docker"),
        "{wrong}"
    );
}

/// The example of a cluster is well written: three machines, and workers that wait.
#[test]
fn the_example_of_a_kubernetes_cluster_holds() {
    let bench = Bench::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/kubernetes");
    let run = |arguments: &[&str]| {
        let mut command = bench.command(arguments);
        Ran::from(command.current_dir(&example).output().unwrap()).ends_with(0)
    };
    run(&["lint", "--error", "vmfab.kdl"]);
    run(&["fmt", "--check", "vmfab.kdl"]);
    // This host need not have the memory of three machines.
    let dry = run(&["up", "--dry-run", "--overcommit", "--json"]).json();
    let machines = dry["machines"].as_array().unwrap();
    let names: Vec<_> = machines
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["control", "worker-1", "worker-2"]);
    assert!(machines.iter().all(|one| one["error"].is_null()), "{dry}");
    let plan = run(&["plan", "vmfab.kdl", "--json"]).json();
    let steps = plan["steps"].as_array().unwrap();
    let script = |step: &&Value| step["name"] == "cluster-node: file /usr/local/sbin/cluster-node";
    assert!(steps.iter().any(|step| script(&step)), "{plan}");

    let text = std::fs::read_to_string(example.join("vmfab.kdl")).unwrap();
    assert!(text.contains("depends-on \"control\" condition=\"healthy\""));
    // The script as the guest gets it.
    let (_, script) = text.split_once("content \"\"\"\n").unwrap();
    let (script, _) = script.split_once("\"\"\"").unwrap();
    let script = script.replace("\\\\", "\\").replace("$${", "${");
    let mut shell = Command::new("sh");
    shell.args(["-n", "-c", &script]);
    assert!(shell.status().unwrap().success());
    assert!(script.contains("kubeadm join control:6443"));
}

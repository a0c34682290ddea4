//! Commands that are about several machines, and what becomes of machines that are not stopped.

use std::collections::BTreeSet;

use super::halted::with_ssh;
use super::projects::Scene;
use super::*;

/// Whom a name stands for, all at once, and what is refused.
#[test]
fn several_machines_at_once() {
    let bench = Bench::new();
    for name in ["tiny", "tiny-2"] {
        assert_eq!(bench.boot(), name);
    }
    let paused = bench.run(["pause", "tiny", "tiny-2", "tiny"]).ends_with(0);
    assert_eq!(paused.stdout, "tiny: paused\ntiny-2: paused\n");
    assert_eq!(bench.entry("tiny")["state"], "paused");
    assert_eq!(bench.entry("tiny")["reason"], Value::Null);
    let again = bench.run(["pause", "--json", "tiny", "gone"]).ends_with(3);
    let again = again.says("no machine \\\"gone\\\" found");
    assert_eq!(again.json()[0]["was_running"], false);
    bench.run(["ssh", "tiny", "true"]).says("vmfab resume tiny");
    let resumed = bench.run(["resume", "--all"]).ends_with(0);
    assert_eq!(resumed.stdout, "tiny: resumed\ntiny-2: resumed\n");
    let resumed = bench.run(["resume", "--all"]).ends_with(0);
    let resumed = resumed.says("no machine to be resumed");
    assert_eq!(resumed.stdout, "");

    let usage = &bench.entry("tiny")["usage"];
    assert!(usage["memory"].as_u64().unwrap() > 10 << 20, "{usage}");
    assert!(usage["uptime"].as_f64().unwrap() > 0.0, "{usage}");
    assert!(usage["cpu"].is_number(), "{usage}");
    let mut watch = Running(
        bench
            .command(["list", "--watch=1", "--json"])
            .spawn()
            .unwrap(),
    );
    let lines = std::io::BufReader::new(watch.0.stdout.take().unwrap());
    for line in std::io::BufRead::lines(lines).take(2) {
        let list: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!(list[1]["name"], "tiny-2");
        assert!(list[1]["usage"]["cpu"].is_number(), "{list}");
    }
    drop(watch);

    let refused = bench.run(["rename", "tiny-2", "other"]).ends_with(1);
    refused.says("vmfab stop tiny-2");
    let pid = |name: &str| {
        // With an `ssh` that is none, a start ends before QEMU listens.
        wait_until(name, || bench.entry(name)["pid"].is_number());
        bench.entry(name)["pid"].as_i64().unwrap()
    };
    let (first, second) = (pid("tiny"), pid("tiny-2"));
    let restarted = with_ssh(&bench, "exit 0", ["restart", "--quiet", "--all"]).ends_with(0);
    assert_eq!(restarted.stdout, "tiny\ntiny-2\n");
    assert_ne!(pid("tiny"), first);
    assert_ne!(pid("tiny-2"), second);

    // Killed from outside, with its sockets left behind, as after a reboot of the host.
    let victim = Pid::from_raw(i32::try_from(pid("tiny-2")).unwrap()).unwrap();
    kill_process(victim, Signal::KILL).unwrap();
    wait_until("the end of QEMU", || !bench.processes().contains(&victim));
    let directory = bench.machines().join("tiny-2");
    assert!(directory.join("qmp.sock").exists());
    let entry = bench.entry("tiny-2");
    assert_eq!(
        (&entry["state"], &entry["pid"]),
        (&Value::from("stopped"), &Value::Null)
    );
    let refused = bench.run(["pause", "tiny-2"]).ends_with(1);
    refused.says("vmfab start tiny-2 starts it");

    fs::write(directory.join("known_hosts"), "tiny-2 ssh-ed25519 AAAA\n").unwrap();
    for (name, why) in [
        ("tiny", "already exists"),
        ("..", "cannot be a machine's name"),
    ] {
        assert_ne!(
            bench.run(["rename", "tiny-2", name]).says(why).code,
            Some(0)
        );
    }
    bench
        .run(["rename", "tiny", "running"])
        .ends_with(1)
        .says("vmfab stop tiny");
    let renamed = bench.run(["rename", "tiny-2", "other"]).ends_with(0);
    assert_eq!(renamed.stdout, "tiny-2: renamed to other\n");
    let known = fs::read_to_string(bench.machines().join("other/known_hosts")).unwrap();
    assert!(known.contains("\nother ssh-ed25519 AAAA\n"), "{known}");
    with_ssh(&bench, "exit 0", ["start", "--quiet", "other"]).ends_with(0);
    pid("other");

    ssh_config(&bench);
    let refused = bench.run(["rm", "--all"]).ends_with(1);
    refused.says("2 machines could not be removed");
    let stopped = bench.run(["stop", "--force", "--all"]).ends_with(0);
    assert_eq!(
        stopped.stdout,
        "other: forced to stop\ntiny: forced to stop\n"
    );
    bench.run(["rm", "--all"]).ends_with(0);
    assert_eq!(bench.directories(), [""; 0]);
}

#[test]
fn the_name_of_a_node_stands_for_its_machines() {
    let scene = Scene::new(
        "machine \"worker\" image=\"@tiny\" memory=\"64M\" cpus=1 network=\"user\" count=2\n",
    );
    scene.up(&[]);
    let of_home = scene.bench.boot();
    let paused = scene.run(["pause", "worker"]).ends_with(0);
    assert_eq!(paused.stdout, "worker-1: paused\nworker-2: paused\n");
    // All are those of the project.
    let stopped = scene.run(["stop", "--force", "--all"]).ends_with(0);
    assert_eq!(
        stopped.stdout,
        "worker-1: forced to stop\nworker-2: forced to stop\n"
    );
    assert_eq!(scene.bench.entry(&of_home)["state"], "running");
    let refused = scene.run(["rename", "worker-1", "first"]).ends_with(2);
    refused.says("belongs to the project");
    let removed = scene.run(["rm", "worker"]).ends_with(0);
    assert_eq!(removed.stdout, "worker-1: removed\nworker-2: removed\n");
    // Of the home, where no file says so, a name stands for one machine.
    assert_eq!(scene.bench.boot(), "tiny-2");
    scene.bench.run(["rm", "--force", "tiny"]).ends_with(0);
    scene.bench.run(["rm", "--force", "tiny"]).ends_with(3);
    assert_eq!(scene.bench.entry("tiny-2")["state"], "running");
}

/// Twenty that are made and started in the same instant have names, ports and sockets of their own.
#[test]
fn twenty_machines_in_one_instant() {
    let bench = Bench::new();
    let bin = bench.directory.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    write_program(&bin.join("ssh"), "#!/bin/sh\nexit 0\n");
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let boot = |_| {
        let mut command = bench.command(["boot", "@tiny", "--accel", "tcg"]);
        command.args(["--memory", "64M", "--cpus", "1", "--quiet"]);
        Running(command.env("PATH", &path).spawn().unwrap())
    };
    let boots: Vec<Running> = (0..20).map(boot).collect();
    let names: BTreeSet<String> = boots
        .into_iter()
        .map(|boot| boot.finish().ends_with(0).stdout.trim().to_owned())
        .collect();
    let expected = (1..=20).map(|number| match number {
        1 => "tiny".to_owned(),
        number => format!("tiny-{number}"),
    });
    assert_eq!(names, expected.collect());
    let check = || {
        for name in &names {
            bench.wait_for_log(name, "tiny: up");
        }
        let list = bench.list();
        assert!(list.iter().all(|entry| entry["state"] == "running"));
        let ports = list.iter().map(|entry| entry["ssh"]["port"].as_u64());
        assert_eq!(ports.collect::<BTreeSet<_>>().len(), 20);
        assert_eq!(bench.processes().len(), 20);
    };
    check();
    let stopped = bench.run(["stop", "--all"]).ends_with(0);
    assert_eq!(stopped.stdout.matches(": stopped\n").count(), 20);
    assert_eq!(bench.processes(), []);
    with_ssh(&bench, "exit 0", ["start", "--all", "--quiet"]).ends_with(0);
    check();
    bench.run(["rm", "--force", "--all"]).ends_with(0);
    assert_eq!(bench.processes(), []);
}

/// One command makes all of them or says why it makes none.
#[test]
fn one_command_boots_several() {
    let bench = Bench::new();
    let bin = bench.directory.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    write_program(&bin.join("ssh"), "#!/bin/sh\nexit 0\n");
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let boot = |options: &[&str]| {
        let mut command = bench.command(["boot", "@tiny", "--accel", "tcg", "--memory", "64M"]);
        let booted = command.args(options).env("PATH", &path).output();
        Ran::from(booted.unwrap())
    };
    let booted = boot(&["--count", "3", "--name", "ci", "--json"]).ends_with(0);
    let last: Value = serde_json::from_str(booted.stdout.lines().last().unwrap()).unwrap();
    let results = last["results"].as_array().unwrap().iter();
    let names: Vec<_> = results.map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["ci-1", "ci-2", "ci-3"].map(Some));
    for name in ["ci-1", "ci-2", "ci-3"] {
        bench.wait_for_log(name, "tiny: up");
    }
    assert_eq!(bench.processes().len(), 3);
    bench.run(["rm", "--force", "ci-1"]).ends_with(0);

    let too_long = "n".repeat(62);
    for (code, options, why) in [
        (
            1,
            &["--count", "2", "--name", "ci"][..],
            "\"ci-2\" already exists",
        ),
        (2, &["--count", "0"], "0 is not in 1..=1000"),
        (2, &["--count", "2", "--ssh"], "--ssh"),
        (2, &["--count", "2", "-p", "8080:80"], "--port"),
        (
            2,
            &["--count", "2", "--name", &too_long],
            "cannot be a machine's name",
        ),
        (
            2,
            &["--count", "2", "--volume", "data:/srv"],
            "the volume \"data\" can belong to one",
        ),
        (5, &["--count", "1000"], "no room for"),
    ] {
        let refused = boot(options).ends_with(code);
        let refused = refused.says(why);
        assert_eq!(bench.list().len(), 2, "{refused:#?}");
    }

    // Without a name they are called after the image.
    let booted = boot(&["--count", "2", "--quiet"]).ends_with(0);
    let mut names: Vec<_> = booted.stdout.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["tiny", "tiny-2"]);
    bench.run(["rm", "--force", "--all"]).ends_with(0);
    assert_eq!(bench.processes(), []);
}

/// The real `ssh` finds what it needs in the user's configuration, which otherwise stays as it is.
fn ssh_config(bench: &Bench) {
    let user = bench.directory.path().join("user");
    let config = user.join(".ssh/config");
    fs::create_dir_all(&user).unwrap();
    let run = |option: &str| {
        let mut command = bench.command(["ssh-config", option]);
        Ran::from(command.env("HOME", &user).output().unwrap()).ends_with(0)
    };
    run("--install");
    let before = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{before}Host x\n    Port 7\n")).unwrap();
    assert!(run("--install").stdout.contains("already includes it"));
    let mut ssh = support::tool("ssh", "openssh-client");
    let seen = ssh
        .arg("-F")
        .arg(&config)
        .args(["-G", "tiny"])
        .output()
        .unwrap();
    let seen = Ran::from(seen).ends_with(0).stdout;
    let port = bench.entry("tiny")["ssh"]["port"].to_string();
    let key = bench.machines().join("tiny/id_ed25519");
    for line in [
        format!("port {port}"),
        "hostname 127.0.0.1".to_owned(),
        "hostkeyalias tiny".to_owned(),
        format!("identityfile {}", key.display()),
    ] {
        assert!(
            seen.lines().any(|other| other == line),
            "{line} is not in {seen}"
        );
    }
    // Machines that come, go, or get another name.
    let hosts = || {
        let blocks = fs::read_to_string(bench.home.join("ssh_config")).unwrap();
        let lines = blocks.lines().filter_map(|line| line.strip_prefix("Host "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    bench
        .run(["create", "third", "--from", "@tiny"])
        .ends_with(0);
    assert_eq!(hosts(), ["other", "third", "tiny"]);
    bench.run(["rename", "third", "fourth"]).ends_with(0);
    assert_eq!(hosts(), ["fourth", "other", "tiny"]);
    bench.run(["rm", "fourth"]).ends_with(0);
    assert_eq!(hosts(), ["other", "tiny"]);
    run("--uninstall");
    assert!(!bench.home.join("ssh_config").exists());
    assert_eq!(fs::read_to_string(&config).unwrap(), "Host x\n    Port 7\n");
    run("--uninstall");
    let block = bench.run(["ssh-config", "tiny"]).ends_with(0).stdout;
    assert!(
        block.starts_with("Host tiny\n    HostName 127.0.0.1\n"),
        "{block}"
    );
    bench.run(["ssh-config", "gone"]).ends_with(3);
}

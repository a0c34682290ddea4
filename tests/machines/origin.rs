//! What a machine gets of whoever started it, and of whoever made its files: nothing.

use super::projects::Scene;
use super::*;

#[test]
fn qemu_has_nothing_of_who_started_it() {
    let bench = Bench::new();
    let lock = bench.directory.path().join("lock");
    // An ssh with which every machine can be entered at once.
    let bin = bench.directory.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    write_program(&bin.join("ssh"), "#!/bin/sh\n");
    // A shell that leaves a file open and locked, as flock(1) has it, and a secret in the
    // environment.
    let script = "exec 9>\"$1\"; flock 9; shift; exec \"$@\"";
    let mut shell = Command::new("sh");
    shell
        .args(["-c", script, "sh"])
        .arg(&lock)
        .arg(env!("CARGO_BIN_EXE_vmfab"))
        .args(["boot", "@tiny", "--memory", "64M", "--name", "web"])
        .args(["--accel", "tcg"])
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
        .env("VMFAB_HOME", &bench.home)
        .env("REGISTRY_PASSWORD", "hunter2")
        .stdin(Stdio::null());
    Ran::from(shell.output().unwrap()).ends_with(0);
    bench.wait_for_log("web", "tiny: up");
    let listed = Ran::from(
        bench
            .command(["inspect", "web", "--json"])
            .output()
            .unwrap(),
    );
    let pid = listed.ends_with(0).json()["pid"].clone();
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment).into_owned();
    assert!(environment.contains("PATH="), "{environment}");
    assert!(!environment.contains("hunter2"), "{environment}");
    // Neither has a session, which belongs to this terminal.
    write_program(&bin.join("ssh"), "#!/bin/sh\nenv\n");
    let mut session = bench.command(["ssh", "web"]);
    session
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
        .env("REGISTRY_PASSWORD", "hunter2")
        .env("TERM", "vt100");
    let seen = Ran::from(session.output().unwrap()).ends_with(0).stdout;
    assert!(
        seen.contains("TERM=vt100") && !seen.contains("hunter2"),
        "{seen}"
    );
    // Nobody holds the lock any more.
    let file = fs::File::open(&lock).unwrap();
    file.try_lock().unwrap();
    assert!(Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_machine_that_came_from_elsewhere_runs_nothing() {
    let scene = Scene::new("machine \"web\" image=\"@tiny\" memory=\"64M\" cpus=1");
    scene.up(&[]);
    scene.run(["stop", "--force", "web"]).ends_with(0);
    let path = scene.machines().join("web/machine.json");
    let text = fs::read_to_string(&path).unwrap();
    // As if somebody else had made it.
    fs::remove_dir_all(scene.bench.home.join("projects")).unwrap();
    for (field, value) in [
        (
            "ssh-user",
            serde_json::json!("-oProxyCommand=touch was-here"),
        ),
        ("image-name", serde_json::json!("a\u{1b}[2J")),
        ("instance", serde_json::json!("0,manufacturer=x")),
        ("ssh-port", serde_json::json!(0)),
        ("ports", serde_json::json!([{ "host": 0, "guest": 1 }])),
        (
            "ports",
            serde_json::json!([{ "host": "1-:1,guestfwd=x", "guest": 1 }]),
        ),
        ("firmware", serde_json::json!("bios,x")),
        ("image", serde_json::json!("../../../etc")),
    ] {
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config[field] = value;
        fs::write(&path, config.to_string()).unwrap();
        let ran = scene.run(["up", "--adopt"]).ends_with(1);
        let ran = ran.says("machine \"web\" is damaged");
        assert!(!ran.stderr.contains('\u{1b}'), "{ran:?}");
        assert!(!path.with_file_name("was-here").exists());
    }
    fs::write(&path, &text).unwrap();
    // Nothing is waited for, read without end, or written through a link.
    let mine = scene.project.join("mine");
    fs::write(&mine, "mine").unwrap();
    for name in [
        "machine.json",
        "console.log",
        "known_hosts",
        "firmware-vars.fd",
    ] {
        let other = path.with_file_name(name);
        let kept = fs::read(&other).ok();
        for target in [None, Some(Path::new("/dev/zero")), Some(mine.as_path())] {
            let _ = fs::remove_file(&other);
            match target {
                Some(target) => std::os::unix::fs::symlink(target, &other).unwrap(),
                None => {
                    let fifo = rustix::fs::FileType::Fifo;
                    rustix::fs::mknodat(rustix::fs::CWD, &other, fifo, 0o600.into(), 0).unwrap();
                }
            }
            for arguments in [["up", "--adopt"], ["up", "--dry-run"], ["list", "--all"]] {
                let _ = scene.run(arguments);
            }
            scene.run(["up", "--adopt"]).ends_with(1).says("is damaged");
            assert_eq!(fs::read(&mine).unwrap(), b"mine");
        }
        fs::remove_file(&other).unwrap();
        if let Some(kept) = kept {
            fs::write(&other, kept).unwrap();
        }
    }
    let directory = path.parent().unwrap();
    let moved = directory.with_file_name(".moved");
    fs::rename(directory, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, directory).unwrap();
    scene.run(["ssh", "web"]).ends_with(3);
}

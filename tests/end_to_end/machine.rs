//! Images that were just built, booted and entered over SSH.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use vmfab::image::ImageConfig;
use vmfab::store::Store;

use super::super::support::{Build, Lab, Machine, Ran, Recipes, base, free_port, tool};

/// What makes a machine itself: its machine id and the fingerprints of its host keys.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    machine_id: String,
    host_keys: Vec<String>,
}

impl Identity {
    #[track_caller]
    fn of(machine: &Machine) -> Self {
        let machine_id = machine.output("cat /etc/machine-id");
        assert_eq!(machine_id.len(), 32, "{machine_id}");
        let keys = "for key in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf $key; done";
        let host_keys: Vec<String> = machine.output(keys).lines().map(str::to_owned).collect();
        assert!(!host_keys.is_empty());
        Self {
            machine_id,
            host_keys,
        }
    }
}

#[test]
fn docker_is_built_from_scratch_booted_and_entered() {
    let recipes = Recipes::new();
    let disk = recipes.path("docker.raw");
    let mut build = Lab::get().command();
    build
        .args(["build", "--json", "recipes/docker.kdl", "--set"])
        .arg(format!("base={}", base()))
        .arg("--output")
        .arg(&disk)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let build = Build::of(&mut build).succeeds();
    assert!(build.started().contains(&"docker: packages docker.io"));
    assert!(
        build
            .ended("built")
            .contains(&"docker: check docker --version")
    );
    let both = ["docker".to_owned(), format!("{}-docker", base())];
    assert_eq!(build.result()["tags"], serde_json::json!(both));
    assert_no_identity(&disk);
    std::fs::remove_file(&disk).unwrap();

    let machine = Machine::boot("docker", recipes.directory(), ["@docker"]);
    assert_eq!(machine.boot.result()["image"], build.image());
    let version = machine.output("docker version");
    assert!(version.contains("Client:"), "{version}");
    assert!(version.contains("Server:"), "{version}");
    let versions =
        machine.output("docker version --format '{{.Client.Version}} {{.Server.Version}}'");
    let (client, server) = versions.split_once(' ').unwrap();
    assert!(client.starts_with(char::is_numeric) && server.starts_with(char::is_numeric));
    let groups = machine.output("id -nG");
    assert!(groups.split(' ').any(|group| group == "docker"), "{groups}");
    assert_eq!(
        machine.output("id -un; docker info --format '{{.LoggingDriver}}'"),
        "vm\njournald"
    );
    assert_eq!(machine.output("hostname; sudo -n id -u"), "docker\n0");
    assert_eq!(machine.output("systemctl is-active docker"), "active");
    super::watch::is_watched("docker");
    goes_on_after_its_suspension(&machine);
}

/// Memory, processes and sessions' port are those from before, and the clock is that of the host.
fn goes_on_after_its_suspension(machine: &Machine) {
    let lab = Lab::get();
    let nonce = "echo nonce >/dev/shm/nonce; cat /proc/sys/kernel/random/boot_id";
    let boot = machine.output(nonce);
    lab.run(["suspend", "docker"]).ends_with(0);
    std::thread::sleep(Duration::from_secs(3));
    lab.run(["start", "docker"]).ends_with(0);
    let seconds = || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.unwrap().as_secs()
    };
    let before = seconds();
    let again = "cat /dev/shm/nonce /proc/sys/kernel/random/boot_id; date +%s";
    let again = machine.output(again);
    let (same, clock) = again.rsplit_once('\n').unwrap();
    assert_eq!(same, format!("nonce\n{boot}"));
    // However long the answer took.
    let right = before - 1..=seconds() + 1;
    assert!(
        right.contains(&clock.parse().unwrap()),
        "{clock}, {right:?}"
    );

    // The same from a snapshot: disk and memory are of its moment.
    machine.output("echo before | sudo -n tee /root/file");
    let take = [
        "snapshot",
        "create",
        "warm",
        "--machine",
        "docker",
        "--memory",
    ];
    lab.run(take).ends_with(0);
    machine.output("echo after | sudo -n tee /root/file; echo other >/dev/shm/nonce; sync");
    lab.run(["snapshot", "restore", "warm", "--force", "--discard"])
        .ends_with(0);
    lab.run(["start", "docker"]).ends_with(0);
    let again = machine
        .output("sudo -n cat /root/file; cat /dev/shm/nonce /proc/sys/kernel/random/boot_id");
    assert_eq!(again, format!("before\nnonce\n{boot}"));
    lab.run(["snapshot", "delete", "warm"]).ends_with(0);
    assert_eq!(machine.output("docker ps --quiet"), "");
}

/// Looks into the file system of a disk for what is of the machine that built it.
#[track_caller]
fn assert_no_identity(disk: &std::path::Path) {
    let debugfs = |request: &str| {
        let mut command = tool("debugfs", "e2fsprogs");
        let ran = Ran::of(command.args(["-R", request]).arg(disk)).ends_with(0);
        format!("{}{}", ran.stdout, ran.stderr)
    };
    assert!(debugfs("stat /etc/machine-id").contains("Size: 0"));
    for file in [
        "/var/lib/dbus/machine-id",
        "/var/lib/systemd/random-seed",
        "/var/lib/systemd/credential.secret",
        "/var/log/dpkg.log",
        "/var/log/bootstrap.log",
        "/var/log/alternatives.log",
        "/usr/sbin/policy-rc.d",
        "/root/.bash_history",
    ] {
        let found = debugfs(&format!("stat {file}"));
        assert!(found.contains("File not found"), "{file}: {found}");
    }
    // `ls -p` gives one line for each entry: /inode/mode/uid/gid/name/size/
    let names = |directory: &str| -> Vec<String> {
        let listing = debugfs(&format!("ls -p {directory}"));
        let names = listing.lines().filter_map(|line| line.split('/').nth(5));
        let names = names.filter(|name| !name.is_empty() && *name != "." && *name != "..");
        names.map(str::to_owned).collect()
    };
    let ssh = names("/etc/ssh");
    assert!(ssh.contains(&"sshd_config".to_owned()), "{ssh:?}");
    assert!(
        !ssh.iter().any(|name| name.starts_with("ssh_host_")),
        "{ssh:?}"
    );
    for directory in [
        "/var/lib/apt/lists",
        "/var/cache/apt/archives",
        "/var/log/apt",
    ] {
        let left = names(directory);
        let left: Vec<_> = left
            .iter()
            .filter(|name| !["lock", "partial", "auxfiles"].contains(&name.as_str()))
            .collect();
        assert!(left.is_empty(), "{directory}: {left:?}");
    }
    for directory in ["/tmp", "/run", "/dev", "/proc", "/sys"] {
        assert_eq!(names(directory), [""; 0], "{directory}");
    }
}

#[test]
fn machines_of_one_image_live_their_own_lives() {
    let recipes = Recipes::new();
    let recipe = r##"
        recipe "lives" { param "base" default="BASE"; }
        image "lives" {
            from "${base}"
            packages "qemu-guest-agent"
            disk size="2G" firmware="uefi"
            env QUOTED="say \"it's\" $HOME \\" EQUALS="a=b; c"
            file "/usr/local/bin/serve" mode="0755" {
                content "#!/bin/sh\necho served\n"
            }
            run "printf '%s|%s' \"$QUOTED\" \"$EQUALS\" > /etc/as-steps-see-it"
        }
        "##;
    recipes.write("lives.kdl", &recipe.replace("BASE", &base()));
    // The role is built and booted in one go.
    let port = free_port();
    let forward = format!("{port}:22");
    let arguments = [
        "lives.kdl",
        "--memory",
        "512M",
        "--disk-size",
        "5G",
        "-p",
        &forward,
        "--password-stdin",
    ];
    recipes.write("password", "correct horse\n");
    let password = File::open(recipes.path("password")).unwrap();
    let machine = Machine::boot_with("first", recipes.directory(), arguments, password);
    assert!(machine.boot.ended("built").contains(&"lives: image"));
    let image = machine.boot.result()["image"].clone();
    let role = format!("@{}-lives", base());
    let role = Lab::get().run(["image", "inspect", &role, "--json"]);
    assert_eq!(role.ends_with(0).json()["image"], image);

    // The password opens the account, and QEMU's command line does not show its hash.
    let entered = machine.output("echo correct horse | su vm -c 'id -un'");
    assert_eq!(entered, "vm");
    assert_ne!(machine.ssh("echo wrong | su vm -c true").code, Some(0));
    let shadow = machine.output("sudo -n getent shadow vm");
    let hash = shadow.split(':').nth(1).unwrap().to_owned();
    assert!(hash.starts_with("$6$rounds="), "{shadow}");
    let pid = machine.entry().unwrap()["pid"].to_string();
    let line = std::fs::read(Path::new("/proc").join(pid).join("cmdline")).unwrap();
    let line = String::from_utf8_lossy(&line);
    assert!(line.contains("type=11,path=") && !line.contains(&hash));

    assert_eq!(machine.output("serve"), "served");
    assert_eq!(machine.output("hostname"), "first");
    let variables = r#"say "it's" $HOME \|a=b; c"#;
    assert_eq!(machine.output("cat /etc/as-steps-see-it"), variables);
    assert_eq!(
        machine.output(r#"printf '%s|%s' "$QUOTED" "$EQUALS""#),
        variables
    );
    assert_eq!(machine.ssh("exit 7").code, Some(7));
    let failed = machine.ssh("echo out; echo err >&2; false");
    assert_eq!((failed.stdout.as_str(), failed.code), ("out\n", Some(1)));
    assert!(failed.stderr.contains("err"), "{}", failed.stderr);

    commands_by_the_agent("first");
    let size: u64 = machine
        .output("df --output=size -B 1 / | tail -n 1")
        .trim()
        .parse()
        .unwrap();
    assert!(size > 4 << 30, "the file system has {size} bytes of 5 GiB");

    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let mut banner = String::new();
    BufReader::new(stream).read_line(&mut banner).unwrap();
    assert!(banner.starts_with("SSH-2.0-"), "{banner:?}");
    assert_eq!(machine.ssh("test -d /sys/firmware/efi").code, Some(1));

    let identity = Identity::of(&machine);
    assert_eq!(machine.entry().unwrap()["state"], "running");
    machine.output("echo kept > kept");
    let lab = Lab::get();
    lab.run([
        "snapshot",
        "create",
        "kept",
        "--machine",
        "first",
        "--quiesce",
    ])
    .ends_with(0);
    machine.output("echo lost > kept; sync");
    assert_eq!(machine.stop()[0]["by"], "guest");
    assert_eq!(machine.entry().unwrap()["state"], "stopped");
    let changes = lab.run(["snapshot", "diff", "kept"]).ends_with(0).stdout;
    let is = |change: &str, path: &str| changes.contains(&format!("{change} {path}\n"));
    assert!(is("C", "/home/vm/kept"), "{changes}");
    assert!(!changes.contains("/usr/bin"), "{changes}");
    lab.run(["snapshot", "restore", "kept", "--discard"])
        .ends_with(0);
    let changes = lab.run(["snapshot", "diff", "@lives", "kept"]).stdout;
    assert!(changes.contains("A /home/vm/kept\n"), "{changes}");
    machine.start();
    assert_eq!(Identity::of(&machine), identity);
    assert_eq!(machine.output("cat kept"), "kept");
    a_killed_commit_leaves_the_guest_as_it_was(&machine);
    // While it runs.
    let mut commit = lab.command();
    commit.args(["export", "first", "@lives-on", "--timeout", "900", "--json"]);
    let committed = Ran::of(&mut commit).ends_with(0).json();
    assert_eq!(committed["base"], image);
    let own = committed["own_size"].as_u64().unwrap();
    assert!(own < 64 << 20, "{own} bytes are not in the base");
    let committed_image = committed["image"].as_str().unwrap();
    assert_disk_lacks(committed_image, &hash);
    // What the killed one left is gone.
    let snapshots = lab.run(["snapshot", "list", "--type", "project", "--quiet"]);
    let snapshots = snapshots.ends_with(0).stdout;
    assert!(!snapshots.contains("commit-"), "{snapshots}");
    lab.run(["snapshot", "delete", "kept"]).ends_with(0);
    assert_eq!(machine.remove(false).code, Some(1));
    machine.remove(true).ends_with(0);
    assert_eq!(machine.entry(), None);
    drop(machine);

    // Another machine of a file with what the first had come to, by its boot loader.
    let file = recipes.path("lives-on.snapshot.tar.gz");
    let file = file.to_str().unwrap();
    lab.run(["snapshot", "export", "@lives-on", "--output", file])
        .ends_with(0);
    lab.run(["image", "rm", "@lives-on"]).ends_with(0);
    lab.run(["snapshot", "import", file, "--name", "@lives-again"])
        .ends_with(0);
    let arguments = ["@lives-again", "--memory", "512M", "--firmware", "uefi"];
    let other = Machine::boot("second", recipes.directory(), arguments);
    assert_eq!(other.boot.result()["image"], committed["image"]);
    other.output("test -d /sys/firmware/efi");
    // A machine that is not isolated reaches services of the host.
    let service = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = service.local_addr().unwrap().port();
    other.output(&format!("bash -c '</dev/tcp/10.0.2.2/{port}'"));
    assert_eq!(
        other.output("hostname; getent hosts second > /dev/null"),
        "second"
    );
    assert_eq!(other.output("cat kept"), "kept");
    let shadow = other.output("sudo -n getent shadow vm; ls -A /var/lib/vmfab");
    assert!(
        shadow.starts_with("vm:*:") && shadow.lines().count() == 1,
        "{shadow}"
    );
    let other = Identity::of(&other);
    assert_ne!(other.machine_id, identity.machine_id);
    for key in &other.host_keys {
        assert!(!identity.host_keys.contains(key), "{key} is of both");
    }
}

/// The guest agent of Debian's package runs commands, with no shell and no SSH session in between.
#[track_caller]
fn commands_by_the_agent(name: &str) {
    let exec = |words: &[&str]| {
        let mut command = Lab::get().command();
        command.args(["exec", "--agent"]).args(words);
        command
    };
    let run = |words: &[&str]| Ran::of(&mut exec(words));
    // Without SSH, nothing says that the agent runs already.
    for _ in 0..120 {
        if run(&[name, "--", "true"]).code == Some(0) {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    let words = run(&[name, "--", "printf", "%s|", "a b", "$HOME", "it's"]);
    assert_eq!(words.ends_with(0).stdout, "a b|$HOME|it's|");
    let who = ["sh", "-c", "id -un; echo aside >&2; exit 7"];
    let ran = run(&[&[name, "--"][..], &who].concat()).ends_with(7);
    assert_eq!((&*ran.stdout, &*ran.stderr), ("vm\n", "aside\n"));
    let ran = run(&[&["--user", "root", name, "--"][..], &who].concat());
    assert_eq!(ran.ends_with(7).stdout, "root\n");
    run(&["--user", "root", name, "--", "sh", "-c", "kill -9 $$"]).ends_with(128 + 9);
    let missing = run(&["--user", "root", name, "--", "no-such-program"]).ends_with(1);
    assert!(missing.stderr.contains("no-such-program"), "{missing:?}");
    let mut cat = exec(&["--interactive", name, "--", "cat"]);
    let mut cat = cat
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    cat.stdin.take().unwrap().write_all(b"typed\0\xff").unwrap();
    let cat = cat.wait_with_output().unwrap();
    assert!(
        cat.status.success() && cat.stdout == b"typed\0\xff",
        "{cat:?}"
    );
    // Sessions use the agent by themselves where there is one.
    let parent = [
        "exec",
        "--user",
        "root",
        name,
        "--",
        "cat",
        "/proc/self/cgroup",
    ];
    let parent = Lab::get().run(parent).ends_with(0).stdout;
    assert!(parent.contains("qemu-guest-agent"), "{parent}");
}

/// Killed at any moment, a commit leaves no tag, and the guest goes on.
#[track_caller]
fn a_killed_commit_leaves_the_guest_as_it_was(machine: &Machine) {
    let lab = Lab::get();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let mut moment = Duration::from_millis(u64::from(now.unwrap().subsec_nanos()) % 20_000);
    loop {
        let mut commit = lab.command();
        commit.args(["commit", "first", "@lives-on", "--timeout", "900"]);
        let mut commit = commit.stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(moment);
        commit.kill().unwrap();
        if !commit.wait().unwrap().success() {
            break;
        }
        // It was done by then.
        lab.run(["image", "rm", "@lives-on"]).ends_with(0);
        moment /= 2;
    }
    lab.run(["image", "inspect", "@lives-on"]).ends_with(3);
    // Its file systems are thawed.
    machine.output("echo goes on > file; sync");
    assert_eq!(machine.output("cat kept file"), "kept\ngoes on");
}

/// Searches all that the disk of an image holds, whether in a file or where one was.
#[track_caller]
fn assert_disk_lacks(image: &str, text: &str) {
    let store = Store::open(Lab::get().home().join("store")).unwrap();
    let config = store.read_object(&image.parse().unwrap()).unwrap();
    let disk = ImageConfig::from_bytes(&config).unwrap().disk;
    let reader = store.open_object(&disk.id).unwrap();
    let mut grep = tool("grep", "grep");
    grep.args(["-aoF", text]).stdin(Stdio::piped());
    let mut grep = grep.stdout(Stdio::piped()).spawn().unwrap();
    let mut searched = 0;
    {
        let mut input = grep.stdin.take().unwrap();
        for part in reader.data_in(0..reader.size()) {
            let mut content = vec![0; usize::try_from(part.end - part.start).unwrap()];
            reader.read_exact_at(&mut content, part.start).unwrap();
            input.write_all(&content).unwrap();
            searched += content.len();
        }
    }
    assert_eq!(grep.wait_with_output().unwrap().stdout, b"");
    assert!(searched > 64 << 20, "{searched} bytes");
}

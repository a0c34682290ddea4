//! What becomes of a machine from `boot` to `rm`.

use super::*;

#[test]
fn from_boot_to_rm() {
    let bench = Bench::new();
    bench.run(["list"]).ends_with(0).says("no machines");
    let name = bench.boot();
    assert_eq!(name, "tiny");

    let entry = bench.entry("tiny");
    assert_eq!(entry["state"], "running");
    assert_eq!(entry["image_name"], "tiny");
    assert_eq!(entry["memory"], 64 << 20);
    let pid = i32::try_from(entry["pid"].as_i64().unwrap()).unwrap();
    assert_eq!(bench.processes(), [Pid::from_raw(pid).unwrap()]);

    bench
        .run(["rm", "tiny"])
        .ends_with(1)
        .says("machine \"tiny\" is running");
    bench
        .run(["start", "tiny"])
        .ends_with(0)
        .says("machine \"tiny\" is already running");
    let stopped = bench.run(["stop", "tiny"]).ends_with(0);
    assert_eq!(stopped.stdout, "tiny: stopped\n");
    assert_eq!(bench.entry("tiny")["state"], "stopped");
    assert_eq!(bench.processes(), []);
    let stopped = bench.run(["stop", "tiny"]).ends_with(0);
    assert_eq!(stopped.stdout, "tiny: was already stopped\n");

    for command in ["ssh", "console"] {
        bench
            .run([command, "tiny"])
            .ends_with(1)
            .says("vmfab start tiny starts it");
    }
    let log = bench.run(["logs", "tiny"]).ends_with(0).stdout;
    assert!(log.ends_with("tiny: up\n"), "{log}");
    bench.run(["rm", "tiny"]).ends_with(0);
    assert_eq!(bench.list(), [Value::Null; 0]);
    assert_eq!(bench.directories(), [""; 0]);
}

#[test]
fn a_machine_that_cannot_be_entered_shows_its_console_and_stays() {
    let bench = Bench::new();
    let arguments = ["boot", "@tiny", "--accel", "tcg", "--timeout", "3"];
    let ran = bench.run(arguments).ends_with(1);
    let ran = ran
        .says("machine \"tiny\" was not ready within 3 s")
        .says("tiny: up")
        .says("vmfab rm --force tiny");
    assert_eq!(ran.stdout, "");
    assert_eq!(bench.entry("tiny")["state"], "running");
    assert_eq!(bench.run(arguments).ends_with(1).stdout, "");
    assert_eq!(bench.entry("tiny-2")["state"], "running");

    let mut with_rm = bench.command(arguments);
    Ran::from(with_rm.arg("--rm").output().unwrap())
        .ends_with(1)
        .says("tiny: up")
        .says("removed the machine");
    let mut names = bench.directories();
    names.sort();
    assert_eq!(names, ["tiny", "tiny-2"]);
    bench.run(["rm", "--force", "tiny", "tiny-2"]).ends_with(0);
    assert_eq!(bench.processes(), []);
}

#[test]
fn a_panic_and_a_switched_off_guest_end_the_waiting() {
    let bench = Bench::new();
    for (key, what) in [
        ("P", "machine \"tiny\" stopped with a kernel panic"),
        ("Q", "machine \"tiny\" shut down before it was ready"),
    ] {
        let boot = bench.command(["boot", "@tiny", "--accel", "tcg"]).spawn();
        let boot = Running(boot.unwrap());
        bench.wait_for_log("tiny", "tiny: up");
        let mut console = bench.command(["console", "tiny"]);
        let mut console = Running(console.stdin(Stdio::piped()).spawn().unwrap());
        let mut keys = console.0.stdin.take().unwrap();
        keys.write_all(key.as_bytes()).unwrap();
        boot.finish().ends_with(1).says(what).says("tiny: up");
        drop(console);
        bench.run(["rm", "--force", "tiny"]).ends_with(0);
    }
}

#[test]
fn a_deaf_guest_is_stopped_by_force() {
    let bench = Bench::new();
    let name = bench.boot();
    bench.say(&name, "Dx", "x");
    let stopped = bench.run(["stop", "--timeout", "1", "tiny"]).ends_with(0);
    assert_eq!(stopped.stdout, "tiny: forced to stop\n");
    assert_eq!(bench.processes(), []);
    assert_eq!(bench.entry("tiny")["state"], "stopped");
}

#[test]
fn one_at_a_time_is_at_the_console() {
    let bench = Bench::new();
    let name = bench.boot();
    let mut first = bench.command(["console", &name]);
    let mut first = Running(first.stdin(Stdio::piped()).spawn().unwrap());
    let mut keys = first.0.stdin.take().unwrap();
    keys.write_all(b"hello").unwrap();
    bench.wait_for_log(&name, "hello");
    bench
        .run(["console", &name])
        .ends_with(1)
        .says("the console of machine \"tiny\" is in use");
    let mut logs = Running(bench.command(["logs", "--follow", &name]).spawn().unwrap());
    keys.write_all(b"\nQ").unwrap();
    let first = first.finish().ends_with(0).says("machine \"tiny\" stopped");
    assert!(first.stdout.contains("hello"), "{first:#?}");
    logs.0.wait().unwrap();
    let logs = logs.finish().ends_with(0);
    assert!(logs.stdout.contains("tiny: up\nhello\n"), "{logs:#?}");
}

#[test]
fn a_machine_that_goes_when_it_stops() {
    let bench = Bench::new();
    let context = bench.context();
    let image = images::find(&context, "tiny").unwrap();
    let options = BootOptions {
        remove: true,
        ..Bench::options()
    };
    machine::boot(&context, &image, &options).unwrap();
    bench.wait_for_log("tiny", "tiny: up");
    let stopped = bench.run(["stop", "tiny"]).ends_with(0);
    assert_eq!(stopped.stdout, "tiny: stopped, removed\n");
    assert_eq!(bench.directories(), [""; 0]);
}

#[test]
fn uefi_firmware_starts_and_has_its_own_variables() {
    let bench = Bench::new();
    bench.image("empty", &tiny_kernel(), |config| {
        config.template.boot.uefi = true;
    });
    let context = bench.context();
    let image = images::find(&context, "empty").unwrap();
    let options = BootOptions {
        hardware: Hardware {
            firmware: Some(Firmware::Uefi),
            memory_mib: Some(128),
            ..Hardware::default()
        },
        ..Bench::options()
    };
    machine::boot(&context, &image, &options).unwrap();
    // It looks for something to start: the empty disk first, and the network not at all.
    let log = bench.machines().join("empty/console.log");
    let text = || String::from_utf8_lossy(&fs::read(&log).unwrap()).into_owned();
    wait_until("the second try of the firmware", || {
        text().matches("BdsDxe: ").count() > 1
    });
    assert!(!text().contains("PXE"), "{}", text());
    let vars = bench.machines().join("empty/firmware-vars.fd");
    assert!(vars.metadata().unwrap().len() > 100_000);
}

#[test]
fn a_tpm_lives_as_long_as_its_machine() {
    let bench = Bench::new();
    let context = bench.context();
    let image = images::find(&context, "tiny").unwrap();
    let mut options = Bench::options();
    options.hardware.devices.tpm = true;
    machine::boot(&context, &image, &options).unwrap();
    bench.wait_for_log("tiny", "tiny: up");
    let at = |name: &str| bench.machines().join(name);
    let log = || fs::read_to_string(at("tiny/tpm.log")).unwrap();
    assert!(log().contains("new linear NVRAM store"), "{}", log());
    assert!(at("tiny/tpm.state").metadata().unwrap().len() > 1000);
    bench.run(["stop", "tiny"]).ends_with(0);
    wait_until("the end of swtpm", || bench.processes().is_empty());

    // A start without swtpm says which package is missing. The others are there.
    let bin = bench.directory.path().join("without-swtpm");
    fs::create_dir(&bin).unwrap();
    for program in ["qemu-system-x86_64", "qemu-img", "ssh"] {
        let place = Path::new("/usr/bin").join(program);
        std::os::unix::fs::symlink(place, bin.join(program)).unwrap();
    }
    let mut start = bench.command(["start", "tiny"]);
    Ran::from(start.env("PATH", &bin).output().unwrap())
        .ends_with(5)
        .says("swtpm is not installed (needed for machines with a TPM)")
        .says("sudo apt-get install swtpm");

    bench.run(["clone", "tiny", "twin"]).ends_with(0);
    let twin = bench.run(["inspect", "twin"]).ends_with(0).stdout;
    assert!(twin.contains("tpm:          2.0"), "{twin}");
    assert!(!at("twin/tpm.state").exists());

    let start = bench.run(["start", "tiny", "--timeout", "1"]).ends_with(1);
    start.says("was not ready");
    assert!(!log().contains("new linear NVRAM store"), "{}", log());
}

#[test]
fn a_file_is_a_disk_of_one_machine_that_writes_to_it() {
    let bench = Bench::new();
    let context = bench.context();
    let image = images::find(&context, "tiny").unwrap();
    let at = |name: &str| bench.directory.path().join(name).canonicalize().unwrap();
    for name in ["written", "read"] {
        fs::write(bench.directory.path().join(name), vec![0; 1 << 20]).unwrap();
    }
    let boot = |name: &str, disks: &[FurtherDisk]| {
        let mut options = Bench::options();
        options.name = Some(name.parse().unwrap());
        options.hardware.disks = disks.to_vec();
        let booted = machine::boot(&context, &image, &options);
        booted.map_err(|failure| failure.message().to_owned())
    };
    let file = |name: &str, writable| FurtherDisk::File {
        path: at(name),
        writable,
    };
    let own = FurtherDisk::Empty(1 << 30);
    boot("one", &[own, file("written", true), file("read", false)]).unwrap();
    boot("two", &[file("read", false)]).unwrap();
    for (name, writable) in [("written", true), ("written", false), ("read", true)] {
        let refused = boot("three", &[file(name, writable)]).unwrap_err();
        assert!(refused.ends_with("another machine has it"), "{refused}");
    }
    let shown = bench.run(["inspect", "one"]).ends_with(0).stdout;
    let disks: Vec<&str> = shown
        .lines()
        .filter(|l| l.contains("further disk"))
        .collect();
    assert_eq!(disks.len(), 3, "{shown}");
    assert!(disks[0].ends_with(" 1.0 GiB") && disks[2].ends_with("read, read-only"));

    // What is of the machine comes along; a file that it writes to does not.
    let snapshot = ["snapshot", "create", "both", "--machine", "one"];
    bench.run(snapshot).ends_with(0);
    bench.run(["clone", "one", "twin"]).ends_with(0);
    let twin = bench.run(["inspect", "twin", "--json"]).ends_with(0).json();
    assert_eq!(twin["further_disks"], serde_json::json!([1 << 30]));
    assert_eq!(twin["disk_files"][0]["path"], at("read").to_str().unwrap());
    assert_eq!(twin["disk_files"].as_array().unwrap().len(), 1);
    let restore = ["snapshot", "restore", "both", "--discard"];
    bench.run(restore).ends_with(0);
    let start = ["start", "one", "--timeout", "1"];
    bench.run(start).ends_with(1).says("was not ready");
    assert_eq!(bench.entry("one")["state"], "running");
}

/// The whole way with a real guest: a session, a restart, what stays and what is forwarded.
#[test]
fn a_real_machine() {
    let bench = Bench::with_base();
    let name = support::base();
    let name = name.as_str();
    let forward = format!("{}:22", free_port());
    let at = |name: &str| bench.home.join(name).display().to_string();
    fs::write(at("cd.iso"), format!("{:2048}", "read from the drive")).unwrap();
    let mut keygen = support::tool("ssh-keygen", "openssh-client");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f", &at("id")]);
    support::Ran::of(&mut keygen).ends_with(0);
    let (cd, key) = (at("cd.iso"), at("id.pub"));
    fs::write(at("written.img"), vec![0; 2 << 20]).unwrap();
    let mut convert = support::tool("qemu-img", "qemu-utils");
    convert.args(["create", "-q", "-f", "qcow2", &at("read"), "3M"]);
    support::Ran::of(&mut convert).ends_with(0);
    let written = format!("{}:rw", at("written.img"));
    let booted = bench
        .run([
            "boot",
            &format!("@{name}"),
            "--memory",
            "512M",
            "--network",
            "none",
            "-p",
            &forward,
            "--volume",
            "data:/var/lib/data",
            "--volume",
            "homes:/home",
            "--cdrom",
            &cd,
            "--ssh-key",
            &key,
            "--display",
            "vnc",
            "--tpm",
            "--disk",
            "1G",
            "--disk",
            &written,
            "--disk",
            &at("read"),
        ])
        .ends_with(0)
        .says("created the volume \"data\"")
        .says("waiting for ssh");
    assert!(
        booted.stdout.contains(&format!("vmfab ssh {name}")),
        "{booted:#?}"
    );
    let ssh = |command: &str| bench.run(["ssh", name, "--", command]);
    assert_eq!(ssh("whoami; exit 7").ends_with(7).stdout, "vm\n");
    let root = bench.run(["ssh", name, "-u", "root", "id -u"]);
    assert_eq!(root.ends_with(0).stdout, "0\n");

    let service = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = service.local_addr().unwrap().port();
    let host = format!("timeout 5 bash -c '</dev/tcp/10.0.2.2/{port}'");
    assert_ne!(ssh(&host).code, Some(0));

    let mut cat = bench.command(["ssh", name, "cat"]);
    let mut cat = Running(cat.stdin(Stdio::piped()).spawn().unwrap());
    let mut input = cat.0.stdin.take().unwrap();
    input.write_all(b"through the pipe").unwrap();
    drop(input);
    assert_eq!(cat.finish().ends_with(0).stdout, "through the pipe");

    let (port, _) = forward.split_once(':').unwrap();
    let mut forwarded = std::net::TcpStream::connect(("127.0.0.1", port.parse().unwrap())).unwrap();
    let mut banner = [0; 4];
    std::io::Read::read_exact(&mut forwarded, &mut banner).unwrap();
    assert_eq!(&banner, b"SSH-");

    // The TPM, with a key that it has made for itself.
    let tpm = "sudo udevadm settle; cat /sys/class/tpm/tpm0/tpm_version_major; test -c /dev/tpm0";
    assert_eq!(ssh(tpm).ends_with(0).stdout, "2\n");
    let state = || fs::read(bench.machines().join(name).join("tpm.state")).unwrap();
    assert!(state().len() > 1000);

    // Its further disks: an empty one of its own, and files, of which it writes to one.
    let sizes = "cat /sys/block/vd[bef]/size; cat /sys/block/vd[bef]/ro";
    assert_eq!(
        ssh(sizes).ends_with(0).stdout,
        "2097152\n4096\n6144\n0\n0\n1\n"
    );
    let write = |disk: &str| ssh(&format!("echo kept | sudo dd of=/dev/{disk} conv=fsync"));
    write("vdb").ends_with(0);
    write("vde").ends_with(0);
    assert_ne!(write("vdf").code, Some(0));
    assert!(fs::read(at("written.img")).unwrap().starts_with(b"kept\n"));

    // Another key opens it, the CD is in its drive, and its screen can be seen.
    let mut other = support::tool("ssh", "openssh-client");
    other.args(["-i", &at("id"), "-p", port, "-o", "IdentitiesOnly=yes"]);
    other.args([
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
    ]);
    other.args([
        "-o",
        "BatchMode=yes",
        "vm@127.0.0.1",
        "sudo head -c 19 /dev/sr0",
    ]);
    let other = support::Ran::of(&mut other).ends_with(0);
    assert_eq!(other.stdout, "read from the drive");
    let details = bench.run(["inspect", name, "--json"]).ends_with(0).json();
    let socket = details["vnc_socket"].as_str().unwrap();
    let mut viewer = std::os::unix::net::UnixStream::connect(socket).unwrap();
    let mut version = [0; 4];
    std::io::Read::read_exact(&mut viewer, &mut version).unwrap();
    assert_eq!(&version, b"RFB ");
    drop(viewer);

    // A volume is empty at first, or has what the image has there; nobody else gets it.
    let write = "ls -A /var/lib/data; sudo sh -c 'echo outlives > /var/lib/data/file'";
    assert_eq!(ssh(write).ends_with(0).stdout, "");
    let refused = bench.run(["volume", "rm", "--force", "data"]).ends_with(1);
    refused.says(&format!("machine \"{name}\" has it"));
    let other = ["boot", &format!("@{name}"), "--volume", "data:/srv", "--rm"];
    bench.run(other).ends_with(1).says("is in use");
    daily::work(&bench, name);

    // A user's own key, and whatever is on the disk, is there after a restart.
    ssh("echo 'ssh-ed25519 AAAA mine' >> ~/.ssh/authorized_keys; echo kept > file").ends_with(0);
    // A snapshot has its volumes, too.
    bench
        .run(["snapshot", "create", "held", "--machine", name, "--quiesce"])
        .ends_with(0);
    ssh("sudo sh -c 'echo later > /var/lib/data/file'").ends_with(0);
    ssh("sudo rm /etc/ssh/ssh_host_*; sudo ssh-keygen -A").ends_with(0);
    let keys = || fs::read_to_string(bench.machines().join(name).join("known_hosts")).unwrap();
    let known = keys();
    bench
        .run(["volume", "resize", "data", "9G"])
        .ends_with(1)
        .says("cannot shrink the disk from 10G to 9G");
    bench
        .run(["volume", "resize", "data", "12G"])
        .ends_with(0)
        .says("sees the larger disk; its file system grows at the next boot");
    let stopped = bench.run(["stop", name, "--timeout", "300"]).ends_with(0);
    assert_eq!(stopped.stdout, format!("{name}: stopped\n"));
    let changes = bench.run(["snapshot", "diff", "held"]).ends_with(0).stdout;
    assert!(changes.contains("C /var/lib/data/file\n"), "{changes}");
    bench.run(["snapshot", "delete", "held"]).ends_with(0);
    let changed = bench
        .run(["set", name, "memory=640M", "disk-size=12G"])
        .ends_with(0);
    assert_eq!(
        changed.stdout,
        format!("{name}: memory 640 MiB, processors 2, disk 12 GiB, network none\n")
    );
    bench
        .run(["set", name, "disk-size=1G"])
        .ends_with(1)
        .says("cannot shrink the disk from 12G to 1G");
    let started = bench.run(["start", name]).ends_with(1);
    started.says("has a new host key");
    assert_eq!(keys(), known);
    ssh("true")
        .ends_with(255)
        .says("has a new host key")
        .says(&format!("vmfab ssh --accept-new-host-key {name}"));
    bench
        .run(["ssh", "--accept-new-host-key", name, "true"])
        .ends_with(0);
    let known = keys();
    let live = bench.run(["set", name, "disk-size=13G", "cpus=1"]);
    live.ends_with(0).says("at its next start");
    let sizes = "cat /sys/block/vda/size; df --output=size -BG / | tail -n 1 | tr -d ' '";
    let grown = ssh(sizes).ends_with(0).stdout;
    assert!(grown.starts_with("27262976\n1"), "{grown}");
    assert_eq!(ssh("cat /var/lib/data/file").ends_with(0).stdout, "later\n");
    assert_eq!(ssh("sudo head -c 5 /dev/vdb").ends_with(0).stdout, "kept\n");
    let found = ssh("cat file; tail -n 1 ~/.ssh/authorized_keys").ends_with(0);
    assert_eq!(found.stdout, "kept\nssh-ed25519 AAAA mine\n");
    assert_eq!(keys(), known);
    let log = bench.run(["logs", name]).ends_with(0).stdout;
    assert!(log.contains("Linux version"), "{log}");
    let refused = bench.run(["volume", "rm", "data"]).ends_with(1);
    refused.says(&format!("belongs to machine \"{name}\""));
    bench.run(["rm", "--force", name]).ends_with(0);
    assert_eq!(bench.directories(), [""; 0]);
    let list = bench.run(["volume", "list", "--quiet"]).ends_with(0);
    assert_eq!(list.stdout, "data\nhomes\n");
    bench.run(["volume", "rm", "data", "homes"]).ends_with(0);
}

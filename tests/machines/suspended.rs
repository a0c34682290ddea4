//! Machines whose memory is in a file.

use std::os::unix::fs::FileExt;

use super::halted::with_ssh;
use super::*;

#[test]
fn a_suspended_machine_goes_on_or_boots_anew() {
    let bench = Bench::new();
    bench.boot();
    bench.wait_for_log("tiny", "tiny: up");
    let directory = bench.machines().join("tiny");
    let memory = directory.join("memory.zst");
    bench.say("tiny", "before", "before");

    let suspended = bench.run(["suspend", "tiny"]).ends_with(0);
    assert!(
        suspended.stdout.starts_with("tiny: suspended, "),
        "{}",
        suspended.stdout
    );
    let entry = bench.entry("tiny");
    assert_eq!(
        (&entry["state"], &entry["pid"]),
        (&Value::from("suspended"), &Value::Null)
    );
    assert!(bench.processes().is_empty());
    let again = bench.run(["suspend", "--json", "tiny"]).ends_with(0).json();
    assert_eq!(again[0]["was_started"], false);
    let size = fs::metadata(&memory).unwrap().len();
    assert_eq!(again[0]["stored_size"].as_u64().unwrap(), size);

    // Its disk and its memory belong together.
    for arguments in [
        &["set", "tiny", "cpus=2"][..],
        &["set", "tiny", "disk-size=2G"],
        &["snapshot", "create", "now", "--machine", "tiny"],
        &["ssh", "tiny", "true"],
        &["pause", "tiny"],
    ] {
        let refused = Ran::from(bench.command(arguments).output().unwrap());
        assert_ne!(refused.code, Some(0), "{arguments:?}");
        refused.says("vmfab resume tiny continues it");
    }

    // What is not what was saved never reaches QEMU.
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&memory)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, size / 2).unwrap();
    file.write_all_at(&[byte[0] ^ 1], size / 2).unwrap();
    let refused = bench.run(["resume", "tiny"]).ends_with(1);
    refused
        .says("the saved memory of machine \"tiny\" is damaged")
        .says("vmfab start --cold tiny");
    file.write_all_at(&byte, size / 2).unwrap();
    file.set_len(size - 1).unwrap();
    bench.run(["resume", "tiny"]).ends_with(1).says("damaged");
    assert!(bench.processes().is_empty());
    file.write_all_at(&[0], size - 1).unwrap();
    bench.run(["resume", "tiny"]).ends_with(1).says("damaged");
    assert_eq!(bench.entry("tiny")["state"], "suspended");
    with_ssh(&bench, "exit 0", ["start", "--quiet", "--cold", "tiny"]).ends_with(0);
    assert!(!memory.exists());
    bench.wait_for_log("tiny", "tiny: up");

    bench.run(["pause", "tiny"]).ends_with(0);
    bench.run(["suspend", "--all"]).ends_with(0);
    // Not the hardware that it was saved from.
    let config = directory.join("machine.json");
    let text = fs::read_to_string(&config).unwrap();
    let other = text.replace("\"memory-mib\": 64", "\"memory-mib\": 80");
    assert_ne!(text, other);
    fs::write(&config, other).unwrap();
    let refused = bench.run(["resume", "tiny"]).ends_with(1);
    refused.says("QEMU cannot go on with the saved memory of machine \"tiny\"");
    assert_eq!(bench.entry("tiny")["state"], "suspended");
    fs::write(&config, text).unwrap();

    let resumed = bench.run(["resume", "--all"]).ends_with(0);
    assert_eq!(resumed.stdout, "tiny: resumed\n");
    assert_eq!(bench.entry("tiny")["state"], "running");
    assert!(!memory.exists() && !directory.join("memory.json").exists());
    bench.say("tiny", "after", "after");

    // What a vmfab left that was killed before it ended QEMU is old when the guest goes on.
    bench.run(["pause", "tiny"]).ends_with(0);
    fs::write(directory.join("memory.json"), "{}").unwrap();
    bench.run(["resume", "tiny"]).ends_with(0);
    assert!(!directory.join("memory.json").exists());
}

/// What is on a volume goes with what a guest remembers of it.
#[test]
fn a_suspended_machine_keeps_its_volumes() {
    let bench = Bench::new();
    let boot = |name: &str| {
        let arguments = [
            "boot", "@tiny", "--accel", "tcg", "--memory", "64M", "--name", name,
        ];
        let mut command = bench.command(arguments);
        command.args(["--volume", "data:/srv", "--timeout", "1"]);
        Ran::from(command.output().unwrap())
    };
    boot("first");
    bench.wait_for_log("first", "tiny: up");
    bench.run(["suspend", "first"]).ends_with(0);
    boot("second").says("volume \"data\" is in use: machine \"first\" has it");
    let refused = bench.run(["volume", "rm", "data"]);
    assert_ne!(refused.code, Some(0));
    refused.says("volume \"data\" belongs to machine \"first\"");
    bench.run(["resume", "first"]).ends_with(0);
    assert_eq!(bench.entry("first")["state"], "running");
    // What a killed vmfab left of a file goes.
    let left = bench.machines().join("first/.new-left");
    fs::write(&left, "half of it").unwrap();
    bench.run(["suspend", "first"]).ends_with(0);
    assert!(!left.exists());
    bench.run(["rm", "first"]).ends_with(0);
    bench.run(["volume", "rm", "data"]).ends_with(0);
}

/// Its disks and its memory are of one moment, and the guest goes on from there.
#[test]
fn a_snapshot_holds_the_memory() {
    let bench = Bench::new();
    bench.boot();
    bench.wait_for_log("tiny", "tiny: up");
    let snapshots = bench.home.join("snapshots");
    let memory = snapshots.join("warm.memory.zst");
    let take = |name: &str| {
        let arguments = ["snapshot", "create", name, "--machine", "tiny", "--memory"];
        bench.run(arguments)
    };
    let taken = take("warm").ends_with(0);
    let text = "the machine was running, with its memory";
    assert!(taken.stdout.contains(text), "{taken:?}");
    bench.say("tiny", "goes on", "goes on");
    assert_eq!(bench.entry("tiny")["state"], "running");
    let details = bench.run(["snapshot", "inspect", "warm", "--json"]);
    let details = details.ends_with(0).json();
    let size = fs::metadata(&memory).unwrap().len();
    assert_eq!(details["memory_size"].as_u64(), Some(size));

    let restore = |options: &[&str]| {
        let mut command = bench.command(["snapshot", "restore", "warm", "--force"]);
        Ran::from(command.args(options).output().unwrap())
    };
    let goes_on = || {
        assert_eq!(bench.entry("tiny")["state"], "suspended");
        bench.run(["resume", "tiny"]).ends_with(0);
        bench.say("tiny", "again", "again");
        let log = fs::read_to_string(bench.machines().join("tiny/console.log")).unwrap();
        assert!(!log.contains("tiny: up"), "it booted: {log}");
    };
    // Twice: the snapshot keeps what a machine took.
    for _ in 0..2 {
        let restored = restore(&[]).ends_with(0);
        let text = "continue it with: vmfab resume tiny";
        assert!(restored.stdout.contains(text), "{restored:?}");
        goes_on();
    }
    // A paused one stays paused, and has a memory as well.
    bench.run(["pause", "tiny"]).ends_with(0);
    take("paused").ends_with(0);
    assert_eq!(bench.entry("tiny")["state"], "paused");

    // What is not what was saved never reaches QEMU; the disks do not need it.
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(&memory)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, size / 2).unwrap();
    file.write_all_at(&[byte[0] ^ 1], size / 2).unwrap();
    restore(&[])
        .ends_with(1)
        .says("the saved memory of snapshot \"warm\" is damaged")
        .says("vmfab snapshot restore --cold warm");
    let cold = restore(&["--cold"]).ends_with(0);
    assert!(cold.stdout.contains("vmfab start tiny"), "{cold:?}");
    assert_eq!(bench.entry("tiny")["state"], "stopped");
    fs::remove_file(&memory).unwrap();
    let lost = restore(&[]).ends_with(0);
    lost.says("the memory of the snapshot is not used");
    assert_eq!(bench.entry("tiny")["state"], "stopped");

    // A machine of the same name is another one.
    bench.run(["rm", "tiny"]).ends_with(0);
    bench
        .run(["snapshot", "restore", "paused"])
        .ends_with(0)
        .says("the memory of the snapshot is not used");
    assert_eq!(bench.entry("tiny")["state"], "stopped");
    take("too-late")
        .ends_with(1)
        .says("vmfab start tiny starts it");
    bench
        .run(["snapshot", "delete", "paused", "warm"])
        .ends_with(0);
    let left: Vec<_> = fs::read_dir(&snapshots)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("memory") || name.starts_with(".new"))
        .collect();
    assert_eq!(left, [""; 0]);
}

/// A guest that goes on sees the volumes of its moment, or boots.
#[test]
fn the_memory_of_a_snapshot_needs_its_volumes() {
    let bench = Bench::new();
    let arguments = ["boot", "@tiny", "--accel", "tcg", "--memory", "64M"];
    let mut boot = bench.command(arguments);
    boot.args(["--volume", "data:/srv", "--timeout", "1"]);
    boot.output().unwrap();
    bench.wait_for_log("tiny", "tiny: up");
    let arguments = [
        "snapshot",
        "create",
        "warm",
        "--machine",
        "tiny",
        "--memory",
    ];
    bench.run(arguments).ends_with(0);
    let restore = ["snapshot", "restore", "warm", "--force", "--keep-volumes"];
    let kept = bench.run(restore).ends_with(0);
    kept.says("the memory of the snapshot is not used");
    assert_eq!(bench.entry("tiny")["state"], "stopped");
    bench.run(["snapshot", "restore", "warm"]).ends_with(0);
    assert_eq!(bench.entry("tiny")["state"], "suspended");
    bench.run(["resume", "tiny"]).ends_with(0);
    bench.say("tiny", "with it", "with it");
}

#[test]
fn a_failed_suspension_leaves_the_guest_running() {
    let bench = Bench::new();
    bench.boot();
    bench.wait_for_log("tiny", "tiny: up");
    let directory = bench.machines().join("tiny");
    // In the place of the file that has the memory.
    fs::create_dir(directory.join("memory.zst")).unwrap();
    bench
        .run(["suspend", "tiny"])
        .ends_with(1)
        .says("memory.zst");
    assert_eq!(bench.entry("tiny")["state"], "running");
    bench.say("tiny", "still here", "still here");
    assert!(!directory.join("memory.json").exists());
    let stopped = bench.run(["suspend", "gone"]).ends_with(3);
    stopped.says("no machine \"gone\" found");
}

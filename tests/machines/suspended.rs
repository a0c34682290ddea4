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

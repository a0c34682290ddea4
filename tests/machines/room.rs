//! What this host has room for.

use vmfab::host::{Program, require};
use vmfab::qemu::ProbeFile;

use super::halted::with_ssh;
use super::projects::Scene;
use super::*;

/// MiB of memory of which this host has room for one machine and not for two.
fn more_than_half(bench: &Bench) -> u32 {
    let top = bench.run(["top", "--json"]).ends_with(0).json();
    let memory = top["host"]["memory"].as_u64().unwrap() >> 20;
    u32::try_from(memory / 2 + 1).unwrap()
}

/// Has `auto` mean TCG. Where /dev/kvm opens and guests die, a stand-in for ssh lets a machine be ready
/// before that shows.
fn without_kvm(bench: &Bench) {
    let qemu = require(Program::QemuSystem).unwrap();
    let probe = ProbeFile::new(&bench.home.join("cache/probes"), &qemu).unwrap();
    probe.remember("not in this test").unwrap();
}

/// A second machine that is too much is refused with the figures, and leaves nothing behind.
#[test]
fn memory_is_promised_once() {
    let bench = Bench::new();
    without_kvm(&bench);
    let half = more_than_half(&bench);
    let asked = BootOptions {
        hardware: Hardware {
            memory_mib: Some(half),
            cpus: Some(1),
            ..Hardware::default()
        },
        ..Bench::options()
    };
    let context = bench.context();
    let image = images::find(&context, "tiny").unwrap();
    machine::boot(&context, &image, &asked).unwrap();
    // What it has is what its process has, whatever its config says now.
    bench.run(["set", "tiny", "memory=64M"]).ends_with(0);
    let memory = format!("{half}M");
    bench
        .run(["boot", "@tiny", "--accel", "tcg", "--memory", &memory])
        .ends_with(5)
        .says(&format!("no room for {half} MiB of memory"))
        .says(&format!("{half} MiB are promised to 1 running machine"))
        .says("--overcommit");
    assert_eq!(bench.list().len(), 1);

    let top = bench.run(["top", "--json"]).ends_with(0).json();
    let promised = &top["host"]["memory_promised"];
    assert_eq!(promised.as_u64().unwrap(), u64::from(half) << 20);
    assert_eq!(top["host"]["cpus_promised"], 1);
    assert_eq!(top["machines"][0]["name"], "tiny");
    assert!(top["machines"][0]["usage"]["memory"].is_number());
    let shown = bench.run(["top"]).ends_with(0).stdout;
    assert!(
        shown.contains("tiny") && shown.contains("promised"),
        "{shown}"
    );

    let insists = ["create", "tiny-2", "--from", "@tiny", "--memory", &memory];
    bench.run(insists).ends_with(0);
    bench.run(["start", "tiny-2"]).ends_with(5).says("no room");
    with_ssh(&bench, "exit 0", ["start", "--overcommit", "tiny-2"])
        .ends_with(0)
        .says("starting it because of --overcommit");
    // What a machine had it may have again.
    let restarted = with_ssh(&bench, "exit 0", ["restart", "--force", "tiny-2"]).ends_with(0);
    assert!(!restarted.stderr.contains("warning"), "{restarted:#?}");
    let more = format!("memory={}M", half + 1);
    bench.run(["set", "tiny-2", &more]).ends_with(0);
    with_ssh(&bench, "exit 0", ["restart", "--force", "tiny-2"])
        .ends_with(0)
        .says("starting it because it ran before");
    bench.run(["stop", "--force", "--all"]).ends_with(0);
    let top = bench.run(["top", "--json"]).ends_with(0).json();
    assert_eq!(top["host"]["memory_promised"], 0);
    assert_eq!(top["host"]["machines"], 0);
}

/// Of two that are started in the same instant, one has room.
#[test]
fn two_starts_in_one_instant_count_each_other() {
    let bench = Bench::new();
    without_kvm(&bench);
    let memory = format!("{}M", more_than_half(&bench));
    for name in ["one", "two"] {
        let create = ["create", name, "--from", "@tiny", "--memory", &memory];
        bench.run(create).ends_with(0);
    }
    let mut codes: Vec<_> = std::thread::scope(|scope| {
        let starts = ["one", "two"].map(|name| {
            let bench = &bench;
            scope.spawn(move || with_ssh(bench, "exit 0", ["start", name]).code.unwrap())
        });
        starts.map(|start| start.join().unwrap()).into()
    });
    codes.sort_unstable();
    assert_eq!(codes, [0, 5]);
    let left = fs::read_dir(bench.home.join("promises")).unwrap().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["lock"]);
}

/// A dry run foresees which machines `up` would refuse: with all machines before it, and with those that
/// would be removed first.
#[test]
fn a_dry_run_foresees_what_has_no_room() {
    let half = more_than_half(&Bench::new());
    let machine = |name: &str| {
        format!("machine \"{name}\" image=\"@tiny\" network=\"user\" memory=\"{half}M\"\n")
    };
    let scene = Scene::new(&(machine("one") + &machine("two")));
    let dry = scene.run(["up", "--dry-run"]).ends_with(5);
    let lines: Vec<&str> = dry.stdout.lines().collect();
    assert_eq!(lines[0], "one: would be created and started");
    let refused = format!("two: would fail: machine \"two\": no room for {half} MiB of memory");
    assert!(lines[1].starts_with(&refused), "{lines:?}");
    scene.run(["up", "--dry-run", "--overcommit"]).ends_with(0);

    scene.up(&["one"]);
    scene.run(["up", "--dry-run", "one"]).ends_with(0);
    scene
        .run(["up", "--dry-run", "--recreate", "one"])
        .ends_with(0);
    scene.run(["up", "--dry-run", "two"]).ends_with(5);
    scene.run(["down", "--rm", "--yes"]).ends_with(0);
}

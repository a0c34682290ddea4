//! Snapshots of machines: what they hold, and what becomes of them when something is killed.

use vmfab::disk::overlay::Overlay;

use super::saved_volumes::boot_with_volume;
use super::*;

/// What a disk holds: its layers, and above them what was written since.
fn content(disk: &Value, below: &Path, directory: &Path, first: &str) -> Vec<u8> {
    let layers = disk["layers"].as_array().cloned().unwrap_or_default();
    let mut files: Vec<PathBuf> = layers
        .iter()
        .map(|id| {
            let name = format!("{}.qcow2", id.as_str().unwrap());
            below.join("layers").join(name)
        })
        .collect();
    files.extend(match disk["top"].as_str() {
        Some(id) => Some(directory.join(format!("overlay-{id}.qcow2"))),
        None => layers.is_empty().then(|| directory.join(first)),
    });
    // The image's disk is zeros.
    let mut bytes = vec![0; disk["size"].as_u64().unwrap() as usize];
    for file in files {
        let overlay = Overlay::open(&file).unwrap();
        let mut above = vec![0; bytes.len()];
        overlay
            .read_at(0, &mut above, &mut |offset, part| {
                let from = offset as usize;
                part.copy_from_slice(&bytes[from..from + part.len()]);
                Ok(())
            })
            .unwrap();
        bytes = above;
    }
    bytes
}

pub(super) fn json(path: PathBuf) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// What the first disk of a machine holds, and then its volumes.
pub(super) fn of_machine(bench: &Bench, name: &str) -> Vec<u8> {
    let directory = bench.machines().join(name);
    let config = json(directory.join("machine.json"));
    let snapshots = bench.home.join("snapshots");
    let mut bytes = content(&config["disks"][0], &snapshots, &directory, "overlay.qcow2");
    for mount in config["mounts"].as_array().into_iter().flatten() {
        bytes.extend(of_volume(bench, mount["volume"].as_str().unwrap()));
    }
    bytes
}

/// What a volume holds.
pub(super) fn of_volume(bench: &Bench, name: &str) -> Vec<u8> {
    let directory = bench.home.join("volumes").join(name);
    let record = json(directory.join("volume.json"));
    content(&record, &directory, &directory, "disk.qcow2")
}

/// What a snapshot holds, its volumes last: nothing that a machine writes now.
pub(super) fn of_snapshot(bench: &Bench, name: &str) -> Vec<u8> {
    let snapshots = bench.home.join("snapshots");
    let mut stored = json(snapshots.join(format!("{name}.json")));
    let volumes = stored["volumes"].as_array().cloned().unwrap_or_default();
    let disk = stored["settings"]["disks"][0].take();
    let mut bytes = Vec::new();
    for mut disk in std::iter::once(disk).chain(volumes) {
        let fields = disk.as_object_mut().unwrap();
        fields.remove("top");
        bytes.extend(match fields.contains_key("layers") {
            true => content(&disk, &snapshots, Path::new("/nowhere"), "none"),
            false => vec![0; fields["size"].as_u64().unwrap() as usize],
        });
    }
    bytes
}

/// How many sectors the guest has written.
fn written(disk: &[u8]) -> usize {
    let clusters = disk.chunks(64 << 10);
    clusters.filter(|cluster| cluster[0] != 0).count()
}

pub(super) fn layers(bench: &Bench) -> usize {
    fs::read_dir(bench.home.join("snapshots/layers")).map_or(0, Iterator::count)
}

/// Has the guest write to the next place of its disk, `count` times.
pub(super) fn write(bench: &Bench, name: &str, count: usize) {
    write_to(bench, name, b"W", count);
}

/// Has the guest write to its disk (`W`) or its volume (`V`).
pub(super) fn write_to(bench: &Bench, name: &str, which: &[u8], count: usize) {
    let said = || {
        let log = bench.machines().join(name).join("console.log");
        let log = String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned();
        log.matches("tiny: written").count()
    };
    for _ in 0..count {
        let before = said();
        let mut console = Running(
            bench
                .command(["console", name])
                .stdin(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let mut stdin = console.0.stdin.take().unwrap();
        stdin.write_all(which).unwrap();
        wait_until("a write", || said() > before);
    }
}

pub(super) fn start(bench: &Bench, name: &str) {
    let options = StartOptions {
        until: Until::Console,
        timeout: MOMENT,
    };
    machine::start(&bench.context(), name, options).unwrap();
    bench.wait_for_log(name, "tiny: up");
}

#[test]
fn machines_are_saved_and_set_back() {
    let bench = Bench::new();
    let name = bench.boot();
    let create = |snapshot: &str| bench.run(["snapshot", "create", snapshot, "--machine", "tiny"]);
    bench
        .run(["snapshot", "create", "@x", "--machine", "tiny"])
        .ends_with(2)
        .says("vmfab commit tiny @x");
    create("fresh").ends_with(0);
    write(&bench, &name, 2);
    let made = create("two").ends_with(0);
    assert!(made.stdout.contains("the machine was running"), "{made:?}");
    create("two").ends_with(1).says("already exists");
    write(&bench, &name, 1);
    create("three").ends_with(0);
    write(&bench, &name, 1);
    bench.run(["stop", &name]).ends_with(0);
    // Nothing is added to what was written: only a name, and for the second not even a layer.
    create("four").ends_with(0);
    let before = layers(&bench);
    create("again").ends_with(0);
    assert_eq!(layers(&bench), before);
    for (snapshot, count) in [
        ("fresh", 0),
        ("two", 2),
        ("three", 3),
        ("four", 4),
        ("again", 4),
    ] {
        assert_eq!(written(&of_snapshot(&bench, snapshot)), count, "{snapshot}");
    }
    let contents = |snapshot: &str| of_snapshot(&bench, snapshot);
    let two = contents("two");

    let listed = bench
        .run(["snapshot", "list", "--type", "project"])
        .ends_with(0);
    assert_eq!(listed.stdout.lines().count(), 6, "{}", listed.stdout);
    let listed = bench.run(["base", "list", "--json"]).ends_with(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 6);
    let shown = bench
        .run(["snapshot", "inspect", "two", "--json"])
        .ends_with(0);
    assert_eq!(shown.json()["machine"], "tiny");

    // Back, forth again, and on from there.
    let restored = bench
        .run(["snapshot", "restore", "two", "--json"])
        .ends_with(0);
    assert_eq!(of_machine(&bench, &name), two);
    let kept = restored.json()["kept"].as_str().unwrap().to_owned();
    assert_eq!(written(&contents(&kept)), 4);
    start(&bench, &name);
    write(&bench, &name, 1);
    let running = bench.run(["snapshot", "restore", &kept]).ends_with(0);
    assert!(running.stdout.contains("the state before is the snapshot"));
    assert_eq!(written(&of_machine(&bench, &name)), 4);
    bench
        .run(["snapshot", "restore", "fresh", "--discard"])
        .ends_with(0);
    assert_eq!(written(&of_machine(&bench, &name)), 0);
    assert_eq!(contents("two"), two);

    // Names of the other kind.
    bench
        .run(["snapshot", "restore", "tiny"])
        .ends_with(3)
        .says("@tiny");
    let made = bench.run(["snapshot", "restore", "@tiny", "--json"]);
    let made = made.ends_with(0).json();
    assert_eq!(made["created"], true);
    let made = made["machine"].as_str().unwrap();
    assert_ne!(made, name);
    bench.run(["rm", made]).ends_with(0);
    bench
        .run(["snapshot", "restore", "@two", "--machine", "tiny"])
        .ends_with(3)
        .says("vmfab snapshot restore two");
    bench
        .run(["snapshot", "delete", "@tiny"])
        .ends_with(2)
        .says("vmfab image rm @tiny");
    bench.run(["snapshot", "restore", "two"]).ends_with(0);
    bench
        .run(["snapshot", "restore", "@tiny", "--machine", "tiny"])
        .ends_with(0);
    assert_eq!(written(&of_machine(&bench, &name)), 0);

    // A snapshot outlives its machine, and makes it again.
    bench.run(["rm", &name]).ends_with(0);
    bench
        .run(["store", "gc", "--older-than", "0s"])
        .ends_with(0);
    let made = bench
        .run(["snapshot", "restore", "three", "--json"])
        .ends_with(0);
    assert_eq!(made.json()["created"], true);
    assert_eq!(written(&of_machine(&bench, &name)), 3);
    start(&bench, &name);
    bench.run(["stop", &name]).ends_with(0);

    // What nothing needs any more goes.
    let names = bench.run(["snapshot", "list", "--type", "project", "--quiet"]);
    for snapshot in names.stdout.lines() {
        bench.run(["snapshot", "delete", snapshot]).ends_with(0);
    }
    assert_eq!(written(&of_machine(&bench, &name)), 3);
    bench.run(["rm", &name]).ends_with(0);
    assert_eq!(layers(&bench), 0);
    bench
        .run(["snapshot", "delete", "two"])
        .ends_with(3)
        .says("no snapshot \"two\" found");
}

#[test]
fn a_clone_goes_its_own_way() {
    let bench = Bench::new();
    let name = bench.boot();
    write(&bench, &name, 1);
    let cloned = bench.run(["clone", &name, "twin", "--memory", "96M", "--json"]);
    let cloned = cloned.ends_with(0).json();
    assert_eq!(cloned["name"], "twin");
    assert_ne!(cloned["ssh"]["port"], bench.entry(&name)["ssh"]["port"]);
    write(&bench, &name, 1);
    bench.run(["stop", &name]).ends_with(0);
    assert_eq!(written(&of_machine(&bench, &name)), 2);
    assert_eq!(written(&of_machine(&bench, "twin")), 1);
    let key = |name: &str| fs::read(bench.machines().join(name).join("id_ed25519")).unwrap();
    assert!(key(&name) != key("twin"));
    bench
        .run(["clone", &name, "twin"])
        .ends_with(1)
        .says("machine \"twin\" already exists");
    bench.run(["rm", &name]).ends_with(0);
    assert_eq!(written(&of_machine(&bench, "twin")), 1);
    bench
        .run(["create", "third", "--from", "@tiny"])
        .ends_with(0);
    start(&bench, "third");
}

/// A number that nobody chose.
pub(super) fn random(below: u64) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let state = std::collections::hash_map::RandomState::new();
    state.build_hasher().finish() % below
}

/// Runs a command and kills it after at most `most` microseconds.
pub(super) fn killed<const N: usize>(bench: &Bench, arguments: [&str; N], most: u64) {
    let mut command = bench.command(arguments).spawn().unwrap();
    std::thread::sleep(Duration::from_micros(random(most)));
    let _ = command.kill();
    command.wait().unwrap();
}

#[test]
fn killed_at_any_moment_no_snapshot_changes() {
    let bench = Bench::new();
    let name = boot_with_volume(&bench);
    let restoring = bench.machines().join(&name).join("restoring");
    write(&bench, &name, 1);
    write_to(&bench, &name, b"V", 1);
    bench
        .run(["snapshot", "create", "first", "--machine", &name])
        .ends_with(0);
    let mut known = BTreeMap::from([("first".to_owned(), of_snapshot(&bench, "first"))]);
    let (mut count, mut halves) = (1, 0);
    for round in 0..40 {
        let is_running =
            bench.machines().join(&name).join("qmp.sock").exists() && !bench.processes().is_empty();
        if !is_running && round % 2 == 0 {
            if restoring.exists() {
                bench
                    .run(["start", &name])
                    .ends_with(1)
                    .says("complete it: vmfab snapshot restore first --machine tiny");
                bench.run(["snapshot", "restore", "first"]).ends_with(0);
                halves += 1;
            }
            start(&bench, &name);
        }
        if !bench.processes().is_empty() {
            write(&bench, &name, 1);
            write_to(&bench, &name, b"V", 1);
            count += 1;
        }
        let snapshot = format!("s{round}");
        match round % 4 {
            0 | 1 => killed(
                &bench,
                ["snapshot", "create", &snapshot, "--machine", &name],
                30_000,
            ),
            2 => {
                // QEMU goes, too.
                let create = bench
                    .command(["snapshot", "create", &snapshot, "--machine", &name])
                    .spawn()
                    .unwrap();
                let create = Running(create);
                std::thread::sleep(Duration::from_micros(random(20_000)));
                for process in bench.processes() {
                    let _ = kill_process(process, Signal::KILL);
                }
                let _ = create.finish();
            }
            _ => {
                // All of it is set back, or nothing, or the machine does not start.
                let before = (round % 8 == 3).then(|| {
                    bench.run(["stop", &name, "--force"]).ends_with(0);
                    of_machine(&bench, &name)
                });
                killed(&bench, ["snapshot", "restore", "first", "--force"], 60_000);
                if let (Some(before), false) = (before, restoring.exists()) {
                    let now = of_machine(&bench, &name);
                    assert!(now == before || now == known["first"], "round {round}");
                }
                killed(&bench, ["clone", &name, &format!("c{round}")], 30_000);
            }
        }
        let names = bench.run(["snapshot", "list", "--type", "project", "--quiet"]);
        for name in names.ends_with(0).stdout.lines() {
            let now = of_snapshot(&bench, name);
            let before = known.entry(name.to_owned()).or_insert_with(|| now.clone());
            assert!(*before == now, "{name} changed in round {round}");
        }
        for machine in bench.list() {
            assert_ne!(machine["state"], "damaged", "round {round}: {machine}");
        }
    }
    assert!(count > 10, "the guest wrote {count} times only");
    println!("{halves} restores were completed by hand");
    bench.run(["stop", &name, "--force"]).ends_with(0);
    for (snapshot, bytes) in &known {
        bench
            .run(["snapshot", "restore", snapshot, "--discard"])
            .ends_with(0);
        assert!(of_machine(&bench, &name) == *bytes, "{snapshot}");
    }
    start(&bench, &name);
}

#[test]
fn a_snapshot_costs_what_changed() {
    let bench = Bench::new();
    let context = bench.context();
    let image = images::find(&context, "tiny").unwrap();
    let options = BootOptions {
        hardware: vmfab::image::Hardware {
            disk_size: Some(4 << 30),
            ..Bench::options().hardware
        },
        ..Bench::options()
    };
    let booted = machine::boot(&context, &image, &options).unwrap();
    let name = booted.name.to_string();
    bench.wait_for_log(&name, "tiny: up");
    let used = || {
        let output = Command::new("du")
            .args(["-s", "-B1"])
            .arg(bench.home.join("snapshots"))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace()
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    for number in 0..12 {
        write(&bench, &name, 1);
        bench
            .run([
                "snapshot",
                "create",
                &format!("n{number}"),
                "--machine",
                &name,
            ])
            .ends_with(0);
    }
    let before = used();
    write(&bench, &name, 1);
    bench
        .run(["snapshot", "create", "last", "--machine", &name])
        .ends_with(0);
    assert!(used() - before < 1 << 20, "{} bytes", used() - before);
    // The disk grows above its layers: of a machine that runs, that stopped, and that has no overlay.
    let grow = |size: &str| {
        let size = format!("disk-size={size}");
        bench.run(["set", &name, &size]).ends_with(0);
    };
    grow("4200M");
    bench.run(["stop", &name]).ends_with(0);
    grow("4300M");
    start(&bench, &name);
    write(&bench, &name, 1);
    bench.run(["stop", &name]).ends_with(0);
    bench.run(["snapshot", "restore", "n9"]).ends_with(0);
    assert_eq!(written(&of_machine(&bench, &name)), 10);
    grow("4400M");
    start(&bench, &name);
    bench.run(["stop", &name]).ends_with(0);
    assert_eq!(of_machine(&bench, &name).len(), 4400 << 20);
}

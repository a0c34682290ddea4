//! Snapshots of machines with volumes, and with many layers.

use super::snapshots::{json, layers, of_machine, of_snapshot, of_volume, start, write, write_to};
use super::*;

/// Boots `@tiny` with a volume.
pub(super) fn boot_with_volume(bench: &Bench) -> String {
    bench
        .run(["volume", "create", "data", "--size", "16M"])
        .ends_with(0);
    boot_named(bench, "tiny").unwrap()
}

fn boot_named(bench: &Bench, name: &str) -> Result<String, vmfab::failure::Failure> {
    let context = bench.context();
    let image = images::find(&context, "tiny").unwrap();
    let options = BootOptions {
        name: Some(name.parse().unwrap()),
        hardware: Hardware {
            mounts: vec![vmfab::image::Mount {
                what: vmfab::image::Mounted::Volume("data".parse().unwrap()),
                at: "/data".parse().unwrap(),
                read_only: false,
            }],
            ..Bench::options().hardware
        },
        ..Bench::options()
    };
    let booted = machine::boot(&context, &image, &options)?;
    bench.wait_for_log(name, "tiny: up");
    Ok(booted.name.to_string())
}

#[test]
fn volumes_are_saved_and_set_back_with_their_machine() {
    let bench = Bench::new();
    let name = boot_with_volume(&bench);
    let create = |snapshot: &str| bench.run(["snapshot", "create", snapshot, "--machine", &name]);
    let restore = |snapshot: &str| bench.run(["snapshot", "restore", snapshot, "--json"]);
    let holds = |snapshot: &str| of_snapshot(&bench, snapshot);
    let fresh = of_volume(&bench, "data");
    write_to(&bench, &name, b"V", 1);
    create("one").ends_with(0);
    write_to(&bench, &name, b"V", 2);
    write(&bench, &name, 1);
    create("two").ends_with(0);
    write_to(&bench, &name, b"V", 1);
    bench.run(["stop", &name]).ends_with(0);
    create("three").ends_with(0);
    let known = ["one", "two", "three"].map(holds);
    for (snapshot, count) in known.iter().zip([1, 3, 4]) {
        let volume = &snapshot[1 << 20..];
        let changed = volume.chunks(512).zip(fresh.chunks(512));
        assert_eq!(changed.filter(|(now, before)| now != before).count(), count);
    }
    assert_eq!(of_machine(&bench, &name), known[2]);
    let shown = bench.run(["snapshot", "inspect", "two"]).ends_with(0);
    assert!(
        shown.stdout.contains("volume       data, 16 MiB, 2 layers"),
        "{shown:?}"
    );

    // Back and forth, running and stopped.
    let restored = restore("one").ends_with(0).json();
    assert_eq!(of_machine(&bench, &name), known[0]);
    let kept = restored["kept"].as_str().unwrap().to_owned();
    assert_eq!(holds(&kept), known[2]);
    start(&bench, &name);
    write_to(&bench, &name, b"V", 3);
    restore("two").ends_with(0);
    assert_eq!(of_machine(&bench, &name), known[1]);
    bench
        .run(["snapshot", "restore", "one", "--discard", "--keep-volumes"])
        .ends_with(0);
    let (disk, volume) = (&known[0][..1 << 20], &known[1][1 << 20..]);
    assert_eq!(of_machine(&bench, &name), [disk, volume].concat());

    // Another machine runs with it.
    boot_named(&bench, "other").unwrap();
    for refused in [create("refused"), restore("one")] {
        refused
            .ends_with(1)
            .says("is in use: machine")
            .says("vmfab stop other");
    }
    // An image has none.
    bench.run(["clone", &name, "twin"]).ends_with(0);
    write_to(&bench, "other", b"V", 1);
    bench.run(["rm", "--force", "other", "twin"]).ends_with(0);
    let present = of_machine(&bench, &name);
    let kept = restore(&kept).ends_with(0).json();
    assert_eq!(holds(kept["kept"].as_str().unwrap()), present);
    assert_eq!(of_machine(&bench, &name), known[2]);

    // One that is gone comes again; another one of its name stays as it is.
    bench.run(["volume", "rm", "--force", "data"]).ends_with(0);
    restore("one").ends_with(0);
    assert_eq!(of_machine(&bench, &name), known[0]);
    bench.run(["volume", "rm", "--force", "data"]).ends_with(0);
    bench
        .run(["volume", "create", "data", "--size", "16M"])
        .ends_with(0);
    let another = of_volume(&bench, "data");
    restore("one")
        .ends_with(1)
        .says("is not the one that snapshot")
        .says("--keep-volumes");
    bench
        .run(["snapshot", "restore", "one", "--keep-volumes"])
        .ends_with(0);
    assert_eq!(of_volume(&bench, "data"), another);
    bench.run(["volume", "rm", "--force", "data"]).ends_with(0);

    // With its machine.
    restore("two").ends_with(0);
    bench.run(["rm", &name]).ends_with(0);
    let made = restore("three").ends_with(0).json();
    assert_eq!(made["created"], true);
    assert_eq!(
        holds(made["kept"].as_str().unwrap())[1 << 20..],
        known[1][1 << 20..]
    );
    assert_eq!(of_machine(&bench, &name), known[2]);
    start(&bench, &name);
    write_to(&bench, &name, b"V", 1);
    bench.run(["stop", &name]).ends_with(0);
    assert_eq!(["one", "two", "three"].map(holds), known);

    // What nothing needs any more goes, and the volume keeps what it has.
    let present = of_machine(&bench, &name);
    let names = bench.run(["snapshot", "list", "--type", "project", "--quiet"]);
    for snapshot in names.stdout.lines() {
        bench.run(["snapshot", "delete", snapshot]).ends_with(0);
    }
    assert_eq!(of_machine(&bench, &name), present);
    bench.run(["rm", &name]).ends_with(0);
    assert_eq!(layers(&bench), 0);
    assert_eq!(of_volume(&bench, "data"), present[1 << 20..]);
}

/// Each layer costs a start and every read a little: a machine with many gets fewer.
#[test]
fn many_layers_become_few_at_a_start() {
    let bench = Bench::new();
    let name = boot_with_volume(&bench);
    let names: Vec<String> = (0..34).map(|number| format!("n{number}")).collect();
    for snapshot in &names {
        write(&bench, &name, 1);
        write_to(&bench, &name, b"V", 1);
        bench
            .run(["snapshot", "create", snapshot, "--machine", &name])
            .ends_with(0);
    }
    bench.run(["stop", &name]).ends_with(0);
    let state = of_machine(&bench, &name);
    let saved: Vec<_> = names.iter().map(|one| of_snapshot(&bench, one)).collect();
    let counts = || {
        let directory = bench.machines().join(&name);
        let disk = json(directory.join("machine.json"))["disks"][0].take();
        let volume = json(bench.home.join("volumes/data/volume.json"));
        [disk, volume].map(|disk| disk["layers"].as_array().unwrap().len())
    };
    assert_eq!(counts(), [34, 34]);
    start(&bench, &name);
    assert_eq!(counts(), [19, 19]);
    write(&bench, &name, 1);
    bench.run(["stop", &name, "--force"]).ends_with(0);
    assert_eq!(of_machine(&bench, &name).len(), state.len());
    for (snapshot, state) in names.iter().zip(&saved) {
        assert!(of_snapshot(&bench, snapshot) == *state, "{snapshot}");
    }
    bench
        .run(["snapshot", "restore", "n33", "--discard"])
        .ends_with(0);
    assert!(of_machine(&bench, &name) == state);
    start(&bench, &name);
    bench.run(["stop", &name]).ends_with(0);
    assert!(of_machine(&bench, &name) == state);
    for snapshot in &names {
        bench.run(["snapshot", "delete", snapshot]).ends_with(0);
    }
    assert_eq!(layers(&bench), 19);
    assert!(of_machine(&bench, &name) == state);
}

/// The disks of a running QEMU have the names that the vmfab gave them that started it.
#[test]
fn a_machine_that_an_earlier_vmfab_started_is_to_be_restarted() {
    let bench = Bench::new();
    let name = boot_with_volume(&bench);
    let record = bench.home.join("volumes/data/volume.json");
    let text = fs::read_to_string(&record).unwrap();
    let filesystem = json(record.clone())["filesystem"]
        .as_str()
        .unwrap()
        .to_owned();
    let other = "00000000-0000-4000-8000-000000000001";
    fs::write(&record, text.replace(&filesystem, other)).unwrap();
    bench
        .run(["snapshot", "create", "one", "--machine", &name])
        .ends_with(1)
        .says("an earlier vmfab started it")
        .says(&format!("vmfab restart {name}"));
    bench.run(["snapshot", "inspect", "one"]).ends_with(3);
}

//! Machines that become images, and images that machines are made of.

use super::snapshots::{killed, layers, of_machine, start, write};
use super::*;
use crate::support::registry::Registry;

/// A home whose image says that vmfab's init runs its guests: nobody enters them, and they have no
/// identity to take out.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.image("tiny", &tiny_kernel(), |config| {
        let note = ("vmfab.init".parse().unwrap(), "own".parse().unwrap());
        config.template.metadata.extend([note]);
    });
    bench
}

/// A stopped machine whose guest says so, too.
fn machine(bench: &Bench) -> String {
    let name = bench.boot();
    bench.say(&name, vmfab::image::INIT_READY, vmfab::image::INIT_READY);
    write(bench, &name, 3);
    bench.run(["stop", &name]).ends_with(0);
    name
}

/// What the disk of an image holds.
fn of_image(bench: &Bench, tag: &str) -> Vec<u8> {
    let context = bench.context();
    let image = images::find(&context, tag).unwrap();
    let store = Store::open(bench.home.join("store")).unwrap();
    store.read_object(&image.config.disk.id).unwrap()
}

#[test]
fn a_killed_commit_changes_nothing_that_has_a_name() {
    let bench = bench();
    let name = machine(&bench);
    let state = of_machine(&bench, &name);
    let before = of_image(&bench, "tiny");
    let mut made = 0;
    for round in 0..30 {
        killed(&bench, ["commit", &name, "@made"], 60_000);
        let tags = bench.run(["images", "--quiet"]).ends_with(0).stdout;
        if tags.lines().any(|tag| tag == "@made" || tag == "made") {
            assert!(of_image(&bench, "made") == state, "round {round}");
            bench.run(["image", "rm", "@made"]).ends_with(0);
            made += 1;
        }
        assert!(of_machine(&bench, &name) == state, "round {round}");
        assert!(of_image(&bench, "tiny") == before, "round {round}");
        assert_eq!(bench.entry(&name)["state"], "stopped");
    }
    println!("{made} of 30 commits were not killed in time");
    // A tag that exists stays until all of the new image is there.
    bench.run(["commit", &name, "@made"]).ends_with(0);
    start(&bench, &name);
    write(&bench, &name, 1);
    bench.say(&name, vmfab::image::INIT_READY, vmfab::image::INIT_READY);
    bench.run(["stop", &name]).ends_with(0);
    let later = of_machine(&bench, &name);
    for round in 0..10 {
        killed(&bench, ["commit", &name, "@made"], 60_000);
        let now = of_image(&bench, "made");
        assert!(now == state || now == later, "round {round}");
    }
    bench.run(["commit", &name, "@made"]).ends_with(0);
    assert!(of_image(&bench, "made") == later);
    bench.run(["store", "verify"]).ends_with(0);
    // What killed ones left of snapshots goes with the next one.
    let left = bench.run(["snapshot", "list", "--type", "project", "--quiet"]);
    assert_eq!(left.ends_with(0).stdout, "");
    // And with the machine.
    while bench
        .run(["snapshot", "list", "--type", "project", "--quiet"])
        .stdout
        .is_empty()
    {
        killed(&bench, ["commit", &name, "@made"], 60_000);
    }
    bench.run(["rm", &name]).ends_with(0);
    let left = bench.run(["snapshot", "list", "--type", "project", "--quiet"]);
    assert_eq!(left.ends_with(0).stdout, "");
    assert_eq!(layers(&bench), 0);
}

/// What a guest writes to its console does not spare it the removal of its identity.
#[test]
fn a_guest_cannot_say_that_it_has_no_identity() {
    let bench = Bench::new();
    let name = machine(&bench);
    let refused = bench.run(["commit", &name, "@made", "--timeout", "2"]);
    refused.ends_with(1).says("was not ready within 2 s");
    bench.run(["image", "inspect", "@made"]).ends_with(3);
    let left = bench.run(["snapshot", "list", "--type", "project", "--quiet"]);
    assert_eq!(left.ends_with(0).stdout, "");
}

#[test]
fn a_committed_image_travels_through_a_registry() {
    let (from, to) = (bench(), Bench::new());
    let registry = Registry::start();
    let name = machine(&from);
    let state = of_machine(&from, &name);
    from.run(["commit", &name, "@made"]).ends_with(0);
    let reference = registry.at("team/made:1");
    from.run(["push", "@made", &reference]).ends_with(0);
    to.run(["pull", &reference, "--tag", "@made"]).ends_with(0);
    assert!(of_image(&to, "made") == state);
    to.run(["create", "again", "--from", "@made"]).ends_with(0);
    start(&to, "again");
}

//! Roles that come with vmfab, on Debian: built from the archive, booted, and used.

use std::path::Path;

use super::support::{Build, Lab, Machine};

/// Builds a role of the catalogue on Debian.
fn built(role: &str) -> Build {
    let mut build = Lab::get().command();
    build
        .args(["build", "--json", role, "--set"])
        .arg("base=debian-12");
    Build::of(&mut build).succeeds()
}

/// The checks of a recipe, as its image's steps name them.
fn checks(build: &Build, role: &str) -> usize {
    let prefix = format!("{role}: check ");
    let done = build.ended("built");
    done.iter().filter(|name| name.starts_with(&prefix)).count()
}

#[test]
fn the_observer_observes() {
    let build = built("observer");
    assert_eq!(checks(&build, "observer"), 5);
    let machine = Machine::boot("observer", Path::new("/"), ["@observer"]);
    // The checks again, where they are meant to work.
    for check in ["bpftrace --version", "perf --version", "strace --version"] {
        machine.output(check);
    }
    let traced = machine.output("sudo bpftrace -e 'BEGIN { printf(\"seen\\n\"); exit(); }'");
    assert!(traced.contains("seen"), "{traced}");
    let counted = machine.output("sudo perf stat -e task-clock true 2>&1");
    assert!(counted.contains("task-clock"), "{counted}");
    let metrics =
        "exec 3<>/dev/tcp/127.0.0.1/9100; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
    let metrics = machine.output(&format!("bash -c '{}'", metrics.replace('\'', "'\\''")));
    assert!(metrics.contains("node_cpu_seconds_total"), "{metrics}");
}

#[test]
fn lxd_has_a_bridge_and_takes_containers() {
    let build = built("lxd");
    assert_eq!(checks(&build, "lxd"), 3);
    let machine = Machine::boot("lxd", Path::new("/"), ["@lxd"]);
    machine.output("lxc --version; lxd --version; /sbin/brctl --version");
    // Set up once, in the background of the first boot.
    machine.output(
        "for _ in $(seq 300); do test -e /var/lib/lxd-preseeded && exit; sleep 1; done; exit 1",
    );
    let network = machine.output("lxc network list --format csv");
    assert!(
        network.contains("lxdbr0,bridge,YES,10.88.0.1/24"),
        "{network}"
    );
    machine.output("lxc init --empty one");
    let containers = machine.output("lxc list --format csv --columns ns");
    assert_eq!(containers, "one,STOPPED");
}

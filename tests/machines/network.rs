//! What machines are connected to: the private network of a project, passt, bridges.

use std::net::TcpStream;

use super::halted::{with_ssh, with_ssh_in};
use super::projects::Scene;
use super::*;

/// The process that serves a card ends with its machine, and nobody else enters the directory of
/// sockets.
#[test]
fn the_private_network_comes_and_goes_with_its_machines() {
    let scene = Scene::new(
        "machine \"worker\" image=\"@tiny\" memory=\"64M\" cpus=1 accel=\"tcg\" count=2\n\
         machine \"alone\" image=\"@tiny\" memory=\"64M\" cpus=1 accel=\"tcg\" network=\"none\"\n",
    );
    with_ssh_in(&scene.bench, &scene.project, "exit 0", ["up"]).ends_with(0);
    let network = scene.project.join(".vmfab/network");
    let mode = fs::metadata(&network).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let hosts: Value =
        serde_json::from_slice(&fs::read(network.join("hosts.json")).unwrap()).unwrap();
    let names: Vec<_> = hosts["hosts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|host| (&host["name"], &host["number"]))
        .collect();
    assert_eq!(
        names,
        [
            (&"worker-1".into(), &2.into()),
            (&"worker-2".into(), &3.into())
        ]
    );
    assert_eq!(hosts["hosts"][1]["aliases"][0], "worker");
    let sockets = || ["2", "3"].map(|name| network.join(name).exists());
    assert_eq!(sockets(), [true, true]);
    let network_of = |name: &str| {
        let inspected = scene.run(["inspect", name, "--json"]).ends_with(0);
        inspected.json()["network"].clone()
    };
    assert_eq!(network_of("worker-1"), "user,group");
    assert_eq!(network_of("alone"), "none");

    scene.run(["stop", "--force", "worker-1"]).ends_with(0);
    wait_until("the end of the process", || sockets() == [false, true]);
    // Killed from outside.
    let pid = scene.run(["inspect", "worker-2", "--json"]).json()["pid"].as_i64();
    let pid = Pid::from_raw(i32::try_from(pid.unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    wait_until("the end of the process", || sockets() == [false, false]);
    scene.run(["down", "--rm", "--yes", "--force"]).ends_with(0);
    assert!(!network.exists());
}

/// passt listens on the forwarded ports and ends with its machine.
#[test]
fn passt_serves_one_machine() {
    let bench = Bench::new();
    let boot = [
        "boot",
        "@tiny",
        "--accel",
        "tcg",
        "--memory",
        "64M",
        "--network",
        "passt",
    ];
    with_ssh(&bench, "exit 0", boot).ends_with(0);
    let inspected = bench.run(["inspect", "tiny", "--json"]).ends_with(0).json();
    let port = u16::try_from(inspected["ssh"]["port"].as_u64().unwrap()).unwrap();
    wait_until("passt to listen (package passt)", || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
    });
    let taken = || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err();
    let refused = bench
        .run(["port", "tiny", "--add", "18080:80"])
        .ends_with(1);
    refused.says("runs with passt").says("vmfab stop tiny");
    bench.run(["stop", "--force", "tiny"]).ends_with(0);
    wait_until("the end of passt", || !taken());
    bench
        .run(["set", "tiny", "network=host"])
        .ends_with(2)
        .says("write user, passt, none");
}

#[test]
fn a_bridge_that_is_none_is_refused_before_anything_starts() {
    let bench = Bench::new();
    let boot = |network: &str| bench.run(["boot", "@tiny", "--name", "tiny", "--network", network]);
    let refused = boot("bridge:vmfab-none").ends_with(1);
    refused
        .says("this host has no bridge vmfab-none")
        .says("--network bridge:NAME");
    boot("bridge:lo").ends_with(1).says("lo is not a bridge");
    boot("user,none")
        .ends_with(2)
        .says("write user, passt, none");
    assert_eq!(bench.directories(), [""; 0]);
}

/// Two real guests of a project that is up: `worker` is in its private network alone.
pub(super) fn find_each_other(project: &Path, run: &dyn Fn(&[&str]) -> Ran) {
    let greet = |from: &str, to: &str| {
        let command = format!("bash -c 'exec 3<>/dev/tcp/{to}/22 && head -n 1 <&3'");
        run(&["ssh", from, "--", &command])
    };
    for (from, to) in [
        ("control", "worker"),
        ("worker", "control"),
        ("worker", "hub.internal"),
    ] {
        let met = greet(from, to).ends_with(0);
        assert!(met.stdout.starts_with("SSH-2.0-"), "{met:#?}");
    }
    let service = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = service.local_addr().unwrap().port();
    let reach = format!("timeout 20 bash -c '</dev/tcp/10.0.2.2/{port}'");
    run(&["ssh", "control", "--", &reach]).ends_with(0);
    assert_ne!(run(&["ssh", "worker", "--", &reach]).code, Some(0));

    // A machine that runs hears of a new name, and keeps what else is in the file.
    let mine = "echo 192.0.2.1 mine | sudo tee -a /etc/hosts";
    run(&["ssh", "control", "--", mine]).ends_with(0);
    let file = project.join("vmfab.kdl");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        text.replace("depends-on", "alias \"late\"; depends-on"),
    )
    .unwrap();
    run(&["up", "--timeout", "900"]).ends_with(0);
    let met = greet("control", "late").ends_with(0);
    assert!(met.stdout.starts_with("SSH-2.0-"), "{met:#?}");
    let hosts = run(&["ssh", "control", "--", "cat /etc/hosts"]).ends_with(0);
    assert!(hosts.stdout.contains("192.0.2.1 mine\n"), "{hosts:#?}");
    assert_eq!(hosts.stdout.matches("10.213.0.3 ").count(), 1, "{hosts:#?}");
}

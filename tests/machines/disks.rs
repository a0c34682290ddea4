//! Disks of machines: what is below them, and more than one.

use vmfab::disk::overlay;
use vmfab::qemu::qmp::{self, Listener};
use vmfab::qemu::{Accel, Backing, Boot, Disk, MachineSpec, arguments};

use super::*;

#[test]
fn a_disk_may_be_on_an_nbd_server() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let disk = tiny_disk();
    let size = disk.len() as u64;
    fs::write(path("disk"), &disk).unwrap();
    fs::write(path("other"), vec![7; 1 << 20]).unwrap();
    for name in ["overlay.qcow2", "disk-1.qcow2"] {
        overlay::create(&path(name), "/nowhere", size, size).unwrap();
    }
    let server = Command::new("qemu-nbd")
        .args(["--read-only", "--persistent", "--format=raw"])
        .args(["--export-name=the disk", "--socket"])
        .args([path("nbd.sock"), path("disk")])
        .spawn()
        .expect("qemu-nbd runs (package qemu-utils)");
    let _server = Running(server);
    wait_until("qemu-nbd listens", || path("nbd.sock").exists());

    let spec = MachineSpec {
        name: "nbd".into(),
        accel: Accel::Tcg,
        memory_mib: 64,
        cpus: 1,
        disks: vec![
            Disk {
                node: "disk".into(),
                layers: Vec::new(),
                overlay: "overlay.qcow2".into(),
                backing: Some(Backing::Nbd {
                    socket: "nbd.sock".into(),
                    export: "the disk".into(),
                }),
            },
            Disk {
                node: "disk1".into(),
                layers: Vec::new(),
                overlay: "disk-1.qcow2".into(),
                backing: Some(Backing::File("other".into())),
            },
        ],
        boot: Boot::Bios,
        uplink: vmfab::qemu::Uplink::User { restricted: true },
        cards: Vec::new(),
        forwards: Vec::new(),
        shares: Vec::new(),
        devices: vmfab::image::Devices::default(),
        tpm_socket: "tpm.sock".into(),
        vnc_socket: "vnc.sock".into(),
        disk_files: Vec::new(),
        seed: None,
        metadata: None,
        ignition: None,
        oem_strings: Vec::new(),
        oem_files: Vec::new(),
        agent_socket: "agent.sock".into(),
        qmp_socket: "qmp.sock".into(),
        console_socket: "console.sock".into(),
        console_log: "console.log".into(),
    };
    let qemu = Command::new("qemu-system-x86_64")
        .args(arguments(&spec))
        .current_dir(&directory)
        .spawn()
        .expect("QEMU runs (package qemu-system-x86)");
    let mut qemu = Running(qemu);
    // The firmware read its boot sector.
    wait_until("the guest is up", || {
        fs::read_to_string(path("console.log")).is_ok_and(|log| log.contains("tiny: up"))
    });
    let Listener::Process(_, pending) = qmp::connect(directory.path(), "qmp.sock").unwrap() else {
        panic!("nobody listens");
    };
    let mut qmp = pending.greet().unwrap();
    assert_eq!(qmp.status().unwrap(), qmp::Status::Running);
    qmp.quit().unwrap();
    assert!(qemu.0.wait().unwrap().success());
}

#[test]
fn a_machine_may_have_further_disks() {
    let bench = Bench::new();
    let name = bench.boot();
    bench.run(["stop", &name, "--force"]).ends_with(0);
    let directory = bench.machines().join(&name);
    let config = directory.join("machine.json");
    let mut stored: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    let disks = stored["disks"].as_array_mut().unwrap();
    disks.push(serde_json::json!({ "size": 1 << 20 }));
    fs::write(&config, stored.to_string()).unwrap();
    bench
        .run(["start", &name])
        .ends_with(1)
        .says("disk-1.qcow2");
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(directory.join("disk-1.qcow2"))
        .arg("1M")
        .status()
        .expect("qemu-img runs (package qemu-utils)");
    assert!(made.success());
    let options = StartOptions {
        until: Until::Console,
        timeout: MOMENT,
    };
    machine::start(&bench.context(), &name, options).unwrap();
    bench.wait_for_log(&name, "tiny: up");
    let pid = bench.entry(&name)["pid"].as_i64().unwrap();
    let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(
        arguments.contains("virtio-blk-pci,drive=disk1,bootindex=2"),
        "{arguments}"
    );
    bench.run(["stop", &name, "--force"]).ends_with(0);
}

//! QEMU's arguments as they are.

use std::net::Ipv4Addr;

use super::super::network::OtherEnd;
use super::*;
use crate::image::{Nic, Platform};

fn spec(boot: Boot) -> MachineSpec {
    MachineSpec {
        name: "docker".into(),
        accel: Accel::Tcg,
        memory_mib: 1024,
        cpus: 2,
        disks: vec![Disk {
            node: disk_node(0),
            overlay: "overlay.qcow2".into(),
            layers: Vec::new(),
            backing: Some(Backing::File("/home/a, b/\"c\"/disk".into())),
        }],
        boot,
        uplink: Uplink::User { restricted: false },
        cards: Vec::new(),
        forwards: vec![
            Forward {
                host: 40001,
                guest: 22,
                udp: false,
                address: Ipv4Addr::LOCALHOST,
            },
            Forward {
                host: 8080,
                guest: 80,
                udp: true,
                address: Ipv4Addr::LOCALHOST,
            },
        ],
        shares: Vec::new(),
        devices: Devices::default(),
        tpm_socket: "tpm.sock".into(),
        vnc_socket: "vnc.sock".into(),
        disk_files: Vec::new(),
        seed: None,
        metadata: None,
        ignition: None,
        oem_files: Vec::new(),
        oem_strings: vec!["io.systemd.credential:a=b,c".into()],
        agent_socket: "agent.sock".into(),
        qmp_socket: "qmp.sock".into(),
        console_socket: "console.sock".into(),
        console_log: "console.log".into(),
    }
}

fn text(spec: &MachineSpec) -> String {
    let mut text = String::new();
    for argument in arguments(spec) {
        let argument = argument.to_str().unwrap();
        let separator = match (text.is_empty(), argument.starts_with('-')) {
            (true, _) => "",
            (false, true) => "\n",
            (false, false) => " ",
        };
        text.push_str(separator);
        text.push_str(argument);
    }
    text
}

#[test]
fn direct_boot() {
    let spec = spec(Boot::Direct {
        kernel: "/store/a,b/kernel".into(),
        initrd: Some("/store/a,b/initrd".into()),
        command_line: "root=LABEL=vmfab-root console=ttyS0 quirk=a,b".into(),
    });
    insta::assert_snapshot!(text(&spec));
}

#[test]
fn uefi_boot_with_kvm() {
    let mut spec = spec(Boot::Uefi {
        code: "/usr/share/OVMF/OVMF_CODE_4M.fd".into(),
        vars: "firmware-vars.fd".into(),
    });
    spec.accel = Accel::Kvm;
    spec.forwards.clear();
    spec.oem_strings.clear();
    insta::assert_snapshot!(text(&spec));
}

#[test]
fn other_devices() {
    let devices = |disk_bus, nic| {
        let mut spec = spec(Boot::Bios);
        spec.forwards.clear();
        spec.oem_strings.clear();
        spec.devices = Devices {
            platform: Platform {
                machine_type: Some("pc-i440fx-7.2".parse().unwrap()),
                disk_bus: Some(disk_bus),
                nic: Some(nic),
            },
            cdrom: Some("/srv/a, b.iso".into()),
            display: Display::Vnc,
            tpm: true,
        };
        let text = text(&spec);
        let lines = text.lines().filter(|line| {
            let of = ["-machine", "-display", "-device", "cdrom", "tpm"];
            of.iter().any(|part| line.contains(part))
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(devices(DiskBus::Sata, Nic::E1000), @r#"
    -display vnc=unix:vnc.sock
    -machine pc-i440fx-7.2
    -device ide-hd,drive=disk,bootindex=1
    -blockdev {"driver":"raw","file":{"driver":"file","filename":"/srv/a, b.iso","read-only":true},"node-name":"cdrom","read-only":true}
    -device ide-cd,drive=cdrom,bootindex=2
    -device e1000,netdev=net,romfile=
    -device virtio-rng-pci
    -device virtio-serial-pci
    -device virtserialport,chardev=agent,name=org.qemu.guest_agent.0
    -device VGA
    -chardev socket,id=swtpm,path=tpm.sock
    -tpmdev emulator,id=tpm,chardev=swtpm
    -device tpm-crb,tpmdev=tpm
    "#);
    let scsi = devices(DiskBus::Scsi, Nic::Rtl8139);
    assert!(scsi.contains("virtio-scsi-pci,id=scsi\n"), "{scsi}");
    assert!(
        scsi.contains("scsi-cd,bus=scsi.0,drive=cdrom,bootindex=2"),
        "{scsi}"
    );
    assert!(
        scsi.contains("scsi-hd,bus=scsi.0,drive=disk,bootindex=1"),
        "{scsi}"
    );
    assert!(scsi.contains("rtl8139,netdev=net,romfile="), "{scsi}");
    let nvme = devices(DiskBus::Nvme, Nic::E1000e);
    assert!(
        nvme.contains("nvme,drive=disk,serial=disk,bootindex=1"),
        "{nvme}"
    );
}

#[test]
fn seeds() {
    let mut spec = spec(Boot::Bios);
    spec.oem_strings.clear();
    spec.seed = Some("seed.img".into());
    spec.uplink = Uplink::User { restricted: true };
    spec.metadata = Some(MetadataService {
        network: "169.254.169.0/24".into(),
        address: "169.254.169.254".into(),
        guest: "169.254.169.15".into(),
        mac: "52:54:00:12:34:56".into(),
        command: ["/home/it's, a/vmfab", "__metadata", "metadata.json"]
            .map(str::to_owned)
            .into(),
        system_uuid: "ec21ac6a-4a4e-4b62-ae8a-7b1f4e0c2d55".into(),
    });
    insta::assert_snapshot!(text(&spec));
}

#[test]
fn networks() {
    let mut spec = spec(Boot::Bios);
    spec.devices.platform.nic = Some(Nic::E1000);
    spec.uplink = Uplink::Passt {
        socket: "passt.sock".into(),
    };
    spec.cards = vec![
        Card {
            mac: "52:54:01:02:03:04".into(),
            other_end: OtherEnd::Bridge {
                name: "br0".parse().unwrap(),
                helper: "/a,b/qemu-bridge-helper".into(),
            },
        },
        Card {
            mac: "52:54:0a:d5:00:02".into(),
            other_end: OtherEnd::Switch {
                socket: "group.sock".into(),
            },
        },
    ];
    let shown = text(&spec);
    let lines = shown.lines();
    let lines = lines.filter(|line| line.contains("netdev"));
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r"
    -netdev stream,id=net,server=off,addr.type=unix,addr.path=passt.sock
    -device e1000,netdev=net,romfile=
    -netdev bridge,id=bridge,br=br0,helper=/a,,b/qemu-bridge-helper
    -device e1000,netdev=bridge,romfile=,mac=52:54:01:02:03:04
    -netdev stream,id=group,server=off,addr.type=unix,addr.path=group.sock
    -device e1000,netdev=group,romfile=,mac=52:54:0a:d5:00:02
    ");
}

#[test]
fn shared_directories() {
    let mut spec = spec(Boot::Bios);
    let nine_p = Share {
        tag: "share-0".into(),
        server: ShareServer::NineP {
            path: "/srv/a,b".into(),
            read_only: true,
        },
    };
    spec.shares = vec![nine_p];
    let shown = text(&spec);
    assert!(
        shown.contains("-fsdev local,id=share-0,path=/srv/a,,b,security_model=none,readonly=on\n")
    );
    assert!(shown.contains("-device virtio-9p-pci,fsdev=share-0,mount_tag=share-0\n"));
    assert!(!shown.contains("memory-backend"));

    spec.shares.push(Share {
        tag: "share-1".into(),
        server: ShareServer::Virtiofs {
            socket: "share-1.sock".into(),
        },
    });
    let shown = text(&spec);
    assert!(
        shown.contains("-machine q35,memory-backend=memory\n"),
        "{shown}"
    );
    assert!(shown.contains("-object memory-backend-memfd,id=memory,share=on,size=1024M\n"));
    assert!(shown.contains("-device vhost-user-fs-pci,chardev=share-1,tag=share-1\n"));
}

#[test]
fn nothing_is_a_legacy_drive() {
    let spec = spec(Boot::Uefi {
        code: "code".into(),
        vars: "vars".into(),
    });
    for legacy in ["-drive", "-hda", "-pflash", "-net", "-bios"] {
        assert!(!arguments(&spec).contains(&legacy.into()), "{legacy}");
    }
}

#[test]
fn a_process_says_what_it_was_promised() {
    let all = arguments(&spec(Boot::Bios));
    let bytes = || all.iter().map(|argument| argument.as_encoded_bytes());
    assert_eq!(promised(bytes()), Some((1024, 2)));
    assert_eq!(promised(bytes().take(4)), None);
    assert_eq!(promised([&b"-smp"[..]]), None);
}

#[test]
fn a_disk_on_a_server_halts_the_guest_when_it_fails() {
    let mut spec = spec(Boot::Bios);
    let device = |spec: &MachineSpec| {
        let text = text(spec);
        let line = text.lines().find(|line| line.contains("drive=disk,"));
        line.unwrap().to_owned()
    };
    assert!(!device(&spec).contains("rerror"));
    spec.disks[0].backing = Some(Backing::Nbd {
        socket: "disk.sock".into(),
        export: "disk".into(),
    });
    for bus in [DiskBus::Virtio, DiskBus::Scsi, DiskBus::Sata] {
        spec.devices.platform.disk_bus = Some(bus);
        assert!(
            device(&spec).ends_with(",rerror=stop,werror=stop"),
            "{bus:?}"
        );
    }
    // QEMU has no such options there.
    spec.devices.platform.disk_bus = Some(DiskBus::Nvme);
    assert!(!device(&spec).contains("rerror"));
}

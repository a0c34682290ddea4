//! From a typed machine to QEMU's arguments. Pure.

use std::ffi::OsString;
use std::path::PathBuf;

use serde_json::json;

use super::Accel;
use super::network::{self, Card, Forward, MetadataService, NETWORK, Uplink};
use crate::image::{Devices, DiskBus, DiskFile, Display, Platform};

/// All that QEMU needs to know to run a machine.
///
/// Relative paths are relative to QEMU's working directory, the machine's own directory. So the
/// sockets' addresses stay short, whatever the path of that directory, and it can be moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSpec {
    /// The machine's name, for the process list; letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// What runs the guest's instructions.
    pub accel: Accel,
    pub memory_mib: u32,
    /// Virtual processors.
    pub cpus: u32,
    /// Its disks; one that a firmware starts is the first.
    pub disks: Vec<Disk>,
    /// Files of the host that are disks, too.
    pub disk_files: Vec<DiskFile>,
    /// What starts the operating system.
    pub boot: Boot,
    /// Its first network card.
    pub uplink: Uplink,
    /// Ports of 127.0.0.1 that lead into the guest, unless passt forwards them.
    pub forwards: Vec<Forward>,
    /// Its other network cards.
    pub cards: Vec<Card>,
    /// Directories of the host that the guest can mount.
    pub shares: Vec<Share>,
    pub devices: Devices,
    /// Where the TPM listens, if it has one.
    pub tpm_socket: String,
    /// Where QEMU listens for a viewer of the screen, if it is shown by VNC.
    pub vnc_socket: String,
    /// A raw disk with what the guest's cloud-init wants to know; never written to.
    pub seed: Option<String>,
    /// A metadata service in the guest's network.
    pub metadata: Option<MetadataService>,
    /// A file for Ignition, which it reads at its first boot.
    pub ignition: Option<String>,
    /// SMBIOS type 11 ("OEM") strings, which carry systemd's credentials.
    pub oem_strings: Vec<String>,
    /// Files that hold one such string each, which is not to be on the command line.
    pub oem_files: Vec<String>,
    /// Where QEMU listens for QMP.
    pub qmp_socket: String,
    /// Where QEMU listens for someone who talks to the guest's agent.
    pub agent_socket: String,
    /// Where QEMU listens for someone at the console.
    pub console_socket: String,
    /// What the guest writes to its console, from the start of this QEMU on.
    pub console_log: String,
}

/// A disk: an overlay that the machine writes to, over what it never writes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The name of the node that the guest writes to; at most 23 bytes.
    pub node: String,
    /// The qcow2 file of the overlay.
    pub overlay: String,
    /// qcow2 files between the overlay and the raw disk that are only read, the lowest first.
    pub layers: Vec<String>,
    /// The raw disk below; without one, what was never written reads as zeros.
    pub backing: Option<Backing>,
}

/// A directory of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// What the guest calls it; letters, digits and `-`.
    pub tag: String,
    pub server: ShareServer,
}

/// Who serves a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareServer {
    /// virtiofsd, which listens on a unix socket.
    Virtiofs { socket: String },
    /// QEMU itself, by the protocol 9p.
    NineP { path: String, read_only: bool },
}

/// Where a raw disk is that is only read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backing {
    File(String),
    /// An export of an NBD server that listens on a unix socket.
    Nbd {
        socket: String,
        export: String,
    },
}

/// What starts the operating system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// QEMU loads a kernel.
    Direct {
        kernel: PathBuf,
        initrd: Option<PathBuf>,
        command_line: String,
    },
    /// UEFI firmware starts the boot loader of the disk.
    Uefi {
        /// The firmware's code, read-only.
        code: String,
        /// The machine's own copy of the firmware's variables.
        vars: String,
    },
    /// SeaBIOS, which comes with QEMU, starts the boot loader of the disk.
    Bios,
}

/// How long reads wait for an NBD server that is gone, in seconds, before they fail.
const RECONNECT: u32 = 10;

/// The character device of the guest's agent.
pub const AGENT: &str = "agent";

/// The memory in MiB and the processors that a QEMU was started with, from its arguments.
#[must_use]
pub fn promised<'a>(arguments: impl IntoIterator<Item = &'a [u8]>) -> Option<(u32, u32)> {
    let (mut memory, mut cpus) = (None, None);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let slot = match argument {
            b"-m" => &mut memory,
            b"-smp" => &mut cpus,
            _ => continue,
        };
        let value = std::str::from_utf8(arguments.next()?).ok()?;
        *slot = value.trim_end_matches('M').parse().ok();
    }
    memory.zip(cpus)
}

/// QEMU's arguments, without its own name.
#[must_use]
pub fn arguments(spec: &MachineSpec) -> Vec<OsString> {
    let mut args = Arguments(Vec::new());
    args.flag("-no-user-config");
    args.flag("-nodefaults");
    let devices = &spec.devices;
    let disk_bus = devices.platform.disk_bus.unwrap_or_default();
    let nic = devices.platform.nic.unwrap_or_default();
    match devices.display {
        Display::None => args.pair("-display", "none"),
        Display::Vnc => {
            let socket = quoted(&spec.vnc_socket);
            args.pair("-display", format!("vnc=unix:{socket}"));
        }
    }
    args.pair("-name", quoted(&spec.name));
    let virtiofs = |share: &Share| matches!(share.server, ShareServer::Virtiofs { .. });
    let shared_memory = spec.shares.iter().any(virtiofs);
    let mut machine = machine(devices, &spec.boot);
    if shared_memory {
        machine.push_str(",memory-backend=memory");
    }
    args.pair("-machine", machine);
    args.pair("-accel", spec.accel.name());
    args.pair("-cpu", spec.accel.cpu_model());
    args.pair("-smp", spec.cpus.to_string());
    args.pair("-m", format!("{}M", spec.memory_mib));
    if shared_memory {
        let size = spec.memory_mib;
        let backend = format!("memory-backend-memfd,id=memory,share=on,size={size}M");
        args.pair("-object", backend);
    }

    // Who has drivers of virtio may have none for SATA.
    let cd_by_scsi = matches!(disk_bus, DiskBus::Virtio | DiskBus::Scsi);
    let mut bus = Bus::new(&devices.platform);
    if disk_bus == DiskBus::Scsi || (devices.cdrom.is_some() && cd_by_scsi) {
        args.pair("-device", "virtio-scsi-pci,id=scsi");
    }
    for (number, disk) in spec.disks.iter().enumerate() {
        let node = &disk.node;
        let below = format!("{node}-backing");
        if let Some(Backing::Nbd { socket, export }) = &disk.backing {
            args.pair("-blockdev", nbd(&below, socket, export));
        }
        let on_error = match (&disk.backing, disk_bus) {
            (None | Some(Backing::File(_)), _) | (_, DiskBus::Nvme) => "",
            // The guest is halted when it cannot be read, and the read is tried again afterwards.
            (Some(Backing::Nbd { .. }), _) => ",rerror=stop,werror=stop",
        };
        args.pair("-blockdev", blockdev(disk, &below));
        let index = number + 1;
        let device = bus.disk(&mut args, node);
        args.pair("-device", format!("{device},bootindex={index}{on_error}"));
    }
    if let Some(file) = &devices.cdrom {
        let index = spec.disks.len() + 1;
        args.pair("-blockdev", read_only("cdrom", &file.to_string_lossy()));
        let drive = match cd_by_scsi {
            true => "scsi-cd,bus=scsi.0".to_owned(),
            false => format!("ide-cd{}", bus.port(&mut args)),
        };
        args.pair("-device", format!("{drive},drive=cdrom,bootindex={index}"));
    }
    args.pair("-netdev", network::netdev(spec));
    if let Some(service) = &spec.metadata {
        args.pair(
            "-smbios",
            format!(
                "type=1,manufacturer=Amazon EC2,product=vmfab,serial={uuid},uuid={uuid}",
                uuid = service.system_uuid
            ),
        );
    }
    let mac = spec.metadata.as_ref().map(|service| service.mac.as_str());
    args.pair("-device", network::device(nic, NETWORK, mac));
    args.pair("-device", "virtio-rng-pci");
    // From here on last, so that the other devices keep their places.
    if let Some(seed) = &spec.seed {
        // A guest that writes to it has its own copy, and it is made anew at each start.
        let read_only = disk_bus != DiskBus::Sata;
        args.pair("-blockdev", raw("seed", seed, read_only));
        let device = bus.disk(&mut args, "seed");
        args.pair("-device", device);
    }
    args.pair(
        "-chardev",
        format!(
            "socket,id={AGENT},path={},server=on,wait=off",
            quoted(&spec.agent_socket)
        ),
    );
    args.pair("-device", "virtio-serial-pci");
    args.pair(
        "-device",
        format!("virtserialport,chardev={AGENT},name=org.qemu.guest_agent.0"),
    );
    args.pair("-device", "VGA");
    for card in &spec.cards {
        args.pair("-netdev", card.netdev());
        let device = network::device(nic, card.id(), Some(&card.mac));
        args.pair("-device", device);
    }

    for (number, file) in spec.disk_files.iter().enumerate() {
        let node = format!("file{}", number + 1);
        args.pair("-blockdev", disk_file(&node, file));
        let device = bus.disk(&mut args, &node);
        args.pair("-device", device);
    }
    if devices.tpm {
        let socket = quoted(&spec.tpm_socket);
        args.pair("-chardev", format!("socket,id=swtpm,path={socket}"));
        args.pair("-tpmdev", "emulator,id=tpm,chardev=swtpm");
        let device = match cfg!(target_arch = "aarch64") {
            true => "tpm-tis-device",
            false => "tpm-crb",
        };
        args.pair("-device", format!("{device},tpmdev=tpm"));
    }
    for Share { tag, server } in &spec.shares {
        match server {
            ShareServer::Virtiofs { socket } => {
                args.pair(
                    "-chardev",
                    format!("socket,id={tag},path={}", quoted(socket)),
                );
                args.pair(
                    "-device",
                    format!("vhost-user-fs-pci,chardev={tag},tag={tag}"),
                );
            }
            ShareServer::NineP { path, read_only } => {
                let read_only = if *read_only { ",readonly=on" } else { "" };
                let path = quoted(path);
                args.pair(
                    "-fsdev",
                    format!("local,id={tag},path={path},security_model=none{read_only}"),
                );
                args.pair(
                    "-device",
                    format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"),
                );
            }
        }
    }

    args.pair(
        "-chardev",
        format!(
            "socket,id=console,path={},server=on,wait=off,logfile={},logappend=off",
            quoted(&spec.console_socket),
            quoted(&spec.console_log),
        ),
    );
    args.pair("-serial", "chardev:console");
    args.pair(
        "-chardev",
        format!(
            "socket,id=qmp,path={},server=on,wait=off",
            quoted(&spec.qmp_socket)
        ),
    );
    args.pair("-mon", "chardev=qmp,mode=control");

    if let Some(file) = &spec.ignition {
        // <https://coreos.github.io/ignition/supported-platforms/>
        let file = quoted(file);
        args.pair("-fw_cfg", format!("name=opt/com.coreos/config,file={file}"));
    }
    for text in &spec.oem_strings {
        args.pair("-smbios", format!("type=11,value={}", quoted(text)));
    }
    for file in &spec.oem_files {
        args.pair("-smbios", format!("type=11,path={}", quoted(file)));
    }
    match &spec.boot {
        Boot::Direct {
            kernel,
            initrd,
            command_line,
        } => {
            args.pair("-kernel", kernel);
            if let Some(initrd) = initrd {
                args.pair("-initrd", initrd);
            }
            args.pair("-append", spec.accel.kernel_arguments(command_line));
        }
        Boot::Uefi { code, vars } => {
            args.pair("-blockdev", read_only("firmware-code", code));
            args.pair("-blockdev", raw("firmware-vars", vars, false));
            // Without it the firmware goes on to try the network.
            args.pair("-boot", "strict=on");
        }
        Boot::Bios => args.pair("-boot", "strict=on"),
    }
    args.0
}

struct Arguments(Vec<OsString>);

impl Arguments {
    fn flag(&mut self, flag: &str) {
        self.0.push(flag.into());
    }

    fn pair(&mut self, flag: &str, value: impl Into<OsString>) {
        self.0.push(flag.into());
        self.0.push(value.into());
    }
}

/// A value inside QEMU's `key=value,…` syntax, where a comma is written twice.
pub(super) fn quoted(value: &str) -> String {
    value.replace(',', ",,")
}

fn machine(devices: &Devices, boot: &Boot) -> String {
    let kind = devices
        .platform
        .machine_type
        .as_ref()
        .map_or("q35", |kind| kind);
    let flash = match boot {
        Boot::Direct { .. } | Boot::Bios => "",
        Boot::Uefi { .. } => ",pflash0=firmware-code,pflash1=firmware-vars",
    };
    format!("{kind}{flash}")
}

/// What disks are attached to.
struct Bus {
    kind: DiskBus,
    /// Whether SATA is IDE.
    ide: bool,
    /// How many ports of SATA are taken.
    taken: usize,
}

impl Bus {
    /// Each controller of SATA has so many.
    const PORTS: usize = 6;

    fn new(platform: &Platform) -> Self {
        let machine_type = platform.machine_type.as_deref().unwrap_or_default();
        Self {
            kind: platform.disk_bus.unwrap_or_default(),
            ide: machine_type == "pc" || machine_type.starts_with("pc-i440fx"),
            taken: 0,
        }
    }

    /// A device for a node, without its place in the order of booting.
    fn disk(&mut self, args: &mut Arguments, node: &str) -> String {
        match self.kind {
            DiskBus::Virtio => format!("virtio-blk-pci,drive={node}"),
            DiskBus::Scsi => format!("scsi-hd,bus=scsi.0,drive={node}"),
            // QEMU has none that are read-only.
            DiskBus::Sata => format!("ide-hd,drive={node}{}", self.port(args)),
            DiskBus::Nvme => format!("nvme,drive={node},serial={node}"),
        }
    }

    /// The next port of SATA: QEMU looks for free ones of IDE only.
    fn port(&mut self, args: &mut Arguments) -> String {
        if self.ide {
            return String::new();
        }
        let (controller, port) = (self.taken / Self::PORTS, self.taken % Self::PORTS);
        self.taken += 1;
        if controller == 0 {
            return format!(",bus=ide.{port}");
        }
        if port == 0 {
            args.pair("-device", format!("ich9-ahci,id=sata{controller}"));
        }
        format!(",bus=sata{controller}.{port}")
    }
}

/// The name of the node of a machine's disk: the guest writes to it.
#[must_use]
pub fn disk_node(number: usize) -> String {
    match number {
        0 => "disk".to_owned(),
        number => format!("disk{number}"),
    }
}

/// The overlay over its backing. The backing is named here again although the overlay has its
/// name, so that a store that was moved is found, and so that nothing that the guest could have a
/// hand in decides which file of the host is opened.
fn blockdev(disk: &Disk, below: &str) -> String {
    let lowest = match &disk.backing {
        None => json!(null),
        Some(Backing::File(path)) => json!({
            "driver": "raw",
            "read-only": true,
            "file": { "driver": "file", "filename": path, "read-only": true },
        }),
        // QEMU would add the name in the overlay to the address of a node that is made here.
        Some(Backing::Nbd { .. }) => json!(below),
    };
    let backing = disk.layers.iter().fold(lowest, |below, layer| {
        json!({
            "driver": "qcow2",
            "read-only": true,
            "file": { "driver": "file", "filename": layer, "read-only": true },
            "backing": below,
        })
    });
    json!({
        "driver": "qcow2",
        "node-name": disk.node,
        "discard": "unmap",
        "file": { "driver": "file", "filename": disk.overlay, "discard": "unmap" },
        "backing": backing,
    })
    .to_string()
}

/// Its format is named, and nothing is below it: the guest has no hand in which files are opened.
fn disk_file(node: &str, file: &DiskFile) -> String {
    let path = file.path.to_string_lossy();
    let read_only = !file.writable;
    match file.qcow2 {
        false => raw(node, &path, read_only),
        true => json!({
            "driver": "qcow2",
            "node-name": node,
            "read-only": read_only,
            "file": { "driver": "file", "filename": path, "read-only": read_only },
            "backing": null,
        })
        .to_string(),
    }
}

fn nbd(node: &str, socket: &str, export: &str) -> String {
    json!({
        "driver": "nbd",
        "node-name": node,
        "read-only": true,
        "server": { "type": "unix", "path": socket },
        "export": export,
        "reconnect-delay": RECONNECT,
    })
    .to_string()
}

fn read_only(node: &str, file: &str) -> String {
    raw(node, file, true)
}

fn raw(node: &str, file: &str, read_only: bool) -> String {
    json!({
        "driver": "raw",
        "node-name": node,
        "read-only": read_only,
        "file": { "driver": "file", "filename": file, "read-only": read_only },
    })
    .to_string()
}

#[cfg(test)]
mod tests;

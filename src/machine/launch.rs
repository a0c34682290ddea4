//! From a machine's config to a running QEMU.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open};

use super::config::{Forwarded, MachineConfig, MachineDisk};
use super::create::ways;
use super::directory::{files, lock_for_qemu};
use super::disk_file;
use super::error::{MachineError, io_error};
use super::name::MachineName;
use super::network;
use super::share::{self, Shared};
use super::start::Startup;
use super::volume::Volume;
use super::{Locked, Machine, seed, tpm};
use crate::disk::overlay;
use crate::event::{Event, Sink};
use crate::guest::GuestMount;
use crate::host::{Interrupt, Program, bare_command, spawn_lasting, total_memory};
use crate::image::{self, Devices, Firmware, ImageConfig, Mounted, Protocol};
use crate::qemu::{
    Accel, Backing, Boot, Card, Disk, Forward, MachineSpec, OtherEnd, Uplink, arguments,
    container_string, find_firmware, incoming,
};
use crate::sandbox;
use crate::store::Store;

/// The port of SSH in the guest.
const SSH: u16 = 22;

/// A QEMU that this process started.
pub(super) struct Qemu {
    pub(super) child: Child,
    /// Becomes readable when it ends.
    pub(super) pidfd: OwnedFd,
    pub(super) accel: Accel,
    pub(super) ssh_port: u16,
    /// Processes that serve it: virtiofsd, and those of its network cards.
    servers: Vec<Child>,
    /// Whether it waits for a memory.
    pub(super) has_saved: bool,
    /// Whether it ends with this process.
    attached: bool,
}

impl Qemu {
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends what serves it: a QEMU that failed may never have connected.
    pub(super) fn end_servers(&mut self) {
        end_all(std::mem::take(&mut self.servers));
    }
}

fn end_all(children: Vec<Child>) {
    for mut child in children {
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // The process goes on, and is not to keep what is left of this one.
        if self.attached && matches!(self.child.try_wait(), Ok(None)) {
            let pid = Pid::from_child(&self.child);
            std::thread::spawn(move || {
                let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
            });
        }
    }
}

impl Locked {
    /// Starts QEMU. It is in a process group of its own and holds no file of this process, so that
    /// it outlives vmfab and its Ctrl-C, unless it is to end with this process.
    pub(super) fn launch(
        &self,
        program: &Path,
        accel: Accel,
        has_saved: bool,
        startup: &Startup<'_>,
    ) -> Result<Qemu, MachineError> {
        let machine = &self.machine;
        machine.check_restored()?;
        let mut config = machine.config()?;
        check_memory(config.memory_mib)?;
        check_ports(machine, &mut config, startup.sink)?;
        let running = lock_for_qemu(&machine.directory)?
            .ok_or_else(|| MachineError::Running(machine.name.clone()))?;
        machine.make_overlays(&mut config, startup.interrupt)?;
        let volumes = volumes(machine, &config, startup.interrupt)?;
        let spec = spec(machine, &config, accel, startup, &volumes)?;
        let servers = servers(machine, &config, &spec)?;

        // QEMU truncates the console's log when it opens it; who reads it must not see the last
        // run's before that.
        let console = machine.console_log();
        File::create(&console).map_err(io_error("create", &console))?;
        let log_path = machine.qemu_log();
        let log = File::create(&log_path).map_err(io_error("create", &log_path))?;
        let error_log = log.try_clone().map_err(io_error("create", &log_path))?;

        let attached = machine.machines.attached.as_deref();
        let mut command = match attached {
            Some(vmfab) => sandbox::attached(vmfab, program),
            None => bare_command(program),
        };
        command
            .args(arguments(&spec))
            .args(has_saved.then(incoming).into_iter().flatten())
            .current_dir(&machine.directory)
            .process_group(0)
            .stdin(Stdio::from(running))
            .stdout(Stdio::from(log))
            .stderr(Stdio::from(error_log));
        let spawned = match attached {
            Some(_) => spawn_lasting(command),
            None => command.spawn(),
        };
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => {
                end_all(servers);
                return Err(io_error("start", program)(error));
            }
        };
        let pidfd = Pid::from_raw(child.id().cast_signed())
            .ok_or(rustix::io::Errno::SRCH)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
        match pidfd {
            Ok(pidfd) => Ok(Qemu {
                child,
                pidfd,
                accel,
                ssh_port: config.ssh_port,
                servers,
                has_saved,
                attached: attached.is_some(),
            }),
            Err(error) => {
                end_all(servers);
                let _ = child.kill();
                let _ = child.wait();
                Err(io_error("watch", program)(error.into()))
            }
        }
    }
}

/// Makes sure that all ports can be forwarded. Those of the image and the one for SSH are chosen
/// anew when they are taken.
fn check_ports(
    machine: &Machine,
    config: &mut MachineConfig,
    sink: &dyn Sink,
) -> Result<(), MachineError> {
    let mut taken: Vec<u16> = config.ports.iter().map(|port| port.host).collect();
    let mut changed = false;
    for forwarded in &mut config.ports {
        let Err(error) = check_port(forwarded) else {
            continue;
        };
        if !forwarded.from_image {
            let holder = holder(machine, forwarded)?;
            let port = forwarded.host;
            return Err(holder.map_or(error, |holder| MachineError::PortOf { port, holder }));
        }
        let before = forwarded.host;
        forwarded.host = free_port(&taken)?;
        taken.push(forwarded.host);
        changed = true;
        sink.emit(Event::Warning {
            message: format!(
                "{}: port {before} of 127.0.0.1 is taken; vmfab {forwarded} of the image instead",
                machine.name
            ),
        });
    }
    if probe(config.ssh_port).is_err() {
        config.ssh_port = free_port(&taken)?;
        changed = true;
    }
    match changed {
        true => config.write(&machine.directory),
        false => Ok(()),
    }
}

/// The machine beside this one that runs with a forwarded port.
fn holder(machine: &Machine, port: &Forwarded) -> Result<Option<MachineName>, MachineError> {
    for other in machine.machines.list()? {
        let has = |config: MachineConfig| {
            let mut ports = config.ports.iter();
            ports.any(|other| other.clashes(port))
        };
        if other.name != machine.name && other.config().is_ok_and(has) && other.has_qemu()? {
            return Ok(Some(other.name));
        }
    }
    Ok(None)
}

/// Makes sure that a port of the host is free.
///
/// # Errors
/// It is not.
pub fn check_port(forwarded: &Forwarded) -> Result<(), MachineError> {
    let port = forwarded.host;
    let place = (forwarded.address, port);
    match forwarded.protocol {
        Protocol::Udp => UdpSocket::bind(place).map(drop),
        Protocol::Tcp | Protocol::Sctp => TcpListener::bind(place).map(drop),
    }
    .map_err(|source| MachineError::Port {
        address: forwarded.address,
        port,
        source,
    })
}

/// Makes sure that this host has the memory for a machine: the kernel refuses to give one program
/// more than there is.
///
/// # Errors
/// It has less.
pub fn check_memory(mib: u32) -> Result<(), MachineError> {
    match total_memory() {
        Some(bytes) if bytes >> 20 < u64::from(mib) => Err(MachineError::Memory {
            asked: mib,
            has: bytes >> 20,
        }),
        _ => Ok(()),
    }
}

fn probe(port: u16) -> Result<u16, MachineError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|source| MachineError::Port {
            address: Ipv4Addr::LOCALHOST,
            port,
            source,
        })
}

/// A port of 127.0.0.1 that is free now and none of `taken`.
pub(super) fn free_port(taken: &[u16]) -> Result<u16, MachineError> {
    loop {
        let port = probe(0)?;
        if !taken.contains(&port) {
            return Ok(port);
        }
    }
}

/// QEMU's paths are in JSON, which is UTF-8.
pub(super) fn utf8(path: PathBuf) -> Result<String, MachineError> {
    path.into_os_string()
        .into_string()
        .map_err(|path| MachineError::NotUtf8(path.into()))
}

/// A forwarded port, as QEMU knows it.
pub(super) fn forward(port: &Forwarded) -> Forward {
    Forward {
        host: port.host,
        guest: port.guest,
        udp: port.protocol == Protocol::Udp,
        address: port.address,
    }
}

fn spec(
    machine: &Machine,
    config: &MachineConfig,
    accel: Accel,
    startup: &Startup<'_>,
    volumes: &[Volume],
) -> Result<MachineSpec, MachineError> {
    let (image, store) = (startup.image, startup.store);
    let network = machine.network()?;
    let mut cards = Vec::new();
    if let (image::Uplink::Bridge(name), false) = (&config.network.uplink, config.renew_identity) {
        cards.push(network::bridge(config, name)?);
    }
    cards.extend(network.as_ref().map(|network| Card {
        mac: network.mac.clone(),
        other_end: OtherEnd::Switch {
            socket: files::GROUP_SOCKET.to_owned(),
        },
    }));
    let mounts = mounts(config, volumes);
    let seeded = seed::prepare(machine, config, &image.template, mounts, network)?;
    let mut oem_strings = seeded.oem_strings;
    oem_strings.extend(config.container.as_ref().map(container_string));
    let mut disks = disks(machine, config, image, store)?;
    for volume in volumes {
        let overlay = volume.path();
        overlay::check(&overlay)?;
        disks.push(Disk {
            node: volume.disk().node_of(&volume.first_node()),
            overlay: utf8(overlay)?,
            layers: volume.layers().checked(&volume.disk().layers)?,
            backing: None,
        });
    }
    for file in &config.disk_files {
        disk_file::claim(file)?;
    }
    let mut forwards = vec![Forward {
        host: config.ssh_port,
        guest: SSH,
        udp: false,
        address: Ipv4Addr::LOCALHOST,
    }];
    forwards.extend(config.ports.iter().map(forward));
    let virtiofs = Program::Virtiofsd.find().is_some();
    let shared = share::of(config);
    let shared = shared
        .iter()
        .map(|shared| share::device(shared, virtiofs))
        .collect();
    let shared: Result<Vec<_>, MachineError> = shared;
    Ok(MachineSpec {
        name: machine.name.to_string(),
        accel,
        memory_mib: config.memory_mib,
        cpus: config.cpus,
        disks,
        disk_files: config.disk_files.clone(),
        boot: boot(machine, config, image, store)?,
        uplink: uplink(config),
        forwards,
        cards,
        shares: shared?,
        devices: Devices {
            platform: config.devices.platform.over(&image.template.boot.platform),
            ..config.devices.clone()
        },
        tpm_socket: files::TPM_SOCKET.to_owned(),
        vnc_socket: files::VNC_SOCKET.to_owned(),
        seed: seeded.disk,
        metadata: seeded.metadata,
        ignition: seeded.ignition,
        oem_strings,
        oem_files: seeded.oem_files,
        agent_socket: files::AGENT_SOCKET.to_owned(),
        qmp_socket: files::QMP_SOCKET.to_owned(),
        console_socket: files::CONSOLE_SOCKET.to_owned(),
        console_log: files::CONSOLE_LOG.to_owned(),
    })
}

/// What is at the other end of a machine's first card.
fn uplink(config: &MachineConfig) -> Uplink {
    // A guest that is to lose the identity of another one meets nobody before.
    match (&config.network.uplink, config.renew_identity) {
        (image::Uplink::User, false) => Uplink::User { restricted: false },
        (image::Uplink::Passt, false) => Uplink::Passt {
            socket: files::PASST_SOCKET.to_owned(),
        },
        // It leads nowhere, so that the guest goes by the bridge, and forwarded ports work.
        (image::Uplink::None | image::Uplink::Bridge(_), _) | (_, true) => {
            Uplink::User { restricted: true }
        }
    }
}

/// Starts the processes that serve a machine. When one fails, those before it end.
fn servers(
    machine: &Machine,
    config: &MachineConfig,
    spec: &MachineSpec,
) -> Result<Vec<Child>, MachineError> {
    let mut servers = Vec::new();
    let mut start = || -> Result<(), MachineError> {
        if let Some(program) = Program::Virtiofsd.find() {
            for shared in &share::of(config) {
                servers.push(share::serve(machine, shared, &program)?);
            }
        }
        if let Uplink::Passt { .. } = spec.uplink {
            servers.push(network::passt(machine, config, &spec.forwards)?);
        }
        machine.forget_disk_server();
        if let Some(Some(Backing::Nbd { .. })) = spec.disks.first().map(|disk| &disk.backing) {
            let bus = spec.devices.platform.disk_bus.unwrap_or_default();
            servers.push(machine.serve_disk(bus)?);
        }
        if config.devices.tpm {
            servers.push(tpm::serve(machine)?);
        }
        if let Some(number) = machine.network_number()? {
            servers.push(network::switch(machine, number)?);
        }
        Ok(())
    };
    match start() {
        Ok(()) => Ok(servers),
        Err(error) => {
            end_all(servers);
            Err(error)
        }
    }
}

/// Gives a machine its volumes, in the order of its mounts. They are the last of its disks.
fn volumes(
    machine: &Machine,
    config: &MachineConfig,
    interrupt: &Interrupt,
) -> Result<Vec<Volume>, MachineError> {
    let volumes = &machine.machines.volumes;
    let claim = |name| volumes.hold(name, interrupt)?.claim(machine, interrupt);
    config.volumes().map(claim).collect()
}

/// What the guest is told to mount.
fn mounts(config: &MachineConfig, volumes: &[Volume]) -> Vec<GuestMount> {
    let virtiofs = Program::Virtiofsd.find().is_some();
    let mut number = 0;
    let mounts = config.mounts.iter().filter_map(|mount| {
        let (what, kind) = match &mount.what {
            Mounted::Volume(name) => {
                let volume = volumes.iter().find(|volume| volume.name() == name)?;
                (format!("UUID={}", volume.filesystem()), "ext4")
            }
            Mounted::Share(_) => {
                number += 1;
                let kind = if virtiofs { "virtiofs" } else { "9p" };
                (Shared::tag(number - 1), kind)
            }
        };
        let mut options = if mount.read_only { "ro" } else { "rw" }.to_owned();
        if kind == "9p" {
            options.push_str(",trans=virtio,version=9p2000.L,msize=512000");
        }
        Some(GuestMount {
            what,
            at: mount.at.clone(),
            kind,
            options,
        })
    });
    mounts.collect()
}

/// The first is over the image's; nothing is below the others.
fn disks(
    machine: &Machine,
    config: &MachineConfig,
    image: &ImageConfig,
    store: &Store,
) -> Result<Vec<Disk>, MachineError> {
    let of = |(number, disk): (usize, &MachineDisk)| {
        let overlay = disk.overlay(number).unwrap_or_default();
        overlay::check(&machine.directory.join(&overlay))?;
        let backing = match number {
            0 => Some(machine.backing(&config.image, image, store)?),
            _ => None,
        };
        Ok(Disk {
            node: disk.node(number),
            overlay,
            layers: machine
                .machines
                .snapshots()
                .layers()
                .checked(&disk.layers)?,
            backing,
        })
    };
    config.disks.iter().enumerate().map(of).collect()
}

fn boot(
    machine: &Machine,
    config: &MachineConfig,
    image: &ImageConfig,
    store: &Store,
) -> Result<Boot, MachineError> {
    match config.firmware {
        Firmware::Direct => {
            let kernel = image.kernel.ok_or_else(|| MachineError::CannotBoot {
                image: image.template.name.to_string(),
                missing: "kernel of its own",
                ways: ways(image),
            })?;
            Ok(Boot::Direct {
                kernel: store.materialise(&kernel.id)?,
                initrd: image
                    .initrd
                    .map(|initrd| store.materialise(&initrd.id))
                    .transpose()?,
                command_line: image.template.boot.command_line.to_string(),
            })
        }
        Firmware::Uefi => {
            let firmware = find_firmware(Path::new("/"))?;
            let vars = machine.directory.join(files::FIRMWARE_VARS);
            if !vars.exists() {
                fs::copy(&firmware.vars, &vars).map_err(io_error("copy", &firmware.vars))?;
            }
            Ok(Boot::Uefi {
                code: utf8(firmware.code)?,
                vars: files::FIRMWARE_VARS.to_owned(),
            })
        }
        Firmware::Bios => Ok(Boot::Bios),
    }
}

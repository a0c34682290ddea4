//! What machines there are, and all about one of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use serde::Serialize;

use super::super::Context;
use super::super::builds::{BuildState, PlannedMachine};
use super::targets::at_once;
use super::{find_machine, listed};
use crate::checked::{AccountName, Name};
use crate::digest::ObjectId;
use crate::failure::Failure;
use crate::host::Usage;
use crate::image::{ContainerRef, Devices, DiskFile, Firmware, Mount, Network, Seed};
use crate::machine::{Forwarded, Machine, MachineConfig, MachineName, Project, State};
use crate::qemu::{Accel, AccelChoice};

/// How long it is watched what a machine uses of the processors.
const SAMPLE: Duration = Duration::from_millis(20);

/// Where a machine's SSH server is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SshAddress {
    /// `127.0.0.1`.
    pub host: &'static str,
    pub port: u16,
    /// The account that is used unless told otherwise.
    pub user: AccountName,
}

pub(super) fn address(config: &MachineConfig) -> SshAddress {
    SshAddress {
        host: "127.0.0.1",
        port: config.ssh_port,
        user: config.ssh_user.clone(),
    }
}

/// A machine of the list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MachineEntry {
    pub name: MachineName,
    /// The directory of the project that it is of; nothing when it is of the home.
    pub project: Option<PathBuf>,
    /// `building` when it is made as soon as its image is built, `stopped`, `starting`, `running`,
    /// `paused`, … or `damaged` when its config cannot be read.
    pub state: &'static str,
    /// Why it is paused, when nobody asked for it: `disk-full`.
    pub reason: Option<&'static str>,
    /// What it uses while it runs.
    pub usage: Option<MachineUsage>,
    /// The process of its QEMU.
    pub pid: Option<i32>,
    /// Bytes that its disk takes on this host, over the image's.
    pub stored_size: u64,
    /// What was asked for; nothing when it is damaged.
    #[serde(flatten)]
    pub settings: Option<Settings>,
}

/// What a machine that runs uses of this host.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MachineUsage {
    /// Seconds since the start of its QEMU.
    pub uptime: f64,
    /// Processors that it keeps busy now: 0.5 is half of one.
    pub cpu: f64,
    /// Bytes of this host's memory.
    pub memory: u64,
}

/// What was asked for when a machine was made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    pub image: ObjectId,
    pub image_name: Name,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// Memory in bytes.
    pub memory: u64,
    /// Virtual processors.
    pub cpus: u32,
    /// Size of its disk in bytes.
    pub disk_size: u64,
    /// Sizes of its further disks in bytes.
    pub further_disks: Vec<u64>,
    /// Files of the host that are disks of it.
    pub disk_files: Vec<DiskFile>,
    /// Where its SSH server is reached.
    pub ssh: SshAddress,
    pub ports: Vec<Forwarded>,
    pub accel: AccelChoice,
    /// What starts the operating system.
    pub firmware: Firmware,
    /// How its guest learns its name and whose key to let in.
    pub seed: Seed,
    /// What it is connected to.
    pub network: Network,
    /// What its guest mounts at each boot.
    pub mounts: Vec<Mount>,
    /// Devices that differ from the usual.
    pub devices: Devices,
    /// Whether the machine goes when it is stopped.
    pub remove_when_stopped: bool,
    /// The container image that it was made of, if its user asked for it as one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerRef>,
}

/// All about a machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MachineDetails {
    /// What the list says.
    #[serde(flatten)]
    pub entry: MachineEntry,
    /// What runs its instructions now.
    pub runs_under: Option<Accel>,
    pub directory: PathBuf,
    /// What its guest wrote to the console since the last start.
    pub console_log: PathBuf,
    /// The unix socket for a VNC viewer of its screen.
    pub vnc_socket: Option<PathBuf>,
    pub private_key: PathBuf,
}

/// Lists machines, again and again. Processors in use are those since the list before, and in the
/// first one those of a moment.
#[derive(Debug, Default)]
pub struct Lister {
    /// What the QEMU of each process number had used, and when.
    before: BTreeMap<i32, (Instant, Usage)>,
}

impl Lister {
    /// The machines of the project that the user is in, and those of the home, each sorted by name.
    /// With `all` those of every project that the home knows and can reach.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn list(&mut self, context: &Context, all: bool) -> Result<Vec<MachineEntry>, Failure> {
        let places = match all {
            true => super::all_places(context)?,
            false => super::places(context)?,
        };
        self.ask(&listed(&places)?)
    }

    /// What these machines are and use, in their order.
    ///
    /// # Errors
    /// A machine's directory cannot be read.
    pub(super) fn ask(&mut self, machines: &[Machine]) -> Result<Vec<MachineEntry>, Failure> {
        let asked = at_once(machines, |machine| {
            let entry = entry(machine)?;
            let usage = entry.pid.and_then(usage_of);
            Ok::<_, Failure>((entry, usage))
        });
        let mut entries = Vec::new();
        let mut now = BTreeMap::new();
        for asked in asked {
            let (entry, usage) = asked?;
            now.extend(entry.pid.zip(usage));
            entries.push(entry);
        }
        let new = now.iter().filter(|(pid, _)| !self.before.contains_key(pid));
        let newest = new.map(|(_, (taken, _))| *taken).max();
        if let Some(newest) = newest {
            std::thread::sleep(SAMPLE.saturating_sub(newest.elapsed()));
        }
        for (pid, first) in &now {
            self.before.entry(*pid).or_insert(*first);
        }
        for entry in &mut entries {
            let Some(pid) = entry.pid else { continue };
            let before = self.before.get(&pid);
            if let (Some(before), Some(after)) = (before, usage_of(pid)) {
                entry.usage = Some(MachineUsage::between(before, &after));
                now.insert(pid, after);
            }
        }
        self.before = now;
        Ok(entries)
    }
}

/// The machines that builds are for and that do not exist yet. Those of other projects only with
/// `all`.
#[must_use]
pub fn planned(
    context: &Context,
    builds: &[BuildState],
    listed: &[MachineEntry],
    all: bool,
) -> Vec<MachineEntry> {
    let here = context.project.as_ref().map(Project::root);
    let mut planned: Vec<MachineEntry> = Vec::new();
    for build in builds {
        for PlannedMachine { name, project } in &build.machines {
            if !all
                && project
                    .as_deref()
                    .is_some_and(|project| Some(project) != here)
            {
                continue;
            }
            let is_free = |name: &MachineName| {
                let mut known = listed.iter().chain(&planned);
                !known.any(|one| one.name == *name && one.project == *project)
            };
            let name = match (name, &build.image) {
                (Some(name), _) => is_free(name).then(|| name.clone()),
                (None, Some(image)) => MachineName::candidates(image).find(is_free),
                (None, None) => None,
            };
            planned.extend(name.map(|name| MachineEntry {
                name,
                project: project.clone(),
                state: "building",
                reason: None,
                usage: None,
                pid: None,
                stored_size: 0,
                settings: None,
            }));
        }
    }
    planned
}

fn usage_of(pid: i32) -> Option<(Instant, Usage)> {
    let usage = Usage::of(Pid::from_raw(pid)?)?;
    Some((Instant::now(), usage))
}

impl MachineUsage {
    fn between(before: &(Instant, Usage), after: &(Instant, Usage)) -> Self {
        let passed = after.0.duration_since(before.0).as_secs_f64();
        let used = after.1.cpu.saturating_sub(before.1.cpu).as_secs_f64();
        Self {
            uptime: after.1.age.as_secs_f64(),
            cpu: if passed > 0.0 { used / passed } else { 0.0 },
            memory: after.1.memory,
        }
    }
}

/// All about one machine.
///
/// # Errors
/// There is no such machine.
pub fn inspect(context: &Context, name: &str) -> Result<MachineDetails, Failure> {
    let machine = find_machine(context, name)?;
    // A damaged machine is shown in a list; who asks for it wants to know why.
    machine.config()?;
    let mut entry = entry(&machine)?;
    if let Some(pid) = entry.pid
        && let Some(before) = usage_of(pid)
    {
        std::thread::sleep(SAMPLE);
        entry.usage = usage_of(pid).map(|after| MachineUsage::between(&before, &after));
    }
    Ok(MachineDetails {
        entry,
        runs_under: machine.runs_under(),
        directory: machine.directory().to_owned(),
        console_log: machine.console_log(),
        vnc_socket: machine.vnc_socket(),
        private_key: machine.private_key(),
    })
}

fn entry(machine: &Machine) -> Result<MachineEntry, Failure> {
    let state = machine.state()?;
    let settings = machine.config().ok().map(settings);
    let damaged = settings.is_none() && state.is_off();
    Ok(MachineEntry {
        stored_size: machine.stored_size(),
        name: machine.name().clone(),
        project: machine.project().map(|project| project.root().to_owned()),
        state: if damaged { "damaged" } else { state.name() },
        reason: state.reason(),
        usage: None,
        pid: match state {
            State::Running { pid: Some(pid), .. } => Some(pid.as_raw_nonzero().get()),
            _ => None,
        },
        settings,
    })
}

fn settings(config: MachineConfig) -> Settings {
    Settings {
        ssh: address(&config),
        disk_size: config.disk_size(),
        further_disks: config.disks.iter().skip(1).map(|disk| disk.size).collect(),
        disk_files: config.disk_files,
        image: config.image,
        image_name: config.image_name,
        created: config.created,
        memory: u64::from(config.memory_mib) << 20,
        cpus: config.cpus,
        ports: config.ports,
        accel: config.accel,
        firmware: config.firmware,
        seed: config.seed,
        network: config.network.clone(),
        mounts: config.mounts,
        devices: config.devices,
        remove_when_stopped: config.remove_when_stopped,
        container: config.container,
    }
}

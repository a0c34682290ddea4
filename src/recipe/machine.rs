//! The `machine` nodes of a project: what each says, and whether they go together.

use std::collections::BTreeMap;
use std::time::Duration;

use super::error::{Problem, closest, enumerate};
use super::image::{platform, share};
use super::model::{Accel, Condition, Dependency, Machine};
use super::reader::Reader;
use super::source::{Span, Spanned};
use super::value;
use crate::checked::{HostName, MountPoint, PublicKey};
use crate::image::{
    Devices, Display, Firmware, FirstBoot, FurtherDisk, Hardware, Healthcheck, Mount, Mounted,
    Port, Process, Protocol, Restart,
};

/// The most machines that one node makes.
const MOST: u32 = 64;

/// A machine whose image is not looked up yet.
pub(super) struct Draft {
    /// What the node says; its image is filled in later.
    pub machine: Machine,
    /// What it says about its image; nothing when that is missing or wrong, which was reported.
    pub image: Option<Spanned<String>>,
    /// Parameters of the image's recipe, with the places of their names.
    pub settings: Vec<(Spanned<String>, String)>,
}

/// Reads one `machine` node; `None` when it has no name, which was reported.
pub(super) fn read(node: &Reader<'_>) -> Option<Draft> {
    let count = node.number("count", |text| {
        value::range(text, "a number of machines", 1..=MOST)
    });
    let longest = if count.is_some() { 60 } else { 63 };
    let name = node.parsed_argument(0, |text| value::machine_name(text, longest));
    let image = node.text("image");
    if !node.has("image") {
        node.lacks("image");
    }
    let memory_mib = node.parsed("memory", value::memory);
    let cpus = node.number("cpus", |text| {
        value::range(text, "a number of processors", 1..=255)
    });
    let accel = node.choice("accel", &Accel::NAMES);
    let network = node.parsed("network", value::network);
    let firmware = node.choice("firmware", &Firmware::NAMES);
    let devices = devices(node);
    let cloud_init = node.parsed("cloud-init", value::shared_file);
    let image_shares = node.flag("image-shares");
    // Several machines alike cannot have the same ports of the host.
    let image_ports = match node.flag("image-ports") {
        Some(ports) => ports.value,
        None => count.is_none(),
    };
    let mut body = Body::default();
    for child in node.children() {
        body.read(&child, count.is_some());
    }
    let settings: BTreeMap<String, String> = body
        .settings
        .iter()
        .map(|(name, value)| (name.value.clone(), value.clone()))
        .collect();
    Some(Draft {
        machine: Machine {
            name: name?,
            image: None,
            count: count.map(|count| count.value),
            hardware: Hardware {
                memory_mib: memory_mib.map(|memory| memory.value),
                cpus: cpus.map(|cpus| cpus.value),
                disk_size: body.disk_size,
                disks: body.disks,
                firmware: firmware.map(|firmware| firmware.value),
                network: network.map(|network| network.value),
                mounts: body.mounts,
                devices,
                ssh_keys: body.ssh_keys,
                first_boot: FirstBoot::default(),
            },
            cloud_init: cloud_init.map(|path| path.value),
            accel: accel.map(|accel| accel.value),
            ports: body.ports,
            image_ports,
            image_shares: image_shares.is_none_or(|shares| shares.value),
            settings,
            process: body.process,
            aliases: body.aliases,
            depends_on: body.depends_on,
        },
        image,
        settings: body.settings,
    })
}

fn devices(node: &Reader<'_>) -> Devices {
    let display = node.choice("display", &Display::NAMES);
    let tpm = node.flag("tpm");
    let cdrom = node.parsed("cdrom", value::shared_file);
    Devices {
        platform: platform(node),
        cdrom: cdrom.map(|file| file.value),
        display: display.map_or(Display::default(), |display| display.value),
        tpm: tpm.is_some_and(|tpm| tpm.value),
    }
}

/// What is between the braces.
#[derive(Default)]
struct Body {
    disk_size: Option<u64>,
    disks: Vec<FurtherDisk>,
    mounts: Vec<Mount>,
    ssh_keys: Vec<PublicKey>,
    ports: Vec<Spanned<Port>>,
    settings: Vec<(Spanned<String>, String)>,
    process: Process,
    aliases: Vec<HostName>,
    depends_on: Vec<Dependency>,
}

impl Body {
    fn read(&mut self, node: &Reader<'_>, several: bool) {
        match node.shape.name {
            "port" => self.port(node, several),
            "disk" if node.positional().next().is_some() => self.further_disk(node, several),
            "disk" => {
                misplaced(node, "read-only", "the first disk");
                if let Some(size) = node.parsed("size", value::disk_size) {
                    self.disk_size = Some(size.value);
                } else if !node.has("size") {
                    node.lacks("size");
                }
            }
            "volume" => self.volume(node, several),
            "share" => self.share(node),
            "ssh-key" => {
                let key = node.parsed_argument(0, value::fitting("an SSH public key"));
                self.ssh_keys.extend(key.map(|key| key.value));
            }
            "alias" => {
                let count = node.positional().count();
                let names = (0..count).filter_map(|at| node.parsed_argument(at, value::alias));
                self.aliases.extend(names.map(|name| name.value));
            }
            "set" => {
                if let (Some(name), Some(value)) = (node.argument(0), node.argument(1)) {
                    self.settings.push((name, value.value));
                }
            }
            "env" => {
                let variables = node.map(value::process_variable, value::variable_value);
                self.process.env.extend(variables);
            }
            "entrypoint" => self.process.entrypoint = Some(words(node)),
            "command" => self.process.command = Some(words(node)),
            "process" => self.manner(node),
            "health" => self.process.health = Some(health(node)),
            // The only one left in the shape of a machine: "depends-on".
            _ => {
                let condition = node.choice("condition", &Condition::NAMES);
                let condition = condition.map_or(Condition::Healthy, |condition| condition.value);
                let names = (0..node.positional().count()).filter_map(|at| node.argument(at));
                self.depends_on
                    .extend(names.map(|name| Dependency { name, condition }));
            }
        }
    }

    fn further_disk(&mut self, node: &Reader<'_>, several: bool) {
        misplaced(node, "size", "a further disk");
        let writable = node.flag("read-only").is_some_and(|flag| !flag.value);
        let disk = node.parsed_argument(0, |text| value::further_disk(text, writable));
        let Some(disk) = disk else { return };
        if several && matches!(disk.value, FurtherDisk::File { writable: true, .. }) {
            node.scope.report(
                Problem::new(
                    &disk.span,
                    "several machines cannot write to one file",
                    "only one machine can use it at a time",
                )
                .with_help("leave out \"count\" and write a node for each machine"),
            );
        }
        self.disks.push(disk.value);
    }

    fn volume(&mut self, node: &Reader<'_>, several: bool) {
        let name = node.parsed_argument(0, value::fitting("a valid name of a volume"));
        let at = node.parsed_argument(1, value::fitting("a path to mount something at"));
        let read_only = node.flag("read-only").is_some_and(|flag| flag.value);
        let (Some(name), Some(at)) = (name, at) else {
            return;
        };
        if several {
            node.scope.report(
                Problem::new(
                    &name.span,
                    format!("several machines cannot have the volume \"{}\"", name.value),
                    "only one machine can use it at a time",
                )
                .with_help("leave out \"count\" and write a node for each machine"),
            );
        }
        self.mount(node, Mounted::Volume(name.value), at, read_only);
    }

    fn share(&mut self, node: &Reader<'_>) {
        if let Some((host, at, read_only)) = share(node, value::shared_directory) {
            self.mount(node, Mounted::Share(host), at, read_only);
        }
    }

    fn mount(
        &mut self,
        node: &Reader<'_>,
        what: Mounted,
        at: Spanned<MountPoint>,
        read_only: bool,
    ) {
        if self.mounts.iter().any(|other| other.at == at.value) {
            node.scope.report(
                Problem::new(
                    &at.span,
                    format!("two things are mounted at {}", at.value),
                    "the second one",
                )
                .with_help("give one of them another path"),
            );
        }
        self.mounts.push(Mount {
            what,
            at: at.value,
            read_only,
        });
    }

    fn manner(&mut self, node: &Reader<'_>) {
        let text = |name: &str| node.text(name).map(|text| text.value);
        let process = &mut self.process;
        process.user = text("user");
        process.workdir = text("workdir");
        process.stop_signal = text("stop-signal");
        process.manner.stop_timeout = time(node, "stop-timeout");
        let restart = node.choice("restart", &Restart::NAMES);
        process.manner.restart = restart.map(|restart| restart.value);
    }

    fn port(&mut self, node: &Reader<'_>, several: bool) {
        let guest = node.number_argument(0, value::port);
        let host = node.number("host", value::port);
        if !node.has("host") {
            node.lacks("host");
        }
        if several && let Some(host) = &host {
            node.scope.report(
                Problem::new(
                    &host.span,
                    format!(
                        "several machines cannot have port {} of the host",
                        host.value
                    ),
                    "only one can listen there",
                )
                .with_help(
                    "leave out \"count\" and write a node for each machine, with different ports",
                ),
            );
        }
        let protocols = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
        let protocol = node.choice("protocol", &protocols);
        let protocol = protocol.map_or(Protocol::Tcp, |protocol| protocol.value);
        let address = node.parsed("address", value::ipv4_address);
        let last = node.number("last", value::port);
        let (Some(guest), Some(host)) = (guest, host) else {
            return;
        };
        let more = match &last {
            None => Some(0),
            Some(last) => last.value.checked_sub(guest.value),
        };
        let Some(more) = more.filter(|more| host.value.checked_add(*more).is_some()) else {
            if let Some(last) = last {
                node.scope.report(
                    Problem::new(&last.span, "this is no range of ports", "its last port")
                        .with_help("write port 8000 host=9000 last=8010 for eleven ports"),
                );
            }
            return;
        };
        for number in 0..=more {
            let port = Port {
                guest: guest.value + number,
                host: Some(host.value + number),
                protocol,
                address: address.as_ref().map(|address| address.value),
            };
            self.ports.push(Spanned::new(port, host.span.clone()));
        }
    }
}

/// Reports a property that a disk does not take.
fn misplaced(node: &Reader<'_>, property: &str, what: &str) {
    if node.has(property) {
        node.scope.report(
            Problem::new(
                &node.span_of_all(),
                format!("{what} takes no \"{property}\""),
                "not of this disk",
            )
            .with_help(
                "write disk size=\"40G\" for the first disk; disk \"20G\" or disk \"./data.img\" for \
                 further ones",
            ),
        );
    }
}

/// The arguments of a node.
fn words(node: &Reader<'_>) -> Vec<String> {
    node.arguments(value::variable_value)
}

fn time(node: &Reader<'_>, name: &str) -> Option<Duration> {
    let seconds = node.parsed(name, value::duration)?;
    Some(Duration::from_secs(seconds.value))
}

/// A health check: one argument is a script, several are a program with its arguments.
fn health(node: &Reader<'_>) -> Healthcheck {
    let words = words(node);
    let kind = match words.len() {
        0 => None,
        1 => Some("CMD-SHELL"),
        _ => Some("CMD"),
    };
    let enabled = node.flag("enable").is_none_or(|enable| enable.value);
    let test = match enabled {
        true => kind.into_iter().map(str::to_owned).chain(words).collect(),
        false => vec!["NONE".to_owned()],
    };
    let retries = node.number("retries", |text| {
        value::range(text, "a number of checks", 1..=255)
    });
    Healthcheck {
        test,
        interval: time(node, "interval"),
        timeout: time(node, "timeout"),
        start_period: time(node, "start-period"),
        start_interval: time(node, "start-interval"),
        retries: retries.map(|retries| retries.value),
    }
}

/// Reports what is wrong between machines: names, ports and dependencies.
pub(super) fn check(machines: &[Machine], report: &mut dyn FnMut(Problem)) {
    names(machines, report);
    ports(machines, report);
    dependencies(machines, report);
}

fn names(machines: &[Machine], report: &mut dyn FnMut(Problem)) {
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    for (index, machine) in machines.iter().enumerate() {
        // The name of a node counts too: it is what commands and "depends-on" call it by.
        let mut all = machine.names();
        all.push(machine.name.value.clone());
        let twice = all
            .iter()
            .find_map(|name| Some((name, *taken.get(name).filter(|other| **other != index)?)));
        if let Some((name, first)) = twice {
            report(
                Problem::new(
                    &machine.name.span,
                    format!("there are two machines \"{name}\""),
                    "the second one",
                )
                .with_other(&machines[first].name.span, "the first one")
                .with_help("give one of them another name"),
            );
            continue;
        }
        taken.extend(all.into_iter().map(|name| (name, index)));
    }
}

fn ports(machines: &[Machine], report: &mut dyn FnMut(Problem)) {
    let mut taken: BTreeMap<(&str, u16), (&str, &Span)> = BTreeMap::new();
    for machine in machines.iter().filter(|machine| machine.count.is_none()) {
        for port in &machine.ports {
            let Some(host) = port.host else { continue };
            let key = (port.protocol.name(), host);
            if let Some((other, first)) = taken.insert(key, (&machine.name.value, &port.span)) {
                report(
                    Problem::new(
                        &port.span,
                        format!("port {host} of the host is given twice"),
                        format!("machine \"{other}\" has it"),
                    )
                    .with_other(first, "the first time")
                    .with_help("use another port of the host"),
                );
            }
        }
    }
}

fn dependencies(machines: &[Machine], report: &mut dyn FnMut(Problem)) {
    let names: Vec<&str> = machines.iter().map(|m| m.name.value.as_str()).collect();
    let mut known = true;
    for machine in machines {
        for Dependency { name: wanted, .. } in &machine.depends_on {
            if names.contains(&wanted.value.as_str()) {
                continue;
            }
            known = false;
            let others = || names.iter().copied().filter(|n| *n != machine.name.value);
            let help = match closest(&wanted.value, others()) {
                Some(other) => format!("did you mean \"{other}\"?"),
                None => match others().collect::<Vec<_>>().as_slice() {
                    [] => "this file has no other machine".to_owned(),
                    others => format!("the other machines are {}", enumerate(others)),
                },
            };
            report(
                Problem::new(
                    &wanted.span,
                    format!("no machine \"{}\" found", wanted.value),
                    "unknown machine",
                )
                .with_help(help),
            );
        }
    }
    if known {
        circle(machines, report);
    }
}

/// Reports the first circle of dependencies. All names are known.
fn circle(machines: &[Machine], report: &mut dyn FnMut(Problem)) {
    fn walk<'a>(
        machine: &'a Machine,
        machines: &'a [Machine],
        around: &mut Vec<&'a str>,
        done: &mut Vec<&'a str>,
    ) -> Option<Problem> {
        let name = machine.name.value.as_str();
        if done.contains(&name) {
            return None;
        }
        around.push(name);
        for Dependency { name: wanted, .. } in &machine.depends_on {
            if let Some(start) = around.iter().position(|other| *other == wanted.value) {
                let way: Vec<&str> = around[start..]
                    .iter()
                    .copied()
                    .chain([wanted.value.as_str()])
                    .collect();
                return Some(
                    Problem::new(
                        &wanted.span,
                        format!("machine \"{}\" depends on itself", wanted.value),
                        "this closes the loop",
                    )
                    .with_help(format!("the loop is {}", way.join(" → "))),
                );
            }
            let next = machines.iter().find(|m| m.name.value == wanted.value);
            let problem = next.and_then(|next| walk(next, machines, around, done));
            if problem.is_some() {
                return problem;
            }
        }
        around.pop();
        done.push(name);
        None
    }
    let mut done = Vec::new();
    let found = machines
        .iter()
        .find_map(|machine| walk(machine, machines, &mut Vec::new(), &mut done));
    if let Some(problem) = found {
        report(problem);
    }
}

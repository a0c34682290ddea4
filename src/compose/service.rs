//! One service: its keys, read into the model.

use std::collections::BTreeMap;
use std::path::Path;

use super::known::{HARMLESS, READ, SILENT, WRONG};
use super::model::{Health, Made, Service};
use super::reader::Notes;
use super::units::{bytes, seconds};
use super::yaml::{Map, Node, Value};
use super::{Files, interpolate};
use crate::host::SecretSource;
use crate::text::{Spanned, closest};

/// The least memory that a machine of a container image starts in.
const LEAST_MIB: u64 = 256;

/// What services are read with.
pub(super) struct Surroundings<'a> {
    pub directory: &'a Path,
    pub files: &'a dyn Files,
    /// Values of variables.
    pub known: &'a dyn Fn(&str) -> Option<String>,
    /// The name in the home of a volume of the file.
    pub volume: &'a dyn Fn(&str) -> String,
    /// The names of all services that are made.
    pub names: &'a [String],
    /// The whole file.
    pub root: &'a Node,
}

/// What all services share.
#[derive(Default)]
pub(super) struct Shared {
    /// Ports of the host, and who has them.
    pub ports: BTreeMap<(&'static str, u16), String>,
    /// Named volumes, and who has them.
    pub volumes: BTreeMap<String, String>,
    /// Aliases, each with its service and the network that it is in.
    pub aliases: BTreeMap<String, (String, String)>,
    /// The secrets of builds, by id.
    pub secrets: BTreeMap<String, SecretSource>,
    told: BTreeMap<&'static str, ()>,
}

impl Shared {
    /// Whether something is to be said that is said once.
    pub(super) fn first(&mut self, what: &'static str) -> bool {
        self.told.insert(what, ()).is_none()
    }
}

pub(super) struct Reading<'a> {
    pub around: &'a Surroundings<'a>,
    pub shared: &'a mut Shared,
    pub notes: &'a mut Notes,
    pub service: Service,
}

impl Reading<'_> {
    pub(super) fn read(mut self, name: &Spanned<String>, node: &Node) -> Service {
        self.service.name.clone_from(&name.value);
        self.service.restart = "no";
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let begins = name.value.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !begins || !name.value.chars().all(fits) || name.value.len() > 60 {
            self.notes.wrong(
                &name.span,
                format!("\"{}\" cannot be the name of a machine", name.value),
                "use letters, digits, \".\", \"_\" and \"-\", beginning with a letter or digit, at most 60",
            );
        }
        let Value::Map(map) = &node.value else {
            self.notes.wrong(
                &name.span,
                format!("service \"{}\" says nothing of itself", name.value),
                "give it an image: image: nginx:1",
            );
            return self.service;
        };
        self.check_keys(map);
        self.made(name, node);
        for (key, value) in map {
            self.key(key, value);
        }
        if self.service.count.is_some() && !self.service.volumes.is_empty() {
            let (span, help) = (&name.span, "write a service for each");
            let message = "several machines cannot have the same volumes";
            self.notes.wrong(span, message, help);
        }
        if self.service.count.is_some() && !self.service.ports.is_empty() {
            let (span, help) = (&name.span, "remove \"ports\", or write a service for each");
            let message = "several machines cannot have the same ports of the host";
            self.notes.wrong(span, message, help);
        }
        self.service
    }

    fn check_keys(&mut self, map: &Map) {
        let mut known: Vec<&str> = [&READ[..], &SILENT].concat();
        known.extend(HARMLESS.iter().chain(&WRONG).map(|(name, _)| *name));
        self.notes.unknown(map, &known, "a service");
        for (key, value) in map {
            let is = |(name, _): &&(&str, &str)| *name == key.value;
            let off = matches!(&value.value, Value::Null)
                || matches!(&value.value, Value::Scalar(text) if text == "false")
                || matches!(&value.value, Value::List(list) if list.is_empty());
            if off {
                continue;
            }
            if let Some((name, why)) = HARMLESS.iter().find(is) {
                self.notes
                    .warn(&key.span, format!("\"{name}\" has no effect: {why}"));
            }
            if let Some((name, help)) = WRONG.iter().find(is) {
                let message = format!("vmfab cannot do what \"{name}\" asks for");
                self.notes.wrong(&key.span, message, *help);
            }
        }
    }

    fn made(&mut self, name: &Spanned<String>, node: &Node) {
        if let Some(build) = node.get("build") {
            let build = self.build(build);
            self.service.made = Made::Build(Box::new(build));
            return;
        }
        let image = node.get("image");
        match image.and_then(|image| Some((self.notes.text(image, "image")?, image))) {
            Some((text, image)) => {
                let plain = |c: char| c.is_ascii_alphanumeric() || "@:/._-+[]".contains(c);
                if text.is_empty() || !text.chars().all(plain) {
                    let message = format!("\"{text}\" is not the name of an image");
                    self.notes
                        .wrong(&image.span, message, "for example: image: nginx:1");
                }
                self.service.made = Made::Image(match text.starts_with('@') {
                    true => text,
                    false => format!("oci://{text}"),
                });
            }
            None => self.notes.wrong(
                &name.span,
                format!("service \"{}\" has neither image nor build", name.value),
                "give it one: image: nginx:1",
            ),
        }
    }

    fn key(&mut self, key: &Spanned<String>, node: &Node) {
        let name = key.value.as_str();
        match name {
            "command" => self.service.command = self.notes.words(node, name),
            "entrypoint" => self.service.entrypoint = self.notes.words(node, name),
            "environment" => {
                let env = self.notes.pairs(node, name, self.around.known);
                self.service.env.extend(env);
            }
            "env_file" => self.env_files(node),
            "ports" => {
                for port in self.notes.list(node, name) {
                    self.port(port);
                }
            }
            "volumes" => {
                for volume in self.notes.list(node, name) {
                    self.volume(volume);
                }
            }
            "depends_on" => self.depends_on(node),
            "healthcheck" => self.service.health = Some(self.health(node)),
            "deploy" => self.deploy(node),
            "mem_limit" => self.memory(node, name),
            "mem_reservation" if self.service.memory_mib.is_none() => self.memory(node, name),
            "cpus" => self.cpus(node),
            "scale" => self.replicas(node, name),
            "hostname" => {
                self.service.hostname = self.notes.text(node, name);
                if let Some(hostname) = self.service.hostname.clone() {
                    self.alias(node, hostname);
                }
            }
            "links" => {
                for link in self.notes.list(node, name) {
                    self.link(link);
                }
            }
            "working_dir" => self.service.workdir = self.notes.text(node, name),
            "user" => self.service.user = self.notes.text(node, name),
            "stop_signal" => self.service.stop_signal = self.notes.text(node, name),
            "stop_grace_period" => {
                let time = self.time(node, name);
                self.service.stop_timeout = time.map(|seconds| seconds.max(1));
            }
            "restart" => self.restart(node),
            "platform" => self.platform(node),
            "networks" => self.networks(key, node),
            "network_mode" => match self.notes.text(node, name).as_deref() {
                Some("none") => self.service.isolated = true,
                None | Some("bridge") => {}
                Some(_) => self.notes.wrong(
                    &node.span,
                    "vmfab cannot do what \"network_mode\" asks for",
                    "remove it and publish ports, or write none",
                ),
            },
            _ => {}
        }
    }

    /// A service that is found by its name, and started before.
    fn link(&mut self, node: &Node) {
        let Some(text) = self.notes.text(node, "links") else {
            return;
        };
        let (name, alias) = text.split_once(':').unwrap_or((&text, &text));
        if !self.around.names.iter().any(|known| known == name) {
            let message = format!("no service \"{name}\" found");
            self.notes
                .wrong(&node.span, message, "name a service of this file");
        } else if alias != name {
            self.notes.wrong(
                &node.span,
                "vmfab gives names to services, and not to links",
                format!("write at {name}: networks: {{ default: {{ aliases: [{alias}] }} }}"),
            );
        } else if !self
            .service
            .depends_on
            .iter()
            .any(|(other, _)| other == name)
        {
            self.service.depends_on.push((name.to_owned(), "started"));
        }
    }

    fn time(&mut self, node: &Node, name: &str) -> Option<u64> {
        let help = "write a time such as 10s or 1m30s";
        self.notes.parsed(node, name, help, seconds)
    }

    fn env_files(&mut self, node: &Node) {
        let list = match &node.value {
            Value::List(list) => list.clone(),
            _ => vec![node.clone()],
        };
        let mut found = BTreeMap::new();
        for node in list {
            let required = node
                .get("required")
                .map(|node| self.notes.flag(node, "required"));
            let path = node.get("path").unwrap_or(&node);
            let Some(name) = self.notes.text(path, "env_file") else {
                continue;
            };
            match self.around.files.read(&self.around.directory.join(&name)) {
                Ok(text) => match interpolate::env_file(&text, self.around.known) {
                    Ok(variables) => found.extend(variables),
                    Err(line) => {
                        let message = format!("line {line} of {name} sets no variable");
                        self.notes.wrong(&path.span, message, "write NAME=VALUE");
                    }
                },
                Err(_) if required == Some(false) => {}
                Err(error) => {
                    let message = format!("cannot read {name}: {error}");
                    let help = "the path is relative to the directory of this file; \"required: false\" lets it be missing";
                    self.notes.wrong(&path.span, message, help);
                }
            }
        }
        // What the service itself says goes before files, whatever comes first.
        for (name, value) in found {
            self.service.env.entry(name).or_insert(value);
        }
    }

    fn depends_on(&mut self, node: &Node) {
        let node = super::merge::names(node.clone());
        for (key, value) in self.notes.map(&node, "depends_on") {
            let required = value.get("required");
            let required = required.is_none_or(|node| self.notes.flag(node, "required"));
            if !self.around.names.contains(&key.value) {
                if required {
                    let names = self.around.names.iter().map(String::as_str);
                    let help = match closest(&key.value, names) {
                        Some(other) => format!("did you mean \"{other}\"?"),
                        None => "a service of a profile counts only when COMPOSE_PROFILES names it"
                            .to_owned(),
                    };
                    let message = format!("no service \"{}\" found", key.value);
                    self.notes.wrong(&key.span, message, help);
                }
                continue;
            }
            let condition = value.get("condition").and_then(|node| {
                let help =
                    "write service_started, service_healthy or service_completed_successfully";
                self.notes
                    .parsed(node, "condition", help, |text| match text {
                        "service_started" => Some("started"),
                        "service_healthy" => Some("healthy"),
                        "service_completed_successfully" => Some("completed"),
                        _ => None,
                    })
            });
            let condition = condition.unwrap_or("started");
            // "links" may have said less of it.
            let depends_on = &mut self.service.depends_on;
            depends_on.retain(|(other, _)| *other != key.value);
            depends_on.push((key.value.clone(), condition));
        }
    }

    fn health(&mut self, node: &Node) -> Health {
        const KNOWN: [&str; 7] = [
            "disable",
            "interval",
            "retries",
            "start_interval",
            "start_period",
            "test",
            "timeout",
        ];
        let mut health = Health::default();
        if let Value::Map(map) = &node.value {
            self.notes.unknown(map, &KNOWN, "healthcheck");
        }
        for (key, value) in self.notes.map(node, "healthcheck") {
            let name = key.value.as_str();
            match name {
                "test" => self.test(value, &mut health),
                "interval" => health.interval = self.time(value, name),
                "timeout" => health.timeout = self.time(value, name),
                "start_period" => health.start_period = self.time(value, name),
                "start_interval" => health.start_interval = self.time(value, name),
                "retries" => {
                    let help = "write a number from 1 to 255";
                    health.retries = self.notes.parsed(value, name, help, |text| {
                        text.parse()
                            .ok()
                            .filter(|number| (1..=255).contains(number))
                    });
                }
                "disable" => health.disabled |= self.notes.flag(value, name),
                _ => {}
            }
        }
        health
    }

    fn test(&mut self, node: &Node, health: &mut Health) {
        let Value::List(_) = &node.value else {
            health.words.extend(self.notes.text(node, "test"));
            return;
        };
        let words = self.notes.words(node, "test").unwrap_or_default();
        match words.split_first() {
            Some((kind, _)) if kind == "NONE" => health.disabled = true,
            Some((kind, rest)) if kind == "CMD" && !rest.is_empty() => {
                health.words = match rest {
                    // One word alone is a script in a recipe.
                    [one] => vec![format!("'{}'", one.replace('\'', r"'\''"))],
                    several => several.to_vec(),
                };
            }
            Some((kind, [script])) if kind == "CMD-SHELL" => health.words = vec![script.clone()],
            _ => self.notes.wrong(
                &node.span,
                "the list of \"test\" begins with CMD, CMD-SHELL or NONE",
                "for example: test: [\"CMD\", \"curl\", \"-f\", \"http://localhost/\"]",
            ),
        }
    }

    fn deploy(&mut self, node: &Node) {
        let whole = ["limits", "reservations"].map(|kind| node.get("resources")?.get(kind));
        // What is the limit goes before what is reserved.
        for part in whole.into_iter().rev().flatten() {
            for (key, value) in self.notes.map(part, "resources") {
                match key.value.as_str() {
                    "memory" => self.memory(value, "memory"),
                    "cpus" => self.cpus(value),
                    "pids" => self.notes.warn(
                        &key.span,
                        "\"pids\" has no effect: the number of processes is not limited",
                    ),
                    name => self.notes.wrong(
                        &key.span,
                        format!("vmfab cannot do what \"{name}\" asks for"),
                        "remove it: machines see no devices of the host",
                    ),
                }
            }
        }
        for (key, value) in self.notes.map(node, "deploy") {
            match key.value.as_str() {
                "resources" => {}
                "replicas" => self.replicas(value, "replicas"),
                "restart_policy" => {
                    if let Some(condition) = value.get("condition") {
                        self.restart(condition);
                    }
                }
                name => self.notes.warn(
                    &key.span,
                    format!("\"{name}\" of deploy has no effect: vmfab runs machines on this host"),
                ),
            }
        }
    }

    fn memory(&mut self, node: &Node, name: &str) {
        let help = "write a size such as 512m or 2g";
        let Some(bytes) = self.notes.parsed(node, name, help, bytes) else {
            return;
        };
        let mib = bytes.div_ceil(1 << 20);
        if mib < LEAST_MIB {
            let message = format!("the machine has {LEAST_MIB}M: it has a kernel of its own, too");
            self.notes.warn(&node.span, message);
        }
        self.service.memory_mib = Some(mib.max(LEAST_MIB));
    }

    fn cpus(&mut self, node: &Node) {
        let help = "write a number of processors, up to 255";
        let cpus = self.notes.parsed(node, "cpus", help, |text| {
            let number = text.parse::<f64>().ok()?.ceil();
            (0.0..=255.0).contains(&number).then_some(number as u64)
        });
        // A part of a processor is one; zero is no limit.
        self.service.cpus = cpus.filter(|cpus| *cpus > 0).or(self.service.cpus);
    }

    fn replicas(&mut self, node: &Node, name: &str) {
        let help = "write a number from 1 to 64";
        let count = self.notes.parsed(node, name, help, |text| {
            text.parse().ok().filter(|number| (1..=64).contains(number))
        });
        self.service.count = count.filter(|count| *count > 1);
    }

    fn restart(&mut self, node: &Node) {
        let help = "write \"no\", always, on-failure or unless-stopped";
        let restart = self.notes.parsed(node, "restart", help, |text| {
            match text.split(':').next().unwrap_or_default() {
                "no" | "none" | "false" => Some("no"),
                "always" | "unless-stopped" | "any" => Some("always"),
                "on-failure" => Some("on-failure"),
                _ => None,
            }
        });
        self.service.restart = restart.unwrap_or("no");
    }

    fn platform(&mut self, node: &Node) {
        let Some(text) = self.notes.text(node, "platform") else {
            return;
        };
        let own = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        if text.split('/').nth(1).unwrap_or(&text) != own {
            let message = format!("vmfab runs no machines of the platform {text} on this host");
            let help = format!("write linux/{own}, or remove it");
            self.notes.wrong(&node.span, message, help);
        }
    }
}

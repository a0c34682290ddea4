//! The tree of a container image as a machine, and its process as a service of it.

use super::{Lowered, Lowering, Trunk};
use crate::derivation::scripts;
use crate::derivation::step::{self, Step};
use crate::image::{ContainerConfig, Manner, Port, Process, Protocol, Signal};
use crate::plan::PlanError;
use crate::recipe::{Image, Problem, Span};

/// What is added to a port of the guest that no ordinary user of the host can listen on.
const ABOVE_PRIVILEGED: u16 = 8000;
/// How many ports are forwarded without being asked for.
const MOST_FORWARDED: usize = 32;
/// The port of the machine's own SSH server.
const SSH: u16 = 22;

impl Lowering<'_> {
    /// Adds what the tree of a container lacks to boot and, if `service`, its process as a service.
    /// `span` is what a mistake in its config is shown at.
    pub(super) fn machine(
        &mut self,
        own: &str,
        lowered: &mut Lowered,
        service: bool,
        span: &Span,
    ) -> Result<(), PlanError> {
        let Trunk::Tree(tree) = &mut lowered.trunk else {
            return Ok(());
        };
        let bootable = Step::Bootable(step::Bootable {
            kernel: !self.own_kernel,
            scripts: scripts::bootable(),
            locked: None,
        });
        self.layer(tree, format!("{own}: bootable"), &bootable, Vec::new())?;
        let Some(image) = lowered.container.as_ref().filter(|_| service) else {
            return Ok(());
        };
        let own_process = self.process.cloned().unwrap_or_default();
        let config = own_process.applied(image);
        if is_service(&config.command()) {
            self.process = None;
            self.service(own, lowered, &config, own_process.manner, span)?;
        }
        Ok(())
    }

    /// Adds the service of a process that the image does not run by itself.
    pub(super) fn own_process(
        &mut self,
        image: &Image,
        lowered: &mut Lowered,
        process: &Process,
    ) -> Result<(), PlanError> {
        let (name, span) = (&image.name.value, &image.name.span);
        let own = lowered.container.clone().unwrap_or_default();
        let config = process.applied(&own);
        let only_manner = Process {
            manner: process.manner,
            ..Process::default()
        };
        if *process == only_manner && !is_service(&config.command()) {
            return Ok(());
        }
        let wrong = if !is_service(&config.command()) {
            (
                "has no process that a machine could run otherwise",
                "write the machine's command, too: command \"/usr/bin/serve\"",
            )
        } else if matches!(lowered.trunk, Trunk::Disk(..)) {
            (
                "is made of a disk, to which vmfab adds no process",
                "start a service in the recipe of the image, with file and service",
            )
        } else {
            return self.service(name, lowered, &config, process.manner, span);
        };
        let problem = Problem::new(span, format!("image \"{name}\" {}", wrong.0), "this image");
        Err(problem.with_help(wrong.1).into())
    }

    fn service(
        &mut self,
        own: &str,
        lowered: &mut Lowered,
        config: &ContainerConfig,
        manner: Manner,
        span: &Span,
    ) -> Result<(), PlanError> {
        check(config).map_err(|(message, help)| {
            Problem::new(span, message, "it has this config").with_help(help)
        })?;
        let healthcheck = config.healthcheck.as_ref();
        lowered.settings.ports = ports(config);
        let volumes = config.volumes.iter();
        lowered.settings.volumes = volumes.filter_map(|path| path.parse().ok()).collect();
        lowered.settings.health =
            healthcheck.is_some_and(|check| check.command(&config.shell()).is_some());
        let entrypoint = Step::Entrypoint(Box::new(step::Entrypoint {
            config: ContainerConfig {
                // An init of vmfab's own waits for them: only with a kernel of the recipe.
                exposed: match self.own_kernel {
                    true => config.exposed.clone(),
                    false => Default::default(),
                },
                labels: Default::default(),
                onbuild: Vec::new(),
                ..config.clone()
            },
            scripts: scripts::entrypoint(),
            manner,
        }));
        let Trunk::Tree(tree) = &mut lowered.trunk else {
            return Ok(());
        };
        self.layer(tree, format!("{own}: entrypoint"), &entrypoint, Vec::new())
    }
}

/// Whether a command line is one of a service. A shell alone, as bases have it, would end at once:
/// nobody types into it.
fn is_service(command: &[String]) -> bool {
    let Some((program, arguments)) = command.split_first() else {
        return false;
    };
    let name = program.rsplit('/').next().unwrap_or(program);
    let is_shell = ["sh", "ash", "bash", "dash", "fish", "ksh", "zsh"].contains(&name);
    let waits = |argument: &String| ["-i", "-l", "--login"].contains(&argument.as_str());
    !(is_shell && arguments.iter().all(waits))
}

/// What no service can have: a message, and help.
fn check(config: &ContainerConfig) -> Result<(), (String, String)> {
    let check = config.healthcheck.iter().flat_map(|check| &check.test);
    let words = config.entrypoint.iter().chain(&config.cmd).chain(check);
    let words = words.chain(&config.shell).chain(&config.workdir);
    let words = words.chain(&config.volumes);
    let variables = config.env.iter().flat_map(|(name, value)| [name, value]);
    if words.chain(variables).any(|text| text.contains('\0')) {
        return Err((
            "its config has a NUL byte in an argument, a variable or a path".to_owned(),
            "no program can be given that: build the image without it".to_owned(),
        ));
    }
    if let Some(signal) = &config.stop_signal {
        signal.parse::<Signal>().map_err(|error| {
            (
                format!("its STOPSIGNAL is wrong: {error}"),
                "use the name or the number of a signal".to_owned(),
            )
        })?;
    }
    if let Some(user) = &config.user {
        let (name, group) = user.split_once(':').unwrap_or((user, "0"));
        let is_name = |text: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-$".contains(&byte);
            !text.is_empty() && !text.starts_with('-') && text.bytes().all(plain)
        };
        if !is_name(name) || !is_name(group) {
            return Err((
                format!(
                    "its USER is \"{}\", which is no account",
                    user.escape_default()
                ),
                "write a name or a number, and perhaps a group: web, 1000 or web:www-data"
                    .to_owned(),
            ));
        }
    }
    Ok(())
}

/// The ports that a container listens on, each with a port of the host: the same where everybody
/// may listen, else one above. QEMU forwards TCP and UDP.
fn ports(config: &ContainerConfig) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    let exposed = config.exposed.iter();
    let forwarded = exposed.filter(|port| match port.protocol {
        Protocol::Tcp => port.port != SSH,
        Protocol::Udp => true,
        Protocol::Sctp => false,
    });
    for (index, port) in forwarded.enumerate() {
        let guest = port.port;
        let first = match guest {
            0..1024 => guest + ABOVE_PRIVILEGED,
            guest => guest,
        };
        let taken = |host: &u16| {
            let mut others = ports.iter().filter(|other| other.protocol == port.protocol);
            others.any(|other| other.host == Some(*host))
        };
        let host = (first..=u16::MAX).find(|host| !taken(host));
        ports.push(Port {
            guest,
            host: host.filter(|_| index < MOST_FORWARDED),
            protocol: port.protocol,
            address: None,
        });
    }
    ports
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(json: serde_json::Value) -> ContainerConfig {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_shell_alone_is_no_service() {
        let is = |command: &[&str]| {
            let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
            is_service(&command)
        };
        for none in [
            &[][..],
            &["bash"],
            &["/bin/sh"],
            &["/usr/bin/fish", "-l", "-i"],
        ] {
            assert!(!is(none), "{none:?}");
        }
        for some in [
            &["nginx"][..],
            &["/bin/sh", "-c", "serve"],
            &["sh", "/run.sh"],
            &["node"],
        ] {
            assert!(is(some), "{some:?}");
        }
    }

    #[test]
    fn exposed_ports_are_forwarded() {
        let exposed = json!({
            "80/tcp": {}, "443/tcp": {}, "8080/tcp": {}, "5432/tcp": {}, "53/udp": {}, "22/tcp": {},
            "65535/tcp": {},
        });
        let ports = ports(&config(json!({ "ExposedPorts": exposed })));
        let pairs: Vec<(u16, u16, Protocol)> = ports
            .iter()
            .map(|port| (port.guest, port.host.unwrap(), port.protocol))
            .collect();
        let expected = [
            (53, 8053, Protocol::Udp),
            (80, 8080, Protocol::Tcp),
            (443, 8443, Protocol::Tcp),
            (5432, 5432, Protocol::Tcp),
            (8080, 8081, Protocol::Tcp),
            (65535, 65535, Protocol::Tcp),
        ];
        assert_eq!(pairs, expected);
    }

    #[test]
    fn not_every_port_of_a_range_is_forwarded() {
        let range: serde_json::Map<_, _> = (30000..30100)
            .map(|port| (format!("{port}/tcp"), json!({})))
            .collect();
        let ports = ports(&config(json!({ "ExposedPorts": range })));
        let forwarded = ports.iter().filter(|port| port.host.is_some());
        assert_eq!((ports.len(), forwarded.count()), (100, MOST_FORWARDED));
    }

    #[test]
    fn configs_that_no_service_can_have() {
        for (wrong, said) in [
            (json!({ "Cmd": ["a\0b"] }), "NUL"),
            (json!({ "Env": ["A=\0"] }), "NUL"),
            (json!({ "StopSignal": "SIGNAL" }), "STOPSIGNAL"),
            (json!({ "User": "a b" }), "no account"),
            (json!({ "User": "web:" }), "no account"),
            (json!({ "User": "-x" }), "no account"),
            (json!({ "User": "a\nUser=root" }), "a\\nUser=root"),
        ] {
            let (message, _) = check(&config(wrong)).unwrap_err();
            assert!(message.contains(said), "{message}");
        }
        for right in [
            json!({}),
            json!({ "User": "1000:1000", "StopSignal": "37", "Cmd": ["\n%$'"] }),
            json!({ "User": "www-data" }),
        ] {
            assert_eq!(check(&config(right)), Ok(()));
        }
    }
}

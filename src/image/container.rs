//! The config of a container image: which process it runs, and how. Pure.
//!
//! As JSON it is the member `config` of an image config: OCI image specification 1.1, and what
//! docker adds (`Healthcheck`, `Shell`, `OnBuild`). Empty and absent members are the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A program of guests whose service has a health check: it succeeds when the service is healthy.
pub const HEALTH_READY: &str = "/usr/lib/vmfab/container/ready";
/// How it ends while that is not known yet.
pub const HEALTH_STARTING: i32 = 81;
/// How it ends when the service is not healthy.
pub const HEALTH_FAILED: i32 = 82;

/// The init of vmfab's own, in guests.
pub const OWN_INIT: &str = "/usr/lib/vmfab/init";
/// What the init of vmfab's own says on the console when its process is ready.
pub const INIT_READY: &str = "vmfab-init: ready";
/// What it says when its process will not be ready soon, before the reason.
pub const INIT_UNHEALTHY: &str = "vmfab-init: unhealthy";

/// What a container image says about its process. Its texts may come from anywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Wire", into = "Wire")]
pub struct ContainerConfig {
    /// The beginning of the command line; none when empty.
    pub entrypoint: Vec<String>,
    /// The rest of the command line, or all of it.
    pub cmd: Vec<String>,
    /// Variables with their values, in the order in which they were first set. No name is empty or
    /// has a `=`, and none is there twice: see [`set_env`](Self::set_env).
    pub env: Vec<(String, String)>,
    /// `user[:group]`, by name or number; root when absent.
    pub user: Option<String>,
    /// Where the process starts; `/` when absent.
    pub workdir: Option<String>,
    /// What the process is stopped with, as [`Signal`] reads it; SIGTERM when absent.
    pub stop_signal: Option<String>,
    /// How its health is checked.
    pub healthcheck: Option<Healthcheck>,
    /// Ports that it listens on.
    pub exposed: BTreeSet<ExposedPort>,
    /// Directories that outlive the container.
    pub volumes: BTreeSet<String>,
    pub labels: BTreeMap<String, String>,
    /// What runs commands in shell form; `/bin/sh -c` when empty.
    pub shell: Vec<String>,
    /// Instructions for images that start from this one, as they are written.
    pub onbuild: Vec<String>,
}

impl ContainerConfig {
    /// The command line; empty when the image does not say what to run.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        [&self.entrypoint[..], &self.cmd].concat()
    }

    /// The value of a variable.
    #[must_use]
    pub fn env(&self, name: &str) -> Option<&str> {
        let mut variables = self.env.iter();
        variables
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Sets a variable. One that is there keeps its place.
    pub fn set_env(&mut self, name: &str, value: &str) {
        match self.env.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => value.clone_into(known),
            None => self.env.push((name.to_owned(), value.to_owned())),
        }
    }

    /// What runs commands in shell form.
    #[must_use]
    pub fn shell(&self) -> Vec<String> {
        match self.shell.is_empty() {
            true => ["/bin/sh", "-c"].map(str::to_owned).into(),
            false => self.shell.clone(),
        }
    }
}

/// How the health of a container's process is checked. What is absent is docker's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Healthcheck {
    /// `["CMD", program, argument…]`, `["CMD-SHELL", script]`, or `["NONE"]`.
    pub test: Vec<String>,
    /// From the end of one check to the next one.
    pub interval: Option<Duration>,
    /// How long a check may take.
    pub timeout: Option<Duration>,
    /// How long after the start failures do not count.
    pub start_period: Option<Duration>,
    /// The interval in that time.
    pub start_interval: Option<Duration>,
    /// How many checks in a row must fail.
    pub retries: Option<u32>,
}

impl Healthcheck {
    pub const INTERVAL: Duration = Duration::from_secs(30);
    pub const TIMEOUT: Duration = Duration::from_secs(30);
    pub const START_PERIOD: Duration = Duration::ZERO;
    pub const START_INTERVAL: Duration = Duration::from_secs(5);
    pub const RETRIES: u32 = 3;
    /// How often the health of a process is checked that never was healthy, unless the image says
    /// so. In a machine nobody else waits: it changes no verdict.
    pub const SOON: Duration = Duration::from_secs(2);

    /// The command line of a check; `None` when there is none. `shell` runs commands in shell form.
    #[must_use]
    pub fn command(&self, shell: &[String]) -> Option<Vec<String>> {
        let (kind, rest) = self.test.split_first()?;
        match kind.as_str() {
            "CMD" if !rest.is_empty() => Some(rest.to_vec()),
            "CMD-SHELL" if !rest.is_empty() => Some([shell, &rest[..1]].concat()),
            _ => None,
        }
    }
}

/// A port that a container listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExposedPort {
    pub port: u16,
    pub protocol: Protocol,
}

/// What is spoken at a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    const NAMES: [(&'static str, Self); 3] =
        [("tcp", Self::Tcp), ("udp", Self::Udp), ("sctp", Self::Sctp)];

    /// Whether it is the one that ports have unless told otherwise.
    #[allow(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature that serde wants"
    )]
    #[must_use]
    pub const fn is_tcp(&self) -> bool {
        matches!(self, Self::Tcp)
    }

    /// What stands behind a number of a port: nothing for TCP.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Tcp => "",
            Self::Udp => "/udp",
            Self::Sctp => "/sctp",
        }
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl fmt::Display for ExposedPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.port, self.protocol.name())
    }
}

impl ExposedPort {
    /// The ports of `PORT`, `PORT/PROTOCOL` or `FIRST-LAST[/PROTOCOL]`.
    ///
    /// # Errors
    /// It is none of these.
    pub fn range(text: &str) -> Result<Vec<Self>, ParsePortError> {
        let wrong = || ParsePortError(text.to_owned());
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = protocol.to_ascii_lowercase();
        let mut names = Protocol::NAMES.into_iter();
        let protocol = names.find(|(name, _)| *name == protocol);
        let (_, protocol) = protocol.ok_or_else(wrong)?;
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let port = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| digits).ok_or_else(wrong)
        };
        let (first, last): (u16, u16) = (port(first)?, port(last)?);
        if first == 0 || first > last {
            return Err(wrong());
        }
        Ok((first..=last).map(|port| Self { port, protocol }).collect())
    }
}

/// The text names no ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a port: write 80, 80/tcp, 53/udp or 8000-8010")]
pub struct ParsePortError(String);

/// A signal of Linux, by its number on the architectures that vmfab makes images for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(u8);

impl Signal {
    pub const TERM: Self = Self(15);

    /// Source: signal(7).
    const NAMES: [(&'static str, u8); 33] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ILL", 4),
        ("TRAP", 5),
        ("ABRT", 6),
        ("BUS", 7),
        ("FPE", 8),
        ("KILL", 9),
        ("USR1", 10),
        ("SEGV", 11),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
        ("STKFLT", 16),
        ("CHLD", 17),
        ("CONT", 18),
        ("STOP", 19),
        ("TSTP", 20),
        ("TTIN", 21),
        ("TTOU", 22),
        ("URG", 23),
        ("XCPU", 24),
        ("XFSZ", 25),
        ("VTALRM", 26),
        ("PROF", 27),
        ("WINCH", 28),
        ("IO", 29),
        ("PWR", 30),
        ("SYS", 31),
        ("IOT", 6),
        ("POLL", 29),
    ];
    /// The first and the last real-time signal of programs: the C library keeps two to itself.
    const REAL_TIME: (u8, u8) = (34, 64);

    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl FromStr for Signal {
    type Err = ParseSignalError;

    /// A number, a name with or without `SIG`, or `RTMIN+N` and `RTMAX-N`, as docker reads it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseSignalError(text.to_owned());
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u8>().ok().filter(|_| digits)
        };
        let (first, last) = Self::REAL_TIME;
        if let Some(number) = number(text) {
            let known = (1..=last).contains(&number);
            return known.then_some(Self(number)).ok_or_else(wrong);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, number)) = Self::NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(Self(*number));
        }
        let real_time = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
            (Some(""), _) => Some(first),
            (_, Some("")) => Some(last),
            (Some(rest), _) => rest
                .strip_prefix('+')
                .and_then(number)
                .map(|n| first.saturating_add(n)),
            (_, Some(rest)) => rest
                .strip_prefix('-')
                .and_then(number)
                .map(|n| last.saturating_sub(n)),
            _ => None,
        };
        let real_time = real_time.filter(|number| (first..=last).contains(number));
        real_time.map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Signal {
    /// The name, or the number where there is none.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(formatter, "SIG{name}"),
            None => write!(formatter, "{}", self.0),
        }
    }
}

/// The text names no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown signal \"{0}\": write SIGTERM, QUIT, 15 or SIGRTMIN+3")]
pub struct ParseSignalError(String);

/// The config as images have it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Wire {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exposed_ports: Option<BTreeMap<String, Empty>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    env: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<WireHealthcheck>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volumes: Option<BTreeMap<String, Empty>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_dir: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shell: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_build: Option<Vec<String>>,
}

/// The value of a member of a set: `{}`, and `null` in old images.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(from = "Option<serde::de::IgnoredAny>")]
struct Empty {}

impl From<Option<serde::de::IgnoredAny>> for Empty {
    fn from(_: Option<serde::de::IgnoredAny>) -> Self {
        Self {}
    }
}

/// Times are in nanoseconds; zero is the default.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct WireHealthcheck {
    #[serde(skip_serializing_if = "Option::is_none")]
    test: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_period: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_interval: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retries: Option<i64>,
}

impl From<Wire> for ContainerConfig {
    fn from(wire: Wire) -> Self {
        let text = |text: Option<String>| text.filter(|text| !text.is_empty());
        let mut config = Self {
            entrypoint: wire.entrypoint.unwrap_or_default(),
            cmd: wire.cmd.unwrap_or_default(),
            env: Vec::new(),
            user: text(wire.user),
            workdir: text(wire.working_dir),
            stop_signal: text(wire.stop_signal),
            healthcheck: wire.healthcheck.map(Healthcheck::from),
            exposed: BTreeSet::new(),
            volumes: wire.volumes.unwrap_or_default().into_keys().collect(),
            labels: wire.labels.unwrap_or_default(),
            shell: wire.shell.unwrap_or_default(),
            onbuild: wire.on_build.unwrap_or_default(),
        };
        for line in wire.env.unwrap_or_default() {
            // A line without a value, or without a name, sets nothing.
            if let Some((name, value)) = line.split_once('=').filter(|(name, _)| !name.is_empty()) {
                config.set_env(name, value);
            }
        }
        let ports = wire.exposed_ports.unwrap_or_default().into_keys();
        // What is no port nobody can connect to.
        let ports = ports.filter_map(|text| ExposedPort::range(&text).ok());
        config.exposed = ports.flatten().collect();
        config
    }
}

impl From<ContainerConfig> for Wire {
    fn from(config: ContainerConfig) -> Self {
        fn list<T>(list: Vec<T>) -> Option<Vec<T>> {
            Some(list).filter(|list| !list.is_empty())
        }
        let set = |names: Vec<String>| {
            let names = list(names)?.into_iter();
            Some(names.map(|name| (name, Empty {})).collect())
        };
        let env = config.env.into_iter();
        Self {
            user: config.user,
            exposed_ports: set(config.exposed.iter().map(ToString::to_string).collect()),
            env: list(env.map(|(name, value)| format!("{name}={value}")).collect()),
            entrypoint: list(config.entrypoint),
            cmd: list(config.cmd),
            healthcheck: config.healthcheck.map(WireHealthcheck::from),
            volumes: set(config.volumes.into_iter().collect()),
            working_dir: config.workdir,
            labels: Some(config.labels).filter(|labels| !labels.is_empty()),
            stop_signal: config.stop_signal,
            shell: list(config.shell),
            on_build: list(config.onbuild),
        }
    }
}

impl From<WireHealthcheck> for Healthcheck {
    fn from(wire: WireHealthcheck) -> Self {
        let time = |nanoseconds: Option<i64>| {
            let nanoseconds = nanoseconds.and_then(|value| u64::try_from(value).ok());
            nanoseconds
                .filter(|value| *value > 0)
                .map(Duration::from_nanos)
        };
        Self {
            test: wire.test.unwrap_or_default(),
            interval: time(wire.interval),
            timeout: time(wire.timeout),
            start_period: time(wire.start_period),
            start_interval: time(wire.start_interval),
            retries: wire
                .retries
                .and_then(|value| u32::try_from(value).ok())
                .filter(|value| *value > 0),
        }
    }
}

impl From<Healthcheck> for WireHealthcheck {
    fn from(check: Healthcheck) -> Self {
        let time = |time: Option<Duration>| {
            time.map(|time| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))
        };
        Self {
            test: Some(check.test).filter(|test| !test.is_empty()),
            interval: time(check.interval),
            timeout: time(check.timeout),
            start_period: time(check.start_period),
            start_interval: time(check.start_interval),
            retries: check.retries.map(i64::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn configs_are_read_and_written_as_images_have_them() {
        let full = json!({
            "User": "web:www", "ExposedPorts": { "80/tcp": {}, "53/udp": {} },
            "Env": ["PATH=/bin", "A=x=y", "B="], "Entrypoint": ["/run.sh"], "Cmd": ["a", "b c"],
            "Healthcheck": { "Test": ["CMD-SHELL", "true"], "Interval": 1_500_000_000, "Retries": 2 },
            "Volumes": { "/data": {} }, "WorkingDir": "/srv", "Labels": { "a": "b" },
            "StopSignal": "SIGQUIT", "Shell": ["/bin/bash", "-c"], "OnBuild": ["RUN true"],
        });
        let config: ContainerConfig = serde_json::from_value(full.clone()).unwrap();
        assert_eq!(config.command(), ["/run.sh", "a", "b c"]);
        assert_eq!(config.env("A"), Some("x=y"));
        let check = config.healthcheck.as_ref().unwrap();
        assert_eq!(check.interval, Some(Duration::from_millis(1500)));
        let command = check.command(&config.shell()).unwrap();
        assert_eq!(command, ["/bin/bash", "-c", "true"]);
        assert_eq!(serde_json::to_value(&config).unwrap(), full);
    }

    #[test]
    fn what_is_empty_or_malformed_is_absent() {
        for nothing in [
            json!({}),
            json!({ "User": "", "Env": null, "Cmd": null, "Labels": null, "Volumes": null }),
            json!({ "Env": ["A", "=1"], "ExposedPorts": { "web": {}, "0": {}, "9-8/tcp": {} } }),
            json!({ "AttachStdin": false, "ArgsEscaped": true, "StopTimeout": 10 }),
        ] {
            let config: ContainerConfig = serde_json::from_value(nothing.clone()).unwrap();
            assert_eq!(config, ContainerConfig::default(), "{nothing}");
        }
        assert_eq!(
            serde_json::to_value(ContainerConfig::default()).unwrap(),
            json!({})
        );
        let old = json!({ "ExposedPorts": { "80": null }, "Volumes": { "/v": null } });
        let old: ContainerConfig = serde_json::from_value(old).unwrap();
        assert_eq!((old.exposed.len(), old.volumes.len()), (1, 1));
        assert!(serde_json::from_value::<ContainerConfig>(json!({ "Cmd": "sh" })).is_err());
    }

    #[test]
    fn variables_keep_their_place() {
        let mut config = ContainerConfig::default();
        for (name, value) in [("A", "1"), ("B", "2"), ("A", "3")] {
            config.set_env(name, value);
        }
        let pairs = [("A", "3"), ("B", "2")].map(|(name, value)| (name.into(), value.into()));
        assert_eq!(config.env, pairs);
    }

    #[test]
    fn ports() {
        let range = |text: &str| {
            let ports = ExposedPort::range(text).ok()?;
            Some(ports.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(range("80").unwrap(), ["80/tcp"]);
        assert_eq!(range("53/UDP").unwrap(), ["53/udp"]);
        assert_eq!(range("8000-8001/tcp").unwrap(), ["8000/tcp", "8001/tcp"]);
        for wrong in ["", "0", "65536", "+1", "1-", "80/", "80/http", "2-1", "a"] {
            assert_eq!(range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn signals() {
        let shown = |text: &str| text.parse::<Signal>().map(|signal| signal.to_string());
        for (text, name) in [
            ("SIGQUIT", "SIGQUIT"),
            ("quit", "SIGQUIT"),
            ("15", "SIGTERM"),
            ("SIGRTMIN+3", "37"),
            ("RTMAX-2", "62"),
            ("64", "64"),
            ("IOT", "SIGABRT"),
        ] {
            assert_eq!(shown(text).unwrap(), name);
        }
        for wrong in [
            "",
            "0",
            "65",
            "SIG",
            "SIGSIGTERM",
            "+9",
            "RTMIN+31",
            "RTMAX+1",
            "TERM ",
        ] {
            assert!(shown(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Signal::TERM.to_string(), "SIGTERM");
    }

    #[test]
    fn checks_that_are_none() {
        let check = |test: &[&str]| {
            let test = test.iter().map(|&word| word.to_owned()).collect();
            let check = Healthcheck {
                test,
                ..Healthcheck::default()
            };
            check.command(&["sh".to_owned()])
        };
        assert_eq!(check(&["CMD", "a", "b"]).unwrap(), ["a", "b"]);
        assert_eq!(check(&["CMD-SHELL", "a b"]).unwrap(), ["sh", "a b"]);
        for none in [&[][..], &["NONE"], &["CMD"], &["CMD-SHELL"], &["a"]] {
            assert_eq!(check(none), None, "{none:?}");
        }
    }
}

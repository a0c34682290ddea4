//! `vmfab list`

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use clap::Args;

use super::super::Status;
use super::super::output::size;
use super::super::session::Session;
use super::super::table::{Align, Table};
use super::builds::brief;
use super::repeat::{WatchArgs, watch};
use crate::failure::Failure;
use crate::ops::builds;
use crate::ops::machine::{Lister, MachineEntry, planned};

/// List machines
///
/// List the machines of the project first, then those that vmfab boot created. The states are
/// current: vmfab asks all machines now, and saves nothing. CPU is the share of its processors that
/// a machine uses at the moment, MEMORY what it takes from this host. A line for each build that
/// runs follows: see vmfab builds.
#[derive(Debug, Args)]
#[command(
    visible_alias = "ls",
    after_help = "\
Examples:
  vmfab list
  vmfab list --all
  vmfab list --json | jq -r '.[] | select(.state == \"running\").name'
  vmfab list --watch
  vmfab list --quiet | xargs vmfab stop"
)]
pub(crate) struct List {
    /// Also list the machines of all other projects
    #[arg(short, long)]
    all: bool,

    #[command(flatten)]
    watch: WatchArgs,
}

impl List {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.reading_context()?;
        let mut lister = Lister::default();
        let mut list = || -> Result<_, Failure> {
            let builds = builds::list(context, false);
            let mut entries = lister.list(context, self.all)?;
            // Names are for commands that need a machine.
            if !session.quiet() {
                entries.extend(planned(context, &builds, &entries, self.all));
            }
            Ok((entries, brief(&builds)))
        };
        let Some(every) = self.watch.every() else {
            let (entries, builds) = list()?;
            return once(session, &entries, &builds);
        };
        let below = RefCell::default();
        let entries = || {
            let (entries, builds) = list()?;
            *below.borrow_mut() = builds;
            Ok(entries)
        };
        watch(session, every, entries, |entries| {
            table(entries) + &below.borrow()
        })
    }
}

fn once(session: &Session, entries: &[MachineEntry], builds: &str) -> Result<Status, Failure> {
    session.print(&entries, |entries| {
        if session.quiet() {
            let names = entries.iter().map(|entry| format!("{}\n", entry.name));
            names.collect()
        } else if entries.is_empty() {
            builds.to_owned()
        } else {
            table(entries) + builds
        }
    })?;
    if entries.is_empty() && builds.is_empty() {
        session.note("no machines: vmfab boot IMAGE creates one");
    }
    Ok(Status::Done)
}

fn table(entries: &[MachineEntry]) -> String {
    // Without projects there is no column about them.
    let projects = entries.iter().any(|entry| entry.project.is_some());
    let mut columns = vec![("NAME", Align::Left)];
    if projects {
        columns.push(("PROJECT", Align::Left));
    }
    columns.extend([
        ("STATE", Align::Left),
        ("IMAGE", Align::Left),
        ("CPU", Align::Right),
        ("MEMORY", Align::Right),
        ("SSH", Align::Left),
        ("PORTS", Align::Left),
        ("UPTIME", Align::Right),
    ]);
    let mut table = Table::new(columns);
    for entry in entries {
        let mut row = vec![entry.name.to_string()];
        if projects {
            let project = entry.project.as_deref().map(shown);
            row.push(project.unwrap_or_default());
        }
        row.push(state(entry));
        if let Some(settings) = &entry.settings {
            let usage = entry.usage;
            let cpu = usage.map(|usage| percent(usage.cpu / f64::from(settings.cpus.max(1))));
            let memory = usage.map(|usage| format!("{} of ", size(usage.memory)));
            row.extend([
                settings.image_name.to_string(),
                format!("{}{}", cpu.unwrap_or_default(), settings.cpus),
                format!("{}{}", memory.unwrap_or_default(), size(settings.memory)),
                format!("{}:{}", settings.ssh.host, settings.ssh.port),
                ports(entry),
                usage.map_or_else(String::new, |usage| span(usage.uptime as u64)),
            ]);
        }
        table.row(row);
    }
    table.to_string()
}

/// `12% of `, of all its processors.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0}% of ", share * 100.0)
}

/// What it does, and why.
pub(super) fn state(entry: &MachineEntry) -> String {
    match entry.reason {
        Some(reason) => format!("{} ({})", entry.state, reason.replace('-', " ")),
        None => entry.state.to_owned(),
    }
}

/// A directory, with `~` for the user's own.
pub(super) fn shown(directory: &Path) -> String {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let below = home.and_then(|home| directory.strip_prefix(home).ok().map(Path::to_owned));
    match below {
        Some(below) if below.as_os_str().is_empty() => "~".to_owned(),
        Some(below) => format!("~/{}", below.display()),
        None => directory.display().to_string(),
    }
}

/// `8080:80 8443:443`, as `vmfab boot` takes them.
pub(super) fn ports(entry: &MachineEntry) -> String {
    let ports = entry.settings.iter().flat_map(|settings| &settings.ports);
    let texts: Vec<_> = ports
        .map(|port| format!("{}:{}{}", port.host, port.guest, port.protocol.suffix()))
        .collect();
    texts.join(" ")
}

/// How long: whole units, the largest one that fits.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..=59 => format!("{seconds} s"),
        60..=3599 => format!("{} min", seconds / 60),
        3600..=86_399 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::digest::{Hasher, ObjectId};
    use crate::image::{Devices, Firmware, Network, Seed};
    use crate::machine::Forwarded;
    use crate::ops::machine::{MachineUsage, Settings, SshAddress};
    use crate::qemu::AccelChoice;

    pub(in super::super) fn entry(
        name: &str,
        state: &'static str,
        settings: Option<Settings>,
    ) -> MachineEntry {
        MachineEntry {
            name: name.parse().unwrap(),
            project: None,
            state,
            reason: None,
            usage: None,
            pid: None,
            stored_size: 0,
            settings,
        }
    }

    pub(in super::super) fn settings() -> Settings {
        Settings {
            image: ObjectId::new(Hasher::new("test").finish()),
            image_name: "docker".parse().unwrap(),
            created: 1_700_000_000,
            memory: 1 << 30,
            cpus: 2,
            disk_size: 10 << 30,
            further_disks: Vec::new(),
            disk_files: Vec::new(),
            ssh: SshAddress {
                host: "127.0.0.1",
                port: 40001,
                user: "vm".parse().unwrap(),
            },
            ports: vec![Forwarded::tcp(8080, 80)],
            accel: AccelChoice::Auto,
            firmware: Firmware::Direct,
            seed: Seed::Credentials,
            network: Network::default(),
            mounts: Vec::new(),
            devices: Devices::default(),
            remove_when_stopped: false,
            container: None,
        }
    }

    pub(in super::super) fn running(name: &str) -> MachineEntry {
        MachineEntry {
            usage: Some(MachineUsage {
                uptime: 7300.0,
                cpu: 0.25,
                memory: 300 << 20,
            }),
            ..entry(name, "running", Some(settings()))
        }
    }

    #[test]
    fn a_table() {
        let running = running("docker");
        let settings = settings();
        let full = MachineEntry {
            reason: Some("disk-full"),
            ..entry("full", "paused", Some(settings.clone()))
        };
        let entries = [running.clone(), full, entry("old", "damaged", None)];
        insta::assert_snapshot!(table(&entries), @r#"
        NAME     STATE                IMAGE         CPU               MEMORY   SSH               PORTS     UPTIME
        docker   running              docker   12% of 2   300 MiB of 1.0 GiB   127.0.0.1:40001   8080:80      2 h
        full     paused (disk full)   docker          2              1.0 GiB   127.0.0.1:40001   8080:80
        old      damaged
        "#);
        let of_project = MachineEntry {
            project: Some("/srv/shop".into()),
            ..entry("web", "stopped", Some(settings))
        };
        insta::assert_snapshot!(table(&[of_project, running]), @r##"
        NAME     PROJECT     STATE     IMAGE         CPU               MEMORY   SSH               PORTS     UPTIME
        web      /srv/shop   stopped   docker          2              1.0 GiB   127.0.0.1:40001   8080:80
        docker               running   docker   12% of 2   300 MiB of 1.0 GiB   127.0.0.1:40001   8080:80      2 h
        "##);
    }

    #[test]
    fn spans() {
        let spans = [0, 30, 1000, 10_000, 1_000_000].map(span);
        assert_eq!(spans, ["0 s", "30 s", "16 min", "2 h", "11 d"]);
    }
}

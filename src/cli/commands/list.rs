//! `vmfab list`

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;

use super::super::Status;
use super::super::output::size;
use super::super::session::Session;
use super::super::table::{Align, Table};
use crate::failure::Failure;
use crate::ops::machine::{self, MachineEntry};

/// List machines
///
/// List the machines of the project first, then those that vmfab boot created. The states are
/// current: vmfab asks each machine now, and saves nothing.
#[derive(Debug, Args)]
#[command(
    visible_alias = "ls",
    after_help = "\
Examples:
  vmfab list
  vmfab list --all
  vmfab list --json | jq -r '.[] | select(.state == \"running\").name'
  vmfab list --quiet | xargs vmfab stop"
)]
pub(crate) struct List {
    /// Also list the machines of all other projects
    #[arg(short, long)]
    all: bool,
}

impl List {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let entries = machine::list(session.reading_context()?, self.all)?;
        session.print(&entries, |entries| {
            if session.quiet() {
                let names = entries.iter().map(|entry| format!("{}\n", entry.name));
                names.collect()
            } else if entries.is_empty() {
                String::new()
            } else {
                table(entries, SystemTime::now())
            }
        })?;
        if entries.is_empty() {
            session.note("no machines: vmfab boot IMAGE creates one");
        }
        Ok(Status::Done)
    }
}

fn table(entries: &[MachineEntry], now: SystemTime) -> String {
    // Without projects there is no column about them.
    let projects = entries.iter().any(|entry| entry.project.is_some());
    let mut columns = vec![("NAME", Align::Left)];
    if projects {
        columns.push(("PROJECT", Align::Left));
    }
    columns.extend([
        ("STATE", Align::Left),
        ("IMAGE", Align::Left),
        ("CPUS", Align::Right),
        ("MEMORY", Align::Right),
        ("DISK", Align::Right),
        ("SSH", Align::Left),
        ("PORTS", Align::Left),
        ("AGE", Align::Right),
    ]);
    let mut table = Table::new(columns);
    for entry in entries {
        let mut row = vec![entry.name.to_string()];
        if projects {
            let project = entry.project.as_deref().map(shown);
            row.push(project.unwrap_or_default());
        }
        row.push(entry.state.to_owned());
        if let Some(settings) = &entry.settings {
            row.extend([
                settings.image_name.to_string(),
                settings.cpus.to_string(),
                size(settings.memory),
                size(settings.disk_size),
                format!("{}:{}", settings.ssh.host, settings.ssh.port),
                ports(entry),
                age(settings.created, now),
            ]);
        }
        table.row(row);
    }
    table.to_string()
}

/// A directory, with `~` for the user's own.
fn shown(directory: &Path) -> String {
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

/// How long ago: whole units, the largest one that fits.
fn age(created: u64, now: SystemTime) -> String {
    let age = now
        .duration_since(UNIX_EPOCH + Duration::from_secs(created))
        .unwrap_or_default()
        .as_secs();
    match age {
        0 => "now".to_owned(),
        1..=59 => format!("{age} s"),
        60..=3599 => format!("{} min", age / 60),
        3600..=86_399 => format!("{} h", age / 3600),
        _ => format!("{} d", age / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Hasher, ObjectId};
    use crate::image::{Firmware, Seed};
    use crate::machine::Forwarded;
    use crate::ops::machine::{Settings, SshAddress};
    use crate::qemu::AccelChoice;

    #[test]
    fn a_table() {
        let entry = |name: &str, state, settings| MachineEntry {
            name: name.parse().unwrap(),
            project: None,
            state,
            pid: None,
            settings,
        };
        let settings = Settings {
            image: ObjectId::new(Hasher::new("test").finish()),
            image_name: "docker".parse().unwrap(),
            created: 1_700_000_000,
            memory: 1 << 30,
            cpus: 2,
            disk_size: 10 << 30,
            ssh: SshAddress {
                host: "127.0.0.1",
                port: 40001,
                user: "vm".parse().unwrap(),
            },
            ports: vec![Forwarded::tcp(8080, 80)],
            accel: AccelChoice::Auto,
            firmware: Firmware::Direct,
            seed: Seed::Credentials,
            isolated: false,
            remove_when_stopped: false,
        };
        let entries = [
            entry("docker", "running", Some(settings.clone())),
            entry("old", "damaged", None),
        ];
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000 + 7300);
        insta::assert_snapshot!(table(&entries, now), @r#"
        NAME     STATE     IMAGE    CPUS    MEMORY     DISK   SSH               PORTS     AGE
        docker   running   docker      2   1.0 GiB   10 GiB   127.0.0.1:40001   8080:80   2 h
        old      damaged
        "#);
        let of_project = MachineEntry {
            project: Some("/srv/shop".into()),
            ..entry("web", "stopped", Some(settings))
        };
        let [docker, _] = entries;
        insta::assert_snapshot!(table(&[of_project, docker], now), @r##"
        NAME     PROJECT     STATE     IMAGE    CPUS    MEMORY     DISK   SSH               PORTS     AGE
        web      /srv/shop   stopped   docker      2   1.0 GiB   10 GiB   127.0.0.1:40001   8080:80   2 h
        docker               running   docker      2   1.0 GiB   10 GiB   127.0.0.1:40001   8080:80   2 h
        "##);
    }

    #[test]
    fn ages() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let ages = [1_000_000, 999_970, 999_000, 990_000, 0, 2_000_000].map(|made| age(made, now));
        assert_eq!(ages, ["now", "30 s", "16 min", "2 h", "11 d", "now"]);
    }
}

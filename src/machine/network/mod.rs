//! What machines are connected to besides QEMU's own network.
//!
//! The machines of a project, and those of the home, have a private network: each that is in it has
//! a further card, and a process that passes on the card's frames (`serve.rs`). Nobody else is in
//! it: the sockets that frames go through are in a directory of the user alone.
//!
//! ```text
//! PROJECT/.vmfab/network/, $VMFAB_HOME/network/
//!   hosts.json   which machine has which address, and its names
//!   lock         held by a vmfab that changes that
//!   2, 3 …       the sockets that take frames for the machines with these numbers
//! ```

mod outside;
mod serve;

use std::fs;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(super) use outside::{bridge, passt};
pub(super) use serve::switch;
pub use serve::{NETWORK_ARGUMENT, network_main};

use super::directory::{OWN, check_entries};
use super::error::{MachineError, io_error};
use super::name::MachineName;
use super::{Machine, Machines};
use crate::checked::HostName;
use crate::failure::Failure;
use crate::guest::GuestNetwork;
use crate::host::beneath::read_unlinked;
use crate::host::file::{self, Durability, Replace};
use crate::host::umask;

/// The version of the list.
const VERSION: u32 = 1;
/// The first two bytes of all addresses: a network of 65,536 that few others use.
const NETWORK: [u8; 2] = [10, 213];
/// Numbers that machines may have.
const NUMBERS: std::ops::RangeInclusive<u16> = 2..=65_000;

/// The machines of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Hosts {
    version: u32,
    hosts: Vec<Host>,
}

/// A machine in a network, made or not yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Host {
    name: MachineName,
    /// The last two bytes of its address.
    number: u16,
    /// What it is called besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<HostName>,
    /// Whether the project's file describes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    declared: bool,
}

/// A machine that is to be in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewHost {
    pub name: MachineName,
    /// What it is called besides.
    pub aliases: Vec<HostName>,
}

impl Hosts {
    fn number_of(&self, name: &MachineName) -> Option<u16> {
        let host = self.hosts.iter().find(|host| host.name == *name);
        host.map(|host| host.number)
    }

    /// Gives a machine a number, unless it has one: the same as long as it exists.
    fn add(&mut self, name: &MachineName) -> Result<u16, MachineError> {
        if let Some(number) = self.number_of(name) {
            return Ok(number);
        }
        let taken = |number: &u16| self.hosts.iter().any(|host| host.number == *number);
        let number = NUMBERS.into_iter().find(|number| !taken(number));
        let number = number.ok_or_else(|| {
            Failure::failed("the private network is full")
                .with_help("remove machines that nobody needs: vmfab rm NAME")
        })?;
        self.hosts.push(Host {
            name: name.clone(),
            number,
            aliases: Vec::new(),
            declared: false,
        });
        Ok(number)
    }

    /// Takes over what a project's file says.
    fn declare(&mut self, wanted: &[NewHost]) -> Result<(), MachineError> {
        for host in &mut self.hosts {
            host.declared = false;
        }
        for NewHost { name, aliases } in wanted {
            let number = self.add(name)?;
            for host in self.hosts.iter_mut().filter(|host| host.number == number) {
                host.aliases.clone_from(aliases);
                host.declared = true;
            }
        }
        Ok(())
    }

    /// The network as the machine with a number is told of it.
    fn told(&self, number: u16) -> GuestNetwork {
        let mut hosts: Vec<&Host> = self.hosts.iter().collect();
        hosts.sort_by_key(|host| host.number);
        let hosts = hosts.into_iter().map(|host| {
            let mut names = vec![host.name.hostname(), host.name.to_string()];
            names.extend(host.aliases.iter().map(ToString::to_string));
            let mut seen = Vec::new();
            names.retain(|name| {
                let new = !name.is_empty() && !seen.contains(name);
                seen.push(name.clone());
                new
            });
            (address(host.number), names)
        });
        GuestNetwork {
            mac: mac(number),
            address: address(number),
            bits: 16,
            hosts: hosts.collect(),
        }
    }
}

const fn address(number: u16) -> Ipv4Addr {
    let [first, second] = NETWORK;
    let [third, fourth] = number.to_be_bytes();
    Ipv4Addr::new(first, second, third, fourth)
}

/// The hardware address of the card with a number: QEMU's first two bytes, and the address.
fn mac(number: u16) -> String {
    let [a, b, c, d] = address(number).octets();
    format!("52:54:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

impl Machines {
    /// The directory of the network that they share.
    fn network(&self) -> PathBuf {
        self.root.0.with_file_name("network")
    }

    /// Takes over which machines the project's file describes in the network. Tells whether anybody
    /// in it is called otherwise than before.
    ///
    /// # Errors
    /// The list cannot be read or written.
    pub fn declare_hosts(&self, wanted: &[NewHost]) -> Result<bool, MachineError> {
        if wanted.is_empty() && !self.network().exists() {
            return Ok(false);
        }
        let mut changed = false;
        self.change_hosts(|hosts| {
            let names = |hosts: &Hosts| {
                let named = hosts.hosts.iter();
                let named =
                    named.map(|host| (host.number, host.name.clone(), host.aliases.clone()));
                named.collect::<Vec<_>>()
            };
            let before = names(hosts);
            hosts.declare(wanted)?;
            changed = names(hosts) != before;
            Ok(())
        })?;
        Ok(changed)
    }

    /// Changes the list. Machines that are gone are forgotten first.
    fn change_hosts<T>(
        &self,
        change: impl FnOnce(&mut Hosts) -> Result<T, MachineError>,
    ) -> Result<T, MachineError> {
        let directory = self.network();
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory);
        made.map_err(io_error("create", &directory))?;
        // It may have come from elsewhere.
        if fs::symlink_metadata(&directory).is_ok_and(|meta| meta.is_symlink()) {
            let why = std::io::Error::new(ErrorKind::InvalidInput, "it is a link");
            return Err(io_error("use", &directory)(why));
        }
        // Frames of guests go to each socket in it: nobody else opens one, and none is a link.
        umask::close(&directory);
        check_entries(&directory).map_err(|why| {
            let why = std::io::Error::new(ErrorKind::InvalidInput, why);
            io_error("use", &directory.join("hosts.json"))(why)
        })?;
        let lock = directory.join("lock");
        let held = file::open_lock(&lock, OWN).map_err(io_error("open", &lock))?;
        held.lock().map_err(io_error("lock", &lock))?;

        let path = directory.join("hosts.json");
        let before = match read_unlinked(&path) {
            Ok(bytes) => parse(&bytes).map_err(|why| {
                Failure::failed(format!("{} is damaged: {why}", path.display()))
                    .with_help("remove it: machines get new addresses in their network then")
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => Hosts {
                version: VERSION,
                hosts: Vec::new(),
            },
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let mut hosts = before.clone();
        let exists = |name: &MachineName| self.root.directory(name).exists();
        hosts
            .hosts
            .retain(|host| host.declared || exists(&host.name));
        let result = change(&mut hosts)?;
        if hosts != before {
            let text = serde_json::to_vec_pretty(&hosts).map_err(std::io::Error::other);
            text.and_then(|text| Replace::new(&path, Durability::None).with(&text))
                .map_err(io_error("write", &path))?;
        }
        Ok(result)
    }
}

fn parse(bytes: &[u8]) -> Result<Hosts, String> {
    let hosts: Hosts = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if hosts.version > VERSION {
        return Err(format!(
            "it has version {}, this vmfab supports up to {VERSION}",
            hosts.version
        ));
    }
    match hosts
        .hosts
        .iter()
        .all(|host| NUMBERS.contains(&host.number))
    {
        true => Ok(hosts),
        false => Err("it has a number that no machine can have".to_owned()),
    }
}

impl Machine {
    /// The private network as its guest is told of it; nothing when it is in none.
    ///
    /// # Errors
    /// The machine's config or the list of the network cannot be read or written.
    pub fn network(&self) -> Result<Option<GuestNetwork>, MachineError> {
        let Some(number) = self.network_number()? else {
            return Ok(None);
        };
        let told = self.machines.change_hosts(|hosts| Ok(hosts.told(number)))?;
        Ok(Some(told))
    }

    /// Gives it a place in the private network, if it is to be in one; tells whether it had none.
    ///
    /// # Errors
    /// See [`network`](Self::network).
    pub fn join_network(&self) -> Result<bool, MachineError> {
        if !self.config()?.network.group {
            return Ok(false);
        }
        self.machines.change_hosts(|hosts| {
            let is_new = hosts.number_of(&self.name).is_none();
            hosts.add(&self.name).map(|_| is_new)
        })
    }

    /// The number of its card in the private network.
    pub(super) fn network_number(&self) -> Result<Option<u16>, MachineError> {
        let config = self.config()?;
        // A guest that is to lose the identity of another one meets nobody before.
        match config.network.group && !config.renew_identity {
            true => self
                .machines
                .change_hosts(|hosts| hosts.add(&self.name))
                .map(Some),
            false => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn hosts(names: &[&str]) -> Hosts {
        let mut hosts = Hosts {
            version: VERSION,
            hosts: Vec::new(),
        };
        for name in names {
            hosts.add(&name.parse().unwrap()).unwrap();
        }
        hosts
    }

    fn new(name: &str, aliases: &[&str]) -> NewHost {
        NewHost {
            name: name.parse().unwrap(),
            aliases: aliases.iter().map(|alias| alias.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn machines_keep_their_addresses() {
        let mut hosts = hosts(&["a", "b", "c"]);
        hosts.hosts.retain(|host| host.name.as_str() != "b");
        hosts.declare(&[new("d", &[]), new("c", &[])]).unwrap();
        let mut number = |name: &str| hosts.add(&name.parse().unwrap()).unwrap();
        assert_eq!(["a", "d", "c", "e"].map(&mut number), [2, 3, 4, 5]);
    }

    #[test]
    fn a_guest_is_told_of_all_names() {
        let mut hosts = hosts(&["my_db"]);
        let worker = |number: u8| new(&format!("worker-{number}"), &["worker", "jobs.internal"]);
        hosts.declare(&[worker(1), worker(2)]).unwrap();
        let told = hosts.told(3);
        assert_eq!(told.mac, "52:54:0a:d5:00:03");
        let lines = told.hosts.iter();
        let lines = lines.map(|(address, names)| format!("{address} {}", names.join(" ")));
        insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r"
        10.213.0.2 my-db my_db
        10.213.0.3 worker-1 worker jobs.internal
        10.213.0.4 worker-2 worker jobs.internal
        ");
    }

    #[test]
    fn the_list_is_kept_beside_the_machines() {
        let directory = tempfile::tempdir().unwrap();
        let home = crate::host::Home::at(directory.path());
        let machines = Machines::new(&home);
        assert!(!machines.declare_hosts(&[]).unwrap());
        assert!(
            machines
                .declare_hosts(&[new("a", &[]), new("b", &[])])
                .unwrap()
        );
        assert!(
            !machines
                .declare_hosts(&[new("b", &[]), new("a", &[])])
                .unwrap()
        );
        assert!(machines.declare_hosts(&[new("b", &["c"])]).unwrap());
        // Nobody describes "a" any more, and there is no such machine.
        let known = machines.change_hosts(|hosts| Ok(hosts.clone())).unwrap();
        assert_eq!(known.number_of(&"b".parse().unwrap()), Some(3));
        assert_eq!(known.number_of(&"a".parse().unwrap()), None);

        let path = directory.path().join("network/hosts.json");
        for bad in [
            "",
            "{}",
            r#"{"version":2,"hosts":[]}"#,
            r#"{"version":1,"hosts":[{"name":"a","number":1}]}"#,
        ] {
            fs::write(&path, bad).unwrap();
            assert!(machines.declare_hosts(&[new("a", &[])]).is_err(), "{bad}");
        }
        fs::remove_file(&path).unwrap();

        // A directory that came from elsewhere.
        let network = directory.path().join("network");
        fs::set_permissions(&network, fs::Permissions::from_mode(0o777)).unwrap();
        machines.declare_hosts(&[new("a", &[])]).unwrap();
        let mode = fs::metadata(&network).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        std::os::unix::fs::symlink("/run/systemd/journal/socket", network.join("5")).unwrap();
        let refused = machines.declare_hosts(&[new("a", &[])]).unwrap_err();
        assert!(
            refused.to_string().contains("5 beside it is a link"),
            "{refused}"
        );
    }
}

//! The network cards of a machine, and what is at their other ends. Pure.

use std::net::Ipv4Addr;

use super::MachineSpec;
use super::command::quoted;
use crate::checked::InterfaceName;
use crate::image::Nic;

/// The network that ports are forwarded into.
pub(super) const NETWORK: &str = "net";

/// What is at the other end of a machine's first network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uplink {
    /// QEMU's own network. A guest in a restricted one reaches neither the host nor what the host
    /// reaches.
    User { restricted: bool },
    /// The program passt, which listens on a unix socket.
    Passt { socket: String },
}

/// A further network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Its hardware address.
    pub mac: String,
    pub other_end: OtherEnd,
}

/// What is at the other end of a further network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OtherEnd {
    /// A bridge of the host, which the program `helper` may add cards to.
    Bridge { name: InterfaceName, helper: String },
    /// A switch, which listens on a unix socket.
    Switch { socket: String },
}

impl Card {
    pub(super) const fn id(&self) -> &'static str {
        match self.other_end {
            OtherEnd::Bridge { .. } => "bridge",
            OtherEnd::Switch { .. } => "group",
        }
    }

    pub(super) fn netdev(&self) -> String {
        let id = self.id();
        match &self.other_end {
            OtherEnd::Bridge { name, helper } => {
                format!("bridge,id={id},br={name},helper={}", quoted(helper))
            }
            OtherEnd::Switch { socket } => stream(id, socket),
        }
    }
}

/// A web server at an address of the guest's network: a program that answers a connection on its
/// standard input and output. The guest is told by its hardware that it is one of Amazon's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataService {
    /// The network, as `ADDRESS/BITS`; addresses in it with the last number 2 and 3 are the host's.
    pub network: String,
    /// The server's address, in that network.
    pub address: String,
    /// The guest's address, in that network.
    pub guest: String,
    /// The address of the guest's network card.
    pub mac: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The UUID of the hardware.
    pub system_uuid: String,
}

/// A port of the host that leads to a port of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// Port on the host.
    pub host: u16,
    /// Port in the guest.
    pub guest: u16,
    /// Whether it is one of UDP and not of TCP.
    pub udp: bool,
    /// The address of the host that it listens on.
    pub address: Ipv4Addr,
}

impl Forward {
    /// Where it listens, as QEMU names it.
    pub(super) fn listener(&self) -> String {
        let protocol = if self.udp { "udp" } else { "tcp" };
        format!("{protocol}:{}:{}", self.address, self.host)
    }

    /// The rule, as QEMU takes it.
    pub(super) fn rule(&self) -> String {
        format!("{}-:{}", self.listener(), self.guest)
    }
}

/// A program that takes and gives frames over a unix socket.
fn stream(id: &str, socket: &str) -> String {
    format!(
        "stream,id={id},server=off,addr.type=unix,addr.path={}",
        quoted(socket)
    )
}

/// A network card. With an empty ROM: no boot from the network, and no file of the package
/// ipxe-qemu.
pub(super) fn device(nic: Nic, netdev: &str, mac: Option<&str>) -> String {
    let model = match nic {
        Nic::Virtio => "virtio-net-pci",
        Nic::E1000 => "e1000",
        Nic::E1000e => "e1000e",
        Nic::Rtl8139 => "rtl8139",
    };
    let mut card = format!("{model},netdev={netdev},romfile=");
    if let Some(mac) = mac {
        card.push_str(&format!(",mac={mac}"));
    }
    card
}

/// What is at the other end of the first card.
pub(super) fn netdev(spec: &MachineSpec) -> String {
    let mut text = match &spec.uplink {
        Uplink::Passt { socket } => return stream(NETWORK, socket),
        Uplink::User { restricted: false } => format!("user,id={NETWORK}"),
        Uplink::User { restricted: true } => format!("user,id={NETWORK},restrict=on"),
    };
    if let Some(service) = &spec.metadata {
        let first = service
            .network
            .rsplit_once('.')
            .map_or("", |(first, _)| first);
        // QEMU splits the command into words as a shell does.
        let words: Vec<String> = service
            .command
            .iter()
            .map(|word| shell_word(word))
            .collect();
        text.push_str(&format!(
            ",net={},host={first}.2,dns={first}.3,dhcpstart={},guestfwd=tcp:{}:80-cmd:{}",
            service.network,
            service.guest,
            service.address,
            quoted(&words.join(" ")),
        ));
    }
    for forward in &spec.forwards {
        text.push_str(&format!(",hostfwd={}", forward.rule()));
    }
    text
}

/// A word that a shell takes as it is.
fn shell_word(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

//! The private network of the machines of a project, as the script `derivation/scripts/network.sh`
//! reads it. Pure. Who runs the script is as for mounts (`mounts.rs`).

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use base64ct::{Base64, Encoding};

use crate::derivation::scripts;

/// The network, and a machine's place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestNetwork {
    /// The hardware address of the machine's card.
    pub mac: String,
    pub address: Ipv4Addr,
    /// How many bits of the address are the network's.
    pub bits: u8,
    /// All machines by their addresses, with their names.
    pub hosts: Vec<(Ipv4Addr, Vec<String>)>,
}

impl GuestNetwork {
    /// The table, in base64.
    pub(super) fn table(&self) -> String {
        let Self {
            mac, address, bits, ..
        } = self;
        let mut table = format!("{mac} {address} {bits}\n");
        for (address, names) in &self.hosts {
            let _ = writeln!(table, "{address} {}", names.join(" "));
        }
        Base64::encode_string(table.as_bytes())
    }

    /// The words of a command that sets it up, also while the guest runs.
    #[must_use]
    pub fn command(&self) -> [String; 5] {
        let words = ["sh", "-c", scripts::NETWORK, "network"].map(str::to_owned);
        let [sh, c, script, name] = words;
        [sh, c, script, name, self.table()]
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn network() -> GuestNetwork {
        GuestNetwork {
            mac: "52:54:0a:d5:00:02".into(),
            address: Ipv4Addr::new(10, 213, 0, 2),
            bits: 16,
            hosts: vec![
                (Ipv4Addr::new(10, 213, 0, 2), vec!["db".into()]),
                (
                    Ipv4Addr::new(10, 213, 0, 3),
                    vec!["worker-1".into(), "worker".into()],
                ),
            ],
        }
    }

    #[test]
    fn the_table() {
        let table = Base64::decode_vec(&network().table()).unwrap();
        insta::assert_snapshot!(String::from_utf8(table).unwrap(), @r"
        52:54:0a:d5:00:02 10.213.0.2 16
        10.213.0.2 db
        10.213.0.3 worker-1 worker
        ");
    }
}

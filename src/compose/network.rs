//! Networks: all services of a file are in one.

use super::merge::names;
use super::reader::Notes;
use super::service::Reading;
use super::yaml::{Node, Value};
use crate::checked::HostName;
use crate::text::{Spanned, closest};

/// Members of a service's network that are read, or that change nothing.
const KNOWN: [&str; 6] = [
    "aliases",
    "driver_opts",
    "gw_priority",
    "interface_name",
    "mac_address",
    "priority",
];
const ADDRESSES: [&str; 3] = ["ipv4_address", "ipv6_address", "link_local_ips"];

/// Warns about settings of networks that have no effect.
pub(super) fn check(root: &Node, notes: &mut Notes) {
    let Some(networks) = root.get("networks") else {
        return;
    };
    for (name, node) in notes.map(networks, "networks").to_vec() {
        let mut is = |key: &str| match node.get(key) {
            Some(node) if matches!(node.value, Value::Map(_)) => true,
            Some(node) => notes.flag(node, key),
            None => false,
        };
        let (internal, external) = (is("internal"), is("external"));
        if internal {
            let message = format!(
                "machines of the internal network \"{}\" reach the outside, too",
                name.value
            );
            notes.warn(&name.span, message);
        }
        if external {
            let message = format!(
                "the external network \"{}\" connects the machines of this file only",
                name.value
            );
            notes.warn(&name.span, message);
        }
    }
}

impl Reading<'_> {
    pub(super) fn networks(&mut self, key: &Spanned<String>, node: &Node) {
        let node = names(node.clone());
        for (network, value) in self.notes.map(&node, "networks") {
            self.network(key, network, value);
        }
    }

    fn network(&mut self, key: &Spanned<String>, network: &Spanned<String>, value: &Node) {
        if network.value != "default" {
            let known = self.around.root.get("networks");
            if known.is_none_or(|known| known.get(&network.value).is_none()) {
                let all = known.map(|known| &known.value);
                let all = match all {
                    Some(Value::Map(map)) => {
                        map.iter().map(|(key, _)| key.value.as_str()).collect()
                    }
                    _ => Vec::new(),
                };
                let help = match closest(&network.value, all) {
                    Some(other) => format!("did you mean \"{other}\"?"),
                    None => format!("add it to the file: networks: {{ {}: }}", network.value),
                };
                let message = format!("no network \"{}\" found", network.value);
                self.notes.wrong(&network.span, message, help);
            }
            if self.shared.first("networks") {
                let message = "all services of the file are in one network, and reach each other";
                self.notes.warn(&key.span, message);
            }
        }
        if let Value::Map(map) = &value.value {
            self.notes
                .unknown(map, &[&KNOWN[..], &ADDRESSES].concat(), "a network");
            for (key, _) in map
                .iter()
                .filter(|(key, _)| ADDRESSES.contains(&&*key.value))
            {
                let message = format!("\"{}\" has no effect: vmfab chooses addresses", key.value);
                self.notes.warn(&key.span, message);
            }
        }
        let aliases = value.get("aliases");
        let aliases =
            aliases.map_or_else(Vec::new, |list| self.notes.list(list, "aliases").to_vec());
        for alias in aliases {
            let Some(name) = self.notes.text(&alias, "aliases") else {
                continue;
            };
            let own = (self.service.name.clone(), network.value.clone());
            let (other, there) = self.shared.aliases.entry(name.clone()).or_insert(own);
            if *other != self.service.name && *there != network.value {
                let message = format!(
                    "\"{name}\" is service \"{other}\" in the network \"{there}\", and this one in \
                     \"{}\"",
                    network.value
                );
                let help = "all services of the file are in one network: use different names";
                self.notes.wrong(&alias.span, message, help);
            } else {
                self.alias(&alias, name);
            }
        }
    }

    pub(super) fn alias(&mut self, node: &Node, name: String) {
        if name.parse::<HostName>().is_err() {
            let message = format!("\"{name}\" is not a host name");
            let help = "use letters, digits, \"-\" and \".\"";
            self.notes.wrong(&node.span, message, help);
        } else if name != self.service.name && !self.service.aliases.contains(&name) {
            self.service.aliases.push(name);
        }
    }
}

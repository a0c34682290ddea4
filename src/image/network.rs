//! What a machine is connected to, in the words of options and of `machine` nodes. Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::checked::InterfaceName;

/// What a machine is connected to. Its text is that of the option `--network`: `none,group`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    /// How it reaches what is outside.
    pub uplink: Uplink,
    /// Whether it is in the private network of the machines beside it.
    pub group: bool,
}

/// How a machine reaches what is outside of this host. Forwarded ports work with each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Uplink {
    /// By QEMU's own network.
    #[default]
    User,
    /// By the program `passt`.
    Passt,
    /// Not at all.
    None,
    /// By a card of its own in a bridge of the host.
    Bridge(InterfaceName),
}

impl Uplink {
    /// The bridge when nobody says.
    const BRIDGE: &'static str = "br0";
}

/// A text that says nothing of a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a network")]
pub struct ParseNetworkError(String);

impl ParseNetworkError {
    /// What to write instead.
    pub const HELP: &'static str = "write user, passt, none, bridge or bridge:NAME, and with a \
                                    comma group: for example \"group\" or \"none,group\"";
}

impl Network {
    /// Texts that mean something, for people who ask for them.
    pub const EXAMPLES: [&'static str; 6] =
        ["user", "passt", "none", "bridge", "group", "none,group"];

    /// What is usual.
    #[must_use]
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, ParseNetworkError> {
        let wrong = || ParseNetworkError(text.chars().take(60).collect());
        let mut uplink = None;
        let mut group = false;
        for word in text.split(',') {
            let found = match word {
                "group" if !group => {
                    group = true;
                    continue;
                }
                "user" => Uplink::User,
                "passt" => Uplink::Passt,
                "none" => Uplink::None,
                _ => {
                    let rest = word.strip_prefix("bridge").ok_or_else(wrong)?;
                    let name = match rest {
                        "" => Uplink::BRIDGE,
                        rest => rest.strip_prefix(':').ok_or_else(wrong)?,
                    };
                    Uplink::Bridge(name.parse().map_err(|_| wrong())?)
                }
            };
            if uplink.replace(found).is_some() {
                return Err(wrong());
            }
        }
        Ok(Self {
            uplink: uplink.unwrap_or_default(),
            group,
        })
    }
}

impl TryFrom<String> for Network {
    type Error = ParseNetworkError;

    fn try_from(text: String) -> Result<Self, ParseNetworkError> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.uplink {
            Uplink::User => formatter.write_str("user")?,
            Uplink::Passt => formatter.write_str("passt")?,
            Uplink::None => formatter.write_str("none")?,
            Uplink::Bridge(name) => write!(formatter, "bridge:{name}")?,
        }
        match self.group {
            true => formatter.write_str(",group"),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (text, whole) in [
            ("user", "user"),
            ("passt", "passt"),
            ("none", "none"),
            ("bridge", "bridge:br0"),
            ("bridge:virbr0", "bridge:virbr0"),
            ("group", "user,group"),
            ("group,none", "none,group"),
        ] {
            let network: Network = text.parse().unwrap();
            assert_eq!(network.to_string(), whole);
            assert_eq!(whole.parse::<Network>(), Ok(network));
        }
        for bad in [
            "",
            "host",
            "user,none",
            "group,group",
            "bridge:",
            "bridge:a/b",
            "bridge:-x",
            "bridge:a,helper=/x",
            "bridged",
            "user,",
        ] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}

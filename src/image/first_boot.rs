//! What a guest takes over when it boots for the first time. Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Seed;
use crate::checked::PasswordHash;

/// What a guest is given besides its name and keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FirstBoot {
    /// The password of the account that is entered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<PasswordHash>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_init: Option<CloudInit>,
    /// A configuration for Ignition, JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignition: Option<String>,
    /// Ports of this host's loopback where the guest's container tools find registries.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub registries: BTreeSet<u16>,
}

/// Makes sure that a text is a configuration that Ignition takes.
///
/// # Errors
/// It is none; a phrase that goes on after its name.
pub fn check_ignition(text: &str) -> Result<(), String> {
    let parsed: serde_json::Value =
        serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))?;
    match parsed["ignition"]["version"].is_string() {
        true => Ok(()),
        false => Err("has no ignition.version".to_owned()),
    }
}

impl FirstBoot {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The part of it that a seed cannot pass on to the guest.
    #[must_use]
    pub fn beyond(&self, seed: Seed) -> Option<&'static str> {
        let more = |files: &CloudInit| {
            let user_data = files.user_data.clone();
            let only = CloudInit {
                user_data,
                ..CloudInit::default()
            };
            *files != only
        };
        if seed != Seed::Credentials && !self.registries.is_empty() {
            return Some("registries of this host");
        }
        match (seed, &self.cloud_init) {
            (Seed::Credentials | Seed::Nocloud, _) => None,
            (Seed::Ec2, files) => {
                let files = files.as_ref().filter(|files| more(files));
                files.map(|_| "files for cloud-init but user-data")
            }
            (Seed::None, Some(_)) => Some("files for cloud-init"),
            (Seed::None, None) => self.password.as_ref().map(|_| "password"),
        }
    }
}

/// The user's own files for cloud-init.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct CloudInit {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_data: Option<String>,
    /// A mapping in YAML's block style, with a key at the beginning of its first line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_config: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor_data: Option<String>,
}

impl CloudInit {
    /// The files by the names that they have in a directory.
    pub fn files(&mut self) -> [(&'static str, &mut Option<String>); 4] {
        [
            ("user-data", &mut self.user_data),
            ("meta-data", &mut self.meta_data),
            ("network-config", &mut self.network_config),
            ("vendor-data", &mut self.vendor_data),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_that_cannot_carry_it() {
        let password = FirstBoot {
            password: Some("$6$salt$hash".parse().unwrap()),
            ..FirstBoot::default()
        };
        let files = |meta_data: Option<&str>| FirstBoot {
            cloud_init: Some(CloudInit {
                user_data: Some("#!/bin/sh\n".to_owned()),
                meta_data: meta_data.map(str::to_owned),
                ..CloudInit::default()
            }),
            ..FirstBoot::default()
        };
        for seed in [Seed::Credentials, Seed::Nocloud] {
            assert_eq!(password.beyond(seed), None);
            assert_eq!(files(Some("a: b")).beyond(seed), None);
        }
        assert_eq!(password.beyond(Seed::Ec2), None);
        assert_eq!(files(None).beyond(Seed::Ec2), None);
        assert!(files(Some("a: b")).beyond(Seed::Ec2).is_some());
        for given in [&password, &files(None)] {
            assert!(given.beyond(Seed::None).is_some());
        }
        assert_eq!(FirstBoot::default().beyond(Seed::None), None);
        let registries = FirstBoot {
            registries: BTreeSet::from([5000]),
            ..FirstBoot::default()
        };
        assert_eq!(registries.beyond(Seed::Credentials), None);
        assert!(registries.beyond(Seed::Nocloud).is_some());
    }

    #[test]
    fn what_is_no_configuration_of_ignition() {
        let good = r#"{"ignition":{"version":"3.3.0"}}"#;
        assert_eq!(check_ignition(good), Ok(()));
        for bad in ["", "{}", "variant: fcos", r#"{"ignition":{}}"#] {
            assert!(check_ignition(bad).is_err(), "{bad}");
        }
    }
}

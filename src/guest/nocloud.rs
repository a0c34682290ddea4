//! The data source NoCloud: a small file system with the label `cidata`. Pure.
//!
//! Source: <https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html>. Alpine's
//! tiny-cloud reads the same files, and takes keys from `public-keys`.
//!
//! There is no `network-config`: without it cloud-init lets the one network card ask by DHCP, with
//! the name that it has. A file would have to name it, and patterns for names are not understood by
//! all of the ways in which distributions configure networks.

use super::cloud::{Identity, quoted};

/// The label of the file system.
pub const LABEL: &str = "cidata";

/// The files of the seed: names and contents.
#[must_use]
pub fn files(identity: &Identity) -> [(&'static str, String); 2] {
    let keys = identity.public_keys.iter();
    let keys = keys.map(|key| format!("  - {}\n", quoted(key.trim_end())));
    let meta_data = format!(
        "instance-id: {}\nlocal-hostname: {hostname}\nhostname: {hostname}\npublic-keys:\n{}",
        quoted(&identity.instance_text()),
        keys.collect::<String>(),
        hostname = quoted(&identity.hostname),
    );
    [
        ("meta-data", meta_data),
        ("user-data", identity.user_data()),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::cloud::tests::identity;
    use super::*;

    #[test]
    fn meta_data() {
        let [(_, meta_data), (name, user_data)] = files(&identity());
        insta::assert_snapshot!(meta_data, @r#"
        instance-id: "0b61ac6a-4a4e-4b62-ae8a-7b1f4e0c2d55"
        local-hostname: "docker"
        hostname: "docker"
        public-keys:
          - "ssh-ed25519 AAAA vmfab \"machine\" of docker"
        "#);
        assert_eq!((name, user_data), ("user-data", identity().user_data()));
    }
}

//! The data source NoCloud: a small file system with the label `cidata`. Pure.
//!
//! Source: <https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html>. Alpine's
//! tiny-cloud reads the same files, and takes keys from `public-keys`.
//!
//! There is no `network-config` but the user's: without it cloud-init lets the one network card ask by
//! DHCP, with the name that it has. A file would have to name it, and patterns for names are not
//! understood by all of the ways in which distributions configure networks.

use super::cloud::{Identity, quoted};

/// The label of the file system.
pub const LABEL: &str = "cidata";

/// Keys of the meta data that are vmfab's, whatever the user writes: without them the machine could
/// not be entered, or would boot for the first time again.
const OWN_KEYS: [&str; 2] = ["instance-id", "public-keys"];

/// The files of the seed: names and contents.
#[must_use]
pub fn files(identity: &Identity) -> Vec<(&'static str, String)> {
    let keys = identity.public_keys.iter();
    let keys = keys.map(|key| format!("  - {}\n", quoted(key.trim_end())));
    let mut meta_data = format!(
        "instance-id: {}\npublic-keys:\n{}",
        quoted(&identity.instance_text()),
        keys.collect::<String>(),
    );
    let mut user = identity.first_boot.cloud_init.clone().unwrap_or_default();
    let entries = user.meta_data.as_deref().map(entries).unwrap_or_default();
    for name in ["local-hostname", "hostname"] {
        if !entries.iter().any(|(key, _)| *key == name) {
            meta_data.push_str(&format!("{name}: {}\n", quoted(&identity.hostname)));
        }
    }
    let own = entries.iter().filter(|(key, _)| !OWN_KEYS.contains(key));
    own.for_each(|(_, entry)| meta_data.push_str(entry));
    user.meta_data = Some(meta_data);
    user.user_data = Some(identity.user_data());
    let files = user.files().into_iter();
    files
        .filter_map(|(name, text)| Some((name, text.take()?)))
        .collect()
}

/// Checks that meta data is a mapping that can be merged.
///
/// # Errors
/// A line is no part of such a mapping. The error is a phrase that says what to write.
pub fn check_meta_data(text: &str) -> Result<(), &'static str> {
    let fits = |line: &str| {
        let continues = line.trim().is_empty() || line.starts_with([' ', '#', '-']);
        continues || key(line).is_some()
    };
    match text.lines().all(fits) {
        true => Ok(()),
        false => Err("write a line for each key, such as \"local-hostname: web\""),
    }
}

/// Checks that user data is of a kind that cloud-init knows: it ignores others.
///
/// Source: <https://docs.cloud-init.io/en/latest/explanation/format.html>.
///
/// # Errors
/// It begins otherwise. The error is a phrase that says what to write.
pub fn check_user_data(text: &str) -> Result<(), &'static str> {
    const BEGINNINGS: [&str; 9] = [
        "#!",
        "#cloud-boothook",
        "#cloud-config",
        "#include",
        "#part-handler",
        "## template:",
        "Content-Type:",
        "Content-type:",
        "MIME-Version:",
    ];
    match BEGINNINGS.iter().any(|begins| text.starts_with(begins)) {
        true => Ok(()),
        false => Err("begin it with #cloud-config, or #! for a script"),
    }
}

/// The name at the beginning of an entry.
fn key(line: &str) -> Option<&str> {
    let (key, rest) = line.split_once(':')?;
    let name = key.trim().trim_matches(['"', '\'']);
    let fits = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    let is_key = !name.is_empty() && name.chars().all(fits);
    (is_key && (rest.is_empty() || rest.starts_with([' ', '\t']))).then_some(name)
}

/// The entries of meta data that was checked, each with the lines below it.
fn entries(text: &str) -> Vec<(&str, String)> {
    let mut entries: Vec<(&str, String)> = Vec::new();
    for line in text.lines() {
        let begins = !line.starts_with([' ', '#', '-']);
        match key(line).filter(|_| begins) {
            Some(key) => entries.push((key, format!("{line}\n"))),
            None => {
                if let Some((_, entry)) = entries.last_mut()
                    && line != "---"
                {
                    entry.push_str(line);
                    entry.push('\n');
                }
            }
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::super::cloud::tests::identity;
    use super::*;

    #[test]
    fn meta_data() {
        let files = files(&identity());
        let [(_, user_data), (name, meta_data)] = files.as_slice() else {
            panic!("{files:?}");
        };
        insta::assert_snapshot!(meta_data, @r#"
        instance-id: "0b61ac6a-4a4e-4b62-ae8a-7b1f4e0c2d55"
        public-keys:
          - "ssh-ed25519 AAAA vmfab \"machine\" of docker"
        local-hostname: "docker"
        hostname: "docker"
        "#);
        assert_eq!(*name, "meta-data");
        assert_eq!(*user_data, identity().user_data());
    }

    #[test]
    fn files_of_the_user() {
        let mut identity = identity();
        let meta_data = "---\n# mine\ninstance-id: \"mine\"\nlocal-hostname: web\npublic-keys:\n- a\n\
                         \nrack:\n  row: 3\n";
        check_meta_data(meta_data).unwrap();
        identity.first_boot.cloud_init = Some(crate::image::CloudInit {
            user_data: Some("#!/bin/sh\n".into()),
            meta_data: Some(meta_data.into()),
            network_config: Some("version: 2\n".into()),
            vendor_data: None,
        });
        let files = files(&identity);
        let names: Vec<_> = files.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["user-data", "meta-data", "network-config"]);
        insta::assert_snapshot!(files[1].1, @r#"
        instance-id: "0b61ac6a-4a4e-4b62-ae8a-7b1f4e0c2d55"
        public-keys:
          - "ssh-ed25519 AAAA vmfab \"machine\" of docker"
        hostname: "docker"
        local-hostname: web
        rack:
          row: 3
        "#);
        for bad in ["{\"a\": 1}", "- a\nb", "web"] {
            assert!(check_meta_data(bad).is_err(), "{bad}");
        }
    }
}

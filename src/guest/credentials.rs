//! systemd credentials, handed to the guest as SMBIOS type 11 strings. Pure.
//!
//! systemd 252 and later read them as root and before anything else runs
//! (systemd.system-credentials(7)):
//!
//! | credential | what it does |
//! |---|---|
//! | `tmpfiles.extra` | lines for systemd-tmpfiles, which set the host name, write the machine's key for each account, and tell container tools where registries of this host are |
//! | `vmfab.mounts`, `vmfab.network` | nothing by themselves: images of vmfab have units that read them |
//! | `vmfab.password` | the same: a name and the hash of its password |
//! | `system.hostname` | the host name of an image without `/etc/hostname`, from the first moment on (systemd 254) |
//!
//! Images have an `/etc/hostname`, which the machine's own name replaces early in each boot, before
//! anything uses the network. It does so in the kernel alone: the file stays the image's, also on a
//! disk that a build works on.
//!
//! `ssh.authorized_keys.root` is left out: it is the same as the line for root's `authorized_keys`.

use std::collections::BTreeSet;

use base64ct::{Base64, Encoding};

use super::cloud::Identity;
use super::mounts;
use crate::checked::{AccountName, GuestPath};

/// An account that the machine's key opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub name: AccountName,
    /// Its home directory.
    pub home: GuestPath,
}

/// The strings for a machine.
#[must_use]
pub fn oem_strings(identity: &Identity) -> Vec<String> {
    let Identity {
        hostname,
        public_keys,
        accounts,
        mounts,
        network,
        first_boot,
        ..
    } = identity;
    let encoded = |text: &str| Base64::encode_string(text.as_bytes());
    let mut tmpfiles = tmpfiles(hostname, public_keys, accounts);
    if !first_boot.registries.is_empty() {
        let text = encoded(&registries(&first_boot.registries));
        tmpfiles.push_str(&format!(
            "d /etc/containers - - - -\n\
             d /etc/containers/registries.conf.d - - - -\n\
             f+~ /etc/containers/registries.conf.d/50-vmfab.conf 0644 - - - {text}\n"
        ));
    }
    let mut credentials = vec![
        ("system.hostname", encoded(hostname)),
        ("tmpfiles.extra", encoded(&tmpfiles)),
    ];
    if !mounts.is_empty() {
        credentials.push(("vmfab.mounts", mounts::table(mounts)));
    }
    if let Some(network) = network {
        credentials.push(("vmfab.network", network.table()));
    }
    credentials
        .iter()
        .map(|(name, value)| format!("io.systemd.credential.binary:{name}={value}"))
        .collect()
}

/// The string with the password of the account that is entered, for a file and not for the command
/// line, which everybody on the host can read.
#[must_use]
pub fn password_string(identity: &Identity) -> Option<String> {
    let password = identity.first_boot.password.as_ref()?;
    let line = format!("{}:{password}", identity.ssh_user);
    let line = Base64::encode_string(line.as_bytes());
    Some(format!(
        "io.systemd.credential.binary:vmfab.password={line}"
    ))
}

/// Lines of tmpfiles.d(5).
///
/// sshd reads `authorized_keys` and `authorized_keys2` unless it is configured otherwise. The
/// second is the machine's: it is written at each boot. The first is the user's: it is made only
/// when the image has none, for guests whose sshd is told to read it alone. So keys that the
/// recipe or the user put there stay.
///
/// The group is left to the default, root's: an account's own group need not have its name, and a
/// line with an unknown group does nothing at all.
fn tmpfiles(hostname: &str, public_keys: &[String], accounts: &[Account]) -> String {
    let lines = public_keys.iter();
    let lines: String = lines.map(|key| format!("{}\n", key.trim_end())).collect();
    let key = Base64::encode_string(lines.as_bytes());
    let hostname = Base64::encode_string(hostname.as_bytes());
    let mut lines = format!("w~ /proc/sys/kernel/hostname - - - - {hostname}\n");
    for Account { name, home } in accounts {
        let home = escaped(home.trim_end_matches('/'));
        lines.push_str(&format!(
            "d \"{home}/.ssh\" 0700 {name} - -\n\
             f~ \"{home}/.ssh/authorized_keys\" 0600 {name} - - {key}\n\
             f+~ \"{home}/.ssh/authorized_keys2\" 0600 {name} - - {key}\n"
        ));
    }
    lines
}

/// Registries at ports of the host's loopback, for containers-registries.conf(5). QEMU's own network
/// has the host at 10.0.2.2.
fn registries(ports: &BTreeSet<u16>) -> String {
    let mut text = "# vmfab writes this file at each boot: --registry-access\n".to_owned();
    for port in ports {
        for prefix in ["localhost", "127.0.0.1", "10.0.2.2"] {
            text.push_str(&format!(
                "\n[[registry]]\nprefix = \"{prefix}:{port}\"\n\
                 location = \"10.0.2.2:{port}\"\ninsecure = true\n"
            ));
        }
    }
    text
}

/// A path inside quotes, where `\` escapes and `%` begins a specifier.
fn escaped(path: &str) -> String {
    path.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::super::cloud::tests::identity;
    use super::*;

    fn account(name: &str, home: &str) -> Account {
        Account {
            name: name.parse().unwrap(),
            home: home.parse().unwrap(),
        }
    }

    #[test]
    fn tmpfiles_lines() {
        let accounts = [
            account("root", "/root"),
            account("vm", "/home/100% \"vm\"/"),
        ];
        insta::assert_snapshot!(tmpfiles("web", &["ssh-ed25519 AAAA".to_owned()], &accounts), @r#"
        w~ /proc/sys/kernel/hostname - - - - d2Vi
        d "/root/.ssh" 0700 root - -
        f~ "/root/.ssh/authorized_keys" 0600 root - - c3NoLWVkMjU1MTkgQUFBQQo=
        f+~ "/root/.ssh/authorized_keys2" 0600 root - - c3NoLWVkMjU1MTkgQUFBQQo=
        d "/home/100%% \"vm\"/.ssh" 0700 vm - -
        f~ "/home/100%% \"vm\"/.ssh/authorized_keys" 0600 vm - - c3NoLWVkMjU1MTkgQUFBQQo=
        f+~ "/home/100%% \"vm\"/.ssh/authorized_keys2" 0600 vm - - c3NoLWVkMjU1MTkgQUFBQQo=
        "#);
    }

    #[test]
    fn registries_of_the_host() {
        let mut identity = identity();
        identity.first_boot.registries = BTreeSet::from([5000]);
        let strings = oem_strings(&identity);
        let (_, lines) = strings[1].split_once("tmpfiles.extra=").unwrap();
        let lines = String::from_utf8(Base64::decode_vec(lines).unwrap()).unwrap();
        let line = lines.lines().last().unwrap();
        let (line, content) = line.rsplit_once(' ').unwrap();
        assert_eq!(
            line,
            "f+~ /etc/containers/registries.conf.d/50-vmfab.conf 0644 - - -"
        );
        let content = String::from_utf8(Base64::decode_vec(content).unwrap()).unwrap();
        insta::assert_snapshot!(content, @r#"
        # vmfab writes this file at each boot: --registry-access

        [[registry]]
        prefix = "localhost:5000"
        location = "10.0.2.2:5000"
        insecure = true

        [[registry]]
        prefix = "127.0.0.1:5000"
        location = "10.0.2.2:5000"
        insecure = true

        [[registry]]
        prefix = "10.0.2.2:5000"
        location = "10.0.2.2:5000"
        insecure = true
        "#);
    }

    #[test]
    fn strings_for_smbios() {
        insta::assert_debug_snapshot!(oem_strings(&Identity {
            public_keys: vec!["ssh-ed25519 AAAA".into()],
            accounts: Vec::new(),
            ..identity()
        }), @r#"
        [
            "io.systemd.credential.binary:system.hostname=ZG9ja2Vy",
            "io.systemd.credential.binary:tmpfiles.extra=d34gL3Byb2Mvc3lzL2tlcm5lbC9ob3N0bmFtZSAtIC0gLSAtIFpHOWphMlZ5Cg==",
        ]
        "#);
    }
}

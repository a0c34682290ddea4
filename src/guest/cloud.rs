//! What cloud-init and its likes are told, whichever way it reaches them. Pure.
//!
//! Source: cloud-init's reference of modules
//! <https://docs.cloud-init.io/en/latest/reference/modules.html>. Texts are YAML in its simplest
//! form, with strings in JSON's quotes, which are YAML's too: tiny programs read it.

use uuid::Uuid;

use super::Account;
use super::mounts::{self, GuestMount};
use super::multipart;
use super::network::GuestNetwork;
use crate::checked::AccountName;
use crate::image::FirstBoot;

/// A machine, as its guest gets to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Tells this machine from all others: a guest that sees another one boots for the first time.
    /// Machines of earlier versions have none.
    pub instance: Option<Uuid>,
    /// The host name.
    pub hostname: String,
    /// Lines of an `authorized_keys` file; the machine's own key is the first.
    pub public_keys: Vec<String>,
    /// The account that is entered.
    pub ssh_user: AccountName,
    /// Accounts that the key opens.
    pub accounts: Vec<Account>,
    /// What it mounts at each boot.
    pub mounts: Vec<GuestMount>,
    /// The private network that it is in.
    pub network: Option<GuestNetwork>,
    pub first_boot: FirstBoot,
}

impl Identity {
    /// The UUID in its usual form; empty when there is none.
    pub(super) fn instance_text(&self) -> String {
        let text = self.instance.map(|instance| instance.to_string());
        text.unwrap_or_default()
    }

    /// The user data: vmfab's own, merged with the user's.
    #[must_use]
    pub fn user_data(&self) -> String {
        let own = self.own_user_data();
        let user = self.first_boot.cloud_init.as_ref();
        match user.and_then(|user| user.user_data.as_ref()) {
            Some(user) => multipart::merged(user, &own),
            None => own,
        }
    }

    /// Whom to let in. The image's default user and root get the key like all
    /// others; an account that the image does not have is made, without a password and with the
    /// right to sudo when it is the one that is entered.
    ///
    /// `ssh_pwauth` is not said: cloud-init would start sshd anew for it, after the machine could
    /// be entered.
    fn own_user_data(&self) -> String {
        let list = |indent: &str| {
            let keys = self.public_keys.iter().map(|key| quoted(key.trim_end()));
            keys.map(|key| format!("{indent}- {key}\n"))
                .collect::<String>()
        };
        let mut text = format!(
            "#cloud-config\n\
             disable_root: false\n\
             ssh_authorized_keys:\n{}\
             users:\n  - default\n",
            list("  ")
        );
        for Account { name, .. } in self
            .accounts
            .iter()
            .filter(|account| account.name != "root")
        {
            text.push_str(&format!("  - name: {}\n", quoted(name)));
            // No password fits "*". A locked account could not be entered with a key either, where
            // sshd does not use PAM.
            let password = self.first_boot.password.as_deref();
            let password = password.filter(|_| *name == self.ssh_user).unwrap_or("*");
            text.push_str("    lock_passwd: false\n    hashed_passwd: ");
            text.push_str(&format!("{}\n", quoted(password)));
            if *name == self.ssh_user {
                text.push_str("    sudo: \"ALL=(ALL) NOPASSWD:ALL\"\n");
            }
            text.push_str(&format!("    ssh_authorized_keys:\n{}", list("      ")));
        }
        if let Some(password) = &self.first_boot.password
            && self.ssh_user == "root"
        {
            text.push_str(&format!(
                "chpasswd:\n  expire: false\n  users:\n    - name: root\n      password: {}\n      \
                 type: hash\n",
                quoted(password)
            ));
        }
        let mounts = (!self.mounts.is_empty()).then(|| mounts::command(&self.mounts));
        let network = self.network.as_ref().map(GuestNetwork::command);
        let commands: Vec<_> = mounts.into_iter().chain(network).collect();
        if !commands.is_empty() {
            // Unlike `mounts`, it runs at each boot, and leaves /etc/fstab alone.
            text.push_str("bootcmd:\n");
            for words in commands {
                let words = words.map(|word| quoted(&word));
                text.push_str(&format!("  - [{}]\n", words.join(", ")));
            }
        }
        text
    }
}

pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn identity() -> Identity {
        let account = |name: &str, home: &str| Account {
            name: name.parse().unwrap(),
            home: home.parse().unwrap(),
        };
        Identity {
            instance: Some(uuid::uuid!("0b61ac6a-4a4e-4b62-ae8a-7b1f4e0c2d55")),
            hostname: "docker".into(),
            public_keys: vec!["ssh-ed25519 AAAA vmfab \"machine\" of docker".into()],
            ssh_user: "vm".parse().unwrap(),
            accounts: vec![account("root", "/root"), account("vm", "/home/vm")],
            mounts: Vec::new(),
            network: None,
            first_boot: FirstBoot::default(),
        }
    }

    #[test]
    fn commands_of_each_boot() {
        let identity = Identity {
            network: Some(super::super::network::tests::network()),
            ..identity()
        };
        let text = identity.user_data();
        let (_, commands) = text.split_once("bootcmd:\n").unwrap();
        assert_eq!(commands.lines().count(), 1);
        assert!(commands.starts_with(r#"  - ["sh", "-c", ""#), "{commands}");
        assert!(commands.contains(r#""network", "NTI6"#), "{commands}");
    }

    #[test]
    fn passwords() {
        let of = |user: &str| {
            let mut identity = identity();
            identity.ssh_user = user.parse().unwrap();
            identity.first_boot.password = Some("$6$salt$hash".parse().unwrap());
            identity.user_data()
        };
        assert!(of("vm").contains("    hashed_passwd: \"$6$salt$hash\"\n"));
        assert!(!of("vm").contains("chpasswd"));
        assert!(of("root").contains("      password: \"$6$salt$hash\"\n"));
        assert!(of("root").contains("    hashed_passwd: \"*\"\n"));
    }

    #[test]
    fn user_data() {
        insta::assert_snapshot!(identity().user_data(), @r##"
        #cloud-config
        disable_root: false
        ssh_authorized_keys:
          - "ssh-ed25519 AAAA vmfab \"machine\" of docker"
        users:
          - default
          - name: "vm"
            lock_passwd: false
            hashed_passwd: "*"
            sudo: "ALL=(ALL) NOPASSWD:ALL"
            ssh_authorized_keys:
              - "ssh-ed25519 AAAA vmfab \"machine\" of docker"
        "##);
    }
}

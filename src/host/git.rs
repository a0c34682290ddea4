//! How vmfab runs the host's git: without the user's configuration, and without questions. git gets a
//! password through variables and a credential helper for one server, so no argument and no file
//! contains it. SSH takes the keys of an agent, and knows the hosts that the user knows.

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs, io};

use super::Login;

/// The files that [`Access::write`] makes. Scripts name them in `GIT_CONFIG_GLOBAL` and
/// [`KNOWN_HOSTS_VARIABLE`].
pub const CONFIG: &str = "gitconfig";
pub const KNOWN_HOSTS: &str = "known_hosts";
pub const KNOWN_HOSTS_VARIABLE: &str = "VMFAB_KNOWN_HOSTS";

/// A value of `credential.helper`. Source: gitcredentials(7).
const HELPER: &str = concat!(
    r#""!f() { printf 'username=%s\\npassword=%s\\n' "#,
    r#"\"$VMFAB_GIT_NAME\" \"$VMFAB_GIT_PASSWORD\"; }; f""#
);

/// A value of `GIT_SSH_COMMAND`, which git gives to a shell. Source: ssh_config(5).
const SSH: &str = "ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=yes -o UpdateHostKeys=no \
                   -o IdentityFile=none -o ConnectTimeout=60 \
                   -o \"UserKnownHostsFile=\\\"$VMFAB_KNOWN_HOSTS\\\"\"";

/// What git needs to read a repository.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    /// `https://HOST:PORT`, which gets the user name and password.
    pub server: &'a str,
    pub login: Option<&'a Login>,
    /// Whether git connects over SSH. Then `SSH_AUTH_SOCK` names the agent.
    pub ssh: bool,
}

impl Access<'_> {
    /// Writes what git reads into a directory. Nothing in it is secret.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let config = match self.login {
            Some(_) => format!("[credential \"{}\"]\n\thelper = {HELPER}\n", self.server),
            None => String::new(),
        };
        fs::write(directory.join(CONFIG), config)?;
        match self.ssh {
            true => fs::write(directory.join(KNOWN_HOSTS), known_hosts()),
            false => Ok(()),
        }
    }

    /// The variables of git, without those that name files and sockets.
    #[must_use]
    pub fn env(&self) -> BTreeMap<String, String> {
        let protocols = match self.ssh {
            true => "http:https:git:ssh",
            false => "http:https:git",
        };
        let mut env = vec![
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ALLOW_PROTOCOL", protocols),
            ("GIT_SSH_COMMAND", SSH),
            ("LC_ALL", "C.UTF-8"),
        ];
        if let Some(login) = self.login {
            env.push(("VMFAB_GIT_NAME", &login.name));
            env.push(("VMFAB_GIT_PASSWORD", &login.password));
        }
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        env.into_iter().map(owned).collect()
    }
}

/// The keys of hosts that the user knows, and that everybody on this host knows.
fn known_hosts() -> Vec<u8> {
    let own = env::var_os("HOME").map(|home| Path::new(&home).join(".ssh/known_hosts"));
    let files = own.into_iter().chain(["/etc/ssh/ssh_known_hosts".into()]);
    let texts = files.filter_map(|file| fs::read(file).ok());
    texts.collect::<Vec<_>>().join(&b'\n')
}

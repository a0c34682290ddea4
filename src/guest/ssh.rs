//! The `ssh` command line. Pure.

use std::ffi::OsString;

use crate::checked::AccountName;

/// The file of the machine's private key in its directory.
pub const PRIVATE_KEY: &str = "id_ed25519";
/// The file of the host keys that the machine has shown, in its directory.
pub const KNOWN_HOSTS: &str = "known_hosts";

/// The socket, in the machine's directory, of the connection that sessions share.
pub const CONTROL_SOCKET: &str = "ssh.sock";

/// A session to be opened in a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssh {
    /// The machine's name; host keys are kept under it.
    pub machine: String,
    /// The port of 127.0.0.1 that leads to the guest's port 22.
    pub port: u16,
    pub user: AccountName,
}

impl Ssh {
    /// Arguments for a session that runs `command`, or a shell when it is empty. As with `ssh`, the
    /// words are joined by spaces and given to the remote shell.
    ///
    /// The program must run in the machine's directory: file names are relative, because in a path
    /// ssh would expand `%`, `~` and `${}` and split at spaces. The first host key that the machine
    /// shows is pinned in the machine's own file; the user's files are neither read nor written.
    #[must_use]
    pub fn arguments(&self, command: &[String]) -> Vec<OsString> {
        let mut args = self.options();
        // QEMU's network takes the connection even when nobody in the guest will.
        args.extend(["-o".into(), "ConnectTimeout=30".into()]);
        args.extend(self.destination());
        args.extend(command.iter().map(OsString::from));
        args
    }

    /// Arguments for a session that takes whatever host key the machine shows, as those want it whose
    /// machines come and go behind one port: the options are podman-bootc's.
    #[must_use]
    pub fn trusting_arguments(&self, command: &[String]) -> Vec<OsString> {
        let mut args: Vec<OsString> = ["-F", "none", "-i", PRIVATE_KEY, "-p"]
            .map(OsString::from)
            .into();
        args.push(self.port.to_string().into());
        for option in [
            "IdentitiesOnly=yes",
            "PasswordAuthentication=no",
            "StrictHostKeyChecking=no",
            "LogLevel=ERROR",
            "SetEnv=LC_ALL=",
            "UserKnownHostsFile=/dev/null",
        ] {
            args.extend(["-o".into(), option.into()]);
        }
        args.extend(self.destination());
        args.extend(command.iter().map(OsString::from));
        args
    }

    /// Arguments for a session without input or terminal that runs `command`, such as `true`: it
    /// shows that the machine can be entered. One attempt may take `patience` seconds until the
    /// server answers.
    #[must_use]
    pub fn check_arguments(&self, patience: u32, command: &str) -> Vec<OsString> {
        let mut args = self.options();
        for option in [
            "BatchMode=yes".to_owned(),
            format!("ConnectTimeout={patience}"),
            "ServerAliveInterval=10".to_owned(),
        ] {
            args.extend(["-o".into(), option.into()]);
        }
        args.extend(["-n".into(), "-T".into()]);
        args.extend(self.destination());
        args.push(command.into());
        args
    }

    /// Arguments for a connection that sessions share and that runs nothing itself. It notices
    /// within five minutes that nobody answers.
    #[must_use]
    pub fn master_arguments(&self) -> Vec<OsString> {
        let mut args = self.options();
        for option in [
            "BatchMode=yes",
            "ConnectTimeout=60",
            "ControlMaster=yes",
            &format!("ControlPath={CONTROL_SOCKET}"),
            "ServerAliveInterval=15",
            "ServerAliveCountMax=20",
        ] {
            args.extend(["-o".into(), option.into()]);
        }
        args.extend(["-n".into(), "-N".into(), "-T".into()]);
        args.extend(self.destination());
        args
    }

    /// Arguments for a session without terminal over the shared connection. The remote shell reads
    /// `command`.
    #[must_use]
    pub fn shared_arguments(&self, command: &str) -> Vec<OsString> {
        let mut args = self.options();
        for option in [
            "BatchMode=yes",
            "ConnectTimeout=60",
            "ControlMaster=no",
            &format!("ControlPath={CONTROL_SOCKET}"),
        ] {
            args.extend(["-o".into(), option.into()]);
        }
        args.push("-T".into());
        args.extend(self.destination());
        args.push(command.into());
        args
    }

    /// Account and host. ssh takes no option after the `--`: what follows is the command.
    fn destination(&self) -> [OsString; 4] {
        ["-l", &self.user, "--", "127.0.0.1"].map(OsString::from)
    }

    fn options(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = ["-F", "none", "-i", PRIVATE_KEY, "-p"]
            .map(OsString::from)
            .into();
        args.push(self.port.to_string().into());
        for option in [
            "IdentitiesOnly=yes",
            "PasswordAuthentication=no",
            "StrictHostKeyChecking=accept-new",
            &format!("UserKnownHostsFile={KNOWN_HOSTS}"),
            "GlobalKnownHostsFile=none",
            &format!("HostKeyAlias={}", self.machine),
            "CheckHostIP=no",
            "LogLevel=ERROR",
            "SetEnv=LC_ALL=",
        ] {
            args.extend(["-o".into(), option.into()]);
        }
        args
    }
}

/// Whether `ssh` said that the server has another host key than the one that is known. With unknown
/// ones accepted, there is no other reason for it to refuse a host key.
#[must_use]
pub fn host_key_changed(said: &str) -> bool {
    said.contains("Host key verification failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(arguments: &[OsString]) -> String {
        arguments.join(" ".as_ref()).into_string().unwrap()
    }

    fn ssh() -> Ssh {
        Ssh {
            machine: "docker-2".into(),
            port: 40001,
            user: "vm".parse().unwrap(),
        }
    }

    #[test]
    fn a_session_with_a_command() {
        let command = ["docker", "version"].map(str::to_owned);
        insta::assert_snapshot!(line(&ssh().arguments(&command)), @"-F none -i id_ed25519 -p 40001 -o IdentitiesOnly=yes -o PasswordAuthentication=no -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=known_hosts -o GlobalKnownHostsFile=none -o HostKeyAlias=docker-2 -o CheckHostIP=no -o LogLevel=ERROR -o SetEnv=LC_ALL= -o ConnectTimeout=30 -l vm -- 127.0.0.1 docker version");
    }

    #[test]
    fn a_session_that_takes_any_host_key() {
        let arguments = line(&ssh().trusting_arguments(&["true".to_owned()]));
        insta::assert_snapshot!(arguments, @"-F none -i id_ed25519 -p 40001 -o IdentitiesOnly=yes -o PasswordAuthentication=no -o StrictHostKeyChecking=no -o LogLevel=ERROR -o SetEnv=LC_ALL= -o UserKnownHostsFile=/dev/null -l vm -- 127.0.0.1 true");
    }

    #[test]
    fn a_shared_connection() {
        let master = line(&ssh().master_arguments());
        let shared = line(&ssh().shared_arguments("true -x"));
        for arguments in [&master, &shared] {
            assert!(
                arguments.contains(" -o ControlPath=ssh.sock "),
                "{arguments}"
            );
            assert!(
                arguments.starts_with("-F none -i id_ed25519 "),
                "{arguments}"
            );
        }
        assert!(master.ends_with(" -n -N -T -l vm -- 127.0.0.1"), "{master}");
        assert!(
            shared.ends_with(" -T -l vm -- 127.0.0.1 true -x"),
            "{shared}"
        );
    }

    #[test]
    fn a_check() {
        let arguments = line(&ssh().check_arguments(30, "true"));
        assert!(
            arguments.ends_with(
                " -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=10 -n -T \
                 -l vm -- 127.0.0.1 true"
            ),
            "{arguments}"
        );
    }
}

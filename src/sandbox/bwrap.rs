//! The command line of bubblewrap. Pure.

use std::collections::BTreeMap;
use std::path::Path;

/// Capabilities that package scripts need and that cannot be turned against the host: those that
/// Docker leaves to containers, without `MKNOD`, `NET_RAW` and `AUDIT_WRITE`.
const CAPABILITIES: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// What a command in the sandbox sees.
pub(super) struct Sandbox<'a> {
    /// The tree that is its root directory.
    pub(super) tree: &'a Path,
    /// Its whole environment.
    pub(super) env: &'a BTreeMap<String, String>,
    /// Its working directory.
    pub(super) workdir: &'a str,
    /// Whether it has the host's network.
    pub(super) network: bool,
    /// The command.
    pub(super) argv: &'a [String],
}

/// The arguments of `bwrap` for a command whose root directory is the tree.
pub(super) fn arguments(sandbox: &Sandbox<'_>) -> Vec<String> {
    let mut arguments = isolation(sandbox.network);
    arguments.extend(words(&["--cap-drop", "ALL"]));
    for capability in CAPABILITIES {
        arguments.extend(words(&["--cap-add", capability]));
    }
    arguments.extend(words(&["--hostname", "vmfab", "--clearenv"]));
    for (name, value) in sandbox.env {
        arguments.extend(words(&["--setenv", name, value]));
    }
    arguments.extend(words(&["--bind", &text(sandbox.tree), "/"]));
    arguments.extend(words(&["--proc", "/proc", "--dev", "/dev"]));
    arguments.extend(words(&["--chdir", sandbox.workdir, "--"]));
    arguments.extend(sandbox.argv.iter().cloned());
    arguments
}

/// What a program of the host sees of the host, read-only, where it is there: programs, libraries and
/// key rings, and what name look-ups and TLS need. No home directories, no sockets, no `/var`.
const HOST_PATHS: [&str; 25] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/alternatives",
    "/etc/apt/apt.conf",
    "/etc/apt/apt.conf.d",
    "/etc/apt/trusted.gpg.d",
    "/etc/ca-certificates",
    "/etc/debian_version",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/perl",
    "/etc/resolv.conf",
    "/etc/ssl/certs",
];

/// The arguments of `bwrap` for a program of the host: it sees [`HOST_PATHS`], and writes only to
/// `writable`.
pub(super) fn host_arguments(
    writable: &[&Path],
    env: &BTreeMap<String, String>,
    network: bool,
    argv: &[String],
) -> Vec<String> {
    let mut arguments = isolation(network);
    // It may mount things for itself: mmdebstrap does.
    arguments.extend(words(&["--cap-add", "ALL", "--clearenv"]));
    for (name, value) in env {
        arguments.extend(words(&["--setenv", name, value]));
    }
    for path in HOST_PATHS {
        arguments.extend(words(&["--ro-bind-try", path, path]));
    }
    // mmdebstrap takes device nodes from here, by mounting them: there must be no disks among them.
    arguments.extend(words(&["--dev", "/dev", "--proc", "/proc"]));
    arguments.extend(words(&["--ro-bind", "/sys", "/sys"]));
    arguments.extend(words(&["--perms", "1777", "--tmpfs", "/tmp"]));
    for path in writable {
        arguments.extend(words(&["--bind", &text(path), &text(path)]));
    }
    arguments.extend(words(&["--chdir", "/", "--"]));
    arguments.extend(argv.iter().cloned());
    arguments
}

fn isolation(network: bool) -> Vec<String> {
    // A session of its own: no terminal that input could be pushed into.
    let mut arguments = words(&["--die-with-parent", "--new-session"]);
    arguments.extend(words(&["--unshare-pid", "--unshare-ipc", "--unshare-uts"]));
    if !network {
        arguments.extend(words(&["--unshare-net"]));
    }
    arguments
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|&word| word.to_owned()).collect()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn a_command_sees_only_what_is_declared() {
        let env = BTreeMap::from([("A".to_owned(), "b c".to_owned())]);
        let sandbox = Sandbox {
            tree: Path::new("/scratch/tree"),
            env: &env,
            workdir: "/",
            network: false,
            argv: &["/bin/sh".into(), "-ec".into(), "true".into()],
        };
        let line = arguments(&sandbox).join(" ");
        insta::assert_snapshot!(line.replace(" --", "\n--"), @r#"
        --die-with-parent
        --new-session
        --unshare-pid
        --unshare-ipc
        --unshare-uts
        --unshare-net
        --cap-drop ALL
        --cap-add CAP_CHOWN
        --cap-add CAP_DAC_OVERRIDE
        --cap-add CAP_FOWNER
        --cap-add CAP_FSETID
        --cap-add CAP_KILL
        --cap-add CAP_NET_BIND_SERVICE
        --cap-add CAP_SETFCAP
        --cap-add CAP_SETGID
        --cap-add CAP_SETPCAP
        --cap-add CAP_SETUID
        --cap-add CAP_SYS_CHROOT
        --hostname vmfab
        --clearenv
        --setenv A b c
        --bind /scratch/tree /
        --proc /proc
        --dev /dev
        --chdir /
        -- /bin/sh -ec true
        "#);
        let with_network = arguments(&Sandbox {
            network: true,
            ..sandbox
        });
        assert!(!with_network.contains(&"--unshare-net".to_owned()));
    }
}

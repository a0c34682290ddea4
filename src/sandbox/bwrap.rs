//! What bubblewrap is told. Pure.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::confinement::{Isolation, Processes};
use super::procfs::Cover;
use super::setuser::Identity;
use super::worker::{NESTED_ARGUMENT, WORKER_ARGUMENT};

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
    /// What it has of its own.
    pub(super) isolation: Isolation,
    /// Its whole environment.
    pub(super) env: &'a BTreeMap<String, String>,
    /// Its working directory.
    pub(super) workdir: &'a str,
    /// Whether it has the host's network.
    pub(super) network: bool,
    /// What lies over its `/proc`.
    pub(super) covers: &'a [Cover],
    /// A directory that it sees in `/dev`, and where.
    pub(super) scripts: Option<(&'a Path, &'a str)>,
    /// Who it becomes: then the first of its arguments is the path of the program, and the second
    /// what the program sees as its name. Root when absent.
    pub(super) identity: Option<&'a Identity>,
    pub(super) argv: &'a [String],
}

/// What bubblewrap is to do.
#[derive(Serialize, Deserialize)]
pub(super) struct Invocation {
    /// Its options, which may hold secrets.
    pub(super) options: Vec<String>,
    /// The command and its arguments.
    pub(super) argv: Vec<String>,
    /// Who it becomes; see [`Sandbox`].
    pub(super) identity: Option<Identity>,
}

/// For a command whose root directory is the tree.
pub(super) fn invocation(sandbox: &Sandbox<'_>) -> Invocation {
    let mut options = isolation(sandbox.network, sandbox.isolation);
    options.extend(words(&["--cap-drop", "ALL"]));
    for capability in CAPABILITIES {
        options.extend(words(&["--cap-add", capability]));
    }
    options.push("--clearenv".to_owned());
    for (name, value) in sandbox.env {
        options.extend(words(&["--setenv", name, value]));
    }
    options.extend(words(&["--bind", &text(sandbox.tree), "/"]));
    options.extend(words(&["--dev", "/dev"]));
    if let Some((directory, place)) = sandbox.scripts {
        options.extend(words(&["--ro-bind", &text(directory), place]));
    }
    options.extend(proc(sandbox.isolation, sandbox.covers));
    options.extend(words(&["--chdir", sandbox.workdir]));
    Invocation {
        options,
        argv: sandbox.argv.to_vec(),
        identity: sandbox.identity.cloned(),
    }
}

/// What a program of the host sees of the host, read-only, where it is there: programs, libraries
/// and key rings, and what name look-ups and TLS need. No home directories, no sockets, no `/var`.
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

/// What a program of the host in the sandbox sees, beyond [`HOST_PATHS`].
pub(super) struct HostSandbox<'a> {
    /// This program.
    pub(super) vmfab: &'a Path,
    /// What it has of its own.
    pub(super) isolation: Isolation,
    /// Where it can write.
    pub(super) writable: &'a Path,
    /// Its whole environment.
    pub(super) env: &'a BTreeMap<String, String>,
    /// Whether it has the host's network.
    pub(super) network: bool,
    /// What lies over its `/proc`.
    pub(super) covers: &'a [Cover],
    /// The program and its arguments.
    pub(super) argv: &'a [String],
}

/// Where programs of the host see this program.
const VMFAB: &str = "/run/vmfab";

/// For a program of the host. This program comes first, and locks the mounts.
pub(super) fn host_invocation(sandbox: &HostSandbox<'_>) -> Invocation {
    let mut options = isolation(sandbox.network, sandbox.isolation);
    // It may mount things for itself: mmdebstrap does.
    options.extend(words(&["--cap-add", "ALL", "--clearenv"]));
    for (name, value) in sandbox.env {
        options.extend(words(&["--setenv", name, value]));
    }
    for path in HOST_PATHS {
        options.extend(words(&["--ro-bind-try", path, path]));
    }
    // mmdebstrap takes device nodes from here, by mounting them: there must be no disks among them.
    options.extend(words(&["--dev", "/dev"]));
    options.extend(proc(sandbox.isolation, sandbox.covers));
    options.extend(words(&["--ro-bind", "/sys", "/sys"]));
    options.extend(words(&["--perms", "1777", "--tmpfs", "/tmp"]));
    options.extend(words(&["--ro-bind", &text(sandbox.vmfab), VMFAB]));
    let writable = text(sandbox.writable);
    options.extend(words(&["--bind", &writable, &writable]));
    options.extend(words(&["--chdir", "/"]));
    let mut argv = words(&[VMFAB, WORKER_ARGUMENT, NESTED_ARGUMENT]);
    argv.extend_from_slice(sandbox.argv);
    Invocation {
        options,
        argv,
        identity: None,
    }
}

/// For a program that does nothing, to find out whether bubblewrap can do its work here.
pub(super) fn trial(of: Isolation, covers: &[Cover]) -> Invocation {
    let mut options = isolation(false, of);
    options.extend(words(&["--ro-bind", "/", "/", "--dev", "/dev"]));
    options.extend(proc(of, covers));
    Invocation {
        options,
        argv: words(&["/bin/true"]),
        identity: None,
    }
}

fn proc(of: Isolation, covers: &[Cover]) -> Vec<String> {
    let mut options = match of.processes {
        Processes::Own => words(&["--proc", "/proc"]),
        Processes::Shared => words(&["--bind", "/proc", "/proc"]),
    };
    for cover in covers {
        options.extend(match cover {
            Cover::ReadOnly(path) => words(&["--ro-bind", path, path]),
            Cover::Hidden(path) => words(&["--ro-bind", "/dev/null", path]),
        });
    }
    options
}

fn isolation(network: bool, of: Isolation) -> Vec<String> {
    // A session of its own: no terminal that input could be pushed into.
    let mut options = words(&["--die-with-parent", "--new-session"]);
    if of.processes == Processes::Own {
        options.push("--unshare-pid".to_owned());
    }
    options.extend(words(&["--unshare-ipc", "--unshare-uts"]));
    if of.host_name {
        options.extend(words(&["--hostname", "vmfab"]));
    }
    // Else /proc/self/cgroup tells whose session or container this is.
    options.push("--unshare-cgroup-try".to_owned());
    if !network {
        options.extend(words(&["--unshare-net"]));
    }
    options
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
            isolation: Isolation::ALL[0],
            env: &env,
            workdir: "/",
            network: false,
            covers: &[
                Cover::ReadOnly("/proc/sys".into()),
                Cover::Hidden("/proc/kcore".into()),
            ],
            scripts: None,
            identity: None,
            argv: &["/bin/sh".into(), "-ec".into(), "true".into()],
        };
        let line = invocation(&sandbox).options.join(" ");
        insta::assert_snapshot!(line.replace(" --", "\n--"), @r#"
        --die-with-parent
        --new-session
        --unshare-pid
        --unshare-ipc
        --unshare-uts
        --hostname vmfab
        --unshare-cgroup-try
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
        --clearenv
        --setenv A b c
        --bind /scratch/tree /
        --dev /dev
        --proc /proc
        --ro-bind /proc/sys /proc/sys
        --ro-bind /dev/null /proc/kcore
        --chdir /
        "#);
        let with_network = invocation(&Sandbox {
            network: true,
            ..sandbox
        });
        assert!(!with_network.options.contains(&"--unshare-net".to_owned()));
    }
    #[test]
    fn what_a_host_does_not_give_is_not_asked_for() {
        let of = |isolation| trial(isolation, &[]).options.join(" ");
        let [strong, .., weak] = Isolation::ALL.map(of);
        for option in ["--unshare-pid", "--proc /proc", "--hostname vmfab"] {
            assert!(strong.contains(option), "{strong}");
            assert!(!weak.contains(option), "{weak}");
        }
        assert!(weak.contains("--bind /proc /proc"), "{weak}");
        assert!(weak.contains("--unshare-uts"), "{weak}");
    }
}

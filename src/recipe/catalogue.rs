//! The recipes that come with vmfab.

/// A recipe that comes with vmfab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltIn {
    /// Its name, by which `from` finds it.
    pub name: &'static str,
    /// What it is, a phrase: the same as in its text.
    pub description: &'static str,
    pub text: &'static str,
}

const CATALOGUE: [BuiltIn; 9] = [
    BuiltIn {
        name: "alpine",
        description: "Alpine Linux 3.22, prebuilt and small",
        text: include_str!("../../recipes/alpine.kdl"),
    },
    BuiltIn {
        name: "debian-12",
        description: "Debian 12 (bookworm), small, with systemd and SSH",
        text: include_str!("../../recipes/debian-12.kdl"),
    },
    BuiltIn {
        name: "docker",
        description: "Docker engine on Ubuntu or Debian",
        text: include_str!("../../recipes/docker.kdl"),
    },
    BuiltIn {
        name: "kata",
        description: "Kata Containers with containerd or Docker, on Ubuntu or Debian",
        text: include_str!("../../recipes/kata.kdl"),
    },
    BuiltIn {
        name: "kubernetes",
        description: "Kubernetes node with containerd, on Ubuntu or Debian",
        text: include_str!("../../recipes/kubernetes.kdl"),
    },
    BuiltIn {
        name: "lxd",
        description: "LXD containers and bridge utilities",
        text: include_str!("../../recipes/lxd.kdl"),
    },
    BuiltIn {
        name: "observer",
        description: "eBPF tools, perf, tracing and node exporter",
        text: include_str!("../../recipes/observer.kdl"),
    },
    BuiltIn {
        name: "ubuntu-24.04",
        description: "Ubuntu 24.04 (noble), small, with systemd and SSH",
        text: include_str!("../../recipes/ubuntu-24.04.kdl"),
    },
    BuiltIn {
        name: "ubuntu-24.04-cloud",
        description: "Ubuntu 24.04 (noble), Canonical's cloud image",
        text: include_str!("../../recipes/ubuntu-24.04-cloud.kdl"),
    },
];

/// The recipes that come with vmfab, ordered by name.
#[must_use]
pub fn catalogue() -> &'static [BuiltIn] {
    &CATALOGUE
}

/// The built-in recipe of this name.
pub(super) fn find(name: &str) -> Option<&'static BuiltIn> {
    CATALOGUE.iter().find(|recipe| recipe.name == name)
}

//! How far this host lets a step be confined. [`probe`](super::probe) finds it out once; from then
//! on it is a plain value that travels with each request. Pure.

use serde::{Deserialize, Serialize};

/// What a step gets of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Confinement {
    /// What bubblewrap can give it.
    pub isolation: Isolation,
    /// Where its changes are while it runs.
    pub changes: Changes,
}

/// What bubblewrap can give a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// Whose process ids it sees.
    pub processes: Processes,
    /// Whether it has the host name of every sandbox. A container's name cannot be changed where
    /// its filter forbids `sethostname`.
    pub host_name: bool,
}

/// Whose process ids a step sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Processes {
    /// Its own, in a fresh `/proc`.
    Own,
    /// Those of the container that vmfab runs in, in the container's `/proc`: the kernel mounts no
    /// fresh one where parts of `/proc` are hidden. A keeper ends what the step leaves behind.
    Shared,
}

/// Where the changes of a step are while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Changes {
    /// Below `VMFAB_HOME`.
    OnDisk,
    /// In memory: `VMFAB_HOME` is on a file system that cannot carry the upper directory of an
    /// overlay, such as the root directory of a container. Removed files are noted there in
    /// attributes.
    InMemory,
}

/// Something that this host does not give, and what that costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weakness {
    /// What is missing, for people.
    pub name: &'static str,
    /// What happens instead, a sentence.
    pub cost: &'static str,
    /// What gives it.
    pub grant: Grant,
}

/// Something that whoever starts a container can give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grant {
    /// User namespaces, and mounts in them.
    Namespaces,
    /// A `/proc` of which nothing is hidden.
    Proc,
    /// A disk for `VMFAB_HOME`.
    Volume,
}

impl Isolation {
    /// All that there can be, the strongest first.
    pub(super) const ALL: [Self; 4] = {
        const fn of(processes: Processes, host_name: bool) -> Isolation {
            Isolation {
                processes,
                host_name,
            }
        }
        [
            of(Processes::Own, true),
            of(Processes::Own, false),
            of(Processes::Shared, true),
            of(Processes::Shared, false),
        ]
    };
}

impl Confinement {
    /// What this host lacks.
    #[must_use]
    pub fn weaknesses(self) -> Vec<Weakness> {
        let processes = (self.isolation.processes == Processes::Shared).then_some(Weakness {
            name: "own process ids",
            cost: "parts of /proc are hidden, so steps see the processes of this container",
            grant: Grant::Proc,
        });
        let changes = (self.changes == Changes::InMemory).then_some(Weakness {
            name: "overlay on disk",
            cost: "VMFAB_HOME is on a file system that cannot hold an overlay, so changes of a step are in memory",
            grant: Grant::Volume,
        });
        let host_name = (!self.isolation.host_name).then_some(Weakness {
            name: "own host name",
            cost: "the host name cannot change, so steps see that of this container",
            grant: Grant::Namespaces,
        });
        [processes, host_name, changes]
            .into_iter()
            .flatten()
            .collect()
    }
}

impl Grant {
    /// What to do about it, one line for each way to run a container.
    #[must_use]
    pub fn flags(self) -> String {
        let (engines, kubernetes) = match self {
            Self::Namespaces => (
                "--security-opt seccomp=unconfined --security-opt apparmor=unconfined",
                "securityContext: {seccompProfile: {type: Unconfined}, appArmorProfile: {type: Unconfined}}",
            ),
            Self::Proc => (
                "--security-opt systempaths=unconfined",
                "hostUsers: false and securityContext: {procMount: Unmasked}",
            ),
            Self::Volume => (
                "--volume vmfab:/vmfab --env VMFAB_HOME=/vmfab",
                "an emptyDir or a persistent volume at the path in VMFAB_HOME",
            ),
        };
        let podman = match self {
            Self::Proc => "--security-opt unmask=ALL",
            _ => engines,
        };
        format!("docker: {engines}\npodman: {podman}\nKubernetes: {kubernetes}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_weakness_names_its_cost_and_its_flags() {
        let strong = Confinement {
            isolation: Isolation::ALL[0],
            changes: Changes::OnDisk,
        };
        assert_eq!(strong.weaknesses(), []);
        let weak = Confinement {
            isolation: Isolation::ALL[3],
            changes: Changes::InMemory,
        };
        let grants: Vec<Grant> = weak.weaknesses().iter().map(|weak| weak.grant).collect();
        assert_eq!(grants, [Grant::Proc, Grant::Namespaces, Grant::Volume]);
        for grant in [Grant::Namespaces, Grant::Proc, Grant::Volume] {
            let flags = grant.flags();
            let engines: Vec<&str> = flags
                .lines()
                .filter_map(|line| line.split(':').next())
                .collect();
            assert_eq!(engines, ["docker", "podman", "Kubernetes"]);
            assert!(!flags.contains("privileged"), "{flags}");
        }
    }
}

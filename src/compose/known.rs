//! What Compose files may say that machines are not.

/// Keys of a service that are read.
pub(super) const READ: [&str; 28] = [
    "build",
    "command",
    "cpus",
    "depends_on",
    "deploy",
    "entrypoint",
    "env_file",
    "environment",
    "expose",
    "extends",
    "healthcheck",
    "hostname",
    "image",
    "links",
    "mem_limit",
    "mem_reservation",
    "network_mode",
    "networks",
    "platform",
    "ports",
    "profiles",
    "restart",
    "scale",
    "stop_grace_period",
    "stop_signal",
    "user",
    "volumes",
    "working_dir",
];

/// Keys that change nothing for a machine.
pub(super) const SILENT: [&str; 9] = [
    "annotations",
    "attach",
    "develop",
    "init",
    "pull_policy",
    "pull_refresh_after",
    "stdin_open",
    "storage_opt",
    "tty",
];

/// Keys without effect, and why that does little harm.
pub(super) const HARMLESS: [(&str, &str); 31] = [
    ("blkio_config", "the limits of disks are not set"),
    (
        "cap_add",
        "root of a machine has all rights in it, and none on the host",
    ),
    (
        "cap_drop",
        "the process keeps the rights of its account in the machine",
    ),
    ("container_name", "the machine is called as its service"),
    ("cpu_count", "write cpus"),
    ("cpu_percent", "write cpus"),
    ("cpu_period", "write cpus"),
    ("cpu_quota", "write cpus"),
    ("cpu_shares", "machines share the host's processors equally"),
    ("cpuset", "machines share the host's processors equally"),
    ("dns", "machines ask the name servers of the host"),
    ("dns_opt", "machines ask the name servers of the host"),
    ("dns_search", "machines ask the name servers of the host"),
    ("domainname", "the host name has no domain"),
    ("group_add", "the process has the groups of its account"),
    ("labels", "machines have no labels"),
    ("logging", "output goes to the machine's journal"),
    ("mac_address", "vmfab chooses it"),
    ("mem_swappiness", "the guest decides"),
    ("memswap_limit", "machines have no swap"),
    ("oom_kill_disable", "the guest decides"),
    ("oom_score_adj", "the guest decides"),
    ("pids_limit", "the number of processes is not limited"),
    (
        "privileged",
        "root of a machine has all rights in it, and none on the host",
    ),
    (
        "read_only",
        "the disk can be written to; it is the machine's own",
    ),
    (
        "security_opt",
        "the machine itself separates the process from the host",
    ),
    ("shm_size", "/dev/shm has half of the machine's memory"),
    ("tmpfs", "the directories are on the machine's disk"),
    ("ulimits", "the process has the usual limits"),
    (
        "userns_mode",
        "the machine itself separates the process from the host",
    ),
    ("uts", "each machine has a host name of its own"),
];

/// Keys that would make something else of the service, and what to do.
pub(super) const WRONG: [(&str, &str); 18] = [
    ("cgroup", "remove it: a machine has a kernel of its own"),
    (
        "cgroup_parent",
        "remove it: a machine has a kernel of its own",
    ),
    (
        "configs",
        "bind the file instead: volumes: [\"./file:/path\"]",
    ),
    (
        "credential_spec",
        "remove it: there are no Windows machines",
    ),
    (
        "device_cgroup_rules",
        "remove it: machines see no devices of the host",
    ),
    ("devices", "remove it: machines see no devices of the host"),
    (
        "external_links",
        "publish a port, and use 10.0.2.2 and that port",
    ),
    (
        "extra_hosts",
        "write the names into /etc/hosts in the image",
    ),
    ("gpus", "remove it: machines see no devices of the host"),
    ("ipc", "remove it: a machine shares no memory with others"),
    ("isolation", "remove it: there are no Windows machines"),
    ("models", "remove it: vmfab runs no models"),
    ("pid", "remove it: a machine has processes of its own"),
    ("provider", "remove it: vmfab runs services itself"),
    ("runtime", "remove it: a machine has a kernel of its own"),
    (
        "secrets",
        "put the secret into the machine after its start, with vmfab ssh",
    ),
    ("sysctls", "write them into /etc/sysctl.d in the image"),
    (
        "volumes_from",
        "machines share no directories: keep the data in one of them",
    ),
];

//! Scripts and programs that steps run or put into trees. They are here because their content is
//! part of the keys of these steps: a changed script is another step.

use crate::digest::{Digest, Hasher};

/// Finishes a tree with systemd.
pub const SYSTEMD: &str = include_str!("scripts/bootable/systemd.sh");
/// The same with OpenRC.
pub const OPENRC: &str = include_str!("scripts/bootable/openrc.sh");
/// Gives the kernel of packages that leave it in `/lib/modules` the place where it is looked for.
pub const KERNEL: &str = include_str!("scripts/bootable/kernel.sh");
/// Does in a guest what newer systemd does itself. Source of the addresses: smbios(8) of Linux'
/// sysfs.
pub const SEED: &str = include_str!("scripts/bootable/seed.sh");
/// Mounts in a guest what its machine is given.
pub const MOUNTS: &str = include_str!("scripts/mounts.sh");
/// Sets up in a guest the private network of its machine.
pub const NETWORK: &str = include_str!("scripts/network.sh");
/// Gives an account its password: what machines with systemd and OpenRC run.
pub const PASSWORD: &str = include_str!("scripts/password.sh");

/// Enters the environment of a container's process.
pub const ENTER: &str = include_str!("scripts/entrypoint/enter.sh");
/// Starts the process.
pub const START: &str = include_str!("scripts/entrypoint/start.sh");
/// Waits until all of its output was read.
pub const DRAIN: &str = include_str!("scripts/entrypoint/drain.sh");
/// Writes that output where the system has its log.
pub const LOG: &str = include_str!("scripts/entrypoint/log.sh");
/// Checks its health, again and again.
pub const HEALTH: &str = include_str!("scripts/entrypoint/health.sh");
/// Tells how that is.
pub const READY: &str = include_str!("scripts/entrypoint/ready.sh");
/// Writes units or services, and enables them.
pub const SET_UP: &str = include_str!("scripts/entrypoint/set-up.sh");

/// The init of images that have none: a static program without a libc, built from the directory
/// `init`. Its text counts and not its bytes, which differ with the compiler.
pub const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));
const INIT_TEXTS: [&str; 9] = [
    include_str!("../../init/main.rs"),
    include_str!("../../init/config.rs"),
    include_str!("../../init/dhcp.rs"),
    include_str!("../../init/group.rs"),
    include_str!("../../init/network.rs"),
    include_str!("../../init/setup.rs"),
    include_str!("../../init/sys.rs"),
    include_str!("../../init/table.rs"),
    include_str!("../../init/volumes.rs"),
];

/// What a `bootable` step does, whatever its other parameters are.
#[must_use]
pub fn bootable() -> Digest {
    let scripts = [&[SYSTEMD, OPENRC, KERNEL, SEED][..], &INIT_TEXTS];
    digest(&scripts.concat())
}

/// The same of an `entrypoint` step.
#[must_use]
pub fn entrypoint() -> Digest {
    digest(&[ENTER, START, DRAIN, LOG, HEALTH, READY, SET_UP])
}

/// Installs a bootable container, in a machine with its tree.
pub const BOOTC_INSTALL: &str = include_str!("scripts/bootc/install.sh");
/// Systemd's units that run it.
pub const BOOTC_SERVICE: &str = include_str!("scripts/bootc/vmfab-install.service");
pub const BOOTC_TARGET: &str = include_str!("scripts/bootc/vmfab-install.target");

/// What the disk of an installer has beside the tree.
#[must_use]
pub fn bootc_installer() -> Digest {
    digest(&[BOOTC_SERVICE, BOOTC_TARGET])
}

/// What the machine of an installer runs.
#[must_use]
pub fn bootc_install() -> Digest {
    digest(&[BOOTC_INSTALL])
}

fn digest(scripts: &[&str]) -> Digest {
    let mut hasher = Hasher::new("vmfab scripts v1");
    for script in scripts {
        hasher.update_field(script.as_bytes());
    }
    hasher.finish()
}

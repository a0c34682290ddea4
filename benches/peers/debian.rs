//! mmdebstrap, mke2fs and qemu-img in a row: the shortest way to the same disk without vmfab.

use std::path::Path;
use std::time::Duration;

use crate::lab::{time, tool};

/// What `recipes/docker.kdl` on `recipes/debian-12.kdl` installs.
const PACKAGES: &str = "linux-image-cloud-amd64,systemd-sysv,systemd-resolved,systemd-boot-efi,dbus,\
    udev,libpam-systemd,openssh-server,sudo,iproute2,ca-certificates,docker.io";

/// Builds a bootable qcow2 disk below `directory`, which must not exist; tells how long it took.
pub(crate) fn build_disk(directory: &Path) -> Duration {
    std::fs::create_dir(directory).unwrap();
    let [tree, raw, qcow2] = ["tree", "disk.raw", "disk.qcow2"].map(|name| directory.join(name));
    let bootstrap = time(
        tool("mmdebstrap", "mmdebstrap")
            .arg("--variant=minbase")
            .arg(format!("--include={PACKAGES}"))
            .arg("bookworm")
            .arg(&tree),
    );
    let file_system = time(
        tool("mke2fs", "e2fsprogs")
            .args(["-q", "-t", "ext4", "-d"])
            .arg(&tree)
            .arg(&raw)
            .arg("10G"),
    );
    let convert = time(
        tool("qemu-img", "qemu-utils")
            .args(["convert", "-f", "raw", "-O", "qcow2"])
            .args([&raw, &qcow2]),
    );
    eprintln!("  mmdebstrap {bootstrap:.1?}, mke2fs {file_system:.1?}, qemu-img {convert:.1?}");
    bootstrap + file_system + convert
}

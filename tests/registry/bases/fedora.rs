//! Fedora's package manager. Debian's dnf stands for it, with packages of a few bytes each: no
//! archive of Fedora is needed.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::{Bench, Layer};
use crate::support::Ran;
use crate::support::debian::debian;
use crate::support::http::Server;
use crate::support::registry::Registry;

/// A server with the packages below `/`.
fn archive() -> Server {
    fn put(server: &Server, root: &Path, directory: &Path) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                put(server, root, &path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                server.put(&format!("/{name}"), fs::read(&path).unwrap());
            }
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let mut script = Command::new("bash");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/rpms.sh");
    script.arg(path).arg(directory.path());
    Ran::of(&mut script).ends_with(0);
    let server = Server::start();
    put(&server, directory.path(), directory.path());
    server
}

#[test]
fn dnf_installs_what_is_missing() {
    let bench = Bench::new();
    let registry = Registry::start();
    let archive = archive();
    bench.image(&[Layer::new("+zstd", debian())], json!({}));
    bench.push(&registry);
    let base = registry.at("team/base:1");
    let address = archive.url("");
    // The SSH server is there, so that nothing else of it comes.
    let dockerfile = format!(
        r#"FROM {base}
RUN apt-get -qq update && apt-get -qq install -y --no-install-recommends dnf rpm
RUN <<END
set -e
mkdir -p /etc/yum.repos.d
cat >/etc/yum.repos.d/stand-ins.repo <<REPOSITORY
[stand-ins]
name=Stand-ins
baseurl={address}
gpgcheck=0
REPOSITORY
rm /etc/os-release
printf 'ID=fedora\nVERSION_ID=99\n' >/etc/os-release
printf '#!/bin/sh\n' >/usr/sbin/sshd
chmod 755 /usr/sbin/sshd
END
"#
    );
    fs::write(bench.path("Dockerfile"), dockerfile).unwrap();
    let recipe = r##"image "fedora" {
    dockerfile "Dockerfile"
    run #"""
        rpm -qa --queryformat '%{NAME}\n' | sort
        cd /boot; grep -H . *
        cat /var/log/systemctl
        """#
    disk size="1G"
}
"##;
    fs::write(bench.path("test.kdl"), recipe).unwrap();
    let built = bench.build().succeeds();
    let output = built.output();
    let from = output.iter().position(|line| *line == "dbus").unwrap();
    let installed = [
        "dbus",
        "dracut",
        "dracut-config-generic",
        "kernel-core",
        "systemd",
        "systemd-networkd",
        "systemd-resolved",
        "systemd-udev",
        "initramfs-6.9.9-200.fc99.img:dracut --quiet --force --no-hostonly \
         /boot/initramfs-6.9.9-200.fc99.img 6.9.9-200.fc99",
        "vmlinuz-6.9.9-200.fc99:#!/bin/sh",
        "systemctl --quiet is-enabled ssh.socket",
        "systemctl --quiet enable systemd-resolved.service",
        "systemctl --quiet enable vmfab-seed.service",
    ];
    assert_eq!(output[from..from + installed.len()], installed);

    // What is in the repository now is not asked for again.
    drop(archive);
    assert_eq!(bench.build().succeeds().started(), [""; 0]);
}

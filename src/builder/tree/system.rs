//! What every guest needs and no recipe should have to say. What the recipe or the distribution has
//! set up already stays.

use crate::derivation::scripts;
use crate::derivation::step::System;
use crate::sandbox::Edit;

/// Sources: systemd.network(5), systemd.unit(5).
const NETWORK: &str = "\
# Every Ethernet interface asks for an address.
[Match]
Type=ether
Name=en* eth*

[Network]
DHCP=yes
";

/// Keys of the kinds that every client of the last ten years takes: an RSA key takes seconds on an
/// emulated processor.
const HOST_KEYS: &str = "\
[Unit]
Description=Make the SSH host keys of this machine
Documentation=man:ssh-keygen(1)
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key
DefaultDependencies=no
After=systemd-remount-fs.service
Before=ssh.service ssh.socket sshd.service sshd.socket shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N \"\" -C \"\" -f /etc/ssh/ssh_host_ed25519_key
ExecStart=/usr/bin/ssh-keygen -q -t ecdsa -N \"\" -C \"\" -f /etc/ssh/ssh_host_ecdsa_key
";

/// The root partition takes what is free behind it when a machine has a larger disk than its image;
/// the file system follows (`x-systemd.growfs`). Source: repart.d(5).
const GROW_PARTITION: &str = "\
[Partition]
Type=root
";

/// Where systemd is not the init, the seed runs the script.
const MOUNTS: &str = "\
[Unit]
Description=Mount the volumes and shares of this machine
ConditionCredential=vmfab.mounts
DefaultDependencies=no
After=local-fs.target systemd-udevd.service
Before=sysinit.target systemd-tmpfiles-setup.service shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/lib/vmfab/mounts
";

/// Also where a machine is in no network any more: then the names of the others go.
const PRIVATE_NETWORK: &str = "\
[Unit]
Description=Set up the private network of this machine
ConditionCredential=|vmfab.network
ConditionPathExists=|/etc/vmfab-network
DefaultDependencies=no
After=local-fs.target systemd-udevd.service systemd-remount-fs.service
Before=sysinit.target network-pre.target systemd-networkd.service shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/lib/vmfab/network
";

const PASSWORD: &str = "\
[Unit]
Description=Set the password that was chosen for this machine
ConditionCredential=vmfab.password
DefaultDependencies=no
After=local-fs.target
Before=sysinit.target shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/lib/vmfab/password
";

pub(super) fn edits(params: &System) -> Vec<Edit> {
    let default = |path: &str, content: String, replaces: &[&str]| Edit::WriteDefault {
        path: path.to_owned(),
        content,
        replaces: replaces.iter().map(|&text| text.to_owned()).collect(),
    };
    let root = format!(
        "LABEL={} / {} defaults,x-systemd.growfs 0 1\n",
        params.label, params.filesystem
    );
    let mut edits = vec![
        default("/etc/fstab", root, &["# UNCONFIGURED FSTAB"]),
        default("/etc/hostname", format!("{}\n", params.hostname), &[]),
        hosts(),
        hosts_line(&params.hostname),
        // Empty: systemd fills it at the first boot of each machine (machine-id(5)).
        Edit::Write {
            path: "/etc/machine-id".to_owned(),
            content: String::new(),
            mode: 0o444,
            owner: None,
            time: None,
        },
        default(
            "/etc/systemd/network/80-vmfab.network",
            NETWORK.to_owned(),
            &[],
        ),
        default(
            "/etc/systemd/system/vmfab-host-keys.service",
            HOST_KEYS.to_owned(),
            &[],
        ),
    ];
    let services = [
        ("mounts", scripts::MOUNTS, MOUNTS),
        ("network", scripts::NETWORK, PRIVATE_NETWORK),
        ("password", scripts::PASSWORD, PASSWORD),
    ];
    for (name, script, unit) in services {
        let service = format!("vmfab-{name}.service");
        let unit_file = format!("/etc/systemd/system/{service}");
        for (path, content, mode) in [
            (format!("/usr/lib/vmfab/{name}"), script, 0o755),
            (unit_file.clone(), unit, 0o644),
        ] {
            edits.push(Edit::Write {
                path,
                content: content.to_owned(),
                mode,
                owner: None,
                time: None,
            });
        }
        edits.push(wanted(
            "sysinit.target",
            &service,
            &unit_file,
            "/usr/lib/systemd/system/sysinit.target",
        ));
    }
    if params.uefi {
        let partition = GROW_PARTITION.to_owned();
        edits.push(default("/etc/repart.d/50-root.conf", partition, &[]));
    }
    let units = [
        ("multi-user.target", "systemd-networkd.service"),
        ("sockets.target", "systemd-networkd.socket"),
        (
            "network-online.target",
            "systemd-networkd-wait-online.service",
        ),
    ];
    for (target, unit) in units {
        let unit_file = format!("/usr/lib/systemd/system/{unit}");
        edits.push(wanted(target, unit, &unit_file, &unit_file));
    }
    let host_keys = "/etc/systemd/system/vmfab-host-keys.service";
    edits.push(wanted(
        "multi-user.target",
        "vmfab-host-keys.service",
        host_keys,
        "/usr/bin/ssh-keygen",
    ));
    edits
}

/// The edits of a `hostname` step.
pub(super) fn hostname(name: &str) -> Vec<Edit> {
    let file = Edit::Write {
        path: "/etc/hostname".to_owned(),
        content: format!("{name}\n"),
        mode: 0o644,
        owner: None,
        time: None,
    };
    // First the names that every machine has: what is there later stays as it is.
    vec![file, hosts(), hosts_line(name)]
}

fn hosts() -> Edit {
    Edit::WriteDefault {
        path: "/etc/hosts".to_owned(),
        content: "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned(),
        replaces: Vec::new(),
    }
}

/// Debian's way for a machine to know its own name without a name server.
fn hosts_line(name: &str) -> Edit {
    Edit::SetLine {
        path: "/etc/hosts".to_owned(),
        prefix: "127.0.1.1".to_owned(),
        line: format!("127.0.1.1 {name}"),
    }
}

/// What `systemctl enable` does, when `needs` is there.
fn wanted(target: &str, unit: &str, file: &str, needs: &str) -> Edit {
    Edit::LinkDefault {
        path: format!("/etc/systemd/system/{target}.wants/{unit}"),
        target: file.to_owned(),
        needs: needs.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::process::Stdio;

    use crate::derivation::scripts::SEED;

    /// The seed of guests that read no credentials themselves, with a table of SMBIOS as QEMU makes
    /// it.
    #[test]
    fn a_guest_without_credentials_reads_them_from_smbios() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        let account = crate::guest::Account {
            name: "root".parse().unwrap(),
            home: at("root").parse().unwrap(),
        };
        let strings = crate::guest::oem_strings(&crate::guest::Identity {
            instance: None,
            hostname: "web".to_owned(),
            public_keys: vec!["ssh-ed25519 AAAA".to_owned()],
            ssh_user: "root".parse().unwrap(),
            accounts: vec![account],
            mounts: Vec::new(),
            network: None,
            first_boot: crate::image::FirstBoot::default(),
        });
        let mut table = b"\x01\x1b\0\x01\x01\x02QEMU\0Standard PC\0\0\x0b\x05\0\x0b\x02".to_vec();
        for text in &strings {
            table.extend(text.as_bytes());
            table.push(0);
        }
        table.extend(b"\0\x7f\x04\0\x7f\0\0");
        fs::write(at("DMI"), table).unwrap();
        fs::create_dir(at("root")).unwrap();
        fs::create_dir(at("root/.ssh")).unwrap();
        fs::write(at("root/.ssh/authorized_keys"), "mine\n").unwrap();
        fs::write(at("name"), "").unwrap();
        let script = SEED
            .replace("/sys/firmware/dmi/tables/DMI", &at("DMI"))
            .replace("/proc/sys/kernel/hostname", &at("name"))
            .replace("chown", ":");
        let mut child = std::process::Command::new("/bin/sh")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(script.as_bytes()).unwrap();
        drop(stdin);
        assert!(child.wait().unwrap().success());
        let read = |name: &str| fs::read_to_string(at(name)).unwrap();
        assert_eq!(read("name"), "web");
        assert_eq!(read("root/.ssh/authorized_keys"), "mine\n");
        assert_eq!(read("root/.ssh/authorized_keys2"), "ssh-ed25519 AAAA\n");
    }
}

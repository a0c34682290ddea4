//! Ways out of a machine that other programs of the host provide: passt, and a bridge.

use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Child;

use super::super::config::MachineConfig;
use super::super::directory::files;
use super::super::launch::utf8;
use super::super::{Machine, MachineError};
use super::serve::{CONNECTION, serve};
use crate::checked::InterfaceName;
use crate::failure::Failure;
use crate::host::find_program;
use crate::image::Seed;
use crate::qemu::{Card, Forward, OtherEnd};

/// Where distributions put the program that adds a card to a bridge.
const HELPERS: [&str; 3] = [
    "/usr/lib/qemu/qemu-bridge-helper",
    "/usr/libexec/qemu-bridge-helper",
    "/usr/local/libexec/qemu-bridge-helper",
];
/// Which bridges it adds cards to, unless root starts it, too. Source: its `qemu-bridge-helper.c`.
const ACL: &str = "/etc/qemu/bridge.conf";

/// Starts passt for a machine.
pub(in crate::machine) fn passt(
    machine: &Machine,
    config: &MachineConfig,
    forwards: &[Forward],
) -> Result<Child, MachineError> {
    let program = find_program("passt").ok_or_else(|| {
        Failure::missing("passt is not installed")
            .with_help("install it with: sudo apt-get install passt; or use QEMU's own network: --network user")
    })?;
    if config.seed == Seed::Ec2 {
        return Err(Failure::failed(
            "the image asks for Amazon's metadata service, which the network \"passt\" has not",
        )
        .with_help("use QEMU's own network: --network user")
        .into());
    }
    let mut words: Vec<OsString> = vec!["run".into(), program.into()];
    words.extend(arguments(forwards).into_iter().map(OsString::from));
    serve(machine, files::PASST_SOCKET, &words, "passt")
}

/// passt ends with the connection that it is given.
fn arguments(forwards: &[Forward]) -> Vec<String> {
    let mut words = ["--quiet", "--foreground", "--fd"]
        .map(str::to_owned)
        .to_vec();
    words.push(CONNECTION.to_string());
    for (udp, option) in [(false, "--tcp-ports"), (true, "--udp-ports")] {
        let of_kind = forwards.iter().filter(|forward| forward.udp == udp);
        let ports: Vec<String> = of_kind
            .map(
                |Forward {
                     host,
                     guest,
                     address,
                     ..
                 }| match *address {
                    Ipv4Addr::UNSPECIFIED => format!("{host}:{guest}"),
                    address => format!("{address}/{host}:{guest}"),
                },
            )
            .collect();
        match ports.is_empty() {
            true => words.extend([option.to_owned(), "none".to_owned()]),
            false => {
                for port in ports {
                    words.extend([option.to_owned(), port]);
                }
            }
        }
    }
    words
}

/// The card of a machine in a bridge of the host.
pub(in crate::machine) fn bridge(
    config: &MachineConfig,
    name: &InterfaceName,
) -> Result<Card, MachineError> {
    let is_file = |path: &PathBuf| path.is_file();
    let helper = HELPERS.map(PathBuf::from).into_iter().find(is_file);
    let helper = helper.ok_or_else(|| {
        Failure::missing("qemu-bridge-helper is not installed").with_help(
            "it comes with QEMU: sudo apt-get install qemu-system-common, or use --network user",
        )
    })?;
    let sys = Path::new("/sys/class/net").join(name.as_ref());
    if !sys.join("bridge").is_dir() {
        let message = match sys.exists() {
            true => format!("{name} is not a bridge"),
            false => format!("this host has no bridge {name}"),
        };
        return Err(Failure::failed(message)
            .with_help("ip link show type bridge lists them: --network bridge:NAME")
            .into());
    }
    let root = rustix::process::geteuid().is_root();
    let owner = fs::metadata(&helper).map_err(super::io_error("read", &helper))?;
    let is_setuid = owner.uid() == 0 && owner.permissions().mode() & 0o4000 != 0;
    if !root && !is_setuid {
        let message = format!("{} may not add a card to {name}", helper.display());
        return Err(Failure::failed(message)
            .with_help(format!(
                "it needs root's rights: sudo chmod u+s {}",
                helper.display()
            ))
            .into());
    }
    // One that this user may not read is the helper's business.
    let allowed = match fs::read_to_string(ACL) {
        Ok(text) => allows(&text, name),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    };
    if !allowed {
        return Err(
            Failure::failed(format!("{ACL} does not allow machines in {name}"))
                .with_help(format!(
                    "sudo mkdir -p /etc/qemu && echo allow {name} | sudo tee -a {ACL}"
                ))
                .into(),
        );
    }
    Ok(Card {
        mac: mac(config),
        other_end: OtherEnd::Bridge {
            name: name.clone(),
            helper: utf8(helper)?,
        },
    })
}

/// Whether a list allows a bridge, as far as this file says it: it may include others.
fn allows(text: &str, name: &InterfaceName) -> bool {
    let mut allowed = false;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("include"), _) => return true,
            (Some("deny"), Some(which)) if which == "all" || *name == which => return false,
            (Some("allow"), Some(which)) if which == "all" || *name == which => allowed = true,
            _ => {}
        }
    }
    allowed
}

/// A hardware address that no other machine has: a local one, of the machine's instance.
fn mac(config: &MachineConfig) -> String {
    let bytes = config.instance.unwrap_or_default().into_bytes();
    let [a, b, c, d, ..] = bytes;
    format!("52:56:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_passt() {
        let forward = |address: &str, host, guest, udp| Forward {
            host,
            guest,
            udp,
            address: address.parse().unwrap(),
        };
        let forwards = [
            forward("127.0.0.1", 40001, 22, false),
            forward("0.0.0.0", 8080, 80, false),
        ];
        assert_eq!(
            arguments(&forwards).join(" "),
            "--quiet --foreground --fd 9 --tcp-ports 127.0.0.1/40001:22 --tcp-ports 8080:80 \
             --udp-ports none"
        );
        let forwards = [forward("127.0.0.1", 5353, 53, true)];
        assert!(
            arguments(&forwards)
                .ends_with(&["--udp-ports".to_owned(), "127.0.0.1/5353:53".to_owned()])
        );
    }

    #[test]
    fn lists_of_bridges() {
        let name: InterfaceName = "br0".parse().unwrap();
        for text in [
            "allow br0",
            "# mine\nallow all\n",
            "include /etc/qemu/more",
            "allow br1\n allow br0",
        ] {
            assert!(allows(text, &name), "{text}");
        }
        for text in [
            "",
            "allow br1",
            "allow br00",
            "#allow br0",
            "deny br0\nallow all",
            "allow all\ndeny all",
        ] {
            assert!(!allows(text, &name), "{text}");
        }
    }
}

//! The package managers of trees: recognised by `/etc/os-release`, one interface. Pure.

use std::collections::BTreeMap;
use std::path::Path;

use super::request::{Bind, Command};
use crate::derivation::step::Limits;

/// A package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PackageManager {
    Apt,
    Apk,
    Dnf,
}

impl PackageManager {
    /// The manager of the system that an `os-release` file describes, by its `ID` and `ID_LIKE`.
    /// Source: os-release(5).
    pub(super) fn from_os_release(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.unwrap_or_default()
                .trim_matches(['"', '\''])
                .to_owned()
        };
        let ids = format!("{} {}", field("ID"), field("ID_LIKE"));
        ids.split_whitespace().find_map(|id| match id {
            "debian" | "ubuntu" => Some(Self::Apt),
            "alpine" => Some(Self::Apk),
            "fedora" | "rhel" | "centos" => Some(Self::Dnf),
            _ => None,
        })
    }

    /// The command that installs `names`. Lists and downloads go below `directory`
    /// of the host, not into the layer.
    pub(super) fn install(
        self,
        names: &[String],
        recommends: bool,
        directory: &Path,
        limits: &Limits,
    ) -> Command {
        let script = match self {
            // The package cache of apt is made anew by `update`; /tmp is a file system in memory.
            Self::Apt => {
                "apt='-qq -o Dir::Cache::pkgcache=/tmp/pkgcache.bin -o Dir::Cache::srcpkgcache= \
                 -o Acquire::Languages=none'
                 apt-get $apt update -o APT::Update::Error-Mode=any
                 if test \"$RECOMMENDS\" = yes
                 then exec apt-get $apt --yes --install-recommends install -- \"$@\"
                 else exec apt-get $apt --yes --no-install-recommends install -- \"$@\"
                 fi"
            }
            Self::Apk => "exec apk add --update-cache --cache-dir /var/cache/apk -- \"$@\"",
            Self::Dnf => {
                "if test \"$RECOMMENDS\" = yes
                 then exec dnf --assumeyes install -- \"$@\"
                 else exec dnf --assumeyes --setopt=install_weak_deps=False install -- \"$@\"
                 fi"
            }
        };
        let script: Vec<&str> = script.lines().map(str::trim).collect();
        let places: &[&str] = match self {
            Self::Apt => &["/var/lib/apt/lists", "/var/cache/apt/archives"],
            Self::Apk => &["/var/cache/apk"],
            Self::Dnf => &["/var/cache/dnf"],
        };
        let binds = places.iter().map(|place| Bind {
            from: directory.join(place.rsplit('/').next().unwrap_or_default()),
            to: (*place).to_owned(),
        });
        let mut argv: Vec<String> = ["/bin/sh", "-ec", &script.join("\n"), "packages"]
            .map(str::to_owned)
            .into();
        argv.extend(names.iter().cloned());
        Command {
            label: Some(format!("packages {}", names.join(" "))),
            argv,
            env: BTreeMap::from([
                ("DEBIAN_FRONTEND".to_owned(), "noninteractive".to_owned()),
                (
                    "RECOMMENDS".to_owned(),
                    if recommends { "yes" } else { "no" }.to_owned(),
                ),
            ]),
            workdir: None,
            network: true,
            binds: binds.collect(),
            limits: limits.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_are_recognised() {
        let manager = PackageManager::from_os_release;
        assert_eq!(manager("NAME=x\nID=debian\n"), Some(PackageManager::Apt));
        assert_eq!(
            manager("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"),
            Some(PackageManager::Apt)
        );
        assert_eq!(manager("ID=alpine"), Some(PackageManager::Apk));
        assert_eq!(
            manager("ID=\"centos\"\nID_LIKE=\"rhel fedora\""),
            Some(PackageManager::Dnf)
        );
        assert_eq!(manager("ID=arch\nID_LIKE=archlinux"), None);
        assert_eq!(manager(""), None);
    }

    #[test]
    fn names_are_arguments_and_never_script() {
        for manager in [
            PackageManager::Apt,
            PackageManager::Apk,
            PackageManager::Dnf,
        ] {
            let names = ["a; rm -rf /".to_owned(), "--evil".to_owned()];
            let command = manager.install(&names, false, Path::new("/c"), &Limits::default());
            assert_eq!(command.argv[command.argv.len() - 2..], names);
            assert!(command.argv[2].contains("-- \"$@\""), "{}", command.argv[2]);
            assert!(command.network);
        }
    }
}

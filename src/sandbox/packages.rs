//! The package managers of trees: recognised by `/etc/os-release`, one interface. Pure.

use crate::instruction::Packages;
use std::collections::BTreeMap;

use super::request::{Bind, Command, Install};

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
        let ids = format!(
            "{} {}",
            field(text, "ID").unwrap_or_default(),
            field(text, "ID_LIKE").unwrap_or_default()
        );
        ids.split_whitespace().find_map(|id| match id {
            "debian" | "ubuntu" => Some(Self::Apt),
            "alpine" => Some(Self::Apk),
            "fedora" | "rhel" | "centos" => Some(Self::Dnf),
            _ => None,
        })
    }

    /// Whether the tree has it: images without one say which system they are made of, too.
    pub(super) fn is_in(self, has: &dyn Fn(&str) -> bool) -> bool {
        let programs: &[&str] = match self {
            Self::Apt => &["apt-get"],
            Self::Apk => &["apk"],
            Self::Dnf => &["dnf", "microdnf", "yum"],
        };
        let directories = ["/usr/bin", "/bin", "/sbin", "/usr/sbin"];
        let mut places = programs
            .iter()
            .flat_map(|program| directories.map(|directory| format!("{directory}/{program}")));
        places.any(|place| has(&place))
    }

    /// The command that installs packages. Lists and downloads go below `packages` of the job, not
    /// into the layer; what it leaves there, and takes from there,
    /// [`Task::Packages`](super::Task) says.
    pub(super) fn install(self, install: &Install) -> Command {
        let Install {
            wanted,
            choices,
            locked,
        } = install;
        let Packages {
            names,
            recommends,
            limits,
            ..
        } = wanted;
        let script = match self {
            // The package cache of apt is made anew by `update`; /tmp is a file system in memory. A
            // tree may be set up to remove downloads after dpkg ran: they are linked to before.
            // dpkg's question about a configuration file that an earlier step wrote is answered as
            // its default is: the file stays.
            Self::Apt => {
                "archives=/var/cache/apt/archives
                 apt='-qq -o Dir::Cache::pkgcache=/tmp/pkgcache.bin -o Dir::Cache::srcpkgcache= \
                 -o Acquire::Languages=none -o Acquire::GzipIndexes=false \
                 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold'
                 if test \"$LOCKED\" = yes
                 then apt=\"$apt -o Dir::Etc::SourceList=$archives/vmfab/sources.list \
                 -o Dir::Etc::SourceParts=/dev/null\"
                 fi
                 apt-get $apt update -o APT::Update::Error-Mode=any
                 if test \"$RECOMMENDS\" = yes; then with=--install-recommends
                 else with=--no-install-recommends
                 fi
                 for choice in $CHOICES
                 do for name in $(echo \"$choice\" | tr '|' ' ')
                 do if apt-cache $apt show \"$name\" >/dev/null 2>&1
                 then set -- \"$@\" \"$name\"; break
                 fi; done; done
                 mkdir -p $archives/kept
                 keep=\"ln -f $archives/*.deb $archives/kept/ 2>/dev/null || true\"
                 apt-get $apt --yes $with -o \"DPkg::Pre-Invoke::=$keep\" install -- \"$@\"
                 apt-get $apt indextargets --format '$(FILENAME)|$(METAKEY)|$(REPO_URI)' \
                 'Created-By: Packages' > $archives/targets"
            }
            Self::Apk => {
                "for choice in $CHOICES; do set -- \"$@\" \"${choice%%|*}\"; done
                 exec apk add --update-cache --cache-dir /var/cache/apk -- \"$@\""
            }
            // Small images have microdnf, old ones yum.
            Self::Dnf => {
                "for choice in $CHOICES; do set -- \"$@\" \"${choice%%|*}\"; done
                 for dnf in dnf microdnf yum; do if command -v $dnf >/dev/null; then break; fi; done
                 if test \"$RECOMMENDS\" = yes
                 then exec $dnf --assumeyes install -- \"$@\"
                 else exec $dnf --assumeyes --setopt=install_weak_deps=False install -- \"$@\"
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
            from: format!("packages/{}", place.rsplit('/').next().unwrap_or_default()).into(),
            to: (*place).to_owned(),
        });
        let mut argv: Vec<String> = ["/bin/sh", "-ec", &script.join("\n"), "packages"]
            .map(str::to_owned)
            .into();
        argv.extend(names.iter().cloned());
        let choices: Vec<String> = choices.iter().map(|names| names.join("|")).collect();
        let label = match names.is_empty() {
            true => choices.join(" "),
            false => names.join(" "),
        };
        let mut env = BTreeMap::from([
            ("DEBIAN_FRONTEND".to_owned(), "noninteractive".to_owned()),
            (
                "RECOMMENDS".to_owned(),
                if *recommends { "yes" } else { "no" }.to_owned(),
            ),
            ("CHOICES".to_owned(), choices.join(" ")),
            (
                "LOCKED".to_owned(),
                if *locked { "yes" } else { "no" }.to_owned(),
            ),
        ]);
        if !choices.is_empty() {
            // Those of a `bootable` step, which makes the initrd itself, and once.
            env.insert("INITRD".to_owned(), "No".to_owned());
        }
        Command {
            label: Some(format!("packages {label}")),
            argv,
            env,
            workdir: None,
            network: !locked,
            binds: binds.collect(),
            limits: limits.clone(),
        }
    }
}

/// A field of an `os-release` file.
pub(super) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches(['"', '\'']))
}

impl Install {
    /// With the names for the system that an `os-release` file describes.
    pub(super) fn on(&self, os_release: &str) -> Self {
        let mut install = self.clone();
        if let Some(names) = field(os_release, "ID").and_then(|id| self.wanted.on.get(id)) {
            install.wanted.names.clone_from(names);
        }
        install
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
            let mut install = Install::default();
            install.wanted.names = vec!["a; rm -rf /".to_owned(), "--evil".to_owned()];
            let command = manager.install(&install);
            assert_eq!(command.argv[command.argv.len() - 2..], install.wanted.names);
            assert!(command.argv[2].contains("-- \"$@\""), "{}", command.argv[2]);
            assert!(command.network);
            install.locked = true;
            assert!(!manager.install(&install).network);
        }
    }

    #[test]
    fn a_system_can_have_names_of_its_own() {
        let mut install = Install::default();
        install.wanted.names = vec!["ssh".into()];
        install.wanted.on = BTreeMap::from([("alpine".to_owned(), vec!["openssh".to_owned()])]);
        let names = |text| install.on(text).wanted.names;
        assert_eq!(names("ID=alpine\n"), ["openssh"]);
        assert_eq!(names("ID=debian\n"), ["ssh"]);
        assert_eq!(names("ID=postmarketos\nID_LIKE=alpine\n"), ["ssh"]);
        assert_eq!(names(""), ["ssh"]);
    }
}

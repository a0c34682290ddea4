//! What the tree of a container image lacks to be a machine, and which packages bring it. Pure but
//! for `impl Tasks`.
//!
//! | part | is there when the tree has | Debian, Ubuntu | Alpine | Fedora's family |
//! |---|---|---|---|---|
//! | kernel | a kernel in `/boot`, or the recipe names one | `linux-image-…` | `linux-virt` | `kernel-core` |
//! | init | systemd or OpenRC, and `/sbin/init` | `systemd-sysv` | `alpine-base` | `systemd` |
//! | SSH server | `sshd`, or dropbear | `openssh-server` | `openssh` | `openssh-server` |
//!
//! and what belongs to these. What is there stays as it is. A tree without a package manager and an
//! init system gets an init of vmfab's own, if the recipe names the kernel.

use super::edit::Edit;
use super::packages::{PackageManager, field};
use super::request::{Bootable, Command, Install};
use super::tasks::Tasks;
use super::worker::WorkerError;
use crate::derivation::scripts::{KERNEL, OPENRC, SEED, SYSTEMD};
use crate::instruction::Packages;

/// What starts the services of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Init {
    Systemd,
    OpenRc,
}

/// What a machine needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Kernel,
    /// What makes an initrd for a kernel that is installed.
    Initrd,
    Init,
    Devices,
    Network,
    /// Name servers, as the network says.
    Resolver,
    /// What the power button needs.
    Bus,
    Ssh,
}

impl Part {
    const ALL: [Self; 8] = [
        Self::Kernel,
        Self::Initrd,
        Self::Init,
        Self::Devices,
        Self::Network,
        Self::Resolver,
        Self::Bus,
        Self::Ssh,
    ];

    /// What it is for people, of a part that no machine does without.
    const fn name(self) -> Option<&'static str> {
        match self {
            Self::Kernel => Some("a kernel in /boot"),
            Self::Init => Some("an init system (systemd or OpenRC)"),
            Self::Ssh => Some("an SSH server"),
            _ => None,
        }
    }

    /// Whether a tree has it.
    fn is_in(self, init: Init, tree: &dyn Facts) -> bool {
        let has = |paths: &[&str]| paths.iter().any(|path| tree.has(path));
        match (self, init) {
            (Self::Kernel, _) => tree.has_kernel(),
            (Self::Initrd, _) => has(&[
                "/usr/sbin/update-initramfs",
                "/usr/bin/dracut",
                "/sbin/mkinitfs",
            ]),
            (Self::Init, Init::Systemd) => has(&SYSTEMD_ITSELF) && tree.has("/sbin/init"),
            (Self::Init, Init::OpenRc) => has(&OPENRC_ITSELF) && tree.has("/sbin/init"),
            (Self::Devices, Init::Systemd) => has(&[
                "/usr/lib/systemd/systemd-udevd",
                "/lib/systemd/systemd-udevd",
                "/usr/bin/udevadm",
            ]),
            (Self::Network, Init::Systemd) => has(&[
                "/usr/lib/systemd/systemd-networkd",
                "/lib/systemd/systemd-networkd",
                "/usr/sbin/NetworkManager",
                "/sbin/ifup",
            ]),
            (Self::Resolver, Init::Systemd) => has(&[
                "/usr/lib/systemd/systemd-resolved",
                "/lib/systemd/systemd-resolved",
                "/usr/sbin/NetworkManager",
                "/sbin/ifup",
            ]),
            (Self::Bus, Init::Systemd) => has(&["/usr/bin/dbus-daemon", "/usr/bin/dbus-broker"]),
            (Self::Ssh, _) => has(&["/usr/sbin/sshd", "/usr/sbin/dropbear"]),
            // On Alpine, its base brings these.
            (Self::Devices, Init::OpenRc) => has(&["/sbin/mdev", "/usr/bin/udevadm"]),
            (Self::Network, Init::OpenRc) => has(&["/sbin/ifup"]),
            (Self::Bus, Init::OpenRc) => has(&["/usr/sbin/acpid", "/sbin/acpid"]),
            (Self::Resolver, Init::OpenRc) => true,
        }
    }

    /// Packages that bring it: of each list the first one that the archive has.
    fn packages(self, init: Init, system: &System) -> &'static [&'static [&'static str]] {
        match (system.manager, self) {
            (PackageManager::Apt, Self::Network) if init == Init::OpenRc => {
                &[&["ifupdown"], &["isc-dhcp-client", "dhcpcd-base"]]
            }
            (PackageManager::Apt, Self::Bus) if init == Init::OpenRc => &[&["acpi-support-base"]],
            (PackageManager::Apt, Self::Kernel) if system.is_arm => &[&[
                "linux-image-cloud-arm64",
                "linux-image-virtual",
                "linux-image-arm64",
                "linux-image-generic",
            ]],
            (PackageManager::Apt, Self::Kernel) => &[&[
                "linux-image-cloud-amd64",
                "linux-image-virtual",
                "linux-image-amd64",
                "linux-image-generic",
            ]],
            (PackageManager::Apt, Self::Initrd) => &[&["initramfs-tools"]],
            (PackageManager::Apt, Self::Init) => &[&["systemd-sysv"]],
            (PackageManager::Apt, Self::Devices) => &[&["udev"]],
            (PackageManager::Apt, Self::Network) => &[&["systemd"]],
            (PackageManager::Apt, Self::Resolver) => &[&["systemd-resolved"]],
            (PackageManager::Apt, Self::Bus) => &[&["dbus"]],
            (PackageManager::Apk, Self::Kernel) => &[&["linux-virt"]],
            (PackageManager::Apk, Self::Init) => &[&["alpine-base"]],
            (PackageManager::Apk, Self::Ssh) => &[&["openssh"]],
            (PackageManager::Apk, _) => &[],
            (PackageManager::Dnf, Self::Kernel) => &[&["kernel-core"], &["dracut-config-generic"]],
            (PackageManager::Dnf, Self::Initrd) => &[&["dracut"]],
            (PackageManager::Dnf, Self::Init) => &[&["systemd"]],
            (PackageManager::Dnf, Self::Devices) => &[&["systemd-udev"]],
            // Fedora's derivatives for servers have no systemd-networkd.
            (PackageManager::Dnf, Self::Network) if system.is_fedora => &[&["systemd-networkd"]],
            (PackageManager::Dnf, Self::Resolver) if system.is_fedora => &[&["systemd-resolved"]],
            (PackageManager::Dnf, Self::Network) => &[&["NetworkManager"]],
            (PackageManager::Dnf, Self::Resolver) => &[],
            (PackageManager::Dnf, Self::Bus) => &[&["dbus"]],
            (PackageManager::Apt | PackageManager::Dnf, Self::Ssh) => &[&["openssh-server"]],
        }
    }
}

const SYSTEMD_ITSELF: [&str; 2] = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"];
const OPENRC_ITSELF: [&str; 2] = ["/sbin/openrc", "/usr/sbin/openrc"];

/// What is known of a tree.
trait Facts {
    fn has(&self, path: &str) -> bool;
    fn has_kernel(&self) -> bool;
}

/// A system whose packages are known.
struct System {
    manager: PackageManager,
    is_fedora: bool,
    is_arm: bool,
}

impl System {
    fn from_os_release(text: &str) -> Option<Self> {
        Some(Self {
            manager: PackageManager::from_os_release(text)?,
            is_fedora: field(text, "ID") == Some("fedora"),
            is_arm: cfg!(target_arch = "aarch64"),
        })
    }
}

/// What starts the services: what is there, else what the system has.
fn init_of(manager: Option<PackageManager>, tree: &dyn Facts) -> Init {
    let has = |paths: [&str; 2]| paths.iter().any(|path| tree.has(path));
    match manager {
        _ if has(SYSTEMD_ITSELF) => Init::Systemd,
        _ if has(OPENRC_ITSELF) => Init::OpenRc,
        Some(PackageManager::Apk) => Init::OpenRc,
        _ => Init::Systemd,
    }
}

/// The parts that a tree lacks. `kernel` says whether it needs one of its own.
fn lacking(kernel: bool, init: Init, tree: &dyn Facts) -> Vec<Part> {
    let parts = Part::ALL.into_iter();
    let of_kernel = |part: &Part| matches!(part, Part::Kernel | Part::Initrd);
    let needs_kernel = kernel && !Part::Kernel.is_in(init, tree);
    parts
        .filter(|part| needs_kernel || !of_kernel(part))
        .filter(|part| !part.is_in(init, tree))
        .collect()
}

/// The parts by name that no machine does without.
fn named(parts: &[Part]) -> String {
    let names: Vec<&str> = parts.iter().filter_map(|part| part.name()).collect();
    match names.split_last() {
        None => String::new(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

/// The command that finishes a tree.
fn finish(init: Init, kernel: bool) -> Command {
    let script = match init {
        Init::Systemd => SYSTEMD,
        Init::OpenRc => OPENRC,
    };
    let script = match kernel {
        true => format!("{KERNEL}\n{script}"),
        false => script.to_owned(),
    };
    Command {
        label: Some("make the tree bootable".to_owned()),
        argv: ["/bin/sh", "-euc", &script].map(str::to_owned).into(),
        env: [("SEED".to_owned(), SEED.to_owned())].into(),
        ..Command::default()
    }
}

impl Facts for Tasks<'_> {
    fn has(&self, path: &str) -> bool {
        self.open(path).is_ok()
    }

    fn has_kernel(&self) -> bool {
        self.newest_kernel().is_some()
    }
}

impl Tasks<'_> {
    /// Installs what the tree lacks to be a machine, and sets it up.
    pub(super) fn bootable(&self, wanted: &Bootable) -> Result<(), WorkerError> {
        let os_release = self.os_release();
        let system = System::from_os_release(&os_release);
        let system = system.filter(|system| system.manager.is_in(&|path| self.has(path)));
        let init = init_of(system.as_ref().map(|system| system.manager), self);
        let lacks = lacking(wanted.kernel, init, self);
        match &system {
            Some(system) => {
                let choices = lacks.iter().flat_map(|part| part.packages(init, system));
                let choices = choices.map(|names| names.iter().map(|&name| name.into()).collect());
                self.packages(&Install {
                    wanted: Packages::default(),
                    choices: choices.collect(),
                    locked: wanted.locked,
                })?;
            }
            // Without a package manager and an init system there is nothing that vmfab's own
            // could be in the way of.
            None if !wanted.kernel && lacks.contains(&Part::Init) => {
                return self.edit(&[Edit::Init]);
            }
            // It has all that it needs, from wherever.
            None if named(&lacks).is_empty() && self.has("/bin/sh") => {}
            None => return Err(unknown(&os_release, &lacks)),
        }
        let init = init_of(system.as_ref().map(|system| system.manager), self);
        self.command(&finish(init, lacks.contains(&Part::Kernel)))?;
        let lacks = named(&lacking(wanted.kernel, init, self));
        if lacks.is_empty() {
            return Ok(());
        }
        Err(WorkerError::Unsatisfiable {
            message: format!(
                "the image still lacks {lacks} after its packages were installed: it cannot \
                 become a machine"
            ),
            help: "install it with a step of the image, or name the kernel with a kernel node"
                .to_owned(),
        })
    }

    fn newest_kernel(&self) -> Option<String> {
        super::tasks::newest_kernel(&self.names_in_boot()).map(str::to_owned)
    }
}

/// The error for a tree without a system that is known.
fn unknown(os_release: &str, lacks: &[Part]) -> WorkerError {
    let lacks = match named(lacks) {
        lacks if lacks.is_empty() => "a shell in /bin/sh".to_owned(),
        lacks => lacks,
    };
    let system = match field(os_release, "ID").filter(|id| !id.is_empty()) {
        None => "it has no /etc/os-release, and so no package manager that vmfab knows,".to_owned(),
        Some(id) if PackageManager::from_os_release(os_release).is_some() => {
            format!("the package manager of the system \"{id}\" is missing,")
        }
        Some(id) => format!("vmfab knows no package manager of the system \"{id}\","),
    };
    WorkerError::Unsatisfiable {
        message: format!("the image cannot become a machine: {system} and it lacks {lacks}"),
        help: "start from Debian, Ubuntu, Alpine, Fedora, CentOS, AlmaLinux or a system like \
               these; or copy a kernel into the image and name it with a node such as kernel \
               \"/boot/vmlinuz\": vmfab brings an init for its process then"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree<'a>(&'a [&'a str]);

    impl Facts for Tree<'_> {
        fn has(&self, path: &str) -> bool {
            self.0.contains(&path)
        }

        fn has_kernel(&self) -> bool {
            self.has("/boot/vmlinuz-1")
        }
    }

    fn wanted(os_release: &str, kernel: bool, tree: &Tree<'_>) -> Vec<String> {
        let system = System::from_os_release(os_release).unwrap();
        let init = init_of(Some(system.manager), tree);
        let lacks = lacking(kernel, init, tree);
        let lists = lacks.iter().flat_map(|part| part.packages(init, &system));
        lists.map(|names| names[0].to_owned()).collect()
    }

    #[test]
    fn what_is_missing_is_installed_and_nothing_else() {
        let (kernel, cloud) = match cfg!(target_arch = "aarch64") {
            true => ("linux-image-cloud-arm64", "ID=debian"),
            false => ("linux-image-cloud-amd64", "ID=debian"),
        };
        let all = [
            kernel,
            "initramfs-tools",
            "systemd-sysv",
            "udev",
            "systemd",
            "systemd-resolved",
            "dbus",
            "openssh-server",
        ];
        assert_eq!(wanted(cloud, true, &Tree(&[])), all);
        let systemd = ["/lib/systemd/systemd", "/lib/systemd/systemd-networkd"];
        let names = wanted("ID=mint\nID_LIKE=\"ubuntu debian\"", false, &Tree(&systemd));
        let rest = [
            "systemd-sysv",
            "udev",
            "systemd-resolved",
            "dbus",
            "openssh-server",
        ];
        assert_eq!(names, rest);
        let there = Tree(&[
            "/boot/vmlinuz-1",
            "/sbin/init",
            "/usr/lib/systemd/systemd",
            "/usr/lib/systemd/systemd-udevd",
            "/usr/sbin/NetworkManager",
            "/usr/bin/dbus-broker",
            "/usr/sbin/sshd",
        ]);
        for system in [
            "ID=debian",
            "ID=fedora",
            "ID=almalinux\nID_LIKE=\"rhel centos fedora\"",
        ] {
            assert!(wanted(system, true, &there).is_empty(), "{system}");
        }
    }

    #[test]
    fn systems_have_names_of_their_own() {
        let names = |system| wanted(system, true, &Tree(&[]));
        // The link of Alpine's container images leads to BusyBox, which is no init without OpenRC.
        let alpine = wanted("ID=alpine", true, &Tree(&["/sbin/init"]));
        assert_eq!(alpine, ["linux-virt", "alpine-base", "openssh"]);
        let devuan = Tree(&["/sbin/openrc", "/sbin/init", "/usr/sbin/sshd"]);
        let devuan = wanted("ID=devuan\nID_LIKE=debian", false, &devuan);
        assert_eq!(
            devuan,
            ["udev", "ifupdown", "isc-dhcp-client", "acpi-support-base"]
        );
        let fedora = names("ID=fedora");
        assert!(
            fedora.contains(&"systemd-networkd".to_owned()),
            "{fedora:?}"
        );
        let centos = names("ID=\"centos\"\nID_LIKE=\"rhel fedora\"");
        assert!(centos.contains(&"NetworkManager".to_owned()), "{centos:?}");
        assert!(
            !centos.contains(&"systemd-resolved".to_owned()),
            "{centos:?}"
        );
    }

    #[test]
    fn what_lacks_is_told_by_name() {
        let lacks = lacking(true, Init::Systemd, &Tree(&[]));
        let WorkerError::Unsatisfiable { message, help } = unknown("", &lacks) else {
            panic!("another kind");
        };
        insta::assert_snapshot!(message, @"the image cannot become a machine: it has no /etc/os-release, and so no package manager that vmfab knows, and it lacks a kernel in /boot, an init system (systemd or OpenRC) and an SSH server");
        assert!(help.contains("kernel \"/boot/vmlinuz\""), "{help}");
        let lacks = lacking(false, Init::Systemd, &Tree(&["/usr/sbin/sshd"]));
        let WorkerError::Unsatisfiable { message, .. } = unknown("ID=arch\n", &lacks) else {
            panic!("another kind");
        };
        insta::assert_snapshot!(message, @r#"the image cannot become a machine: vmfab knows no package manager of the system "arch", and it lacks an init system (systemd or OpenRC)"#);
    }
}

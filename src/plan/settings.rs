//! What holds for an image as a whole: disk, boot, ports, users. A derived image overrides what its
//! base says about disk, kernel, boot and host name, one property at a time; users, ports and
//! environment accumulate.

use std::collections::{BTreeMap, BTreeSet};

use super::{PlanError, fit};
use crate::checked::{AccountName, GuestPath, Name};
use crate::image::{
    Access, AskedShare, BootProfile, Firmware, ImageConfig, KernelFiles, MadeFrom, Platform, Port,
    Protocol, Requires, Seed,
};
use crate::instruction::User;
use crate::recipe::{self, Image, Instruction, Kernel, Problem, Span};

/// Size of a disk that no recipe gives a size: 10 GiB. Disks are sparse.
const DEFAULT_SIZE: u64 = 10 << 30;
/// Label of a root file system that no recipe gives a label.
const DEFAULT_LABEL: &str = "vmfab-root";

/// What holds for an image as a whole.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// Size of the disk in bytes, when it is given.
    size: Option<u64>,
    pub filesystem: String,
    pub label: String,
    pub uefi: bool,
    pub kernel: Option<Kernel>,
    /// An initrd from outside.
    pub initrd: Option<recipe::Fetched>,
    /// Whether the disk was made elsewhere: nothing is known of what is on it.
    foreign: bool,
    /// Arguments that the recipe adds to the kernel command line.
    arguments: Vec<String>,
    /// What the recipe says that starts it.
    firmware: Option<Firmware>,
    seed: Seed,
    platform: Platform,
    /// A configuration for Ignition.
    pub ignition: Option<String>,
    /// Where the recipe last said something that decides between boot loaders.
    firmware_span: Option<Span>,
    pub hostname: Option<String>,
    pub ports: Vec<Port>,
    pub port_names: BTreeMap<u16, Name>,
    /// Whether a health check tells when it is ready.
    pub health: bool,
    /// Directories with what its service keeps.
    pub volumes: BTreeSet<GuestPath>,
    /// Directories of the host that it asks for.
    pub shares: Vec<AskedShare>,
    /// What a machine needs.
    pub requires: Requires,
    pub users: Vec<Account>,
    /// The account that is entered, when an image names one.
    user: Option<String>,
    /// How many images were applied: bases come first.
    images: usize,
}

/// An account of the image.
#[derive(Debug, Clone)]
pub(super) struct Account {
    pub name: String,
    pub home: String,
    /// The image that gave it sudo last, counted from the base.
    sudo: Option<usize>,
    /// Whether a step of this plan makes it: it is not there from the beginning.
    made: bool,
}

impl Settings {
    /// The settings of an image that says nothing.
    pub(super) fn new() -> Self {
        Self {
            size: None,
            filesystem: "ext4".to_owned(),
            label: DEFAULT_LABEL.to_owned(),
            uefi: false,
            kernel: None,
            initrd: None,
            foreign: false,
            arguments: Vec::new(),
            firmware: None,
            seed: Seed::default(),
            platform: Platform::default(),
            ignition: None,
            firmware_span: None,
            hostname: None,
            ports: Vec::new(),
            port_names: BTreeMap::new(),
            health: false,
            volumes: BTreeSet::new(),
            shares: Vec::new(),
            requires: Requires::default(),
            users: Vec::new(),
            user: None,
            images: 0,
        }
    }

    /// The settings of an image whose disk was made elsewhere.
    pub(super) fn foreign() -> Self {
        Self {
            foreign: true,
            ..Self::new()
        }
    }

    /// The settings of an image in the store.
    pub(super) fn of_config(config: &ImageConfig) -> Self {
        let template = &config.template;
        let root = template
            .filesystem
            .as_ref()
            .map(|filesystem| format!("root=LABEL={}", filesystem.label));
        let foreign = config.made_from() == MadeFrom::Disk;
        let usual = Self::new();
        let (filesystem, label) = match &template.filesystem {
            Some(filesystem) => (filesystem.kind.to_string(), filesystem.label.to_string()),
            None => (usual.filesystem, usual.label),
        };
        let arguments = template.boot.command_line.split_whitespace();
        let ssh_user = &template.ssh_user;
        let mut users: Vec<Account> = template
            .users
            .iter()
            .filter(|(name, _)| **name != "root")
            .map(|(name, home)| Account {
                name: name.to_string(),
                home: home.to_string(),
                sudo: (name == ssh_user).then_some(0),
                made: false,
            })
            .collect();
        users.sort_by_key(|account| account.name != **ssh_user);
        Self {
            size: (!foreign).then_some(config.disk.size),
            filesystem,
            label,
            uefi: template.boot.uefi,
            kernel: kernel_of(config).map(|kernel| Kernel::Tree {
                path: kernel.path.to_string(),
                initrd: kernel.initrd.as_ref().map(ToString::to_string),
            }),
            initrd: None,
            foreign,
            arguments: arguments
                .filter(|argument| foreign || root.as_deref() != Some(*argument))
                .map(str::to_owned)
                .collect(),
            firmware: Some(template.boot.firmware),
            seed: template.boot.seed,
            platform: template.boot.platform.clone(),
            ignition: template.boot.ignition.clone(),
            firmware_span: None,
            hostname: template.hostname.as_ref().map(ToString::to_string),
            ports: template.ports.clone(),
            port_names: template.port_names.clone(),
            health: template.health,
            volumes: template.volumes.clone(),
            shares: template.shares.clone(),
            requires: template.requires,
            users,
            user: Some(ssh_user.to_string()).filter(|user| foreign && user != "root"),
            images: 0,
        }
    }

    /// QEMU loads the kernel that comes with the disk, with these arguments.
    pub(super) fn boot_directly(&mut self, arguments: &str) {
        self.firmware = Some(Firmware::Direct);
        self.arguments = arguments.split_whitespace().map(str::to_owned).collect();
    }

    /// Adds what one image says, after its base.
    pub(super) fn apply(&mut self, image: &Image) {
        self.images += 1;
        self.requires = self.requires.and(image.recipe.requires);
        let disk = &image.disk;
        if let Some(size) = &disk.size {
            self.size = Some(size.value);
        }
        if let Some(filesystem) = &disk.filesystem {
            self.filesystem.clone_from(&filesystem.value);
        }
        if let Some(label) = &disk.label {
            self.label.clone_from(&label.value);
        }
        if let Some(uefi) = &disk.uefi {
            self.uefi = uefi.value;
            self.firmware_span = Some(uefi.span.clone());
        }
        if let Some(kernel) = &image.kernel {
            self.kernel = Some(kernel.clone());
            // The initrd of another kernel has the modules of that.
            self.initrd = None;
        }
        if let Some(initrd) = &image.initrd {
            self.initrd = Some(initrd.clone());
        }
        if let Some(line) = &image.boot.command_line {
            self.arguments = line.split_whitespace().map(str::to_owned).collect();
        }
        if let Some(firmware) = &image.boot.firmware {
            self.firmware = Some(firmware.value);
            self.firmware_span = Some(firmware.span.clone());
        }
        if let Some(seed) = &image.boot.seed {
            self.seed = seed.value;
        }
        self.platform = image.boot.platform.over(&self.platform);
        if let Some(user) = &image.boot.user {
            self.user = Some(user.value.clone());
        }
        if let Some(user) = &image.boot.user
            && user.value != "root"
            && self.users.iter().all(|known| known.name != user.value)
        {
            self.users.push(Account {
                name: user.value.clone(),
                home: format!("/home/{}", user.value),
                sudo: Some(self.images),
                made: false,
            });
        }
        for port in &image.ports {
            let same = |other: &Port| (other.guest, other.protocol) == (port.guest, port.protocol);
            self.ports.retain(|other| !same(other));
            self.ports.push(port.value);
        }
        self.port_names.extend(image.port_names.clone());
        for share in &image.shares {
            self.shares.retain(|other| other.at != share.at);
            self.shares.push(share.clone());
        }
        for instruction in &image.instructions {
            match instruction {
                Instruction::Hostname(name) => self.hostname = Some(name.value.clone()),
                Instruction::User(user) => self.add_user(user),
                _ => {}
            }
        }
    }

    /// Adds a port of the guest that something says it serves.
    pub(super) fn serve(&mut self, guest: u16) {
        if self.ports.iter().all(|port| port.guest != guest) {
            self.ports.push(Port {
                guest,
                host: None,
                protocol: Protocol::Tcp,
                address: None,
            });
        }
    }

    fn add_user(&mut self, user: &User) {
        let sudo = user.sudo.then_some(self.images);
        if let Some(known) = self.users.iter_mut().find(|known| known.name == user.name) {
            known.sudo = sudo.or(known.sudo);
        } else if user.name != "root" {
            self.users.push(Account {
                name: user.name.clone(),
                home: format!("/home/{}", user.name),
                sudo,
                made: true,
            });
        }
    }

    /// Accounts with their home directories, root among them.
    pub(super) fn homes(&self) -> Result<BTreeMap<AccountName, GuestPath>, PlanError> {
        homes(&self.users.iter().collect::<Vec<_>>())
    }

    /// See [`user_of`](Self::user_of).
    pub(super) fn ssh_user(&self) -> Result<AccountName, PlanError> {
        self.user_of(&self.users.iter().collect::<Vec<_>>())
    }

    /// The account that an image names, else the first that the recipe gives sudo, or its nearest
    /// base, else the first, else root.
    fn user_of(&self, accounts: &[&Account]) -> Result<AccountName, PlanError> {
        let named = self.user.as_ref().filter(|name| {
            *name == "root" || accounts.iter().any(|account| account.name == **name)
        });
        let nearest = accounts.iter().filter_map(|account| account.sudo).max();
        let sudoer = accounts
            .iter()
            .find(|account| account.sudo.is_some() && account.sudo == nearest);
        match (named, sudoer.or(accounts.first())) {
            (Some(name), _) => fit(name),
            (None, Some(account)) => fit(&account.name),
            (None, None) => fit("root"),
        }
    }

    /// Size of the disk of a tree in bytes.
    pub(super) fn tree_size(&self) -> u64 {
        self.size.unwrap_or(DEFAULT_SIZE)
    }

    /// Size that a disk made elsewhere is to have, when it is given.
    pub(super) const fn foreign_size(&self) -> Option<u64> {
        self.size
    }

    /// How a machine is entered before the steps of this plan.
    ///
    /// # Errors
    /// See [`boot_profile`](Self::boot_profile).
    pub(super) fn access(&self, architecture: &str) -> Result<Access, PlanError> {
        Ok(Access {
            architecture: fit(architecture)?,
            boot: self.boot_profile(architecture)?,
            ssh_user: self.user_of(&self.there())?,
            users: homes(&self.there())?,
        })
    }

    /// Accounts that no step has to make.
    fn there(&self) -> Vec<&Account> {
        self.users.iter().filter(|account| !account.made).collect()
    }

    /// How the image boots.
    ///
    /// # Errors
    /// It cannot boot in the way that the recipe asks for.
    pub(super) fn boot_profile(&self, architecture: &str) -> Result<BootProfile, PlanError> {
        if self.foreign {
            return self.foreign_profile(architecture);
        }
        let problem = |message: &str, label: &str| match &self.firmware_span {
            Some(span) => Problem::new(span, message, label),
            None => Problem::without_place(message),
        };
        let firmware = self.firmware.unwrap_or(Firmware::Direct);
        if firmware == Firmware::Uefi && !self.uefi {
            let problem = problem(
                "the image boots by UEFI, but its disk has no boot loader",
                "it needs a disk with firmware=\"uefi\"",
            );
            return Err(problem.with_help("add disk firmware=\"uefi\"").into());
        }
        if firmware == Firmware::Bios {
            let problem = problem(
                "a disk made from a tree has no boot loader for a BIOS",
                "only disks made elsewhere have one",
            );
            let help = "leave it out, or use firmware=\"uefi\" for both disk and boot";
            return Err(problem.with_help(help).into());
        }
        let root = format!("root=LABEL={}", self.label);
        Ok(BootProfile {
            command_line: fit(&command_line(Some(root), architecture, &self.arguments))?,
            firmware,
            uefi: self.uefi,
            bios: false,
            seed: self.seed,
            platform: self.platform.clone(),
            ignition: self.ignition.clone(),
        })
    }

    /// How a disk boots that was made elsewhere: with the kernel that the recipe names, else by the
    /// boot loader that is on it.
    fn foreign_profile(&self, architecture: &str) -> Result<BootProfile, PlanError> {
        let own_loader = if self.uefi || architecture == "aarch64" {
            Firmware::Uefi
        } else {
            Firmware::Bios
        };
        let by_kernel = self.kernel.is_some() && !self.uefi;
        let firmware = match self.firmware {
            Some(firmware) => firmware,
            None if by_kernel => Firmware::Direct,
            None => own_loader,
        };
        let has_root = |argument: &String| argument.starts_with("root=");
        if firmware == Firmware::Direct && !self.arguments.iter().any(has_root) {
            let message = "a kernel for a disk made elsewhere needs its root file system";
            let problem = match &self.firmware_span {
                Some(span) => Problem::new(span, message, "root= is missing"),
                None => Problem::without_place(message),
            };
            let help = "write boot \"root=/dev/vda1 …\", or root=LABEL=… if it has a label";
            return Err(problem.with_help(help).into());
        }
        let direct = firmware == Firmware::Direct;
        Ok(BootProfile {
            command_line: match direct {
                true => fit(&command_line(None, architecture, &self.arguments))?,
                false => fit("")?,
            },
            firmware,
            uefi: self.uefi || firmware == Firmware::Uefi,
            bios: firmware == Firmware::Bios,
            seed: self.seed,
            platform: self.platform.clone(),
            ignition: self.ignition.clone(),
        })
    }

    /// The kernel command line without the root device, unless the recipe names one of its own.
    pub(super) fn command_line_without_root(&self, architecture: &str) -> String {
        command_line(None, architecture, &self.arguments)
    }
}

/// The kernel that a base names. Without the layers of a tree nobody looks for the initrd that
/// belongs to it: then the objects of the base are what boots.
fn kernel_of(config: &ImageConfig) -> Option<&KernelFiles> {
    let kernel = config.template.kernel_files.as_ref()?;
    let looked_for = kernel.initrd.is_none() && config.initrd.is_some();
    (config.made_from() == MadeFrom::Tree || !looked_for).then_some(kernel)
}

/// Accounts with their home directories, root among them.
fn homes(accounts: &[&Account]) -> Result<BTreeMap<AccountName, GuestPath>, PlanError> {
    accounts
        .iter()
        .map(|account| (account.name.as_str(), account.home.as_str()))
        .chain([("root", "/root")])
        .map(|(name, home)| Ok((fit(name)?, fit(home)?)))
        .collect()
}

/// The usual arguments, then those of the recipe. `root=`, `ro` or `rw`, and `console=` of the
/// recipe stand instead of the usual ones.
fn command_line(root: Option<String>, architecture: &str, own: &[String]) -> String {
    let has = |test: fn(&str) -> bool| own.iter().any(|argument| test(argument));
    let mut words = Vec::new();
    if let Some(root) = root.filter(|_| !has(|word| word.starts_with("root="))) {
        words.push(root);
    }
    if !has(|word| matches!(word, "ro" | "rw")) {
        words.push("ro".to_owned());
    }
    if !has(|word| word.starts_with("console=")) {
        let serial = if architecture == "aarch64" {
            "ttyAMA0"
        } else {
            "ttyS0"
        };
        // The last console is the one that /dev/console is.
        words.push("console=tty0".to_owned());
        words.push(format!("console={serial}"));
    }
    words.extend(own.iter().cloned());
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(own: &str) -> String {
        let own: Vec<String> = own.split_whitespace().map(str::to_owned).collect();
        command_line(Some("root=LABEL=x".to_owned()), "x86_64", &own)
    }

    #[test]
    fn own_arguments_replace_or_add() {
        assert_eq!(line(""), "root=LABEL=x ro console=tty0 console=ttyS0");
        assert_eq!(
            line("quiet"),
            "root=LABEL=x ro console=tty0 console=ttyS0 quiet"
        );
        assert_eq!(
            line("rw root=/dev/vda console=hvc0"),
            "rw root=/dev/vda console=hvc0"
        );
        let none = command_line(None, "aarch64", &[]);
        assert_eq!(none, "ro console=tty0 console=ttyAMA0");
    }
}

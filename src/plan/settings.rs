//! What holds for an image as a whole: disk, boot, ports, users. A derived image overrides what its
//! base says about disk, kernel, boot and host name, one property at a time; users, ports and
//! environment accumulate.

use std::collections::BTreeMap;

use super::PlanError;
use crate::image::{BootProfile, Firmware, ImageConfig, Port};
use crate::recipe::{self, Image, Instruction, Kernel, Problem, Span};

/// Size of a disk that no recipe gives a size: 10 GiB. Disks are sparse.
const DEFAULT_SIZE: u64 = 10 << 30;
/// Label of a root file system that no recipe gives a label.
const DEFAULT_LABEL: &str = "vmfab-root";

/// What holds for an image as a whole.
#[derive(Debug)]
pub(super) struct Settings {
    pub size: u64,
    pub filesystem: String,
    pub label: String,
    pub uefi: bool,
    pub kernel: Option<Kernel>,
    /// Arguments that the recipe adds to the kernel command line.
    arguments: Vec<String>,
    firmware: Firmware,
    /// Where the recipe last said something that decides between boot loaders.
    firmware_span: Option<Span>,
    pub hostname: Option<String>,
    pub ports: Vec<Port>,
    pub users: Vec<Account>,
}

/// An account of the image.
#[derive(Debug)]
pub(super) struct Account {
    pub name: String,
    pub home: String,
    sudo: bool,
}

impl Settings {
    /// The settings of an image that says nothing.
    pub(super) fn new() -> Self {
        Self {
            size: DEFAULT_SIZE,
            filesystem: "ext4".to_owned(),
            label: DEFAULT_LABEL.to_owned(),
            uefi: false,
            kernel: None,
            arguments: Vec::new(),
            firmware: Firmware::Direct,
            firmware_span: None,
            hostname: None,
            ports: Vec::new(),
            users: Vec::new(),
        }
    }

    /// The settings of an image in the store.
    pub(super) fn of_config(config: &ImageConfig) -> Self {
        let template = &config.template;
        let root = format!("root=LABEL={}", template.filesystem.label);
        let arguments = template.boot.command_line.split_whitespace();
        let ssh_user = &template.ssh_user;
        let mut users: Vec<Account> = template
            .users
            .iter()
            .filter(|(name, _)| *name != "root")
            .map(|(name, home)| Account {
                name: name.clone(),
                home: home.clone(),
                sudo: name == ssh_user,
            })
            .collect();
        users.sort_by_key(|account| account.name != *ssh_user);
        Self {
            size: config.disk.size,
            filesystem: template.filesystem.kind.clone(),
            label: template.filesystem.label.clone(),
            uefi: template.boot.uefi,
            kernel: template.kernel.as_ref().map(|kernel| Kernel {
                path: kernel.path.clone(),
                initrd: kernel.initrd.clone(),
            }),
            arguments: arguments
                .filter(|argument| *argument != root)
                .map(str::to_owned)
                .collect(),
            firmware: template.boot.firmware,
            firmware_span: None,
            hostname: template.hostname.clone(),
            ports: template.ports.clone(),
            users,
        }
    }

    /// Adds what one image says, after its base.
    pub(super) fn apply(&mut self, image: &Image) {
        let disk = &image.disk;
        if let Some(size) = &disk.size {
            self.size = size.value;
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
        }
        if let Some(line) = &image.boot.command_line {
            self.arguments = line.split_whitespace().map(str::to_owned).collect();
        }
        if let Some(firmware) = &image.boot.firmware {
            self.firmware = match firmware.value {
                recipe::Firmware::Direct => Firmware::Direct,
                recipe::Firmware::Uefi => Firmware::Uefi,
            };
            self.firmware_span = Some(firmware.span.clone());
        }
        for port in &image.ports {
            self.ports.retain(|other| other.guest != port.guest);
            self.ports.push(Port {
                guest: port.guest,
                host: port.host,
            });
        }
        for instruction in &image.instructions {
            match instruction {
                Instruction::Hostname(name) => self.hostname = Some(name.value.clone()),
                Instruction::User(user) => self.add_user(user),
                _ => {}
            }
        }
    }

    fn add_user(&mut self, user: &recipe::User) {
        if let Some(known) = self.users.iter_mut().find(|known| known.name == user.name) {
            known.sudo |= user.sudo;
        } else if user.name != "root" {
            self.users.push(Account {
                name: user.name.clone(),
                home: format!("/home/{}", user.name),
                sudo: user.sudo,
            });
        }
    }

    /// Accounts with their home directories, root among them.
    pub(super) fn homes(&self) -> BTreeMap<String, String> {
        let root = ("root".to_owned(), "/root".to_owned());
        self.users
            .iter()
            .map(|account| (account.name.clone(), account.home.clone()))
            .chain([root])
            .collect()
    }

    /// The first user with sudo, else the first user, else root.
    pub(super) fn ssh_user(&self) -> String {
        let sudoer = self.users.iter().find(|account| account.sudo);
        sudoer
            .or(self.users.first())
            .map_or_else(|| "root".to_owned(), |account| account.name.clone())
    }

    /// How the image boots.
    ///
    /// # Errors
    /// It is to boot by UEFI, and the disk has no boot loader.
    pub(super) fn boot_profile(&self, architecture: &str) -> Result<BootProfile, PlanError> {
        if self.firmware == Firmware::Uefi && !self.uefi {
            let message = "the image boots by UEFI, but its disk has no boot loader";
            let problem = match &self.firmware_span {
                Some(span) => Problem::new(span, message, "needs a disk with firmware=\"uefi\""),
                None => Problem::without_place(message),
            };
            return Err(problem.with_help("add disk firmware=\"uefi\"").into());
        }
        let root = format!("root=LABEL={}", self.label);
        Ok(BootProfile {
            command_line: command_line(Some(root), architecture, &self.arguments),
            firmware: self.firmware,
            uefi: self.uefi,
        })
    }

    /// The kernel command line without the root device, unless the recipe names one of its own.
    pub(super) fn command_line_without_root(&self, architecture: &str) -> String {
        command_line(None, architecture, &self.arguments)
    }
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

//! What `bootc` needs of the tree of a bootable container, and what boots it.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;

use super::tasks::Tasks;
use super::worker::WorkerError;

/// Where a bootable container has its kernels, each in a directory of its version.
/// Source: <https://bootc-dev.github.io/bootc/bootc-images.html#linux-kernel>.
const MODULES: &str = "/usr/lib/modules";
/// Where images have unified kernels for the boot loader.
const UNIFIED: &str = "/boot/EFI/Linux";
/// Where `bootc` may be.
const BOOTC: [&str; 3] = ["/usr/bin/bootc", "/usr/sbin/bootc", "/usr/local/bin/bootc"];
/// What starts the unit of the installer.
const SYSTEMD: &str = "/usr/lib/systemd/systemd";

impl Tasks<'_> {
    /// Copies the kernel of a bootable container and its initramfs to files `kernel` and `initrd` of
    /// the job. Fails when something is missing that an installation needs.
    pub(super) fn bootable_container(&self) -> Result<(), WorkerError> {
        let lacks = |message: &str, help: &str| WorkerError::Unsatisfiable {
            message: message.to_owned(),
            help: help.to_owned(),
        };
        if !BOOTC.iter().any(|path| self.open(path).is_ok()) {
            return Err(lacks(
                "the image has no bootc (/usr/bin/bootc)",
                "install the package bootc in its Containerfile",
            ));
        }
        if self.open(SYSTEMD).is_err() {
            return Err(lacks(
                "the image has no systemd (/usr/lib/systemd/systemd)",
                "install the package systemd in its Containerfile",
            ));
        }
        let has_kernel = |version: &String| {
            self.open(&format!("{MODULES}/{version}/vmlinuz"))
                .is_ok_and(|file| file.metadata().is_ok_and(|found| found.is_file()))
        };
        let mut versions = self.names_in(MODULES);
        let unified = self.unified_kernel(&versions);
        versions.retain(has_kernel);
        versions.sort();
        let version = match &versions[..] {
            [version] => version,
            [] if unified.is_some() => {
                let unified = unified.unwrap_or_default();
                let message = format!("the image has only a unified kernel ({unified})");
                return Err(lacks(
                    &message,
                    "vmfab installs with the kernel and initramfs of the image as files: keep \
                     /usr/lib/modules/VERSION/vmlinuz and initramfs.img beside it",
                ));
            }
            [] => {
                return Err(lacks(
                    "the image has no kernel (/usr/lib/modules/VERSION/vmlinuz)",
                    "install a kernel in its Containerfile, and copy it there if its package puts \
                     it into /boot",
                ));
            }
            several => {
                let message = format!("the image has more than one kernel: {}", several.join(", "));
                return Err(lacks(
                    &message,
                    "bootc takes one: remove the others below /usr/lib/modules in its Containerfile",
                ));
            }
        };
        let initramfs = format!("{MODULES}/{version}/initramfs.img");
        if self.open(&initramfs).is_err() {
            let message = format!("the image has no initramfs ({initramfs})");
            let help = format!(
                "make it in its Containerfile: dracut --force --kver {version} {initramfs}"
            );
            return Err(lacks(&message, &help));
        }
        self.kernel(
            Some(&format!("{MODULES}/{version}/vmlinuz")),
            Some(&initramfs),
        )
    }

    /// A unified kernel image, where images with bootc's composefs backend have one.
    fn unified_kernel(&self, versions: &[String]) -> Option<String> {
        let modules = versions
            .iter()
            .map(|version| format!("{MODULES}/{version}"));
        let mut directories = std::iter::once(UNIFIED.to_owned()).chain(modules);
        directories.find_map(|directory| {
            let mut names = self.names_in(&directory).into_iter();
            let name = names.find(|name| name.ends_with(".efi"))?;
            Some(format!("{directory}/{name}"))
        })
    }

    /// The names in a directory of the tree; none when it cannot be read.
    pub(super) fn names_in(&self, directory: &str) -> Vec<String> {
        let entries = self.open(directory).and_then(|directory| {
            let entries = fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
            let names = entries
                .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
            names.collect::<io::Result<Vec<String>>>()
        });
        entries.unwrap_or_default()
    }
}

//! What `bootc install to-disk` is told.
//!
//! Source of the options: <https://bootc-dev.github.io/bootc/man/bootc-install-to-disk.8.html>.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a bootable container gets onto a disk. What is absent is left to the image's own
/// configuration (`/usr/lib/bootc/install`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BootcInstall {
    /// File system of the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<BootcFilesystem>,
    /// Size of the root in bytes, a multiple of 1 MiB; the rest of the disk when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_size: Option<u64>,
    /// Arguments of the kernel command line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernel_arguments: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootloader: Option<Bootloader>,
    /// Whether composefs is the backend, and not ostree.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub composefs: bool,
    /// Where the machine looks for updates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// How it gets there; `registry` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_transport: Option<TargetTransport>,
    /// Public keys that log in as root, each a line of `authorized_keys`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub root_keys: Vec<String>,
}

/// Enums whose values have names in recipes, options and arguments of `bootc`.
macro_rules! named {
    ($(#[$about:meta])* $name:ident, $what:literal: $($value:ident = $text:literal),+) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($value),+ }

        impl $name {
            /// Each by its name.
            pub const NAMES: &'static [(&'static str, Self)] = &[$(($text, Self::$value)),+];
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                let found = Self::NAMES.iter().find(|(_, other)| other == self);
                out.write_str(found.map_or("", |(name, _)| name))
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let found = Self::NAMES.iter().find(|(name, _)| *name == text);
                found.map(|(_, value)| *value).ok_or_else(|| {
                    let names: Vec<&str> = Self::NAMES.iter().map(|(name, _)| *name).collect();
                    format!("unknown {}: one of {}", $what, names.join(", "))
                })
            }
        }
    };
}

named!(
    /// A file system that `bootc` makes.
    BootcFilesystem, "file system": Ext4 = "ext4", Xfs = "xfs", Btrfs = "btrfs"
);
named!(
    /// A boot loader that `bootc` installs.
    Bootloader, "boot loader": Grub = "grub", Systemd = "systemd", None = "none"
);
named!(
    /// How a machine gets its updates.
    TargetTransport, "transport": Registry = "registry", Oci = "oci",
    OciArchive = "oci-archive", ContainersStorage = "containers-storage"
);

/// Labels that say of a container image that it is bootable, with the values that count.
/// Source: <https://bootc-dev.github.io/bootc/bootc-images.html#standard-metadata-for-bootc-compatible-images>.
const LABELS: [(&str, &[&str]); 2] = [
    ("containers.bootc", &["1"]),
    ("ostree.bootable", &["1", "true"]),
];

/// Whether labels say of an image that it is a bootable container.
pub fn is_bootable<'a>(label: impl Fn(&str) -> Option<&'a str>) -> bool {
    LABELS
        .iter()
        .any(|(name, values)| label(name).is_some_and(|value| values.contains(&value)))
}

impl BootcInstall {
    /// The least size in bytes of a disk that nobody gave a size. Source: podman-bootc's
    /// `calculateDiskSize`.
    pub const LEAST_DISK: u64 = 10 << 30;

    /// The arguments of `bootc` for an image at `source`, but for the target disk, which comes last.
    /// The file `keys` has [`Self::root_keys`].
    #[must_use]
    pub fn arguments(&self, source: &str, keys: &str) -> Vec<String> {
        let mut arguments: Vec<String> = [
            "install",
            "to-disk",
            "--generic-image",
            // The target need not be in any registry yet.
            "--skip-fetch-check",
            "--source-imgref",
            source,
        ]
        .map(str::to_owned)
        .into();
        let mut option = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                arguments.extend([name.to_owned(), value]);
            }
        };
        let text = |value: &dyn ToString| value.to_string();
        option("--target-imgref", self.target.clone());
        option(
            "--target-transport",
            self.target_transport.as_ref().map(|value| text(value)),
        );
        option(
            "--filesystem",
            self.filesystem.as_ref().map(|value| text(value)),
        );
        let mebibytes = self.root_size.map(|size| format!("{}M", size >> 20));
        option("--root-size", mebibytes);
        option(
            "--bootloader",
            self.bootloader.as_ref().map(|value| text(value)),
        );
        let keys = (!self.root_keys.is_empty()).then(|| keys.to_owned());
        option("--root-ssh-authorized-keys", keys);
        for argument in &self.kernel_arguments {
            option("--karg", Some(argument.clone()));
        }
        if self.composefs {
            arguments.push("--composefs-backend".to_owned());
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_those_of_the_manual() {
        let none = BootcInstall::default().arguments("oci:/image", "/keys");
        assert_eq!(
            none.join(" "),
            "install to-disk --generic-image --skip-fetch-check --source-imgref oci:/image"
        );
        let all = BootcInstall {
            filesystem: Some(BootcFilesystem::Xfs),
            root_size: Some(8 << 30),
            kernel_arguments: vec!["a=1".into(), "quiet".into()],
            bootloader: Some(Bootloader::Systemd),
            composefs: true,
            target: Some("quay.io/me/os:1".into()),
            target_transport: Some(TargetTransport::Registry),
            root_keys: vec!["ssh-ed25519 AAAA me".into()],
        };
        assert_eq!(
            all.arguments("oci:/image", "/keys")[6..].join(" "),
            "--target-imgref quay.io/me/os:1 --target-transport registry --filesystem xfs \
             --root-size 8192M --bootloader systemd --root-ssh-authorized-keys /keys \
             --karg a=1 --karg quiet --composefs-backend"
        );
    }

    #[test]
    fn either_label_makes_an_image_bootable() {
        let with = |name: &'static str, value: &'static str| {
            is_bootable(move |asked| (asked == name).then_some(value))
        };
        assert!(with("containers.bootc", "1"));
        assert!(with("ostree.bootable", "true"));
        assert!(!with("containers.bootc", "0"));
        assert!(!with("ostree.commit", "1"));
        assert_eq!("xfs".parse(), Ok(BootcFilesystem::Xfs));
        let wrong = "zfs".parse::<BootcFilesystem>().unwrap_err();
        assert_eq!(wrong, "unknown file system: one of ext4, xfs, btrfs");
    }
}

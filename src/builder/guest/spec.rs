//! What a machine of a build is to be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::checked::Line;
use crate::digest::ObjectRef;
use crate::image::{
    About, Access, CONFIG_VERSION, Hardware, ImageConfig, ImageTemplate, RecipeRef, Requires,
};
use crate::machine::NewMachine;
use crate::qemu::AccelChoice;

/// The machine that steps want.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildMachineSpec {
    /// The disk, raw.
    pub disk: ObjectRef,
    /// The kernel for direct boot.
    pub kernel: Option<ObjectRef>,
    pub initrd: Option<ObjectRef>,
    /// How it boots and is entered.
    pub access: Access,
    /// Size of the disk in bytes; as it is when absent, and never less.
    pub disk_size: Option<u64>,
    pub memory_mib: u32,
    /// Virtual processors.
    pub cpus: u32,
    pub accel: AccelChoice,
    /// How long it may take until it can be entered.
    pub boot_timeout: Duration,
}

impl BuildMachineSpec {
    /// What is asked of `machine`.
    pub(in crate::builder) fn machine<'a>(&self, image: &'a ImageConfig) -> NewMachine<'a> {
        NewMachine {
            name: None,
            // There is no image yet; the disk is what the machine is of.
            image: self.disk.id,
            config: image,
            hardware: Hardware {
                memory_mib: Some(self.memory_mib),
                cpus: Some(self.cpus),
                disk_size: self.disk_size,
                ..Hardware::default()
            },
            ports: Vec::new(),
            accel: self.accel,
            remove_when_stopped: false,
            ssh_user: None,
            container: None,
        }
    }

    /// What a machine wants to know, of an image that there is not yet.
    pub(in crate::builder) fn image(&self) -> ImageConfig {
        let access = self.access.clone();
        ImageConfig {
            version: CONFIG_VERSION,
            template: ImageTemplate {
                name: "build".parse().expect("a name"),
                recipe: RecipeRef {
                    name: Line::like("build"),
                    version: None,
                    about: About::default(),
                },
                description: None,
                metadata: BTreeMap::new(),
                requires: Requires::default(),
                architecture: access.architecture,
                boot: access.boot,
                filesystem: None,
                ssh_user: access.ssh_user,
                users: access.users,
                ports: Vec::new(),
                port_names: BTreeMap::new(),
                health: false,
                volumes: BTreeSet::new(),
                shares: Vec::new(),
                env: BTreeMap::new(),
                hostname: None,
                kernel_files: None,
                container: None,
            },
            disk: self.disk,
            kernel: self.kernel,
            initrd: self.initrd,
            layers: Vec::new(),
        }
    }

    /// Whether a machine that was made for this, and has come to the disk of `other`, can do a step
    /// for that.
    pub(super) fn serves(&self, other: &Self) -> bool {
        let as_this = Self {
            disk: self.disk,
            disk_size: self.disk_size,
            boot_timeout: self.boot_timeout,
            ..other.clone()
        };
        // A disk only gets larger while no machine runs on it.
        let size = other.disk_size.unwrap_or(other.disk.size);
        *self == as_this && size <= other.disk.size
    }
}

//! Bootable containers: `bootc` of the image itself installs it to a disk, in a machine that boots
//! the image's tree.
//!
//! ```text
//! layers ─┬─► disk of the installer, kernel, initrd ─┐
//!         └──────────────────────────────────────────┴─► bootc install to-disk ──► disk
//! ```

use super::disk::Disk;
use super::{Lowered, Lowering, Trunk, input};
use crate::derivation::step::{self, Step};
use crate::derivation::{Input, scripts};
use crate::host::Program;
use crate::image::{ContainerConfig, ContainerTree, local_scheme};
use crate::instruction::{BootcInstall, is_bootable};
use crate::plan::PlanError;
use crate::recipe::{Base, Bootc, Problem, Span};

/// How an image is installed that the recipe does not name in a `bootc` node: it looks for updates
/// where it came from.
pub(super) fn default_install(source: &Base) -> BootcInstall {
    let target = match source {
        Base::Registry(image) => came_from(&image.location),
        _ => None,
    };
    BootcInstall {
        target,
        ..BootcInstall::default()
    }
}

/// The name in a registry of an image at a location, if it has one.
fn came_from(location: &str) -> Option<String> {
    let name = match local_scheme(location) {
        None => location,
        // A name there is that of a registry. Without a host it is an id, or short for one of
        // several names.
        Some(("containers-storage", name)) if name.contains('/') => name,
        Some(_) => return None,
    };
    // The digest of today would never get an update; the tag is where the next ones appear.
    let tagged = name.split_once('@').map(|(tagged, _)| tagged);
    let last = |name: &str| {
        name.rsplit('/')
            .next()
            .is_some_and(|last| last.contains(':'))
    };
    Some(
        tagged
            .filter(|tagged| last(tagged))
            .unwrap_or(name)
            .to_owned(),
    )
}

/// The container that an image is made of, where nothing is added to it: as an image of its own it
/// would be installed already.
fn container_of(base: &Base) -> &Base {
    match base {
        Base::Image(image) if image.instructions.is_empty() => container_of(&image.base),
        base => base,
    }
}

/// A tree on a disk.
struct Installer {
    /// The disk, its kernel and its initrd.
    disk: [Input; 3],
    /// The layers of the tree.
    layers: Vec<Input>,
}

impl Lowered {
    /// Whether it is a container image whose labels say that it is bootable.
    pub(super) fn is_bootable_container(&self) -> bool {
        let labels = self.container.as_ref().map(|config| &config.labels);
        labels.is_some_and(|labels| is_bootable(|name| labels.get(name).map(String::as_str)))
    }
}

impl Lowering<'_> {
    /// The image of a `bootc` node.
    pub(super) fn bootc(
        &mut self,
        own: &str,
        asked: &Bootc,
        size: Option<u64>,
    ) -> Result<Lowered, PlanError> {
        let mut lowered = self.bootc_disk(own, asked, size)?;
        lowered.settings.ignition.clone_from(&asked.ignition);
        Ok(lowered)
    }

    /// Its disk.
    fn bootc_disk(
        &mut self,
        own: &str,
        asked: &Bootc,
        size: Option<u64>,
    ) -> Result<Lowered, PlanError> {
        let Bootc {
            source, install, ..
        } = asked;
        let lowered = self.files_of(own, container_of(&source.value))?;
        let container = lowered.container.is_some() || lowered.bare.is_some();
        let config = lowered.bare.as_ref().map(|bare| &bare.config);
        let config = config.or(lowered.container.as_ref());
        let labelled = config
            .is_some_and(|config| is_bootable(|name| config.labels.get(name).map(String::as_str)));
        if container && !labelled {
            let message = "the image is an ordinary container, not a bootable one";
            let problem = Problem::new(&source.span, message, "without the label containers.bootc");
            let help = "add LABEL containers.bootc=1 to an image with a kernel and bootc, or use \
                        `from` to make a machine of an ordinary container";
            return Err(problem.with_help(help).into());
        }
        let Some(install) = install else {
            let (tree, _) = self.installer(own, &lowered, &source.span)?;
            let [disk, kernel, initrd] = tree.disk;
            let mut booted = Lowered::disk(Disk::new(disk).with_kernel(kernel, initrd));
            booted.labels.clone_from(&lowered.labels);
            // Its files have no labels of SELinux: an installation gives them theirs.
            let arguments = format!("root=LABEL={} rw enforcing=0", step::BootcInstaller::LABEL);
            booted.settings.boot_directly(&arguments);
            return Ok(booted);
        };
        let install = BootcInstall {
            target: install
                .target
                .clone()
                .or_else(|| default_install(&source.value).target),
            ..install.clone()
        };
        self.installed(own, &lowered, install, size, &source.span)
    }

    /// The disk of the tree, which boots and can install.
    fn installer(
        &mut self,
        own: &str,
        lowered: &Lowered,
        span: &Span,
    ) -> Result<(Installer, ContainerTree), PlanError> {
        let Trunk::Tree(tree) = &lowered.trunk else {
            let message = "bootc installs container images, and this is a disk";
            let problem = Problem::new(span, message, "a disk");
            return Err(problem.with_help("use `from` to start from a disk").into());
        };
        let container: ContainerTree = match (&lowered.bare, &lowered.container) {
            (Some(bare), _) => bare.clone(),
            (None, Some(config)) => tree.container(config),
            (None, None) => tree.container(&ContainerConfig::default()),
        };
        let layers = tree.lowest(container.layers);
        let step = Step::BootcInstaller(step::BootcInstaller {
            scripts: scripts::bootc_installer(),
        });
        let name = format!("{own}: disk of the installer");
        let node = self.graph.add_step(name, &step, layers.clone())?;
        self.programs.extend([Program::Bwrap, Program::Mke2fs]);
        let disk = ["disk", "kernel", "initrd"].map(|output| input(output, node, output));
        Ok((Installer { disk, layers }, container))
    }

    /// A disk that an image is installed to.
    pub(super) fn installed(
        &mut self,
        own: &str,
        lowered: &Lowered,
        mut install: BootcInstall,
        size: Option<u64>,
        span: &Span,
    ) -> Result<Lowered, PlanError> {
        let (Installer { disk, layers }, container) = self.installer(own, lowered, span)?;
        let console = |argument: &String| argument.contains("console=");
        if !install.kernel_arguments.iter().any(console) {
            let serial = match self.architecture {
                "aarch64" => "ttyAMA0",
                _ => "ttyS0",
            };
            let consoles = ["console=tty0".to_owned(), format!("console={serial}")];
            install.kernel_arguments.extend(consoles);
        }
        let mut inputs = Vec::from(disk);
        inputs.extend(layers);
        let step = Step::BootcInstall(Box::new(step::BootcInstall {
            install,
            size,
            container,
            scripts: scripts::bootc_install(),
        }));
        let name = format!("{own}: bootc install to-disk");
        let node = self.graph.add_step(name, &step, inputs)?;
        self.needs_machine();
        let mut disk = Lowered::disk(Disk::new(input("disk", node, "disk")).sized(size));
        disk.labels.clone_from(&lowered.labels);
        disk.settings.uefi = true;
        Ok(disk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_come_from_where_the_image_came_from() {
        for (location, target) in [
            ("quay.io/me/os:1", Some("quay.io/me/os:1")),
            ("localhost:5000/os:1@sha256:00", Some("localhost:5000/os:1")),
            (
                "localhost:5000/os@sha256:00",
                Some("localhost:5000/os@sha256:00"),
            ),
            (
                "containers-storage:quay.io/me/os:1",
                Some("quay.io/me/os:1"),
            ),
            ("containers-storage:0123", None),
            ("oci-archive:/srv/os.tar:1", None),
        ] {
            assert_eq!(came_from(location).as_deref(), target, "{location}");
        }
    }
}

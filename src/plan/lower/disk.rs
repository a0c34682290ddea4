//! Steps on a disk that was made elsewhere: they run inside a machine that boots it.

use super::{Lowering, Made, input};
use crate::derivation::Input;
use crate::derivation::step::{self, GuestAction, Step};
use crate::disk::NotADisk;
use crate::host::Program;
use crate::image::{Access, DiskFormat, ImageConfig};
use crate::plan::PlanError;
use crate::plan::settings::Settings;
use crate::recipe::{DiskFile, Fetched, Image, Kernel, Problem, Transform};

/// The disk as it is after the steps so far.
#[derive(Clone)]
pub(super) struct Disk {
    disk: Input,
    kernel: Option<Input>,
    initrd: Option<Input>,
    /// Paths of kernel and initrd inside the disk, when they are taken from there.
    inside: Option<(String, Option<String>)>,
    /// How a machine with it is booted and entered, once its image has said so.
    access: Option<Access>,
    /// Its size in bytes, when the recipe says it and the step before made it so large.
    size: Option<u64>,
    /// Whether a step changed it.
    changed: bool,
}

impl Disk {
    pub(super) fn new(disk: Input) -> Self {
        Self {
            disk,
            kernel: None,
            initrd: None,
            inside: None,
            access: None,
            size: None,
            changed: false,
        }
    }

    /// One that boots by a kernel beside it.
    pub(super) fn with_kernel(mut self, kernel: Input, initrd: Input) -> Self {
        self.kernel = Some(kernel);
        self.initrd = Some(initrd);
        self
    }

    /// One that was made with this size.
    pub(super) const fn sized(mut self, size: Option<u64>) -> Self {
        self.size = size;
        self
    }

    fn step(&self, action: GuestAction) -> Step {
        let access = self.access.clone();
        let access = access.expect("the settings of an image come before its steps");
        Step::Guest(Box::new(step::Guest { access, action }))
    }

    /// What boots: disk, kernel and initrd.
    fn inputs(&self) -> Vec<Input> {
        let boot = [&self.kernel, &self.initrd].into_iter().flatten();
        [&self.disk].into_iter().chain(boot).cloned().collect()
    }
}

impl Lowering<'_> {
    /// A disk from outside, as raw bytes.
    pub(super) fn fetched_disk(&mut self, own: &str, fetched: &Fetched) -> Result<Disk, PlanError> {
        let mut disk = self.fetched(own, fetched)?;
        let raw = matches!(
            fetched.transforms.last().map(|transform| &transform.value),
            Some(Transform::Convert(_) | Transform::StripVhdFooter)
        );
        if !raw {
            disk = self.converted(own, disk, None)?;
        }
        disk.role = "disk".to_owned();
        Ok(Disk::new(disk))
    }

    /// A disk that is a local file, as raw bytes.
    pub(super) fn local_disk(&mut self, own: &str, file: &DiskFile) -> Result<Disk, PlanError> {
        let path = &file.path;
        let shown = path.value.display();
        let found = self.world.disk(&path.value, file.format);
        let (object, format) = found.map_err(|error| {
            let help = match error.downcast_ref::<NotADisk>() {
                Some(error) => error.help(),
                None => "use a file in the format raw, qcow2, vmdk, vhd, vhdx or vdi",
            };
            let message = format!("cannot use {shown}: {error}");
            Problem::new(&path.span, message, "not usable as a disk").with_help(help)
        })?;
        let node = self.object(format!("{own}: {shown}"), object)?;
        let mut disk = input("disk", node, "object");
        if format != DiskFormat::Raw {
            disk = self.converted(own, disk, Some(format))?;
            disk.role = "disk".to_owned();
        }
        Ok(Disk::new(disk))
    }

    /// The disk of an image in the store.
    pub(super) fn stored_disk(
        &mut self,
        name: &str,
        config: &ImageConfig,
    ) -> Result<Disk, PlanError> {
        let node = self.object(format!("{name}: disk"), config.disk)?;
        let mut disk = Disk::new(input("disk", node, "object"));
        if let Some(kernel) = config.kernel {
            let node = self.object(format!("{name}: kernel"), kernel)?;
            disk.kernel = Some(input("kernel", node, "object"));
        }
        if let Some(initrd) = config.initrd {
            let node = self.object(format!("{name}: initrd"), initrd)?;
            disk.initrd = Some(input("initrd", node, "object"));
        }
        Ok(disk)
    }

    /// Everything that the steps on a disk need: kernel, size, and how the machine is entered.
    pub(super) fn prepare(
        &mut self,
        disk: &mut Disk,
        settings: &Settings,
    ) -> Result<(), PlanError> {
        match &settings.kernel {
            Some(Kernel::Fetched(fetched)) => {
                let mut kernel = self.fetched("kernel", fetched)?;
                kernel.role = "kernel".to_owned();
                disk.kernel = Some(kernel);
                // That of the base has the modules of another kernel.
                disk.initrd = None;
            }
            Some(Kernel::Tree { path, initrd }) => {
                disk.inside = Some((path.clone(), initrd.clone()));
            }
            None => {}
        }
        if let Some(fetched) = &settings.initrd {
            let mut initrd = self.fetched("initrd", fetched)?;
            initrd.role = "initrd".to_owned();
            disk.initrd = Some(initrd);
        }
        if let Some(size) = settings.foreign_size()
            && disk.size != Some(size)
        {
            let step = Step::Transform(step::Transform::Grow { size });
            let mut blob = disk.disk.clone();
            blob.role = "blob".to_owned();
            let name = format!("grow to {}", crate::text::shown_size(size));
            let node = self.graph.add_step(name, &step, vec![blob])?;
            disk.disk = input("disk", node, "blob");
        }
        self.take_kernel(disk)?;
        disk.access = Some(settings.access(self.architecture)?);
        Ok(())
    }

    /// Takes kernel and initrd out of the disk, when they are in it: QEMU loads them from files.
    fn take_kernel(&mut self, disk: &mut Disk) -> Result<(), PlanError> {
        let Some((kernel, initrd)) = disk.inside.clone() else {
            return Ok(());
        };
        disk.kernel = Some(self.file_of(disk, "kernel", kernel)?);
        disk.initrd = None;
        if let Some(initrd) = initrd {
            disk.initrd = Some(self.file_of(disk, "initrd", initrd)?);
        }
        Ok(())
    }

    fn file_of(&mut self, disk: &Disk, role: &str, path: String) -> Result<Input, PlanError> {
        let mut blob = disk.disk.clone();
        blob.role = "blob".to_owned();
        let name = format!("{role} {path}");
        let step = Step::Transform(step::Transform::File { path });
        let node = self.graph.add_step(name, &step, vec![blob])?;
        Ok(input(role, node, "blob"))
    }

    /// Adds a step that is done inside the machine and gives the changed disk.
    pub(super) fn guest(
        &mut self,
        disk: &mut Disk,
        name: String,
        step: Step,
        more: Vec<Input>,
    ) -> Result<(), PlanError> {
        let action = match step {
            Step::Packages(params) => GuestAction::Packages(params),
            Step::Run(params) => GuestAction::Run(params),
            Step::File(params) => GuestAction::File(params),
            Step::Copy(params) => GuestAction::Copy(params),
            Step::User(params) => GuestAction::User(params),
            Step::Service(params) => GuestAction::Service(params),
            Step::Env(params) => GuestAction::Env(params),
            Step::Hostname(params) => GuestAction::Hostname(params),
            _ => unreachable!("instructions are no other steps"),
        };
        disk.changed = true;
        self.guest_action(disk, name, action, more)
    }

    /// The files of a tar from outside, unpacked inside the machine.
    pub(super) fn unpack_in_guest(
        &mut self,
        disk: &mut Disk,
        own: &str,
        name: String,
        fetched: &Fetched,
    ) -> Result<(), PlanError> {
        let blob = self.fetched(own, fetched)?;
        let step = Step::Transform(step::Transform::Files);
        let node = self
            .graph
            .add_step(format!("{own}: files"), &step, vec![blob])?;
        disk.changed = true;
        let files = input("source", node, "blob");
        self.guest_action(disk, name, GuestAction::Unpack, vec![files])
    }

    fn guest_action(
        &mut self,
        disk: &mut Disk,
        name: String,
        action: GuestAction,
        more: Vec<Input>,
    ) -> Result<(), PlanError> {
        self.needs_machine();
        let step = disk.step(action);
        let mut inputs = disk.inputs();
        inputs.extend(more);
        let node = self.graph.add_step(name, &step, inputs)?;
        disk.disk = input("disk", node, "disk");
        Ok(())
    }

    /// Checks run in the machine before it is cleaned; a disk that no step changed stays as it is.
    pub(super) fn finish_disk(
        &mut self,
        image: &Image,
        mut disk: Disk,
        checks: Vec<(String, step::Run)>,
    ) -> Result<Made, PlanError> {
        let own = &image.name.value;
        let mut done = Vec::new();
        for (name, check) in checks {
            self.needs_machine();
            let step = disk.step(GuestAction::Check(check));
            let mut inputs = disk.inputs();
            // One after the other, in the one machine.
            inputs.extend(done.last().cloned());
            let node = self.graph.add_step(name, &step, inputs)?;
            done.push(input("check", node, "ok"));
        }
        if disk.changed {
            let name = format!("{own}: finish");
            self.guest_action(&mut disk, name, GuestAction::Finish, done.clone())?;
            // Steps may have installed another kernel.
            self.take_kernel(&mut disk)?;
        }
        let mut inputs = disk.inputs();
        inputs.extend(done);
        Ok(Made {
            inputs,
            filesystem: None,
        })
    }

    pub(super) fn needs_machine(&mut self) {
        let programs = [Program::QemuSystem, Program::Ssh];
        self.programs.extend(programs);
    }
}

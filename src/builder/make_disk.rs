//! Layers to a bootable disk.

use std::fs;
use std::io;
use std::path::Path;

use crate::derivation::step::Disk;
use crate::derivation::{BuildRequest, Builder, Outputs, SOURCE_DATE_EPOCH, Step};
use crate::digest::{Digest, Hasher, ObjectRef};
use crate::disk::{self, DiskError, DiskIds, Esp, Ext4, Layout, Target};
use crate::failure::Failure;
use crate::sandbox::{HostCommand, Job, Lent, Runner, Sandbox, Scratch, Task};
use crate::store::Store;

/// The file of the job that becomes the disk.
pub(super) const DISK: &str = "disk";

pub(super) struct MakeDisk {
    pub(super) sandbox: Sandbox,
    pub(super) store: Store,
}

impl Builder for MakeDisk {
    fn build(&self, request: &BuildRequest<'_>) -> Result<Outputs, Failure> {
        let Step::Disk(params) = super::step(request)? else {
            return Err(super::wrong_kind(request));
        };
        let layers: Vec<ObjectRef> = request.inputs_of("layer").collect();
        let boot = self.boot_files(&layers, request, &params)?;

        let scratch = self.sandbox.scratch()?;
        let file = scratch.file(DISK)?;
        let size = disk::disk_size(params.size);
        file.as_file()
            .set_len(size)
            .map_err(Failure::step_io("size", file.path()))?;
        let ids = DiskIds::new(request.key.digest().as_bytes(), lineage(&params).as_bytes());
        let mut root = 0..size;
        if params.uefi {
            let target = target()?;
            let mut options = params.command_line.clone();
            if !options
                .split_whitespace()
                .any(|word| word.starts_with("root="))
            {
                options = format!("root=PARTUUID={} {options}", ids.root);
            }
            let esp = boot.esp(target, &options)?;
            let layout = Layout::new(size, esp.size()).map_err(failed(&params))?;
            layout
                .write(file.as_file(), &ids, target)
                .map_err(failed(&params))?;
            esp.write(file.as_file(), &layout.esp, ids.volume)
                .map_err(failed(&params))?;
            root = layout.root;
        }
        let time = u32::try_from(SOURCE_DATE_EPOCH).unwrap_or(u32::MAX);
        let file_system = Ext4::new(&ids, &params.label, root.start, root.end - root.start, time)
            .map_err(failed(&params))?;
        let fill = Task::FileSystem {
            file: DISK.into(),
            offset: root.start,
            time,
        };
        let job = Job::over(&layers, vec![make(&file_system, DISK), fill]);
        self.sandbox.run(job, &Lent::default(), &scratch, request)?;

        let mut outputs = Outputs::new();
        outputs.insert(
            "disk".to_owned(),
            self.store.adopt_disk(file).map_err(Failure::of_step)?,
        );
        for (name, content) in [
            ("kernel", Some(&boot.kernel)),
            ("initrd", boot.initrd.as_ref()),
        ] {
            if let Some(content) = content {
                let object = self.store.put_bytes(content).map_err(Failure::of_step)?;
                outputs.insert(name.to_owned(), object);
            }
        }
        Ok(outputs)
    }
}

/// What is needed before there is an operating system.
struct BootFiles {
    kernel: Vec<u8>,
    initrd: Option<Vec<u8>>,
    loader: Option<Vec<u8>>,
}

impl BootFiles {
    fn esp<'a>(&'a self, target: Target, options: &'a str) -> Result<Esp<'a>, Failure> {
        let loader = self.loader.as_deref().ok_or_else(|| {
            Failure::failed(format!(
                "the image has no boot loader for UEFI (/{})",
                target.loader_path()
            ))
            .with_help("add packages \"systemd-boot-efi\"")
        })?;
        Ok(Esp {
            target,
            loader,
            title: "Linux",
            options,
            kernel: &self.kernel,
            initrd: self.initrd.as_deref(),
        })
    }
}

impl MakeDisk {
    /// Copies the kernel, its initrd and the boot loader out of the tree.
    fn boot_files(
        &self,
        layers: &[ObjectRef],
        request: &BuildRequest<'_>,
        params: &Disk,
    ) -> Result<BootFiles, Failure> {
        let scratch: Scratch = self.sandbox.scratch()?;
        let mut tasks = vec![Task::Kernel {
            kernel: params.kernel.clone(),
            initrd: params.initrd.clone(),
        }];
        if params.uefi {
            let path = format!("/{}", target()?.loader_path());
            tasks.push(Task::Fetch {
                path,
                to: "loader".into(),
            });
        }
        let job = Job::over(layers, tasks);
        self.sandbox.run(job, &Lent::default(), &scratch, request)?;
        let to = scratch.path();
        let read = |name: &str| match fs::read(to.join(name)) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::step_io("read", &to.join(name))(error)),
        };
        Ok(BootFiles {
            kernel: read("kernel")?.unwrap_or_default(),
            initrd: read("initrd")?,
            loader: read("loader")?,
        })
    }
}

/// The task that makes the empty file system in a file of the job.
pub(super) fn make(file_system: &Ext4, file: &str) -> Task {
    let arguments = file_system.arguments(&Path::new("{job}").join(file));
    let arguments = arguments
        .iter()
        .map(|argument| argument.to_string_lossy().into_owned());
    let environment = file_system.environment();
    Task::Host(HostCommand {
        argv: ["mke2fs".to_owned()].into_iter().chain(arguments).collect(),
        env: environment
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
        network: false,
    })
}

/// What the versions of an image have in common, whatever files are on them.
fn lineage(params: &Disk) -> Digest {
    Hasher::new("vmfab disk lineage v1")
        .update_field(params.label.as_bytes())
        .update_field(params.filesystem.as_bytes())
        .update_u64(params.size)
        .update_u64(params.uefi.into())
        .update_field(std::env::consts::ARCH.as_bytes())
        .finish()
}

fn target() -> Result<Target, Failure> {
    let architecture = std::env::consts::ARCH;
    Target::from_name(architecture).ok_or_else(|| {
        Failure::failed(format!("vmfab cannot make UEFI disks for {architecture}"))
            .with_help("leave out `firmware=\"uefi\"`: the image boots with its kernel")
    })
}

fn failed(params: &Disk) -> impl Fn(DiskError) -> Failure {
    let size = params.size;
    move |error| match error {
        DiskError::TooSmall { needed, .. } => Failure::failed(format!(
            "a disk of {} MiB is too small for UEFI",
            size >> 20
        ))
        .with_help(format!(
            "give the `disk` node at least {} MiB",
            needed.div_ceil(1 << 20)
        )),
        other => Failure::of_step(other),
    }
}

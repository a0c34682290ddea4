//! From a machine to an image.

use std::fs::{self, File};
use std::io;
use std::time::Duration;

use serde::Serialize;

use super::super::Context;
use super::super::image_record::{ImageRecord, ImageSource};
use super::super::machine::{find_machine, remote_shell, require_programs};
use super::super::own_init::{note_own_init, runs_own_init};
use super::text;
use crate::audit::Deed;
use crate::builder::guest::{BuildMachineSpec, BuildMachines, Report, as_root};
use crate::digest::{ObjectId, ObjectRef};
use crate::event::Event;
use crate::failure::Failure;
use crate::image::{Access, BootProfile, ImageConfig};
use crate::limits::Limits;
use crate::machine::{
    FREEZE, Machine, MachineConfig, MachineError, Quiesce, Snapshot, SnapshotName, State, Wanted,
};
use crate::store::{Store, TagName};
use crate::world::image_config;

/// The image to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitOptions {
    /// The machine's name.
    pub machine: String,
    pub tag: TagName,
    /// What the image is for.
    pub description: Option<String>,
    /// How long the machine that is cleaned may take to boot.
    pub timeout: Duration,
}

/// A machine that became an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Committed {
    pub image: ObjectId,
    /// Without `@`.
    pub tag: String,
    pub machine: String,
    /// The image that the machine is of.
    pub base: ObjectId,
    /// Bytes that the disk takes in the store, shared with the base or not.
    pub stored_size: u64,
    /// Bytes that only it has, and not the disk of the base.
    pub own_size: u64,
}

/// Makes an image of what a machine's disk holds now, without the machine's identity. The machine
/// goes on.
///
/// # Errors
/// There is no such machine, it runs and cannot write its file systems back, what it wrote cannot be
/// stored, or its identity cannot be taken out. The tag is as it was then.
pub fn commit(context: &Context, options: &CommitOptions) -> Result<Committed, Failure> {
    let machine = find_machine(context, &options.machine)?;
    let store = context.store()?;
    require_programs()?;
    let turn = machine.turn_to_commit(&context.interrupt)?;
    let _turn = turn.ok_or_else(Failure::interrupted)?;
    let snapshots = machine.machines().snapshots();
    let image = image_config(&store, &machine.config()?.image)?;
    let can_be_entered = !runs_own_init(&store, &image)?;
    let snapshot = freeze(context, &machine, &store, can_be_entered)?;
    let made = of_snapshot(context, &machine, &snapshot, &store, options);
    // Until then it kept the layers.
    let removed = snapshots.remove(&[snapshot.name], &context.interrupt);
    let made = made?;
    removed?;
    Ok(made)
}

/// A snapshot of the machine that goes when its image is made.
fn freeze(
    context: &Context,
    machine: &Machine,
    store: &Store,
    can_be_entered: bool,
) -> Result<Snapshot, Failure> {
    let wanted = Wanted {
        memory: false,
        name: SnapshotName::for_commit(),
        description: Some(text(&format!(
            "{} while it becomes an image",
            machine.name()
        ))?),
        automatic: true,
        volumes: false,
    };
    let locked = machine.lock(context.sink.as_ref(), &context.interrupt)?;
    let log_path = machine.directory().join("quiesce.log");
    let log;
    let quiesce = match machine.state()? {
        State::Stopped => None,
        State::Suspended => return Err(MachineError::Suspended(machine.name().clone()).into()),
        _ if !can_be_entered => {
            return Err(Failure::failed(format!(
                "machine \"{}\" runs, and nothing in it writes its file systems back",
                machine.name()
            ))
            .with_help(format!("vmfab stop {} stops it first", machine.name())));
        }
        _ => {
            machine.check_goes_on()?;
            log = File::create(&log_path).map_err(Failure::io("create", &log_path))?;
            Some(Quiesce {
                remote: remote_shell(machine, &as_root(FREEZE))?,
                log: &log,
            })
        }
    };
    Ok(locked.snapshot(&wanted, quiesce, store, &context.interrupt)?)
}

fn of_snapshot(
    context: &Context,
    machine: &Machine,
    snapshot: &Snapshot,
    store: &Store,
    options: &CommitOptions,
) -> Result<Committed, Failure> {
    let base = snapshot.settings.image;
    let image = image_config(store, &base)?;
    let task = format!("commit {}", machine.name());
    context.emit(Event::TaskStarted { name: task.clone() });
    let started = std::time::Instant::now();
    let snapshots = machine.machines().snapshots();
    let disk = snapshot.settings.disks.first();
    let disk = disk.ok_or_else(|| Failure::failed("the machine has no disk"))?;
    let disk = snapshots.stored(disk, &image.disk, store)?;
    let runs_own_init = runs_own_init(store, &image)?;
    let disk = match runs_own_init {
        // Nobody can enter it, and it has no identity.
        true => disk,
        false => without_identity(context, snapshot, &image, disk, store, options)?,
    };
    verify(context, store, &disk)?;
    let mut config = ImageConfig {
        disk,
        // They made the base's disk, not this one.
        layers: Vec::new(),
        ..image.clone()
    };
    let template = &mut config.template;
    template.container = None;
    template.boot = boot_of(&snapshot.settings, &template.boot);
    if let Ok(name) = options.tag.as_str().parse() {
        template.name = name;
    }
    if let Some(description) = &options.description {
        template.description = Some(text(description)?);
    }
    let note = |template: &mut crate::image::ImageTemplate, key: &str, value: String| {
        if let (Ok(key), Ok(value)) = (key.parse(), value.parse()) {
            template.metadata.insert(key, value);
        }
    };
    if runs_own_init {
        note_own_init(template);
    }
    note(template, "vmfab.base", base.to_string());
    note(template, "vmfab.machine", machine.name().to_string());
    let id = store.put_bytes(&config.to_bytes())?.id;
    store.put_tag(&options.tag, &id)?;
    let source = ImageSource::Committed {
        machine: machine.name().to_string(),
        base,
    };
    ImageRecord::now(source).keep(context, &id);
    context.record(&Deed::ImageCommitted {
        image: id.to_string(),
        machine: machine.name().to_string(),
        base: base.to_string(),
        tag: options.tag.as_str().to_owned(),
    });
    context.emit(Event::TaskFinished {
        name: task,
        seconds: started.elapsed().as_secs_f64(),
    });
    Ok(Committed {
        image: id,
        tag: options.tag.as_str().to_owned(),
        machine: machine.name().to_string(),
        base,
        stored_size: store.stored_size(&disk.id).unwrap_or(0),
        own_size: store.own_size(&disk.id, &image.disk.id)?,
    })
}

/// How the disk of a machine boots.
fn boot_of(settings: &MachineConfig, image: &BootProfile) -> BootProfile {
    BootProfile {
        firmware: settings.firmware,
        platform: settings.devices.platform.over(&image.platform),
        ..image.clone()
    }
}

/// Boots a machine of this process from the disk, takes out what belongs to the machine, and stores
/// what is left.
fn without_identity(
    context: &Context,
    snapshot: &Snapshot,
    image: &ImageConfig,
    disk: ObjectRef,
    store: &Store,
    options: &CommitOptions,
) -> Result<ObjectRef, Failure> {
    let settings = &snapshot.settings;
    let template = &image.template;
    let spec = BuildMachineSpec {
        disk,
        kernel: image.kernel,
        initrd: image.initrd,
        access: Access {
            architecture: template.architecture.clone(),
            boot: boot_of(settings, &template.boot),
            ssh_user: template.ssh_user.clone(),
            users: template.users.clone(),
        },
        disk_size: None,
        memory_mib: settings.memory_mib,
        cpus: settings.cpus,
        accel: settings.accel,
        boot_timeout: options.timeout,
    };
    let logs = context.home.root().join("log");
    fs::create_dir_all(&logs).map_err(Failure::io("create", &logs))?;
    let log = logs.join(format!("commit-{}.log", snapshot.machine));
    File::create(&log).map_err(Failure::io("create", &log))?;
    let report = Report {
        log: &log,
        log_limit: Limits::default().step_log,
        output: &|line| {
            context.emit(Event::Note {
                message: line.to_owned(),
            });
        },
        interrupt: &context.interrupt,
    };
    let machines = BuildMachines::new(&context.home, store);
    machines.take(spec, &report)?.shutdown(&report)
}

/// Reads all that an object holds. Each chunk is compared with its digest while it is read.
fn verify(context: &Context, store: &Store, object: &ObjectRef) -> Result<(), Failure> {
    let reader = store.open_object(&object.id)?;
    let mut buffer = vec![0; 1 << 20];
    for part in reader.data_in(0..reader.size()) {
        let mut at = part.start;
        while at < part.end {
            if context.interrupt.requested() {
                return Err(Failure::interrupted());
            }
            let length = (part.end - at).min(buffer.len() as u64) as usize;
            let read = reader.read_exact_at(&mut buffer[..length], at);
            read.map_err(|error: io::Error| Failure::verification(error.to_string()))?;
            at += length as u64;
        }
    }
    Ok(())
}

//! Whether what is in the home fits together: machines and their images, and what killed processes
//! or lost files left.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Serialize;

use super::super::Context;
use super::super::image_record::{self, ImageRecord, ImageSource};
use super::super::machine::remove_locked;
use super::super::store::{self, GcOptions};
use super::super::volume;
use crate::checked::Name;
use crate::config::AutoCollect;
use crate::digest::ObjectId;
use crate::failure::Failure;
use crate::machine::{
    Machine, MachineError, MachineName, Machines, Projects, SnapshotName, Volumes,
};
use crate::store::{CollectOptions, Store};

/// How the things of a home hang together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HomeReport {
    /// The images that machines need, by their ids.
    pub images: Vec<NeededImage>,
    /// What does not fit, the worst first.
    pub findings: Vec<Finding>,
}

/// An image that machines need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NeededImage {
    pub image: ObjectId,
    /// Its name when the machines were made.
    pub name: String,
    /// Those machines, sorted.
    pub machines: Vec<String>,
    /// Whether the store has it.
    pub stored: bool,
}

/// Something that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    #[serde(flatten)]
    pub kind: FindingKind,
    /// What it is, a sentence without an end.
    pub message: String,
    /// What `doctor --fix` does about it; nothing when only the user can tell.
    pub fix: Option<String>,
    /// What the user can do.
    pub help: Option<String>,
}

/// Kinds of findings, the worst first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum FindingKind {
    /// The store has no image below a machine's disk.
    ImageGone { machine: MachineName },
    /// A directory among the machines says nothing about its machine.
    Incomplete { machine: MachineName },
    /// The file of a snapshot cannot be read.
    DamagedSnapshot { snapshot: SnapshotName },
    /// The record of a volume cannot be read.
    DamagedVolume { volume: Name },
    /// Directories that killed processes left.
    Leftovers,
    /// Layers of disks that neither a machine nor a snapshot needs.
    UnneededLayers,
    /// Machines of a project whose directory is not there.
    ProjectGone { path: std::path::PathBuf },
    /// A volume that no machine mounts.
    UnusedVolume { volume: Name },
    /// Images that neither a tag nor a machine needs.
    Unreached,
}

impl FindingKind {
    /// Whether something cannot be used as it is.
    #[must_use]
    pub const fn is_broken(&self) -> bool {
        matches!(
            self,
            Self::ImageGone { .. }
                | Self::Incomplete { .. }
                | Self::DamagedSnapshot { .. }
                | Self::DamagedVolume { .. }
        )
    }
}

impl HomeReport {
    /// Whether nothing is broken. What merely takes space is no fault.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        !self.findings.iter().any(|finding| finding.kind.is_broken())
    }
}

/// Looks at machines, images and what lies between. Changes nothing.
///
/// # Errors
/// The store or a directory cannot be read.
pub fn look(context: &Context) -> Result<HomeReport, Failure> {
    // Where there is no store, none is made, and every machine has lost its image.
    let store = context.home.store().exists();
    let store = store.then(|| context.store()).transpose()?;
    let mut findings = Vec::new();
    let mut images: BTreeMap<ObjectId, NeededImage> = BTreeMap::new();
    for machine in store::machines(context)? {
        let name = machine.name().clone();
        let Ok(config) = machine.config() else {
            findings.extend(incomplete(&machine));
            continue;
        };
        let stored = store
            .as_ref()
            .is_some_and(|store| store.knows(&config.image));
        let needed = images.entry(config.image).or_insert_with(|| NeededImage {
            image: config.image,
            name: config.image_name.to_string(),
            machines: Vec::new(),
            stored,
        });
        needed.machines.push(name.to_string());
        if !stored {
            findings.push(image_gone(context, name, &config.image));
        }
    }
    let leftovers = Machines::new(&context.home).leftovers(false)?;
    if leftovers > 0 {
        let leftovers = count(leftovers, "directory", "directories");
        findings.push(Finding {
            kind: FindingKind::Leftovers,
            message: format!(
                "{leftovers} in {} that killed commands left",
                context.home.machines().display()
            ),
            fix: Some("remove them".to_owned()),
            help: None,
        });
    }
    let mut unneeded = 0;
    let mut needed: BTreeSet<ObjectId> = images.keys().copied().collect();
    for machines in store::places(context)? {
        let snapshots = machines.snapshots();
        unneeded += snapshots.unneeded();
        for snapshot in snapshots.names()? {
            match snapshots.open(&snapshot) {
                Ok(snapshot) => drop(needed.insert(snapshot.settings.image)),
                Err(MachineError::NoSnapshot(_)) => {}
                Err(error) => {
                    findings.push(broken(FindingKind::DamagedSnapshot { snapshot }, error));
                }
            }
        }
    }
    if unneeded > 0 {
        let size = mib(unneeded);
        findings.push(Finding {
            kind: FindingKind::UnneededLayers,
            message: format!("layers of disks that no machine and no snapshot needs take {size}"),
            fix: Some("remove them".to_owned()),
            help: None,
        });
    }
    let volumes = Volumes::new(&context.home);
    for volume in volumes.names()? {
        if let Err(error) = volumes.open(&volume) {
            findings.push(broken(FindingKind::DamagedVolume { volume }, error));
        }
    }
    for absent in Projects::new(&context.home).review(std::time::SystemTime::now(), false)? {
        let path = absent.path;
        findings.push(Finding {
            message: format!("the project {} is not there", path.display()),
            fix: None,
            help: Some(
                "the store keeps what its machines need for a while: mount its disk, or leave it to vmfab store gc"
                    .to_owned(),
            ),
            kind: FindingKind::ProjectGone { path },
        });
    }
    for volume in volume::list(context)? {
        if volume.machines.is_empty() {
            let (name, size) = (volume.name, mib(volume.stored_size));
            findings.push(Finding {
                message: format!("volume {name} belongs to no machine and takes {size}"),
                fix: None,
                help: Some(format!("vmfab volume rm {name} removes it and its data")),
                kind: FindingKind::UnusedVolume { volume: name },
            });
        }
    }
    // Nothing is collected while it is unknown what a machine or a snapshot needs.
    let is_unknown = |finding: &Finding| {
        let kind = &finding.kind;
        kind.is_broken() && !matches!(kind, FindingKind::DamagedVolume { .. })
    };
    let collects = !findings.iter().any(is_unknown);
    if let Some(store) = &store {
        findings.extend(unreached(context, store, needed, collects)?);
    }
    findings.sort_by(|a, b| a.kind.cmp(&b.kind));
    Ok(HomeReport {
        images: images.into_values().collect(),
        findings,
    })
}

/// Does what the findings say that it does.
///
/// # Errors
/// A directory cannot be removed, or garbage cannot be collected.
pub fn fix(context: &Context, report: &HomeReport) -> Result<(), Failure> {
    let machines = Machines::new(&context.home);
    for finding in report
        .findings
        .iter()
        .filter(|finding| finding.fix.is_some())
    {
        match &finding.kind {
            FindingKind::Incomplete { machine } => {
                let machine = machines.open(machine)?;
                let locked = machine.lock(context.sink.as_ref(), &context.interrupt)?;
                // Meanwhile it may have been made.
                if machine.config().is_err() {
                    remove_locked(context, locked, false)?;
                }
            }
            FindingKind::Leftovers => drop(machines.leftovers(true)?),
            FindingKind::UnneededLayers => {
                for machines in store::places(context)? {
                    machines.snapshots().tidy();
                }
            }
            FindingKind::Unreached => {
                let usual = AutoCollect::default();
                let options = GcOptions {
                    store: CollectOptions {
                        older_than: usual.older_than,
                        keep_last: usual.keep_last,
                        max_size: None,
                        dry_run: false,
                    },
                    cache_size: Some(usual.cache_size),
                };
                store::gc(&context.anew(context.sink.clone()), &options)?;
            }
            FindingKind::ImageGone { .. }
            | FindingKind::DamagedSnapshot { .. }
            | FindingKind::DamagedVolume { .. }
            | FindingKind::ProjectGone { .. }
            | FindingKind::UnusedVolume { .. } => {}
        }
    }
    Ok(())
}

/// What only the user can mend.
fn broken(kind: FindingKind, error: MachineError) -> Finding {
    let failure = Failure::from(error);
    Finding {
        kind,
        message: failure.message().to_owned(),
        fix: None,
        help: failure.help().first().cloned(),
    }
}

/// A directory without a config that can be read, unless it is a project's or runs.
fn incomplete(machine: &Machine) -> Option<Finding> {
    let name = machine.name().clone();
    let error = machine.config().err()?;
    // A config that is there may be mended by its user.
    let config_is_gone = !machine.directory().join("machine.json").exists();
    let removable = config_is_gone && machine.project().is_none() && !machine.has_qemu().ok()?;
    let bytes = allocated(machine.directory());
    Some(Finding {
        message: format!("machine {name} cannot be used: {error}"),
        fix: removable.then(|| {
            let directory = machine.directory().display();
            format!("remove {directory} and what is in it, {}", mib(bytes))
        }),
        help: (!removable)
            .then(|| format!("mend the file, or remove the machine: vmfab rm {name}")),
        kind: FindingKind::Incomplete { machine: name },
    })
}

fn image_gone(context: &Context, machine: MachineName, image: &ObjectId) -> Finding {
    let back = ImageRecord::of(context, image).map(|record| match record.source {
        ImageSource::Pulled { reference } => format!("vmfab pull {reference}"),
        ImageSource::Imported { from } => format!("vmfab pull {from}"),
        ImageSource::Built { recipe } => format!("vmfab build {recipe}"),
        ImageSource::Committed { machine, .. } => format!("vmfab commit {machine} @TAG"),
    });
    let restore = "vmfab store restore DIR, if you have a backup".to_owned();
    Finding {
        message: format!(
            "machine {machine} has lost its image: the store has no {}",
            image.short()
        ),
        fix: None,
        help: Some(match back {
            Some(command) => format!("{command} may bring it back, or {restore}"),
            None => restore,
        }),
        kind: FindingKind::ImageGone { machine },
    }
}

/// Images in the store that came here and that no name reaches any more.
fn unreached(
    context: &Context,
    store: &Store,
    mut reached: BTreeSet<ObjectId>,
    collects: bool,
) -> Result<Option<Finding>, Failure> {
    reached.extend(store.tags()?.into_iter().map(|(_, image)| image));
    for entry in Projects::new(&context.home).list()? {
        reached.extend(entry.needs.iter().map(|need| need.image));
    }
    for (_, objects) in store.roots()? {
        reached.extend(objects);
    }
    let unreached = image_record::images(context)
        .filter(|image| !reached.contains(image) && store.knows(image))
        .count();
    Ok((unreached > 0).then(|| Finding {
        kind: FindingKind::Unreached,
        message: format!(
            "{} that no tag and no machine needs",
            count(unreached, "image", "images")
        ),
        fix: collects.then(|| {
            "collect garbage: what was used within two weeks stays, and the last three images"
                .to_owned()
        }),
        help: (!collects).then(|| "vmfab store gc, once nothing is broken".to_owned()),
    }))
}

fn count(number: usize, one: &str, several: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        number => format!("{number} {several}"),
    }
}

/// Bytes that the files in a directory take on this host.
fn allocated(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory);
    let files = entries.into_iter().flatten().flatten();
    files
        .filter_map(|file| file.metadata().ok())
        .map(|meta| meta.blocks() * 512)
        .sum()
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

//! Garbage collection: of the store, then of the caches.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use serde::Serialize;

use super::super::{Context, image_record, lazy, provenance};
use super::parts;
use crate::audit::Deed;
use crate::digest::{ActionKey, ObjectId};
use crate::event::Event;
use crate::failure::Failure;
use crate::image::ImageConfig;
use crate::machine::{Absent, Machine, Machines, Projects, Snapshot};
use crate::sandbox::{CacheMount, CacheMounts, CachedLayer, LayerCache};
use crate::store::{Cached, CollectOptions, Dropped, FILE_OUTPUT, Reason, Roots, Store, Tally};
use crate::world::image_config;

/// What may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcOptions {
    /// What may go from the store.
    pub store: CollectOptions,
    /// What was used least recently goes from the caches until they have at most so many bytes.
    pub cache_size: Option<u64>,
}

/// What a garbage collection did, or would do. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Collected {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Packs and journals before.
    pub before: u64,
    /// Packs and journals after.
    pub after: u64,
    pub objects: Count,
    /// Results of steps and of added files.
    pub results: Count,
    /// Packs; those that were written anew count as removed.
    pub packs: Count,
    /// Packs that something came to need meanwhile.
    pub put_back: u64,
    /// Whether the store is still larger than it should be: names keep the rest.
    pub too_large: bool,
    /// The results that go, those used least recently first.
    pub dropped: Vec<DroppedResult>,
    /// What goes from the cache of disks.
    pub disks: Freed,
    /// What goes from the cache of layers.
    pub layers: Freed,
    /// What goes from the cache mounts of Dockerfiles.
    pub mounts: Freed,
    /// Bytes of downloads that nobody went on with for a week, and of what was remembered of
    /// registries.
    pub stale: u64,
    /// Projects whose directories are not there: what their machines need is kept for a while.
    pub absent_projects: Vec<Absent>,
    /// How long it took to find out what is needed, in seconds.
    pub mark_seconds: f64,
    /// Wall time in seconds.
    pub seconds: f64,
}

/// Things that stay and things that go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// How many stay.
    pub kept: u64,
    /// How many go.
    pub removed: u64,
}

impl From<Tally> for Count {
    fn from(tally: Tally) -> Self {
        Self {
            kept: tally.kept,
            removed: tally.removed,
        }
    }
}

/// A result that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DroppedResult {
    pub action: ActionKey,
    /// The names of its outputs.
    pub outputs: Vec<String>,
    /// When it was made or last used, in seconds since 1970.
    pub used: u64,
    /// `unused`, `size` or `incomplete`.
    pub reason: &'static str,
}

impl From<Dropped> for DroppedResult {
    fn from(dropped: Dropped) -> Self {
        Self {
            action: dropped.key,
            outputs: dropped
                .outputs
                .iter()
                .map(|(name, _)| name.clone())
                .collect(),
            used: dropped.used,
            reason: match dropped.reason {
                Reason::Unused => "unused",
                Reason::Size => "size",
                Reason::Incomplete => "incomplete",
            },
        }
    }
}

/// What goes from a cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Freed {
    /// Disks or layers.
    pub removed: u64,
    /// What they take.
    pub bytes: u64,
}

/// Removes what nothing needs from the store, and from the caches what belongs to nothing in the
/// store, or does not fit.
///
/// # Errors
/// Another process collects, a machine's image cannot be told, the store fails, or the user gave
/// up.
pub fn gc(context: &Context, options: &GcOptions) -> Result<Collected, Failure> {
    let started = Instant::now();
    // One of its own, which relies on nothing: what this process looked at before may go, too.
    let store = Store::open(context.home.store())?;
    let task = format!("collect garbage in {}", store.root().display());
    context.emit(Event::TaskStarted { name: task.clone() });
    let needed = Needed {
        context,
        store: &store,
    };
    let collection = store.collect(&needed, &options.store)?;
    let dry_run = options.store.dry_run;
    if !dry_run {
        remember(context, &collection.dropped);
    }
    let unused_since = SystemTime::now().checked_sub(options.store.older_than);
    let limits = CacheLimits {
        size: options.cache_size,
        unused_since: unused_since.unwrap_or(SystemTime::UNIX_EPOCH),
        dry_run,
    };
    let Caches {
        disks,
        layers,
        mounts,
    } = caches(context, &store, &limits)?;
    let stale = super::stale::sweep(&context.home, dry_run);
    if !dry_run {
        image_record::sweep(context, |image| !store.knows(image));
        provenance::sweep(context, |image| !store.knows(image));
        lazy::sweep(context, &store);
        super::auto::remember(context, collection.after);
        if collection.objects.removed + collection.results.removed > 0 {
            context.record(&Deed::GarbageCollected {
                objects: collection.objects.removed,
                results: collection.results.removed,
            });
        }
    }
    let projects = Projects::new(&context.home);
    let absent_projects = projects.review(SystemTime::now(), !dry_run)?;
    let seconds = started.elapsed().as_secs_f64();
    context.emit(Event::TaskFinished {
        name: task,
        seconds,
    });
    Ok(Collected {
        dry_run,
        before: collection.before,
        after: collection.after,
        objects: collection.objects.into(),
        results: collection.results.into(),
        packs: collection.packs.into(),
        put_back: collection.put_back,
        too_large: collection.too_large,
        dropped: collection.dropped.into_iter().map(Into::into).collect(),
        disks,
        layers,
        mounts,
        stale,
        absent_projects,
        mark_seconds: collection.marking.as_secs_f64(),
        seconds,
    })
}

/// Remembers what the steps made whose results went. What they made is gone, and what was made of
/// it may have a name: a build of that needs to know what was in between, and not to have it.
/// Nothing is made of files that were only added.
fn remember(context: &Context, dropped: &[Dropped]) {
    let remembered = context.remembered();
    let is_added = |dropped: &Dropped| dropped.outputs.iter().any(|(name, _)| name == FILE_OUTPUT);
    for dropped in dropped
        .iter()
        .filter(|dropped| dropped.reason == Reason::Unused)
        .filter(|dropped| !is_added(dropped))
    {
        // Without it the step runs again.
        let outputs = dropped.outputs.iter().cloned().collect();
        let _ = remembered.put(&dropped.key, &outputs);
    }
}

/// Where machines are: the home, and projects that can be reached.
pub(in crate::ops) fn places(context: &Context) -> Result<Vec<Machines>, Failure> {
    let projects = Projects::new(&context.home).list()?.into_iter();
    let projects = projects.map(|entry| entry.project());
    let there = projects.filter(|project| project.is_there().unwrap_or(false));
    let mut places = vec![Machines::new(&context.home)];
    places.extend(there.map(|project| project.machines(&context.home)));
    Ok(places)
}

/// All machines: those of the home, and those of projects that can be reached.
pub(in crate::ops) fn machines(context: &Context) -> Result<Vec<Machine>, Failure> {
    let mut all = Machines::new(&context.home).list()?;
    for entry in Projects::new(&context.home).list()? {
        // What they need, the entry says by itself.
        all.extend(
            entry
                .project()
                .machines(&context.home)
                .list()
                .unwrap_or_default(),
        );
    }
    Ok(all)
}

/// All snapshots of machines: those of the home, and those of projects that can be reached.
pub(in crate::ops) fn snapshots(
    context: &Context,
) -> Result<Vec<(Option<PathBuf>, Snapshot)>, Failure> {
    let of_home = Machines::new(&context.home).snapshots().list()?;
    let mut all: Vec<_> = of_home.into_iter().map(|one| (None, one)).collect();
    for entry in Projects::new(&context.home).list()? {
        let snapshots = entry.project().machines(&context.home).snapshots();
        let listed = match entry.project().is_there() {
            Ok(true) => snapshots.list()?,
            // What they need, the entry says by itself.
            _ => Vec::new(),
        };
        all.extend(
            listed
                .into_iter()
                .map(|one| (Some(entry.path.clone()), one)),
        );
    }
    Ok(all)
}

/// The images of machines of projects by the home's list, as far as the store has it: projects may
/// be on disks that are not there now.
fn images_of_projects(context: &Context, store: &Store) -> Result<Vec<ObjectId>, Failure> {
    let entries = Projects::new(&context.home).list()?;
    let needs = entries.into_iter().flat_map(|entry| entry.needs);
    let images = needs.map(|need| need.image);
    Ok(images.filter(|image| store.knows(image)).collect())
}

/// What keeps objects beside names in the store: machines.
struct Needed<'a> {
    context: &'a Context,
    store: &'a Store,
}

impl Roots for Needed<'_> {
    fn objects(&self) -> Result<Vec<ObjectId>, Box<dyn std::error::Error + Send + Sync>> {
        let mut images = images_of_projects(self.context, self.store)?;
        for machine in machines(self.context)? {
            let config = match machine.config() {
                Ok(config) => config,
                // Removed meanwhile.
                Err(_) if !machine.directory().exists() => continue,
                // What one of a project needs, the home's list of projects says, too.
                Err(_) if machine.project().is_some() => continue,
                Err(error) => return Err(error.into()),
            };
            if !self.store.knows(&config.image) {
                // Its disk may still be there, and nothing would keep it.
                let (name, image) = (machine.name(), config.image.short());
                let place = machine
                    .project()
                    .map(|project| format!(" of the project {}", project.root().display()))
                    .unwrap_or_default();
                return Err(format!(
                    "the image {image} of machine {name}{place} is not in the store: restore it from a backup \
                     (vmfab store restore), or remove the machine (vmfab rm {name})"
                )
                .into());
            }
            images.push(config.image);
        }
        for (_, snapshot) in snapshots(self.context)? {
            images.extend(snapshot.objects());
        }
        Ok(images)
    }

    fn references(&self, config: &[u8]) -> Option<Vec<ObjectId>> {
        let config = ImageConfig::from_bytes(config).ok()?;
        let objects = parts(&config).into_iter();
        Some(objects.map(|(_, object)| object).collect())
    }

    fn interrupted(&self) -> bool {
        self.context.interrupt.requested()
    }
}

/// Something in a cache.
enum Entry {
    Disk(Cached),
    Layer(CachedLayer, u64),
    Mount(CacheMount, u64),
}

impl Entry {
    const fn id(&self) -> Option<&ObjectId> {
        match self {
            Self::Disk(disk) => Some(&disk.id),
            Self::Layer(layer, _) => Some(&layer.id),
            Self::Mount(..) => None,
        }
    }

    const fn used(&self) -> SystemTime {
        match self {
            Self::Disk(disk) => disk.used,
            Self::Layer(layer, _) => layer.used,
            Self::Mount(mount, _) => mount.used,
        }
    }

    const fn size(&self) -> u64 {
        match self {
            Self::Disk(disk) => disk.size,
            Self::Layer(_, size) | Self::Mount(_, size) => *size,
        }
    }
}

/// What may stay in the caches.
struct CacheLimits {
    /// Bytes.
    size: Option<u64>,
    /// Cache mounts that were not used since then go.
    unused_since: SystemTime,
    dry_run: bool,
}

/// What goes from the caches.
#[derive(Default)]
struct Caches {
    disks: Freed,
    layers: Freed,
    mounts: Freed,
}

/// Removes from the caches what is of no object in the store, cache mounts that were not used for
/// long, and what was used least recently until the rest fits.
fn caches(context: &Context, store: &Store, limits: &CacheLimits) -> Result<Caches, Failure> {
    if !limits.dry_run {
        store.sweep_disks();
    }
    let (cache, cache_mounts) = (
        LayerCache::new(&context.home),
        CacheMounts::new(&context.home),
    );
    let disks = store.cached_disks().into_iter().map(Entry::Disk);
    let layers = cache.layers().into_iter().map(|layer| {
        let size = layer.size();
        Entry::Layer(layer, size)
    });
    let mounts = cache_mounts.list().into_iter().map(|mount| {
        let size = mount.size();
        Entry::Mount(mount, size)
    });
    let mut entries: Vec<Entry> = disks.chain(layers).chain(mounts).collect();
    entries.sort_by_key(Entry::used);
    let mut total: u64 = entries.iter().map(Entry::size).sum();
    let mut freed = Caches::default();
    // Machines have their disks below them.
    let mut used = std::collections::HashSet::new();
    for entry in Projects::new(&context.home).list()? {
        used.extend(entry.needs.iter().map(|need| need.disk));
    }
    for machine in machines(context)? {
        if let Ok(machine) = machine.config()
            && let Ok(image) = image_config(store, &machine.image)
        {
            used.insert(image.disk.id);
        }
    }
    for (_, snapshot) in snapshots(context)? {
        if let Ok(image) = image_config(store, &snapshot.settings.image) {
            used.insert(image.disk.id);
        }
    }
    entries.retain(|entry| entry.id().is_none_or(|id| !used.contains(id)));
    let is_known = |entry: &Entry| match entry.id() {
        Some(id) => store.knows(id),
        None => entry.used() >= limits.unused_since,
    };
    // What belongs to nothing goes first.
    entries.sort_by_key(is_known);
    for entry in &entries {
        let too_large = limits.size.is_some_and(|most| total > most);
        if is_known(entry) && !too_large {
            continue;
        }
        let removed = match entry {
            _ if limits.dry_run => true,
            Entry::Disk(disk) => {
                store.remove_cached(&disk.id)?;
                true
            }
            // One that cannot be removed, because a step uses it or it is another user's, stays.
            Entry::Layer(layer, _) => cache.remove(layer).unwrap_or(false),
            Entry::Mount(mount, _) => cache_mounts.remove(mount).unwrap_or(false),
        };
        if removed {
            total -= entry.size();
            let freed = match entry {
                Entry::Disk(_) => &mut freed.disks,
                Entry::Layer(..) => &mut freed.layers,
                Entry::Mount(..) => &mut freed.mounts,
            };
            freed.removed += 1;
            freed.bytes += entry.size();
        }
    }
    Ok(freed)
}

/// Results by the names of their outputs, for people.
#[must_use]
pub fn by_output(dropped: &[DroppedResult]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for result in dropped {
        *counts.entry(result.outputs.join("+")).or_default() += 1;
    }
    counts
}

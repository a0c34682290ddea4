//! Snapshots of machines in backups of the store: as objects, under roots of their own.
//!
//! A root is called `snapshot.NAME`, and `snapshot.PROJECT.NAME` for a snapshot of a project, with
//! the first digits of a hash of its path. Its first object is the snapshot. In the store of a home
//! such roots are there only while a backup is made, and after a restore until they were read.

use super::super::Context;
use super::super::store::snapshots;
use crate::digest::{Hasher, ObjectId};
use crate::event::Event;
use crate::failure::Failure;
use crate::machine::{Machines, PortableSnapshot, Project, SnapshotName};
use crate::store::{Store, TagName};
use crate::world::image_config;

/// What such roots are called first.
const PREFIX: &str = "snapshot.";
/// Digits of the hash of a project's path.
const DIGITS: usize = 16;

/// Roots that are removed again.
pub(in crate::ops) struct Roots {
    store: Store,
    names: Vec<TagName>,
}

impl Drop for Roots {
    fn drop(&mut self) {
        for name in &self.names {
            // A later backup replaces one that stays.
            let _ = self.store.remove_root(name);
        }
    }
}

/// Stores all snapshots of machines, those of projects as far as they can be reached. They are in
/// the store as long as the result lives. One that cannot be stored is left out, with a warning.
pub(in crate::ops) fn store_all(context: &Context, store: &Store) -> Result<Roots, Failure> {
    let mut roots = Roots {
        store: store.clone(),
        names: Vec::new(),
    };
    for (path, snapshot) in snapshots(context)? {
        if context.interrupt.requested() {
            return Err(Failure::interrupted());
        }
        let project = path.as_ref().map(Project::at);
        let machines = match &project {
            Some(project) => project.machines(&context.home),
            None => Machines::new(&context.home),
        };
        let stored = || -> Result<TagName, Failure> {
            let image = image_config(store, &snapshot.settings.image)?;
            let portable = machines.snapshots().portable(&snapshot, &image, store)?;
            let mut objects = vec![store.put_bytes(&portable.to_bytes())?.id, portable.image()];
            objects.extend(portable.objects().iter().map(|object| object.id));
            let name: TagName = root_name(project.as_ref(), &snapshot.name).parse()?;
            store.put_root(&name, &objects)?;
            Ok(name)
        };
        match stored() {
            Ok(name) => roots.names.push(name),
            Err(error) => context.emit(Event::Warning {
                message: format!(
                    "snapshot {} is not part of the backup: {error}",
                    snapshot.name
                ),
            }),
        }
    }
    Ok(roots)
}

fn root_name(project: Option<&Project>, name: &SnapshotName) -> String {
    match project {
        None => format!("{PREFIX}{name}"),
        Some(project) => {
            let mut hasher = Hasher::new("vmfab project v1");
            hasher.update_field(project.root().as_os_str().as_encoded_bytes());
            let digits = hasher.finish().to_hex();
            format!("{PREFIX}{}.{name}", &digits[..DIGITS])
        }
    }
}

/// Gives the snapshots that came with a backup their files in the home, under names that are free.
/// Those that are there already are left as they are. Gives the names of those that are new.
pub(in crate::ops) fn adopt_all(context: &Context, store: &Store) -> Result<Vec<String>, Failure> {
    let machines = Machines::new(&context.home);
    let snapshots = machines.snapshots();
    let mut adopted = Vec::new();
    for (root, objects) in store.roots()? {
        let Some(rest) = root.as_str().strip_prefix(PREFIX) else {
            continue;
        };
        let portable = objects.first().map(|first| read(store, first));
        let Some(Ok(portable)) = portable else {
            context.emit(Event::Warning {
                message: format!(
                    "the root {} holds no snapshot that can be read",
                    root.as_str()
                ),
            });
            continue;
        };
        let there = snapshots.list()?;
        let own = &portable.snapshot.name;
        let is_there = |name: &SnapshotName| there.iter().any(|one| one.name == *name);
        // Those of projects, which may be gone, come to the home.
        let name = match rest == own.as_str() || !is_there(own) {
            true => own.clone(),
            false => rest.parse().map_err(|why: String| Failure::failed(why))?,
        };
        if !is_there(&name) {
            let image = image_config(store, &portable.image())?;
            snapshots.adopt(&portable, &name, &image, store, &context.interrupt)?;
            adopted.push(name.to_string());
        }
        store.remove_root(&root)?;
    }
    Ok(adopted)
}

fn read(store: &Store, id: &ObjectId) -> Result<PortableSnapshot, String> {
    let bytes = store.read_object(id).map_err(|error| error.to_string())?;
    PortableSnapshot::from_bytes(&bytes)
}

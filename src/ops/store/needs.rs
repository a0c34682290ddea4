//! What needs an object, and what makes it again.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

use serde::Serialize;

use super::super::Context;
use super::super::build_record::Record;
use super::parts;
use crate::digest::{ActionKey, ObjectId};
use crate::failure::Failure;
use crate::machine::Projects;
use crate::store::{FILE_OUTPUT, Store};
use crate::world::image_config;

/// What needs an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum NeededBy {
    /// An image that a tag names.
    Tag {
        /// The tag, without `@`.
        tag: String,
        /// What the object is to the image.
        part: Part,
    },
    Root {
        name: String,
    },
    /// A machine, for its image.
    Machine {
        name: String,
        /// The directory of the project that it is of; nothing when it is of the home.
        #[serde(skip_serializing_if = "Option::is_none")]
        project: Option<PathBuf>,
        /// What the object is to the image.
        part: Part,
    },
    /// A snapshot of a machine, for the image below it.
    Snapshot {
        name: String,
        /// The directory of the project that it is of; nothing when it is of the home.
        #[serde(skip_serializing_if = "Option::is_none")]
        project: Option<PathBuf>,
        /// What the object is to the image.
        part: Part,
    },
    /// Machines of a project, by the home's list: the project may be out of reach.
    Project {
        path: PathBuf,
        /// What the object is to the image.
        part: Part,
    },
    /// The result of a step, or of adding a file: without it the step runs again.
    Result {
        /// The name of the output; `file` for a file that was added.
        output: String,
        action: ActionKey,
    },
}

/// What an object is to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    Config,
    Disk,
    Kernel,
    Initrd,
    Layer,
}

impl Part {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Disk => "disk",
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Layer => "layer",
        }
    }
}

/// What needs which objects, without results of actions.
pub(super) struct Needs {
    needed: BTreeMap<ObjectId, BTreeSet<NeededBy>>,
    /// The recipes of images, by the objects that are in them.
    recipes: BTreeMap<ObjectId, String>,
    records: Vec<Record>,
}

impl Needs {
    /// Looks at tags, roots and machines. Those that cannot be read need nothing that can be told.
    pub(super) fn read(context: &Context, store: &Store) -> Result<Self, Failure> {
        let mut needs = Self {
            needed: BTreeMap::new(),
            recipes: BTreeMap::new(),
            records: Record::all(context),
        };
        for (tag, image) in names(store, "tags", |store, name| {
            store.tag(name).ok().flatten().into_iter().collect()
        }) {
            needs.image(store, image, |part| NeededBy::Tag {
                tag: tag.clone(),
                part,
            });
        }
        for (name, object) in names(store, "roots", |store, name| {
            store.root_objects(name).ok().flatten().unwrap_or_default()
        }) {
            needs.add(object, NeededBy::Root { name });
        }
        for entry in Projects::new(&context.home).list()? {
            for need in entry.needs {
                needs.image(store, need.image, |part| NeededBy::Project {
                    path: entry.path.clone(),
                    part,
                });
            }
        }
        for machine in super::gc::machines(context)? {
            if let Ok(config) = machine.config() {
                let name = machine.name().as_str();
                let project = machine.project().map(|project| project.root().to_owned());
                needs.image(store, config.image, |part| NeededBy::Machine {
                    name: name.to_owned(),
                    project: project.clone(),
                    part,
                });
            }
        }
        for (project, snapshot) in super::gc::snapshots(context)? {
            needs.image(store, snapshot.settings.image, |part| NeededBy::Snapshot {
                name: snapshot.name.to_string(),
                project: project.clone(),
                part,
            });
        }
        Ok(needs)
    }

    fn image(&mut self, store: &Store, image: ObjectId, by: impl Fn(Part) -> NeededBy) {
        self.add(image, by(Part::Config));
        if let Ok(config) = image_config(store, &image) {
            for (part, object) in parts(&config) {
                self.add(object, by(part));
                self.recipes
                    .insert(object, config.template.recipe.name.to_string());
            }
        }
    }

    fn add(&mut self, object: ObjectId, by: NeededBy) {
        self.needed.entry(object).or_default().insert(by);
    }

    /// Whether an object is nothing but a layer to those who need it.
    pub(super) fn is_layer_only(&self, object: &ObjectId) -> bool {
        let needed = self.needed.get(object);
        needed.into_iter().flatten().all(|by| {
            let part = match by {
                NeededBy::Tag { part, .. }
                | NeededBy::Machine { part, .. }
                | NeededBy::Snapshot { part, .. }
                | NeededBy::Project { part, .. } => Some(*part),
                NeededBy::Root { .. } | NeededBy::Result { .. } => None,
            };
            part == Some(Part::Layer)
        })
    }

    /// All objects that something needs.
    pub(super) fn objects(&self) -> impl Iterator<Item = &ObjectId> {
        self.needed.keys()
    }

    /// Takes in results of actions whose outputs are among `objects`.
    pub(super) fn results(
        &mut self,
        store: &Store,
        objects: &HashSet<ObjectId>,
    ) -> Result<(), Failure> {
        for (action, output, object) in store.results_with(objects)? {
            self.add(object, NeededBy::Result { output, action });
        }
        Ok(())
    }

    pub(super) fn of(&self, object: &ObjectId) -> Vec<NeededBy> {
        let needed = self.needed.get(object);
        needed.into_iter().flatten().cloned().collect()
    }

    /// What makes an object again, the best first, each one sentence. `repaired`: after a repair.
    pub(super) fn remedies(&self, object: &ObjectId, repaired: bool) -> Vec<String> {
        let first = if repaired {
            ""
        } else {
            "vmfab store repair, then "
        };
        let mut remedies = Vec::new();
        let built = self.records.iter().find(|record| record.names(object));
        match built {
            Some(record) if !record.recipe.is_empty() => remedies.push(format!(
                "{first}vmfab build {} {}",
                record.recipe, record.image
            )),
            _ => {
                if let Some(recipe) = self.recipes.get(object) {
                    remedies.push(format!("{first}build the recipe {recipe} again"));
                }
            }
        }
        let by = self.of(object);
        let file = by
            .iter()
            .any(|by| matches!(by, NeededBy::Result { output, .. } if output == FILE_OUTPUT));
        if file {
            remedies.push(format!("{first}vmfab store add the file again"));
        }
        let only_results = by.iter().all(|by| matches!(by, NeededBy::Result { .. }));
        if only_results && remedies.is_empty() {
            remedies.push(format!("{first}nothing: vmfab makes it again when needed"));
        }
        remedies.push(format!(
            "{first}vmfab store restore DIR, if you have a backup"
        ));
        remedies
    }
}

/// Names in a directory of the store, and objects that they name. A name that cannot be read is
/// left out.
fn names(
    store: &Store,
    directory: &str,
    read: impl Fn(&Store, &crate::store::TagName) -> Vec<ObjectId>,
) -> Vec<(String, ObjectId)> {
    let entries = std::fs::read_dir(store.root().join(directory));
    entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .flat_map(|name: crate::store::TagName| {
            let objects = read(store, &name);
            objects
                .into_iter()
                .map(move |object| (name.as_str().to_owned(), object))
        })
        .collect()
}

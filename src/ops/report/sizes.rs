//! What an image consists of, and what it takes.

use std::collections::HashMap;

use super::model::{PackagesReport, PartReport};
use super::texts;
use crate::builder::packages;
use crate::digest::ObjectId;
use crate::ops::build_record::Record;
use crate::store::Store;

/// The objects of an image, by what they are to it.
const ROLES: [&str; 4] = ["disk", "kernel", "initrd", "layer"];
/// The most packages that are listed, of all steps together.
const PACKAGES: usize = 4000;

/// The objects of the image that a record is of, with sizes; the image `before` had some of it.
pub(super) fn parts(store: &Store, record: &Record, before: Option<&Record>) -> Vec<PartReport> {
    let objects = objects(record);
    let ids: Vec<ObjectId> = objects.iter().map(|(_, id)| *id).collect();
    let known: Vec<ObjectId> = before
        .map(|before| {
            self::objects(before)
                .into_iter()
                .map(|(_, id)| id)
                .collect()
        })
        .unwrap_or_default();
    let mut made: HashMap<ObjectId, (Option<usize>, u64)> = HashMap::new();
    for step in record.steps.iter().rev() {
        for object in step.outputs.values() {
            made.insert(object.id, (step.node, object.size));
        }
    }
    let stored = store.sizes(&ids, &known);
    objects
        .into_iter()
        .zip(stored)
        .filter_map(|((role, id), stored)| {
            let &(step, size) = made.get(&id)?;
            Some(PartReport {
                role: role.to_owned(),
                step,
                size,
                stored: stored.map(|size| size.stored),
                new: stored.map(|size| size.new),
            })
        })
        .collect()
}

/// What the last image of a record was made of.
fn objects(record: &Record) -> Vec<(&str, ObjectId)> {
    let image = record.steps.iter().rfind(|step| step.builder == "image");
    let inputs = image.into_iter().flat_map(|image| &image.inputs);
    let inputs: Vec<_> = inputs.map(|(role, id)| (role.as_str(), *id)).collect();
    let of_role = |wanted| inputs.iter().filter(move |(role, _)| *role == wanted);
    ROLES.into_iter().flat_map(of_role).copied().collect()
}

/// The packages that steps installed.
pub(super) fn packages(store: &Store, record: &Record) -> Vec<PackagesReport> {
    let mut room = PACKAGES;
    let mut found = Vec::new();
    for step in &record.steps {
        let output = step.outputs.get(packages::OUTPUT);
        let set = output.and_then(|output| packages::read(store, output).ok());
        if let (Some(node), Some(set)) = (step.node, set) {
            let packages = set.packages.iter().take(room);
            let packages = packages.map(|package| {
                let version = texts::name(&package.version);
                (texts::name(&package.name), version, package.size)
            });
            let packages: Vec<_> = packages.collect();
            room -= packages.len();
            found.push(PackagesReport {
                step: node,
                packages,
            });
        }
    }
    found
}

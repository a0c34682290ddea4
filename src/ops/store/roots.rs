//! Roots: names that keep files in the store.

use serde::Serialize;

use super::super::Context;
use crate::digest::ObjectId;
use crate::failure::Failure;
use crate::store::TagName;

/// A root of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RootEntry {
    pub name: String,
    /// What it keeps.
    pub objects: Vec<RootObject>,
}

/// An object that a root keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RootObject {
    pub object: ObjectId,
    /// Its size in bytes; nothing when it cannot be read.
    pub size: Option<u64>,
}

/// All roots, sorted by name.
///
/// # Errors
/// The store fails.
pub fn roots(context: &Context) -> Result<Vec<RootEntry>, Failure> {
    let store = context.store()?;
    let roots = store.roots()?.into_iter();
    Ok(roots
        .map(|(name, objects)| RootEntry {
            name: name.as_str().to_owned(),
            objects: objects
                .into_iter()
                .map(|object| RootObject {
                    object,
                    size: store.open_object(&object).ok().map(|reader| reader.size()),
                })
                .collect(),
        })
        .collect())
}

/// Removes roots; what they kept stays until the next garbage collection. All of them or none.
///
/// # Errors
/// One of them is not there, or the store fails.
pub fn unkeep(context: &Context, names: &[TagName]) -> Result<Vec<RootEntry>, Failure> {
    let all = roots(context)?;
    let removed: Vec<RootEntry> = names
        .iter()
        .map(|name| {
            let root = all.iter().find(|root| root.name == name.as_str());
            root.cloned().ok_or_else(|| {
                let known = all.iter().map(|root| root.name.as_str());
                Failure::not_found("root", name.as_str(), known)
            })
        })
        .collect::<Result<_, _>>()?;
    let store = context.store()?;
    for name in names {
        store.remove_root(name)?;
    }
    Ok(removed)
}

//! What differs between two images: packages and files.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::Context;
use super::super::images::{self, FoundImage};
use super::super::snapshot::{FileChange, diff_images};
use super::{no_ext4, root, unreadable};
use crate::contents::{Package, packages_of};
use crate::digest::ObjectId;
use crate::failure::Failure;

/// What differs between two images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageDiff {
    pub before: SideOfDiff,
    pub after: SideOfDiff,
    /// Sorted by name.
    pub packages: Vec<PackageChange>,
    /// In the order of a listing.
    pub files: Vec<FileChange>,
    /// What is not compared, and why.
    pub notes: Vec<String>,
}

/// One of the images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SideOfDiff {
    pub image: ObjectId,
    /// Its tag, or the first digits of its id.
    pub name: String,
    /// Bytes of the disk as the guest sees it.
    pub disk_size: u64,
    /// Bytes that disk, kernel and initrd take on this host.
    pub stored_size: u64,
    pub packages: usize,
}

/// A package that is not the same in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageChange {
    pub name: String,
    pub architecture: String,
    /// `dpkg`, `apk` or `rpm`.
    pub manager: &'static str,
    /// The versions before; several if it can be installed several times.
    pub before: Vec<String>,
    /// The versions after.
    pub after: Vec<String>,
    pub size_before: u64,
    pub size: u64,
}

/// Compares the root file systems and the packages of two images.
///
/// # Errors
/// One of them does not exist, or has no ext4 file system.
pub fn diff(context: &Context, before: &str, after: &str) -> Result<ImageDiff, Failure> {
    let (before, after) = (
        images::find(context, before)?,
        images::find(context, after)?,
    );
    let mut notes = Vec::new();
    let old = packages(context, &before, &mut notes)?;
    let new = packages(context, &after, &mut notes)?;
    let side = |found: &FoundImage, packages: &[Package]| SideOfDiff {
        image: found.image,
        name: found.display_name(),
        disk_size: found.config.disk.size,
        stored_size: found.stored_size,
        packages: packages.len(),
    };
    let files = match before.image == after.image {
        true => Vec::new(),
        false => diff_images(context, &before, &after)?,
    };
    Ok(ImageDiff {
        before: side(&before, &old),
        after: side(&after, &new),
        packages: changes(old, new),
        files,
        notes,
    })
}

fn packages(
    context: &Context,
    found: &FoundImage,
    notes: &mut Vec<String>,
) -> Result<Vec<Package>, Failure> {
    let name = found.display_name();
    let root = root(context, found)?.ok_or_else(|| no_ext4(&name))?;
    let (packages, more) = packages_of(&root).map_err(unreadable(&name))?;
    notes.extend(more.into_iter().map(|note| format!("{name}: {note}")));
    Ok(packages)
}

/// A kernel can be installed in several versions, so a name stands for all of them.
fn changes(old: Vec<Package>, new: Vec<Package>) -> Vec<PackageChange> {
    let mut all: BTreeMap<(String, String, &'static str), PackageChange> = BTreeMap::new();
    let mut change = |package: Package, is_new: bool| {
        let key = (
            package.name.clone(),
            package.architecture.clone(),
            package.manager,
        );
        let change = all.entry(key).or_insert_with(|| PackageChange {
            name: package.name,
            architecture: package.architecture,
            manager: package.manager,
            before: Vec::new(),
            after: Vec::new(),
            size_before: 0,
            size: 0,
        });
        let (versions, size) = match is_new {
            true => (&mut change.after, &mut change.size),
            false => (&mut change.before, &mut change.size_before),
        };
        versions.push(package.version);
        *size += package.size;
    };
    old.into_iter().for_each(|package| change(package, false));
    new.into_iter().for_each(|package| change(package, true));
    let mut all: Vec<_> = all.into_values().collect();
    all.retain(|one| one.before != one.after);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str, size: u64) -> Package {
        Package {
            license: None,
            source: None,
            file: None,
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            manager: "dpkg",
            size,
        }
    }

    #[test]
    fn packages_are_added_changed_and_removed() {
        let old = vec![
            package("gone", "1", 10),
            package("kernel", "5", 100),
            package("same", "1", 1),
            package("updated", "1", 20),
        ];
        let new = vec![
            package("kernel", "5", 100),
            package("kernel", "6", 110),
            package("new", "3", 7),
            package("same", "1", 1),
            package("updated", "2", 25),
        ];
        let found: Vec<_> = changes(old, new)
            .into_iter()
            .map(|one| {
                let versions = format!("{} {:?} {:?}", one.name, one.before, one.after);
                (versions, one.size_before, one.size)
            })
            .collect();
        let expected = [
            ("gone [\"1\"] []", 10, 0),
            ("kernel [\"5\"] [\"5\", \"6\"]", 100, 210),
            ("new [] [\"3\"]", 0, 7),
            ("updated [\"1\"] [\"2\"]", 20, 25),
        ];
        let expected = expected.map(|(text, before, after)| (text.to_owned(), before, after));
        assert_eq!(found, expected);
    }
}

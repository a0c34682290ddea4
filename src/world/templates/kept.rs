//! Packages that were used, in the home: a file for each, and one for what is known of it.

use std::fs;
use std::io;
use std::path::PathBuf;

use semver::Version;
use serde::{Deserialize, Serialize};

use super::super::Context;
use super::super::signatures::Evidence;
use super::write;
use crate::checked::{Line, Text};
use crate::digest::Sha256;
use crate::failure::Failure;
use crate::host::file::read_text;
use crate::template::{EXTENSION, Package, TemplateName};

/// The longest of the small files.
const MOST: u64 = 4 << 20;

/// What is known of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) template: TemplateName,
    pub(crate) version: Version,
    pub(crate) digest: Sha256,
    pub(crate) description: Option<Line>,
    /// Signatures, and the digest that each is of.
    pub(crate) signatures: Vec<(Text, Sha256)>,
}

fn path(context: &Context, digest: &Sha256, ending: &str) -> PathBuf {
    let packages = context.home.templates().join("packages");
    packages.join(format!("{digest}.{ending}"))
}

/// A package that was used, with its signatures; they are judged each time.
pub(super) fn package(
    context: &Context,
    digest: &Sha256,
) -> Result<Option<(Package, Evidence)>, Failure> {
    let Ok(bytes) = fs::read(path(context, digest, EXTENSION)) else {
        return Ok(None);
    };
    let package = Package::read(bytes)?;
    // What is not what it should be is fetched again.
    if package.digest() != *digest {
        return Ok(None);
    }
    let Some(kept) = read(&path(context, digest, "json"))? else {
        return Ok(None);
    };
    Ok(Some((package, kept.evidence())))
}

impl Kept {
    pub(super) fn evidence(self) -> Evidence {
        let signatures = self.signatures.into_iter();
        let signatures = signatures.map(|(text, digest)| (text.to_string(), digest));
        Evidence {
            signatures: signatures.collect(),
            ..Evidence::default()
        }
    }
}

/// What is known of the package with this digest.
pub(super) fn known(context: &Context, digest: &Sha256) -> Result<Option<Kept>, Failure> {
    read(&path(context, digest, "json"))
}

fn read(path: &std::path::Path) -> Result<Option<Kept>, Failure> {
    match read_text(path, MOST) {
        Ok(text) => Ok(serde_json::from_str(&text).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::of_io("read", path, &error)),
    }
}

/// What a package that was used is called.
pub(super) fn name(context: &Context, digest: &Sha256) -> Option<TemplateName> {
    let kept = read(&path(context, digest, "json")).ok()??;
    Some(kept.template)
}

/// Keeps a package.
pub(super) fn keep(
    context: &Context,
    name: &TemplateName,
    package: &Package,
    evidence: &Evidence,
) -> Result<(), Failure> {
    let digest = package.digest();
    let signatures = evidence.signatures.iter();
    let signatures = signatures
        .filter_map(|(text, digest)| Some((text.parse().ok()?, *digest)))
        .collect();
    let kept = Kept {
        template: name.clone(),
        version: package.version().clone(),
        digest,
        description: package.outline().description.clone(),
        signatures,
    };
    let bytes = serde_json::to_vec(&kept).map_err(Failure::other)?;
    let package_path = path(context, &digest, EXTENSION);
    if !package_path.exists() {
        write(&package_path, package.bytes())?;
    }
    write(&path(context, &digest, "json"), &bytes)
}

/// All packages that were used, by name and version.
///
/// # Errors
/// They cannot be listed.
pub(crate) fn kept(context: &Context) -> Result<Vec<Kept>, Failure> {
    let directory = context.home.templates().join("packages");
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Failure::io("list", &directory))?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry.map_err(Failure::io("list", &directory))?.path();
        if path.extension().is_some_and(|ending| ending == "json") {
            all.extend(read(&path)?);
        }
    }
    all.sort_by(|a, b| (&a.template, &a.version).cmp(&(&b.template, &b.version)));
    Ok(all)
}

/// Removes a package that was used.
///
/// # Errors
/// It cannot be removed.
pub(crate) fn remove(context: &Context, kept: &Kept) -> Result<(), Failure> {
    for ending in ["json", EXTENSION] {
        let path = path(context, &kept.digest, ending);
        fs::remove_file(&path).map_err(Failure::io("remove", &path))?;
    }
    let unpacked = context
        .home
        .unpacked_templates()
        .join(kept.digest.to_string());
    match fs::remove_dir_all(&unpacked) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::of_io("remove", &unpacked, &error))
        }
        _ => Ok(()),
    }
}

//! Packages of templates: made, pushed, pulled, imported, listed and removed.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use semver::Version;
use serde::Serialize;

use super::super::Context;
use super::super::keys::signing_key;
use super::search::{Shown, shown};
use crate::checked::Line;
use crate::digest::Sha256;
use crate::failure::Failure;
use crate::host::file::{Durability, Replace};
use crate::source::{FetchRequest, Fetched, Source, TakeError, Taker};
use crate::template::package::MOST_BYTES;
use crate::template::{LOCAL, Package, TemplateName, TemplateRef};
use crate::world::templates::{self, Kept};

/// A package that was made, pushed or imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageEntry {
    /// `NAME` of a file, `NAMESPACE/NAME` in a repository.
    pub template: String,
    pub version: Version,
    pub digest: Sha256,
    /// Of the package, in bytes.
    pub size: u64,
    pub files: usize,
    /// The file, or where in the repository it is.
    pub place: String,
    /// Whether it was there.
    pub present: bool,
}

/// A package that was used, or imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptEntry {
    pub template: TemplateName,
    pub version: Version,
    pub digest: Sha256,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Line>,
}

/// Packs a template into a file.
///
/// # Errors
/// It is no template, breaks a rule of packages, or the file cannot be written.
pub fn package(from: &Path, output: Option<&Path>) -> Result<PackageEntry, Failure> {
    let package = read(from)?;
    let path = match output {
        Some(path) if path.is_dir() => path.join(package.file_name()),
        Some(path) => path.to_owned(),
        None => PathBuf::from(package.file_name()),
    };
    Replace::new(&path, Durability::Whole)
        .permissions(fs::Permissions::from_mode(0o644))
        .with(package.bytes())
        .map_err(Failure::io("write", &path))?;
    let name = package.name().to_string();
    Ok(entry(&package, name, path.display().to_string(), false))
}

fn read(from: &Path) -> Result<Package, Failure> {
    // A recipe in a directory stands for all of it.
    let is_recipe = from.extension().is_some_and(|ending| ending == "kdl");
    match is_recipe && from.is_file() {
        true => {
            let directory = from
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            templates::read_directory(directory.unwrap_or(Path::new(".")))
        }
        false => templates::read_directory(from),
    }
}

fn entry(package: &Package, template: String, place: String, present: bool) -> PackageEntry {
    PackageEntry {
        template,
        version: package.version().clone(),
        digest: package.digest(),
        size: package.bytes().len() as u64,
        files: package.files().len(),
        place,
        present,
    }
}

/// Puts a template into a repository; with a key, its signature, too.
///
/// # Errors
/// It is no template, or the repository does not take it: a version never changes.
pub fn push(
    context: &Context,
    from: &Path,
    namespace: &str,
    sign: Option<Option<&str>>,
) -> Result<PackageEntry, Failure> {
    let repository = templates::repository(context, namespace)?;
    let package = read(from)?;
    let key = sign.map(|key| signing_key(context, key)).transpose()?;
    let put = templates::put(context, &repository, &package, key.as_ref())?;
    // It is found at once.
    templates::update(context, &repository)?;
    let name = format!("{namespace}/{}", package.name());
    Ok(entry(&package, name, put.place, put.present))
}

/// Fetches a template, so that it can be used offline.
///
/// # Errors
/// No repository has it, or it breaks a rule.
pub fn pull(context: &Context, wanted: &TemplateRef) -> Result<Shown, Failure> {
    let found = templates::find(context, wanted)?;
    templates::package(context, &found)?;
    Ok(shown(&found))
}

/// Takes a package from a file, a directory or a URL into the repository of this home.
///
/// # Errors
/// It is no package, breaks a rule, or there is another one of this version.
pub fn import(context: &Context, from: &str) -> Result<PackageEntry, Failure> {
    let package = match from.contains("://") {
        true => Package::read(download(context, from)?)?,
        false => read(Path::new(from))?,
    };
    let put = templates::put(context, &templates::local(context), &package, None)?;
    let name = format!("{LOCAL}/{}", package.name());
    Ok(entry(&package, name, put.place, put.present))
}

/// Bytes in memory, as many as a package may have.
struct Memory(Vec<u8>);

impl Taker for Memory {
    fn restart(&mut self) -> Result<(), TakeError> {
        self.0.clear();
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), TakeError> {
        if self.0.len() as u64 + bytes.len() as u64 > MOST_BYTES {
            let message = format!("a package has at most {} MiB", MOST_BYTES >> 20);
            return Err(io::Error::other(message).into());
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self, _: &Fetched) -> Result<(), TakeError> {
        Ok(())
    }
}

fn download(context: &Context, url: &str) -> Result<Vec<u8>, Failure> {
    let source = Source::new(url)?;
    let mut memory = Memory(Vec::new());
    let request = FetchRequest {
        source: &source,
        checksum: None,
        size: None,
        already: &|| false,
    };
    context.fetcher().fetch(&request, &mut memory)?;
    Ok(memory.0)
}

/// Templates on this host: those that were pulled or used, and those that were imported.
///
/// # Errors
/// They cannot be listed.
pub fn list(context: &Context) -> Result<Vec<KeptEntry>, Failure> {
    let kept = templates::kept(context)?.into_iter().map(|kept| KeptEntry {
        template: kept.template,
        version: kept.version,
        digest: kept.digest,
        description: kept.description,
    });
    let mut all: Vec<KeptEntry> = kept.collect();
    let local = templates::local(context);
    for (name, versions) in templates::index(context, &local)?.iter() {
        for one in versions {
            if all.iter().any(|other| other.digest == one.digest) {
                continue;
            }
            all.push(KeptEntry {
                template: TemplateName::new(local.namespace.clone(), name.clone()),
                version: one.version.clone(),
                digest: one.digest,
                description: one.description.clone(),
            });
        }
    }
    all.sort_by(|a, b| (&a.template, &a.version).cmp(&(&b.template, &b.version)));
    Ok(all)
}

/// Removes templates from this host: all versions that are wanted.
///
/// # Errors
/// There is none, or it cannot be removed.
pub fn remove(context: &Context, wanted: &TemplateRef) -> Result<Vec<KeptEntry>, Failure> {
    let fits = |entry: &KeptEntry| {
        let namespace = wanted.namespace.as_ref();
        entry.template.name == wanted.name
            && namespace.is_none_or(|namespace| *namespace == entry.template.namespace)
            && match &wanted.wanted {
                crate::template::Wanted::Range(range) => range.matches(&entry.version),
                crate::template::Wanted::Reference(_) => false,
            }
    };
    let all = list(context)?;
    let removed: Vec<KeptEntry> = all.iter().filter(|entry| fits(entry)).cloned().collect();
    if removed.is_empty() {
        let known: Vec<String> = all.iter().map(|entry| entry.template.to_string()).collect();
        let text = wanted.to_string();
        return Err(Failure::not_found(
            "template on this host",
            &text,
            known.iter().map(String::as_str),
        )
        .or_help("\"vmfab template list\" lists them"));
    }
    let kept: Vec<Kept> = templates::kept(context)?;
    for entry in &removed {
        if let Some(kept) = kept.iter().find(|kept| kept.digest == entry.digest) {
            templates::remove(context, kept)?;
        }
        if entry.template.namespace == LOCAL {
            let directory = context.home.templates().join(LOCAL);
            let name = format!("{}-{}.vmfabt", entry.template.name, entry.version);
            let path = directory.join(name);
            fs::remove_file(&path).map_err(Failure::io("remove", &path))?;
        }
    }
    Ok(removed)
}

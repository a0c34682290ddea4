//! Packages of `bootstrap` and `packages` steps as files: kept in the store when they were
//! installed, and given back when a lock says which ones are to be installed.
//!
//! The output `packages` of such a step is a tar: `packages.json`, then the files of the packages
//! in the order of that. It is the same for equal packages. Where the file of a package is, a
//! result in the store says, by the SHA-256 of the file: any step's output will do.
//!
//! ```text
//! unlocked: step with network ──► kept/, targets, lists ──► capture ──► output, results    (capture)
//! locked:   lock ──► files from the store ──► the others by their address                  (pool, download)
//!                ──► archives on disk, with these and nothing else ──► step without network (repository)
//!                ──► kept/ must be what the lock says
//! ```

mod capture;
mod deb822;
mod download;
mod pool;
mod repository;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

pub(super) use download::AptOf;
use serde::{Deserialize, Serialize};

use crate::derivation::BuildRequest;
use crate::digest::{ActionKey, Hasher, ObjectRef, Sha256};
use crate::failure::Failure;
use crate::host::beneath::open_unlinked;
use crate::lock::{Archive, Package, PackageSet};
use crate::sandbox::{Sandbox, Scratch};
use crate::store::Store;

/// The name of the output.
pub const OUTPUT: &str = "packages";
/// The first member of the tar.
const LISTING: &str = "packages.json";
/// The largest file of a package, in bytes.
const MOST_PACKAGE: u64 = 8 << 30;
/// The longest list of packages of an archive, in bytes.
const MOST_LIST: u64 = 1 << 30;

/// What the tar holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Listing {
    /// 1.
    version: u32,
    archives: Vec<Archive>,
    /// Sorted.
    packages: Vec<Listed>,
}

/// A package of a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Listed {
    #[serde(flatten)]
    package: Package,
    /// What the archive says of it, as far as it decides what is installed; absent when no archive
    /// lists it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stanza: Option<String>,
}

/// The packages that a step installed, from its output.
///
/// # Errors
/// The object is not there, damaged, or no output of such a step.
pub fn read(store: &Store, output: &ObjectRef) -> Result<PackageSet, Failure> {
    let listing = pool::Opened::open(store, output)?.listing;
    Ok(PackageSet {
        archives: listing.archives,
        packages: listing.packages.into_iter().map(|p| p.package).collect(),
    })
}

/// Whether the store has the files of all packages, as far as it knows.
#[must_use]
pub fn are_here(store: &Store, set: &PackageSet) -> bool {
    let mut packages = set.packages.iter();
    packages.all(|package| store.action(&place_key(&package.sha256)).is_some())
}

/// The key of the result that says where the file of a package is.
fn place_key(sha256: &Sha256) -> ActionKey {
    let mut hasher = Hasher::new("vmfab package file v1");
    ActionKey::new(hasher.update(sha256.as_bytes()).finish())
}

/// What goes into a step that installs packages, and what comes out of it.
pub(super) struct Packages<'a> {
    store: &'a Store,
    /// Below the scratch directory.
    directory: PathBuf,
    /// What is installed, when that is locked.
    locked: Option<Listing>,
}

impl<'a> Packages<'a> {
    /// Prepares a step that runs in `scratch`. When it is locked, what it installs is laid out
    /// there: from the store, or downloaded with the apt of `from`.
    ///
    /// # Errors
    /// A package is neither in the store nor in its archive, the store fails, the user gave up.
    pub(super) fn prepare(
        store: &'a Store,
        sandbox: &Sandbox,
        scratch: &Scratch,
        locked: Option<&PackageSet>,
        from: AptOf<'_>,
        request: &BuildRequest<'_>,
    ) -> Result<Self, Failure> {
        let mut packages = Self {
            store,
            directory: scratch.path().join("packages"),
            locked: None,
        };
        directory(&packages.directory)?;
        for name in ["lists", "archives", "archives/kept"] {
            directory(&packages.directory.join(name))?;
        }
        let Some(set) = locked else {
            return Ok(packages);
        };
        let root = packages.directory.join("archives/vmfab");
        directory(&root)?;
        let mut listing = Listing {
            version: 1,
            archives: set.archives.clone(),
            packages: Vec::new(),
        };
        let mut pool = pool::Pool::new(store);
        let mut missing = Vec::new();
        for package in &set.packages {
            let path = file_in(&root, set, package)?;
            let stanza = match pool.find(package, &path)? {
                pool::Lookup::Here(stanza) => stanza,
                pool::Lookup::Nowhere => {
                    missing.push((package, path.clone()));
                    None
                }
            };
            listing.packages.push(Listed {
                package: package.clone(),
                stanza,
            });
        }
        download::download(sandbox, set, &missing, from, request)?;
        let unknown: Vec<(usize, PathBuf)> = listing
            .packages
            .iter()
            .enumerate()
            .filter(|(_, listed)| listed.stanza.is_none())
            .map(|(index, listed)| Ok((index, file_in(&root, set, &listed.package)?)))
            .collect::<Result<_, Failure>>()?;
        let paths: Vec<&Path> = unknown.iter().map(|(_, path)| path.as_path()).collect();
        let controls = download::controls(sandbox, &paths, from, request)?;
        for ((index, _), control) in unknown.iter().zip(controls) {
            listing.packages[*index].stanza = Some(deb822::relevant(&control));
        }
        let (seen, codename) = match from {
            AptOf::Host(suite) => (root.to_string_lossy().into_owned(), Some(suite)),
            AptOf::Tree(..) => (format!("{}/vmfab", download::IN_TREE), None),
        };
        repository::write(&root, &seen, codename, &listing)
            .map_err(Failure::step_io("write archives to", &root))?;
        packages.locked = Some(listing);
        Ok(packages)
    }

    /// Stores what the step installed: the output. Nothing when its package manager does not tell.
    ///
    /// # Errors
    /// It is not what was locked, or cannot be read or stored.
    pub(super) fn finish(self) -> Result<Option<ObjectRef>, Failure> {
        if !self.directory.join("archives/targets").exists() {
            return Ok(None);
        }
        let kept = self.directory.join("archives/kept");
        let files = capture::files(&kept).map_err(Failure::step_io("read", &kept))?;
        let listing = match self.locked {
            Some(listing) => {
                capture::compare(&listing, &files)?;
                listing
            }
            None => capture::listing(&self.directory, &files)
                .map_err(Failure::step_io("read lists in", &self.directory))?,
        };
        capture::store(self.store, &listing, &files).map(Some)
    }
}

/// Where the file of a package lies in the archives on disk: one directory for each archive, and
/// one for what no archive lists.
fn file_in(root: &Path, set: &PackageSet, package: &Package) -> Result<PathBuf, Failure> {
    let archive = package.archive.unwrap_or(set.archives.len());
    let place = root.join(archive.min(set.archives.len()).to_string());
    directory(&place)?;
    Ok(place.join(repository::file_name(package)))
}

/// The SHA-256 of a file, and its size in bytes.
fn sha256(path: &Path) -> io::Result<(Sha256, u64)> {
    use sha2::Digest as _;
    let mut file = io::Read::take(open_unlinked(path)?, MOST_PACKAGE + 1);
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut size = 0;
    loop {
        let count = io::Read::read(&mut file, &mut buffer)?;
        if count == 0 {
            return Ok((Sha256::from_bytes(hasher.finalize().into()), size));
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
        if size > MOST_PACKAGE {
            let message = format!("it has more than {MOST_PACKAGE} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
    }
}

/// Makes a directory that apt's own user can read, whatever the user's umask.
fn directory(path: &Path) -> Result<(), Failure> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        result => result.map_err(Failure::step_io("create", path))?,
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .map_err(Failure::step_io("open up", path))
}

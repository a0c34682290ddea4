//! The packages of an image, as the databases in it list them.

mod apk;
mod copyright;
mod dpkg;
mod language;
mod rpm;
mod rust;
mod sqlite;

use std::error::Error;

use ext4_view::Ext4;
use serde::Serialize;

pub use language::language_packages;

/// The largest database that is read, in bytes.
const MAX_DATABASE: u64 = 512 << 20;

/// What a small file counts as, in bytes: finding it costs as much.
const LEAST_FILE: u64 = 4 << 10;

/// The largest file with licences that is read, in bytes.
const MAX_COPYRIGHT: u64 = 4 << 20;

/// A package that is installed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Package {
    pub name: String,
    pub version: String,
    /// What it is for; empty when the database does not say.
    pub architecture: String,
    /// `dpkg`, `apk`, `rpm`, `pypi`, `npm` or `cargo`.
    pub manager: &'static str,
    /// Bytes that it takes, as its database says.
    pub size: u64,
    /// Its licence, as whoever made the package wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// The source package that it was built from, when that has another name or version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// A file that it brought, and no other package: without `/` at the beginning.
    #[serde(skip)]
    pub file: Option<String>,
}

/// A database: where it is, and how it is read.
struct Database {
    path: &'static str,
    manager: &'static str,
    parse: fn(&[u8]) -> Result<Vec<Package>, String>,
}

/// Databases that are read, the first of each package manager.
const DATABASES: [Database; 6] = [
    Database {
        path: "/var/lib/dpkg/status",
        manager: dpkg::MANAGER,
        parse: dpkg::packages,
    },
    Database {
        path: "/lib/apk/db/installed",
        manager: apk::MANAGER,
        parse: apk::packages,
    },
    Database {
        path: "/usr/lib/apk/db/installed",
        manager: apk::MANAGER,
        parse: apk::packages,
    },
    Database {
        path: "/usr/lib/sysimage/rpm/rpmdb.sqlite",
        manager: rpm::MANAGER,
        parse: rpm::packages,
    },
    Database {
        path: "/var/lib/rpm/rpmdb.sqlite",
        manager: rpm::MANAGER,
        parse: rpm::packages,
    },
    Database {
        path: "/usr/share/rpm/rpmdb.sqlite",
        manager: rpm::MANAGER,
        parse: rpm::packages,
    },
];

/// Files of rpm's other databases, which are not read.
const UNREAD: [&str; 3] = [
    "/usr/lib/sysimage/rpm/Packages.db",
    "/var/lib/rpm/Packages.db",
    "/var/lib/rpm/Packages",
];

/// Where images without a package manager have the lists of their packages, one file for each.
const STATUS_FILES: &str = "/var/lib/dpkg/status.d";

/// The packages of a root file system, sorted by name, and what could not be read of them.
///
/// # Errors
/// The file system is damaged or cannot be read.
pub fn packages_of(
    ext4: &Ext4,
) -> Result<(Vec<Package>, Vec<String>), Box<dyn Error + Send + Sync>> {
    let mut packages = Vec::new();
    let mut notes = Vec::new();
    let mut found = Vec::new();
    for Database {
        path,
        manager,
        parse,
    } in DATABASES
    {
        if found.contains(&manager) {
            continue;
        }
        let Some(bytes) = read(ext4, path, &mut notes)? else {
            continue;
        };
        match parse(&bytes) {
            Ok(listed) => packages.extend(listed),
            Err(reason) => notes.push(format!("the packages in {path} are unknown: {reason}")),
        }
        found.push(manager);
        // What its writer has not put into the file itself yet.
        if path.ends_with(".sqlite") && size(ext4, &format!("{path}-wal"))?.is_some_and(|n| n > 0) {
            notes.push(format!(
                "{path} was being written: packages installed last may not be listed"
            ));
        }
    }
    if ext4.exists(STATUS_FILES)? {
        let mut left = MAX_DATABASE;
        for entry in ext4.read_dir(STATUS_FILES)? {
            let path = entry?.path();
            let (Ok(name), true) = (path.to_str(), !path.to_str().is_ok_and(is_sums)) else {
                continue;
            };
            if let Some(bytes) = read(ext4, name, &mut notes)? {
                let Some(rest) = left.checked_sub(bytes.len() as u64) else {
                    let reason = format!("its files have more than {MAX_DATABASE} bytes");
                    notes.push(format!("packages in {STATUS_FILES} are unknown: {reason}"));
                    break;
                };
                left = rest;
                packages.extend(dpkg::packages(&bytes).unwrap_or_default());
            }
        }
    }
    if !found.contains(&rpm::MANAGER) {
        for path in UNREAD {
            if size(ext4, path)?.is_some() {
                notes.push(format!(
                    "the packages in {path} are unknown: vmfab reads rpm's database rpmdb.sqlite only"
                ));
                break;
            }
        }
    }
    packages.sort();
    Ok((packages, notes))
}

/// Adds the licences of packages whose database has none: Debian's are in files of their own.
///
/// # Errors
/// The file system is damaged or cannot be read.
pub fn add_licenses(
    ext4: &Ext4,
    packages: &mut [Package],
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut left = MAX_DATABASE;
    for package in packages {
        if package.license.is_some() || package.manager != dpkg::MANAGER {
            continue;
        }
        let path = format!("/usr/share/doc/{}/copyright", package.name);
        let Some(length) = size(ext4, &path)?.filter(|length| *length <= MAX_COPYRIGHT) else {
            continue;
        };
        // A database can list one package without end.
        let Some(rest) = left.checked_sub(length.max(LEAST_FILE)) else {
            break;
        };
        left = rest;
        package.license = copyright::licenses(&ext4.read(&*path)?);
    }
    Ok(())
}

fn is_sums(path: &str) -> bool {
    path.ends_with(".md5sums")
}

/// The size of a regular file; `None` when there is none.
fn size(ext4: &Ext4, path: &str) -> Result<Option<u64>, Box<dyn Error + Send + Sync>> {
    // Links may lead anywhere, or nowhere.
    if !ext4.exists(path).unwrap_or(false) {
        return Ok(None);
    }
    let metadata = ext4.metadata(path)?;
    Ok(metadata
        .file_type()
        .is_regular_file()
        .then(|| metadata.len()))
}

fn read(
    ext4: &Ext4,
    path: &str,
    notes: &mut Vec<String>,
) -> Result<Option<Vec<u8>>, Box<dyn Error + Send + Sync>> {
    match size(ext4, path)? {
        None => Ok(None),
        Some(size) if size > MAX_DATABASE => {
            notes.push(format!(
                "the packages in {path} are unknown: the file has {size} bytes"
            ));
            Ok(None)
        }
        Some(_) => Ok(Some(ext4.read(path)?)),
    }
}

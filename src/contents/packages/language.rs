//! Packages of Python and npm: by the files that describe each, wherever they lie. Crates of Rust:
//! see `rust`.
//!
//! Sources: Python's "Recording installed projects" and "Core metadata specifications"; npm's
//! package.json.

use std::error::Error;

use ext4_view::Ext4;
use serde_json::Value;

use super::{LEAST_FILE, MAX_DATABASE, Package, rust, size};
use crate::contents::{FileKind, Files};

/// The largest description that is read, in bytes.
const MAX_DESCRIPTION: u64 = 4 << 20;

/// The packages of Python, npm and Rust in a root file system with these files, sorted by name.
///
/// # Errors
/// The file system is damaged or cannot be read.
pub fn language_packages(
    ext4: &Ext4,
    files: &Files,
) -> Result<Vec<Package>, Box<dyn Error + Send + Sync>> {
    let mut packages = Vec::new();
    let mut left = MAX_DATABASE;
    for (path, meta) in files.iter() {
        let Some(read) = reader(path).filter(|_| meta.kind == FileKind::File) else {
            continue;
        };
        let Ok(path) = std::str::from_utf8(path) else {
            continue;
        };
        let whole = format!("/{path}");
        let Some(length) = size(ext4, &whole)?.filter(|length| *length <= MAX_DESCRIPTION) else {
            continue;
        };
        let Some(rest) = left.checked_sub(length.max(LEAST_FILE)) else {
            break;
        };
        left = rest;
        if let Some(package) = read(&ext4.read(&*whole)?) {
            packages.push(Package {
                file: Some(path.to_owned()),
                ..package
            });
        }
    }
    packages.extend(rust::packages(ext4, files)?);
    packages.sort();
    Ok(packages)
}

/// Reads the description of a package.
type Description = fn(&[u8]) -> Option<Package>;

/// How the description at a path is read; nothing for other files.
fn reader(path: &[u8]) -> Option<Description> {
    let (directory, name) = path.split_at(path.iter().rposition(|&byte| byte == b'/')?);
    let mut above = directory.rsplit(|&byte| byte == b'/');
    let (last, before) = (above.next()?, above.next().unwrap_or_default());
    match name {
        b"/METADATA" if last.ends_with(b".dist-info") => Some(python),
        b"/PKG-INFO" if last.ends_with(b".egg-info") => Some(python),
        b"/package.json" if before == b"node_modules" => Some(npm),
        b"/package.json" if before.starts_with(b"@") => {
            (above.next() == Some(b"node_modules")).then_some(npm)
        }
        _ => None,
    }
}

/// Fields like those of a mail; the first empty line ends them.
fn python(bytes: &[u8]) -> Option<Package> {
    let text = String::from_utf8_lossy(bytes);
    let head = || text.lines().take_while(|line| !line.is_empty());
    let field = |name: &str| {
        let found = head().find_map(|line| Some(line.strip_prefix(name)?.trim()));
        found.filter(|value| !value.is_empty() && *value != "UNKNOWN")
    };
    let license = field("License-Expression:").or_else(|| field("License:"));
    Some(Package {
        name: field("Name:")?.to_owned(),
        version: field("Version:")?.to_owned(),
        architecture: String::new(),
        manager: "pypi",
        size: 0,
        license: license.map(str::to_owned),
        source: None,
        file: None,
    })
}

fn npm(bytes: &[u8]) -> Option<Package> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let text = |name: &str| value[name].as_str().filter(|text| !text.is_empty());
    Some(Package {
        name: text("name")?.to_owned(),
        version: text("version")?.to_owned(),
        architecture: String::new(),
        manager: "npm",
        size: 0,
        license: text("license").map(str::to_owned),
        source: None,
        file: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_known_by_their_paths() {
        for (path, is_one) in [
            ("usr/lib/python3/dist-packages/a-1.dist-info/METADATA", true),
            ("usr/lib/python3/dist-packages/a.egg-info/PKG-INFO", true),
            ("opt/app/node_modules/a/package.json", true),
            ("opt/app/node_modules/@b/a/package.json", true),
            ("opt/app/node_modules/a/lib/package.json", false),
            ("opt/app/package.json", false),
            ("METADATA", false),
        ] {
            assert_eq!(reader(path.as_bytes()).is_some(), is_one, "{path}");
        }
    }

    #[test]
    fn descriptions_are_read() {
        let found = python(
            b"Metadata-Version: 2.1\nName: flask\nVersion: 3.0.0\nLicense: UNKNOWN\n\nName: no\n",
        );
        let found = found.unwrap();
        assert_eq!(
            (&*found.name, &*found.version, found.license),
            ("flask", "3.0.0", None)
        );
        let found = npm(br#"{"name":"@b/a","version":"1.2.3","license":"MIT"}"#).unwrap();
        assert_eq!(
            (&*found.name, found.license.as_deref()),
            ("@b/a", Some("MIT"))
        );
        assert_eq!(npm(b"[]"), None);
        assert_eq!(python(b"Name: x\n"), None);
    }
}

//! Directories: packages in files, and directories with a template each.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::super::signatures::Evidence;
use super::{Put, taken};
use crate::failure::{Failure, Kind};
use crate::host::file::{Durability, Replace, open_regular, read_text};
use crate::template::package::{MOST_BYTES, MOST_FILES};
use crate::template::{EXTENSION, Entry, Index, Package, PackageFile, Place};
use crate::trust::{MAX_SIGNATURE, OwnKey};

/// What is left out of packages: the version control's own.
const LEFT_OUT: [&str; 1] = [".git"];

/// What a directory has. One that does not exist has nothing.
pub(super) fn index(place: &Place, whose: &str) -> Result<Index, Failure> {
    let mut index = Index::default();
    let Some(directory) = place.directory() else {
        return Ok(index);
    };
    for (path, package) in templates(directory)? {
        let below = path.strip_prefix(directory).unwrap_or(&path);
        let mut entry = Entry::of(&package);
        entry.place = below.display().to_string().parse().ok();
        let digest = entry.digest;
        if !index.put(package.name().clone(), entry) {
            let versions = index.versions(package.name());
            let other = versions
                .iter()
                .find(|one| one.version == *package.version());
            if other.is_some_and(|other| other.digest != digest) {
                let message = format!(
                    "{whose} has two templates {} {}: {} is one",
                    package.name(),
                    package.version(),
                    path.display()
                );
                return Err(Failure::verification(message).with_help("give one another version"));
            }
        }
    }
    Ok(index)
}

/// The templates in a directory: itself if it has a recipe of the usual name, or else packages and
/// directories in it.
pub(super) fn templates(directory: &Path) -> Result<Vec<(PathBuf, Package)>, Failure> {
    if directory.join("template.kdl").is_file() {
        return Ok(vec![(directory.to_owned(), read(directory)?)]);
    }
    let mut found = Vec::new();
    for path in listed(directory)? {
        let is_package =
            path.extension().is_some_and(|ending| ending == EXTENSION) && !path.is_dir();
        let is_directory = path.is_dir() && !path.is_symlink();
        if is_package || (is_directory && has_recipe(&path)?) {
            found.push((path.clone(), read(&path)?));
        }
    }
    Ok(found)
}

fn has_recipe(directory: &Path) -> Result<bool, Failure> {
    let is_recipe = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "kdl");
    Ok(listed(directory)?.iter().any(is_recipe))
}

/// What is in a directory, ordered; nothing when it does not exist.
fn listed(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Failure::io("list", directory))?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(Failure::io("list", directory))?.path());
    }
    paths.sort();
    Ok(paths)
}

/// The template of a directory or of a package's file.
///
/// # Errors
/// It is none, or breaks a rule of packages; the failure names the path.
pub(crate) fn read(path: &Path) -> Result<Package, Failure> {
    let read = match path.is_dir() {
        true => {
            let mut files = Vec::new();
            collect(path, "", &mut files, &mut 0)?;
            Package::pack(files)
        }
        false => bytes(path).and_then(Package::read),
    };
    read.map_err(|failure| match failure.diagnostic() {
        Some(_) => failure,
        None => {
            let message = format!("{}: {}", path.display(), failure.message());
            failure.with_message(message)
        }
    })
}

fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let file = open_regular(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::unknown("template", path.display()),
        _ => Failure::of_io("read", path, &error),
    })?;
    let mut bytes = Vec::new();
    let read = file.take(MOST_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(Failure::io("read", path))?;
    Ok(bytes)
}

fn collect(
    root: &Path,
    below: &str,
    files: &mut Vec<PackageFile>,
    size: &mut u64,
) -> Result<(), Failure> {
    for path in listed(&root.join(below))? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            let message = format!("{} has a name that is not UTF-8", path.display());
            return Err(Failure::usage(message));
        };
        if LEFT_OUT.contains(&name) {
            continue;
        }
        let inside = match below {
            "" => name.to_owned(),
            below => format!("{below}/{name}"),
        };
        let metadata = fs::symlink_metadata(&path).map_err(Failure::io("read", &path))?;
        if metadata.is_dir() {
            collect(root, &inside, files, size)?;
            continue;
        }
        if !metadata.is_file() {
            let message = format!("{} is no regular file", path.display());
            return Err(Failure::new(Kind::Usage, message).with_help(
                "a package has regular files and no links: copy what the link leads to",
            ));
        }
        *size += metadata.len();
        if *size > MOST_BYTES || files.len() >= MOST_FILES {
            let message = format!(
                "{} has more than {MOST_FILES} files or {} MiB",
                root.display(),
                MOST_BYTES >> 20
            );
            return Err(Failure::usage(message).with_help(
                "a template fetches what is large; take other files out of its directory",
            ));
        }
        files.push(PackageFile {
            content: bytes(&path)?,
            executable: metadata.permissions().mode() & 0o100 != 0,
            path: inside,
        });
    }
    Ok(())
}

/// The bytes of a version, and the signature beside its file.
pub(super) fn fetch(directory: &Path, entry: &Entry) -> Result<(Vec<u8>, Evidence), Failure> {
    let path = directory.join(entry.place.as_deref().unwrap_or_default());
    let package = read(&path)?;
    let mut evidence = Evidence::default();
    if let Ok(text) = read_text(&signature_of(&path), MAX_SIGNATURE) {
        evidence.signatures.push((text, package.digest()));
    }
    Ok((package.bytes().to_vec(), evidence))
}

fn signature_of(path: &Path) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".sig");
    beside.into()
}

/// Writes the file of a package.
pub(super) fn put(
    directory: &Path,
    package: &Package,
    key: Option<&OwnKey>,
) -> Result<Put, Failure> {
    let known = templates(directory)?;
    let same = |(_, other): &&(PathBuf, Package)| {
        other.name() == package.name() && other.version() == package.version()
    };
    let present = known.iter().find(same);
    if let Some((_, other)) = present.filter(|(_, other)| other.digest() != package.digest()) {
        return Err(taken(package, &other.digest()));
    }
    fs::create_dir_all(directory).map_err(Failure::io("create", directory))?;
    let path = match present {
        Some((path, _)) => path.clone(),
        None => directory.join(package.file_name()),
    };
    let write = |path: &Path, bytes: &[u8]| {
        let replace =
            Replace::new(path, Durability::Whole).permissions(fs::Permissions::from_mode(0o644));
        replace.with(bytes).map_err(Failure::io("write", path))
    };
    // The signature first: whoever sees the package sees that, too.
    if let Some(key) = key {
        write(
            &signature_of(&path),
            key.sign(&package.digest())?.as_bytes(),
        )?;
    }
    if present.is_none() {
        write(&path, package.bytes())?;
    }
    Ok(Put {
        place: path.display().to_string(),
        present: present.is_some(),
    })
}

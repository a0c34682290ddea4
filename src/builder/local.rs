//! Local files: their digest, and their tar.
//!
//! A file counts by its content and by whether it may be executed; a link by what it says; a
//! directory by what is in it. Owners, times and other modes are of the machine that the recipe
//! lies on. In the tar, files have mode 0644 or 0755 and belong to root.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::derivation::{BuildError, BuildRequest, Builder, Outputs, SOURCE_DATE_EPOCH, Step};
use crate::digest::{Digest, Hasher};
use crate::store::Store;

pub(super) struct Local {
    pub(super) store: Store,
    pub(super) locals: BTreeMap<Digest, PathBuf>,
}

impl Builder for Local {
    fn build(&self, request: &BuildRequest<'_>) -> Result<Outputs, BuildError> {
        let Step::Local(params) = super::step(request)? else {
            return Err(super::wrong_kind(request));
        };
        let path = self
            .locals
            .get(&params.tree)
            .ok_or_else(|| super::wrong_kind(request))?;
        let mut archive = self.store.temporary().map_err(BuildError::other)?;
        pack(path, archive.as_file_mut()).map_err(BuildError::io("read", path))?;
        // What was packed must be what the key says.
        if digest(path).map_err(BuildError::io("read", path))? != params.tree {
            return Err(BuildError::Unsatisfiable {
                message: format!("{} changed while it was read", path.display()),
                help: "build again".to_owned(),
            });
        }
        let source = self.store.adopt(archive).map_err(BuildError::other)?;
        Ok(Outputs::from([("source".to_owned(), source)]))
    }
}

/// The digest of a file or a directory tree.
///
/// # Errors
/// Something cannot be read, or is neither file, directory nor link.
pub fn digest(path: &Path) -> io::Result<Digest> {
    let mut hasher = Hasher::new("vmfab local files v1");
    walk(path, &mut |entry| {
        hasher.update_field(entry.inside.as_os_str().as_bytes());
        match entry.kind {
            Kind::Directory => drop(hasher.update(b"d")),
            Kind::Link(target) => {
                hasher
                    .update(b"l")
                    .update_field(target.as_os_str().as_bytes());
            }
            Kind::File(meta) => {
                let mut content = blake3::Hasher::new();
                content.update_reader(File::open(entry.path)?)?;
                hasher.update(if executable(&meta) { b"x" } else { b"f" });
                hasher.update(content.finalize().as_bytes());
            }
        }
        Ok(())
    })?;
    Ok(hasher.finish())
}

pub(super) fn pack(path: &Path, archive: &mut File) -> io::Result<()> {
    let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, archive));
    walk(path, &mut |entry| {
        let mut header = header();
        match entry.kind {
            Kind::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                tar.append_data(&mut header, entry.inside, io::empty())
            }
            Kind::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, entry.inside, target)
            }
            Kind::File(meta) => {
                header = file_header(meta.len(), executable(&meta));
                tar.append_data(&mut header, entry.inside, File::open(entry.path)?)
            }
        }
    })?;
    tar.into_inner()?.flush()
}

/// The header of an entry that has no bytes, and is root's.
fn header() -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(SOURCE_DATE_EPOCH.cast_unsigned());
    header.set_size(0);
    header.set_mode(0o755);
    header
}

/// The header of a file of `size` bytes.
pub(super) fn file_header(size: u64, executable: bool) -> tar::Header {
    let mut header = header();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(if executable { 0o755 } else { 0o644 });
    header.set_size(size);
    header
}

struct Entry<'a> {
    path: &'a Path,
    /// Path below the root; `.` for the root itself.
    inside: &'a Path,
    kind: Kind,
}

enum Kind {
    Directory,
    Link(PathBuf),
    File(Metadata),
}

fn executable(meta: &Metadata) -> bool {
    meta.permissions().mode() & 0o111 != 0
}

/// Visits a file, or a directory and all that is in it, in the order of paths. A link at the root is
/// followed: the recipe names what it leads to.
fn walk(root: &Path, visit: &mut dyn FnMut(Entry<'_>) -> io::Result<()>) -> io::Result<()> {
    let meta = fs::metadata(root)?;
    let mut pending = vec![(root.to_owned(), PathBuf::from("."), meta)];
    while let Some((path, inside, meta)) = pending.pop() {
        let kind = if meta.is_dir() {
            let mut names = Vec::new();
            for entry in fs::read_dir(&path)? {
                names.push(entry?.file_name());
            }
            names.sort();
            for name in names.into_iter().rev() {
                let child = path.join(&name);
                let inside = if inside == Path::new(".") {
                    PathBuf::from(name)
                } else {
                    inside.join(name)
                };
                let meta = fs::symlink_metadata(&child)?;
                pending.push((child, inside, meta));
            }
            Kind::Directory
        } else if meta.is_symlink() {
            Kind::Link(fs::read_link(&path)?)
        } else if meta.is_file() {
            Kind::File(meta)
        } else {
            let message = format!("{} is neither file, directory nor link", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        };
        visit(Entry {
            path: &path,
            inside: &inside,
            kind,
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("b/c")).unwrap();
        fs::write(directory.path().join("b/c/file"), "content").unwrap();
        fs::write(directory.path().join("a"), "script").unwrap();
        std::os::unix::fs::symlink("a", directory.path().join("link")).unwrap();
        directory
    }

    #[test]
    fn content_names_and_execution_count_and_nothing_else() {
        let (one, two) = (tree(), tree());
        let first = digest(one.path()).unwrap();
        assert_eq!(first, digest(two.path()).unwrap());
        let script = two.path().join("a");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(first, digest(two.path()).unwrap());
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        assert_ne!(first, digest(two.path()).unwrap());
        fs::set_permissions(&script, fs::Permissions::from_mode(0o644)).unwrap();
        fs::rename(two.path().join("b/c"), two.path().join("b/d")).unwrap();
        assert_ne!(first, digest(two.path()).unwrap());
    }

    #[test]
    fn a_tar_holds_the_tree_in_order() {
        let directory = tree();
        let mut archive = tempfile::tempfile().unwrap();
        pack(directory.path(), &mut archive).unwrap();
        io::Seek::rewind(&mut archive).unwrap();
        let mut tar = tar::Archive::new(archive);
        let paths: Vec<String> = tar
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(paths, [".", "a", "b", "b/c", "b/c/file", "link"]);
    }
}

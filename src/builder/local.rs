//! Local files: the step `local` lists them, and the steps that read them pack them into a tar.
//!
//! A file counts by its content ([`ContentHasher`]) and its permission bits, a directory by its
//! permission bits and what is in it, a link by its target. All twelve permission bits count:
//! set-user-id, set-group-id and the sticky bit too. Owners and times belong to the machine that
//! the recipe lies on. Files that are left out do not count. In the tar everything belongs to root,
//! the time of a file follows from its content, and large holes stay holes.
//!
//! The files themselves do not go into the store, only what a step makes of them.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

mod known;
mod walk;

pub use known::KnownFiles;
use walk::{Entry, Kind, walk};

use super::sources::Sources;
use crate::derivation::step::LISTING;
use crate::derivation::{
    BuildRequest, Builder, Listed, Listing, Outputs, SOURCE_DATE_EPOCH, Step, file_time,
};
use crate::digest::ContentHasher;
use crate::failure::Failure;
use crate::plan::LocalFiles;
use crate::sandbox::read_content;
use crate::store::Store;
use crate::tarball::{self, Member, StoredFile, Time, Writer, data_of};

pub(super) struct Local {
    pub(super) store: Store,
    pub(super) sources: Sources,
}

impl Builder for Local {
    fn build(&self, request: &BuildRequest<'_>) -> Result<Outputs, Failure> {
        let Step::Local(params) = super::step(request)? else {
            return Err(super::wrong_kind(request));
        };
        let tree = self.sources.local(&params.tree);
        let tree = tree.ok_or_else(|| super::wrong_kind(request))?;
        let listing = self.store.put_bytes(tree.listing.as_bytes());
        let listing = listing.map_err(Failure::of_step)?;
        Ok(Outputs::from([(LISTING.to_owned(), listing)]))
    }
}

/// The list of a file, or of a directory and what is in it. Files whose digests are known are not
/// read.
///
/// # Errors
/// Something cannot be read, or is neither file, directory nor link.
pub fn list(
    files: &LocalFiles,
    time: Option<i64>,
    known: Option<&KnownFiles>,
) -> io::Result<Listing> {
    let mut listing = Listing::new(time);
    walk(files, &mut |entry| {
        let content = match &entry.kind {
            Kind::File(_) => match known {
                Some(known) => known.digest(&files.path, entry.path, hash_file)?,
                None => hash_file(&File::open(entry.path)?)?,
            },
            _ => NO_CONTENT,
        };
        add(&mut listing, &entry, &content);
        Ok(())
    })?;
    Ok(listing)
}

/// Packs local files, and returns whether they are still as they were listed.
pub(super) fn pack(files: &LocalFiles, listing: &Listing, archive: impl Write) -> io::Result<bool> {
    let mut tar = Writer::new(BufWriter::with_capacity(1 << 20, archive));
    let (time, contents) = (listing.time(), listing.contents());
    let mut packed = Listing::new(time);
    let mut small = Vec::new();
    walk(files, &mut |entry| {
        let mut content = NO_CONTENT;
        let mut member = member(entry.inside, entry.mode);
        match &entry.kind {
            Kind::Directory => {
                member.kind = tarball::Kind::Directory;
                tar.add(&member)?;
            }
            Kind::Link(target) => {
                member.kind = tarball::Kind::Symlink;
                member.link = target.as_os_str().as_bytes().to_vec();
                tar.add(&member)?;
            }
            Kind::File(size) if *size <= SMALL => {
                // Read once: what is hashed is what is packed.
                small.clear();
                File::open(entry.path)?
                    .take(SMALL + 1)
                    .read_to_end(&mut small)?;
                content = hash_bytes(&small);
                let size = small.len() as u64;
                member = file_member(entry.inside, size, entry.mode, time, &content);
                tar.add_file(&member, &mut small.as_slice())?;
            }
            Kind::File(size) => {
                let file = File::open(entry.path)?;
                let listed = contents.get(entry.inside).unwrap_or(&NO_CONTENT);
                member = file_member(entry.inside, *size, entry.mode, time, listed);
                member.data = data_of(&file, *size)?;
                let mut hashed = Hashed(StoredFile::new(&file, &member), ContentHasher::default());
                tar.add_file(&member, &mut hashed)?;
                content = match member.data {
                    None => hashed.1.finish(),
                    // Its holes were not packed.
                    Some(_) => hash_file(&file)?,
                };
            }
        }
        add(&mut packed, &entry, &content);
        Ok(())
    })?;
    tar.finish()?.flush()?;
    Ok(packed == *listing)
}

fn add(listing: &mut Listing, entry: &Entry<'_>, content: &[u8; 32]) {
    let listed = match &entry.kind {
        Kind::Directory => Listed::Directory(entry.mode),
        Kind::Link(target) => Listed::Link(target.clone()),
        Kind::File(_) => Listed::File(entry.mode, *content),
    };
    listing.add(entry.inside, &listed);
}

/// A member that belongs to root.
fn member(inside: &Path, mode: u32) -> Member {
    Member {
        path: inside.as_os_str().as_bytes().to_vec(),
        mode,
        time: Time {
            seconds: SOURCE_DATE_EPOCH,
            nanoseconds: 0,
        },
        ..Member::default()
    }
}

/// A file of `size` bytes; `content` is a digest of them.
pub(super) fn file_member(
    inside: &Path,
    size: u64,
    mode: u32,
    time: Option<i64>,
    content: &[u8; 32],
) -> Member {
    let mut member = member(inside, mode);
    member.size = size;
    member.time.seconds = file_time(time, content);
    member
}

/// Bytes that are hashed at once.
const BUFFER: usize = 256 << 10;
/// The size of a file that is read as a whole. A file with holes that are kept has more.
const SMALL: u64 = 64 << 10;

/// Stands for the content of what has none.
const NO_CONTENT: [u8; 32] = [0; 32];

/// The digest of a file's content.
pub(super) fn hash(reader: impl Read) -> io::Result<[u8; 32]> {
    let mut hashed = Hashed(reader, ContentHasher::default());
    let mut buffer = vec![0; BUFFER];
    while hashed.read(&mut buffer)? > 0 {}
    Ok(hashed.1.finish())
}

/// The same of bytes in memory.
fn hash_bytes(bytes: &[u8]) -> [u8; 32] {
    let mut hasher = ContentHasher::default();
    hasher.update(bytes);
    hasher.finish()
}

/// The same of a file, whose holes are not read.
fn hash_file(file: &File) -> io::Result<[u8; 32]> {
    read_content(file, &mut |_, _| Ok(()))
}

/// Hashes what is read.
struct Hashed<R>(R, ContentHasher);

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.update(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Seek;
    use std::os::unix::fs::{FileExt, PermissionsExt};

    use super::walk::IGNORE_FILE;
    use super::*;
    use crate::digest::Digest;
    use crate::tarball::Reader;

    fn all(path: &Path) -> LocalFiles {
        LocalFiles {
            path: path.to_owned(),
            ..LocalFiles::default()
        }
    }

    fn digest(path: &Path) -> io::Result<Digest> {
        Ok(listed(&all(path))?.digest())
    }

    fn listed(files: &LocalFiles) -> io::Result<Listing> {
        list(files, None, None)
    }

    #[test]
    fn what_is_left_out_is_neither_packed_nor_counted() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for name in [
            "a.o",
            "keep.o",
            "b.c",
            "sub/c.o",
            "sub/target/x",
            "target/y",
            "sub/.git/z",
            "note",
        ] {
            write(name, "first");
        }
        write(IGNORE_FILE, "# objects\n*.o\n!keep.o\n/target/\n");
        let files = LocalFiles {
            exclude: [".git/", "note"].map(str::to_owned).into(),
            ..all(directory.path())
        };
        let mut archive = tempfile::tempfile().unwrap();
        let before = listed(&files).unwrap();
        assert!(pack(&files, &before, &mut archive).unwrap());
        archive.rewind().unwrap();
        let mut tar = Reader::new(archive);
        let members = std::iter::from_fn(|| tar.member().unwrap());
        let names: Vec<String> = members.map(|member| member.name()).collect();
        assert_eq!(
            names,
            [".", "b.c", "keep.o", "sub", "sub/target", "sub/target/x"]
        );

        for name in ["a.o", "sub/.git/z", "target/y", "note"] {
            write(name, "second");
        }
        write(IGNORE_FILE, "*.o\n!keep.o\n/target/\n# the same\n");
        assert_eq!(listed(&files).unwrap(), before);
        write("keep.o", "second");
        assert_ne!(listed(&files).unwrap(), before);
        write(IGNORE_FILE, "{a\n");
        let error = listed(&files).unwrap_err().to_string();
        assert!(error.contains(IGNORE_FILE), "{error}");
    }

    fn tree() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("b/c")).unwrap();
        fs::write(directory.path().join("b/c/file"), "content").unwrap();
        fs::write(directory.path().join("a"), "script").unwrap();
        std::os::unix::fs::symlink("a", directory.path().join("link")).unwrap();
        directory
    }

    #[test]
    fn content_names_and_modes_count_and_nothing_else() {
        let (one, two) = (tree(), tree());
        let first = digest(one.path()).unwrap();
        assert_eq!(first, digest(two.path()).unwrap());
        let old = fs::metadata("/").unwrap().modified().unwrap();
        let script = two.path().join("a");
        let file = File::options().write(true).open(&script).unwrap();
        file.set_modified(old).unwrap();
        assert_eq!(first, digest(two.path()).unwrap());
        for (name, modes) in [
            ("a", [0o600, 0o4755, 0o755]),
            ("b", [0o700, 0o2755, 0o1777]),
        ] {
            let path = two.path().join(name);
            let before = fs::metadata(&path).unwrap().permissions();
            for mode in modes {
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
                assert_ne!(first, digest(two.path()).unwrap(), "{name} {mode:o}");
            }
            fs::set_permissions(&path, before).unwrap();
        }
        assert_eq!(first, digest(two.path()).unwrap());
        fs::rename(two.path().join("b/c"), two.path().join("b/d")).unwrap();
        assert_ne!(first, digest(two.path()).unwrap());
    }

    fn packed(directory: &Path) -> Vec<Member> {
        let mut archive = tempfile::tempfile().unwrap();
        let files = all(directory);
        let listing = listed(&files).unwrap();
        assert!(pack(&files, &listing, &mut archive).unwrap());
        archive.rewind().unwrap();
        let mut tar = Reader::new(archive);
        std::iter::from_fn(|| tar.member().unwrap()).collect()
    }

    #[test]
    fn what_changed_since_is_named() {
        let directory = tree();
        let files = all(directory.path());
        let before = listed(&files).unwrap();
        let before = Listing::from_bytes(before.as_bytes().to_vec()).unwrap();
        let changed = || {
            let paths = before.differences(&listed(&files).unwrap());
            paths
                .iter()
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(changed(), [""; 0]);
        fs::write(directory.path().join("b/c/file"), "CONTENT").unwrap();
        fs::write(directory.path().join("b/new"), "").unwrap();
        fs::remove_file(directory.path().join("link")).unwrap();
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(directory.path().join("a"), mode).unwrap();
        assert_eq!(changed(), ["a", "b/c/file", "b/new", "link"]);
    }

    #[test]
    fn what_changed_after_it_was_listed_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let files = all(directory.path());
        let path = directory.path().join("file");
        for size in [10, SMALL as usize + 1] {
            fs::write(&path, vec![1; size]).unwrap();
            let listing = listed(&files).unwrap();
            fs::write(&path, vec![2; size]).unwrap();
            assert!(!pack(&files, &listing, io::sink()).unwrap());
            fs::remove_file(&path).unwrap();
            assert!(!pack(&files, &listing, io::sink()).unwrap());
        }
    }

    #[test]
    fn a_tar_holds_the_tree_in_order_with_its_modes() {
        let directory = tree();
        for (name, mode) in [
            (".", 0o700),
            ("a", 0o4711),
            ("b", 0o1770),
            ("b/c/file", 0o600),
        ] {
            let path = directory.path().join(name);
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let entries = packed(directory.path());
        let modes: Vec<String> = entries
            .iter()
            .map(|member| format!("{} {:o}", member.name(), member.mode))
            .collect();
        let c = fs::metadata(directory.path().join("b/c"))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777;
        let expected = [
            ". 700",
            "a 4711",
            "b 1770",
            &format!("b/c {c:o}"),
            "b/c/file 600",
            "link 777",
        ];
        assert_eq!(modes, expected);
    }

    #[test]
    fn targets_of_links_are_kept_byte_for_byte() {
        let directory = tempfile::tempdir().unwrap();
        let long = format!("{}//./end/", "n".repeat(150));
        for (name, target) in ["a//b", "./a/./b/", "/", "..", &long].iter().enumerate() {
            let link = directory.path().join(name.to_string());
            std::os::unix::fs::symlink(target, link).unwrap();
        }
        let links = packed(directory.path()).into_iter();
        let links = links.filter(|member| member.kind == tarball::Kind::Symlink);
        let targets: Vec<String> = links
            .map(|member| String::from_utf8(member.link).unwrap())
            .collect();
        assert_eq!(targets, ["a//b", "./a/./b/", "/", "..", &long]);
    }

    #[test]
    fn holes_stay_holes() {
        let directory = tempfile::tempdir().unwrap();
        let file = File::create(directory.path().join("sparse")).unwrap();
        file.set_len(1 << 40).unwrap();
        file.write_all_at(b"data", 32 << 20).unwrap();
        let mut archive = tempfile::tempfile().unwrap();
        let files = all(directory.path());
        let listing = listed(&files).unwrap();
        assert!(pack(&files, &listing, &mut archive).unwrap());
        assert!(archive.metadata().unwrap().len() < 1 << 20);
        // The content counts, not whether its zeros are written.
        file.set_len(64 << 20).unwrap();
        let sparse = digest(directory.path()).unwrap();
        let content = fs::read(directory.path().join("sparse")).unwrap();
        fs::write(directory.path().join("sparse"), content).unwrap();
        assert_eq!(digest(directory.path()).unwrap(), sparse);
    }

    #[test]
    fn equal_content_has_equal_times_and_other_content_has_others() {
        let directory = tree();
        let time = |name: &str| {
            packed(directory.path())
                .into_iter()
                .find(|member| member.name() == name)
                .unwrap()
                .time
                .seconds
        };
        let first = time("a");
        assert!(first < SOURCE_DATE_EPOCH);
        fs::write(directory.path().join("a"), "Script").unwrap();
        let second = time("a");
        assert_ne!(first, second);
        fs::write(directory.path().join("other"), "Script").unwrap();
        assert_eq!(time("other"), second);
        assert_eq!(time("b"), SOURCE_DATE_EPOCH);
    }
}

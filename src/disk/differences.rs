//! Which files differ between two ext4 file systems.

use std::collections::BTreeMap;
use std::error::Error;

use ext4_view::{Ext4, Ext4Error, File, FileType, Metadata, PathBuf};

/// How much of a file is compared at once.
const BLOCK: usize = 1 << 20;

/// A file that is not the same in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Absolute, as the file system has it.
    pub path: Vec<u8>,
    /// What it is before; nothing when it is added.
    pub before: Option<Entry>,
    /// What it is after; nothing when it is deleted.
    pub after: Option<Entry>,
    /// Whether two regular files or links of one size hold different bytes.
    pub other_bytes: bool,
}

/// What a directory says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub kind: FileType,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    /// Bytes of a regular file or link, else 0: what a directory takes says nothing of it.
    pub size: u64,
}

impl From<&Metadata> for Entry {
    fn from(metadata: &Metadata) -> Self {
        let kind = metadata.file_type();
        let has_bytes = kind.is_regular_file() || kind.is_symlink();
        Self {
            kind,
            mode: metadata.mode(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            size: if has_bytes { metadata.len() } else { 0 },
        }
    }
}

/// Calls `found` with each file that differs, in the order of a listing: a directory before what is
/// in it. Content, type, mode and owner count; times do not. Extended attributes and the numbers of
/// devices are not compared.
///
/// Where both were `one` file system before, a file whose times are all the same, that of the last
/// change of its inode included, has not changed, and is not read.
///
/// # Errors
/// One of the file systems is damaged or cannot be read, or `found` fails.
pub fn differences(
    before: &Ext4,
    after: &Ext4,
    one: bool,
    found: &mut dyn FnMut(Difference) -> Result<(), Box<dyn Error + Send + Sync>>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut buffers = (vec![0; BLOCK], vec![0; BLOCK]);
    let root = PathBuf::new(b"/");
    let roots = (before.metadata(&root)?, after.metadata(&root)?);
    // What is left to compare, the next one last.
    let mut pending = vec![(root, (Some(roots.0), Some(roots.1)))];
    while let Some((path, (old, new))) = pending.pop() {
        let entries = (old.as_ref().map(Entry::from), new.as_ref().map(Entry::from));
        let other_bytes = match entries {
            (Some(_), Some(_)) if one && old == new => false,
            (Some(old), Some(new)) if old.kind == new.kind && old.size == new.size => {
                if old.kind.is_symlink() {
                    before.read_link(&path)? != after.read_link(&path)?
                } else {
                    old.size > 0
                        && !same_bytes(before.open(&path)?, after.open(&path)?, &mut buffers)?
                }
            }
            _ => false,
        };
        let mut below: BTreeMap<Vec<u8>, (Option<Metadata>, Option<Metadata>)> = BTreeMap::new();
        if old.is_some_and(|old| old.is_dir()) {
            for (name, metadata) in entries_of(before, &path)? {
                below.entry(name).or_default().0 = Some(metadata);
            }
        }
        if new.is_some_and(|new| new.is_dir()) {
            for (name, metadata) in entries_of(after, &path)? {
                below.entry(name).or_default().1 = Some(metadata);
            }
        }
        let below = below.into_iter().rev();
        pending.extend(below.map(|(name, sides)| (path.join(&name), sides)));
        if entries.0 != entries.1 || other_bytes {
            found(Difference {
                path: <PathBuf as AsRef<[u8]>>::as_ref(&path).to_vec(),
                before: entries.0,
                after: entries.1,
                other_bytes,
            })?;
        }
    }
    Ok(())
}

fn entries_of(side: &Ext4, directory: &PathBuf) -> Result<Vec<(Vec<u8>, Metadata)>, Ext4Error> {
    let mut entries = Vec::new();
    for entry in side.read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name: &[u8] = name.as_ref();
        if name != b"." && name != b".." {
            entries.push((name.to_vec(), entry.metadata()?));
        }
    }
    Ok(entries)
}

fn same_bytes(
    mut one: File,
    mut other: File,
    buffers: &mut (Vec<u8>, Vec<u8>),
) -> Result<bool, Ext4Error> {
    loop {
        let read = fill(&mut one, &mut buffers.0)?;
        if read != fill(&mut other, &mut buffers.1)? || buffers.0[..read] != buffers.1[..read] {
            return Ok(false);
        }
        if read < BLOCK {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends: one call gives no more than a block.
fn fill(file: &mut File, buffer: &mut [u8]) -> Result<usize, Ext4Error> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_bytes(&mut buffer[done..])? {
            0 => break,
            read => done += read,
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;
    use std::process::Command;

    use super::super::open_ext4;
    use super::*;

    /// An ext4 file system with what `fill` puts into a directory.
    fn made(fill: impl FnOnce(&Path)) -> Ext4 {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir(&root).unwrap();
        fill(&root);
        let disk = directory.path().join("disk");
        let output = Command::new("mke2fs")
            .args(["-q", "-t", "ext4", "-d"])
            .args([&root, &disk])
            .arg("16M")
            .output()
            .expect("mke2fs runs (package e2fsprogs)");
        assert!(output.status.success(), "{output:?}");
        open_ext4(fs::File::open(&disk).unwrap(), 0).unwrap()
    }

    #[test]
    fn directories_in_a_loop_have_an_end() {
        let directory = tempfile::tempdir().unwrap();
        let disk = directory.path().join("disk");
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        let run = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            let output = command.args(arguments).arg(&disk).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        };
        fs::File::create(&disk).unwrap().set_len(16 << 20).unwrap();
        run(
            "mke2fs",
            &["-q", "-t", "ext4", "-d", root.to_str().unwrap()],
        );
        run("debugfs", &["-w", "-R", "link /a /a/b/loop"]);
        let side = || open_ext4(fs::File::open(&disk).unwrap(), 0).unwrap();
        let error = differences(&side(), &side(), false, &mut |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("path is too long"), "{error}");
    }

    #[test]
    fn each_kind_of_difference_is_found_and_nothing_else() {
        let common = |root: &Path| {
            fs::create_dir_all(root.join("etc/deep/er")).unwrap();
            fs::write(root.join("etc/same"), vec![7; 3 << 20]).unwrap();
            fs::write(root.join("etc/deep/er/file"), "kept").unwrap();
            symlink("same", root.join("etc/link")).unwrap();
        };
        let before = made(|root| {
            common(root);
            fs::create_dir_all(root.join("gone/below")).unwrap();
            fs::write(root.join("gone/below/file"), "x").unwrap();
            fs::write(root.join("a\nb"), "one").unwrap();
            fs::write(root.join("grown"), "short").unwrap();
            fs::write(root.join("mode"), "").unwrap();
            let mut large = vec![1; (2 << 20) + 5];
            fs::write(root.join("large"), &large).unwrap();
            large.clear();
            symlink("aa", root.join("turned")).unwrap();
            fs::write(root.join("becomes"), "").unwrap();
        });
        let after = made(|root| {
            common(root);
            fs::write(root.join("a\nb"), "two").unwrap();
            fs::write(root.join("grown"), "longer").unwrap();
            fs::write(root.join("mode"), "").unwrap();
            fs::set_permissions(root.join("mode"), fs::Permissions::from_mode(0o4755)).unwrap();
            let mut large = vec![1; (2 << 20) + 5];
            *large.last_mut().unwrap() = 2;
            fs::write(root.join("large"), &large).unwrap();
            symlink("bb", root.join("turned")).unwrap();
            fs::create_dir(root.join("becomes")).unwrap();
            fs::write(root.join("becomes/file"), "").unwrap();
            fs::write(root.join("new"), "").unwrap();
        });
        let all = |before: &Ext4, after: &Ext4| {
            let mut all = Vec::new();
            let mut keep = |one: Difference| {
                let path = String::from_utf8(one.path).unwrap();
                let sign = match (one.before, one.after) {
                    (None, _) => '+',
                    (_, None) => '-',
                    _ if one.other_bytes => '=',
                    _ => '~',
                };
                all.push(format!("{sign}{path}"));
                Ok(())
            };
            differences(before, after, false, &mut keep).unwrap();
            all
        };
        assert_eq!(
            all(&before, &after),
            [
                "=/a\nb",
                "~/becomes",
                "+/becomes/file",
                "-/gone",
                "-/gone/below",
                "-/gone/below/file",
                "~/grown",
                "=/large",
                "~/mode",
                "+/new",
                "=/turned",
            ]
        );
        assert_eq!(all(&after, &after), [""; 0]);
    }
}

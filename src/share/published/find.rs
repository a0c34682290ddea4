//! The disk of a containerDisk, out of the tar of its layer.

use std::io::{self, Read, Write};

use crate::tarball::{Kind, Member, Reader};

/// The directory of a containerDisk.
const DIRECTORY: &str = "disk";

/// A disk found in a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundDisk {
    /// The name of its file in `disk/`.
    pub name: String,
    /// How many bytes it has.
    pub size: u64,
}

/// A layer cannot be looked through for a disk.
#[derive(Debug, thiserror::Error)]
pub enum FindDiskError {
    /// There is more than one file in `disk/`, or it is not a file.
    #[error("{0}")]
    Unclear(String),
    /// The layer is no tar, or cannot be read, or the disk cannot be written.
    #[error("cannot look for a disk in the layer: {0}")]
    Io(#[from] io::Error),
}

/// Copies the disk of a containerDisk out of the tar of its layer: the only file in `disk/`.
/// Without one, `None`, and nothing was written.
///
/// # Errors
/// There are several, or the tar cannot be read. Then what was written is to be thrown away.
pub fn find_disk(
    layer: impl Read,
    disk: &mut dyn Write,
) -> Result<Option<FoundDisk>, FindDiskError> {
    let mut found: Option<FoundDisk> = None;
    let mut archive = Reader::new(layer);
    while let Some(member) = archive.member()? {
        if let Some(name) = disk_file(&member)? {
            if let Some(first) = &found {
                let first = &first.name;
                let message = format!("disk/ has more than one file: {first:?} and {name:?}");
                return Err(FindDiskError::Unclear(message));
            }
            let size = io::copy(&mut archive, disk)?;
            found = Some(FoundDisk { name, size });
        }
    }
    Ok(found)
}

/// The name of a member in `disk/` that is a file.
fn disk_file(member: &Member) -> Result<Option<String>, FindDiskError> {
    let unclear = |what: String| Err(FindDiskError::Unclear(what));
    let path = member.name();
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    let parts: Vec<&str> = parts.collect();
    match parts[..] {
        [DIRECTORY] if member.kind != Kind::Directory => {
            unclear("what is called disk in it is no directory".to_owned())
        }
        // Marks of what a layer removes.
        [DIRECTORY, name] if name.starts_with(".wh.") => Ok(None),
        [DIRECTORY, _] if !member.is_file() => unclear(format!("{path:?} is no regular file")),
        [DIRECTORY, name] => Ok(Some(name.to_owned())),
        [DIRECTORY, _, ..] => unclear(format!("{path:?} lies in a directory below disk/")),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar_of(members: &[(&str, tar::EntryType)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind) in members {
            let content: &[u8] = if kind.is_file() { b"a disk" } else { b"" };
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_mode(0o444);
            header.set_cksum();
            tar.append(&header, content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn the_disk_of_a_layer_is_its_only_file_in_disk() {
        use tar::EntryType::{Directory, Regular, Symlink};
        let find = |members: &[(&str, tar::EntryType)]| {
            let mut disk = Vec::new();
            find_disk(&tar_of(members)[..], &mut disk).map(|found| (found, disk))
        };
        let members = [
            ("etc/passwd", Regular),
            ("disk/", Directory),
            ("./disk/a.img", Regular),
            ("disk/.wh.old", Regular),
        ];
        let (found, disk) = find(&members).unwrap();
        assert_eq!(found.unwrap().name, "a.img");
        assert_eq!(disk, b"a disk");
        let (found, disk) = find(&members[..2]).unwrap();
        assert_eq!((found, disk), (None, Vec::new()));
        for wrong in [
            &[("disk/a", Regular), ("disk/b", Regular)][..],
            &[("disk/a", Symlink)],
            &[("disk", Symlink)],
            &[("disk/../../a", Regular)],
            &[("disk/more/a", Regular)],
        ] {
            let error = find(wrong).unwrap_err();
            assert!(matches!(error, FindDiskError::Unclear(_)), "{error}");
        }
        let error = find_disk(&[7_u8; 1024][..], &mut Vec::new()).unwrap_err();
        assert!(matches!(error, FindDiskError::Io(_)), "{error}");
        // A name that would fill the memory.
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        let endless = header.as_bytes().chain(io::repeat(b'x'));
        let error = find_disk(endless, &mut Vec::new()).unwrap_err();
        assert!(
            error.to_string().contains("at most 1048576 are read"),
            "{error}"
        );
    }
}

//! The ids on a disk.

use uuid::Uuid;

use crate::digest::Hasher;

/// Every id that a disk carries. Equal seeds give equal ids; the ids of one seed are unrelated.
///
/// The checksum of every inode and directory block of ext4 begins with the UUID of the file system,
/// and the order in directories with the hash seed. These two come from the lineage, which is the
/// same for the versions of an image: with other ones, each version would have nearly all of its
/// chunks new.
///
/// Machines made from one image share these ids, as copies of one disk do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskIds {
    /// UUID of the root file system.
    pub filesystem: Uuid,
    /// Seed of ext4's directory hashes.
    pub hash_seed: Uuid,
    /// GUID of the GPT disk.
    pub disk: Uuid,
    /// GUID of the EFI system partition.
    pub esp: Uuid,
    /// GUID of the root partition, `root=PARTUUID=…`.
    pub root: Uuid,
    /// Volume id of the FAT file system.
    pub volume: u32,
}

impl DiskIds {
    /// Derives the ids of the file system from `lineage`, and the others from `seed`, such as the
    /// action key of the step. UUIDs have the form of version 4.
    #[must_use]
    pub fn new(seed: &[u8; 32], lineage: &[u8; 32]) -> Self {
        let from = |seed: &[u8; 32], name: &str| {
            let mut hasher = Hasher::new("vmfab disk ids v1");
            let digest = hasher
                .update_field(seed)
                .update_field(name.as_bytes())
                .finish();
            let mut id = [0; 16];
            id.copy_from_slice(&digest.as_bytes()[..16]);
            id
        };
        let uuid = |seed, name| uuid::Builder::from_random_bytes(from(seed, name)).into_uuid();
        let [a, b, c, d, ..] = from(seed, "volume");
        Self {
            filesystem: uuid(lineage, "filesystem"),
            hash_seed: uuid(lineage, "hash-seed"),
            disk: uuid(seed, "disk"),
            esp: uuid(seed, "esp"),
            root: uuid(seed, "root"),
            volume: u32::from_le_bytes([a, b, c, d]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_depend_on_the_seed_and_differ_from_each_other() {
        let one = DiskIds::new(&[1; 32], &[1; 32]);
        let two = DiskIds::new(&[2; 32], &[2; 32]);
        assert_eq!(one, DiskIds::new(&[1; 32], &[1; 32]));
        let all: BTreeSet<Uuid> = [one, two]
            .iter()
            .flat_map(|ids| [ids.filesystem, ids.hash_seed, ids.disk, ids.esp, ids.root])
            .collect();
        assert_eq!(all.len(), 10);
        assert_ne!(one.volume, two.volume);
        assert_eq!(one.root.get_version_num(), 4);
    }

    #[test]
    fn versions_of_an_image_have_one_file_system_id() {
        let one = DiskIds::new(&[1; 32], &[7; 32]);
        let two = DiskIds::new(&[2; 32], &[7; 32]);
        assert_eq!(
            (one.filesystem, one.hash_seed),
            (two.filesystem, two.hash_seed)
        );
        assert_ne!(one.root, two.root);
    }
}

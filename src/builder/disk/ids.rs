//! The ids on a disk, all from one seed.

use uuid::Uuid;

use crate::digest::Hasher;

/// Every id that a disk carries. Equal seeds give equal ids; the ids of one seed are unrelated.
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
    /// Derives the ids from `seed`, such as the action key of the step. UUIDs have the form of
    /// version 4.
    #[must_use]
    pub fn new(seed: &[u8; 32]) -> Self {
        let bytes = |name: &str| {
            let mut hasher = Hasher::new("vmfab disk ids v1");
            let digest = hasher
                .update_field(seed)
                .update_field(name.as_bytes())
                .finish();
            let mut id = [0; 16];
            id.copy_from_slice(&digest.as_bytes()[..16]);
            id
        };
        let uuid = |name| uuid::Builder::from_random_bytes(bytes(name)).into_uuid();
        let [a, b, c, d, ..] = bytes("volume");
        Self {
            filesystem: uuid("filesystem"),
            hash_seed: uuid("hash-seed"),
            disk: uuid("disk"),
            esp: uuid("esp"),
            root: uuid("root"),
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
        let one = DiskIds::new(&[1; 32]);
        let two = DiskIds::new(&[2; 32]);
        assert_eq!(one, DiskIds::new(&[1; 32]));
        let all: BTreeSet<Uuid> = [one, two]
            .iter()
            .flat_map(|ids| [ids.filesystem, ids.hash_seed, ids.disk, ids.esp, ids.root])
            .collect();
        assert_eq!(all.len(), 10);
        assert_ne!(one.volume, two.volume);
        assert_eq!(one.root.get_version_num(), 4);
    }
}

//! Access control lists: as text in archives, as bytes in the extended attributes of Linux.
//!
//! Sources: acl(5) for the text, star(5) for a fourth field with the number,
//! `include/uapi/linux/posix_acl_xattr.h` for the bytes.

use std::collections::BTreeMap;

const VERSION: u32 = 2;
const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const OWNING_GROUP: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
/// Stands for the number where there is none.
const NO_ID: u32 = u32::MAX;

/// The bytes of a list. `None` when it is no list, or names a user or group without a number: whose
/// name it is, the archive does not say.
pub(super) fn bytes(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut entries = BTreeMap::new();
    let lines = text.split([',', '\n']).map(str::trim);
    for entry in lines.filter(|entry| !entry.is_empty()) {
        let fields: Vec<&str> = entry.split(':').collect();
        let (tag, name, permissions, id) = match fields[..] {
            [tag, permissions] => (tag, "", permissions, ""),
            [tag, name, permissions] => (tag, name, permissions, name),
            [tag, name, permissions, id] => (tag, name, permissions, id),
            _ => return None,
        };
        let tag = match (tag, name.is_empty()) {
            ("user", true) => OWNER,
            ("user", false) => USER,
            ("group", true) => OWNING_GROUP,
            ("group", false) => GROUP,
            ("mask", true) => MASK,
            ("other", true) => OTHER,
            _ => return None,
        };
        let id = match name.is_empty() {
            true => NO_ID,
            // Everybody's number of this name.
            false if id == "root" => 0,
            false => id.parse().ok().filter(|id| *id != NO_ID)?,
        };
        let mut bits = 0_u16;
        for letter in permissions.chars() {
            bits |= match letter {
                'r' => 4,
                'w' => 2,
                'x' => 1,
                '-' => 0,
                _ => return None,
            };
        }
        if entries.insert((tag, id), bits).is_some() {
            return None;
        }
    }
    let mut needed = vec![OWNER, OWNING_GROUP, OTHER];
    if entries.keys().any(|(tag, _)| matches!(*tag, USER | GROUP)) {
        needed.push(MASK);
    }
    if !needed
        .iter()
        .all(|tag| entries.contains_key(&(*tag, NO_ID)))
    {
        return None;
    }
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for ((tag, id), bits) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(bits.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    Some(bytes)
}

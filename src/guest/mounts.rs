//! What a guest mounts at each boot, as the script `derivation/scripts/mounts.sh` reads it. Pure.
//!
//! | guest | who runs the script |
//! |---|---|
//! | an image that vmfab made of a tree | its own copy, as a unit of systemd or in the seed of OpenRC; the table comes by SMBIOS |
//! | a disk with cloud-init | `bootcmd` of the user data, which has script and table |

use std::fmt::Write as _;

use base64ct::{Base64, Encoding};

use crate::checked::MountPoint;
use crate::derivation::scripts;

/// Something that a guest mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestMount {
    /// As `mount` takes it: `UUID=…`, or the tag of a share.
    pub what: String,
    pub at: MountPoint,
    /// The type of the file system.
    pub kind: &'static str,
    /// Begins with `rw` or `ro`.
    pub options: String,
}

/// The table, in base64.
pub(super) fn table(mounts: &[GuestMount]) -> String {
    let mut table = String::new();
    for GuestMount {
        what,
        at,
        kind,
        options,
    } in mounts
    {
        let _ = writeln!(table, "{what} {at} {kind} {options}");
    }
    Base64::encode_string(table.as_bytes())
}

/// The words of a command that mounts them.
pub(super) fn command(mounts: &[GuestMount]) -> [String; 5] {
    let words = ["sh", "-c", scripts::MOUNTS, "mounts"].map(str::to_owned);
    let [sh, c, script, name] = words;
    [sh, c, script, name, table(mounts)]
}

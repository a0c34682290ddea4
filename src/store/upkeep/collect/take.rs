//! Taking packs away, so that nobody who relies on them misses them (`store-format/protocol.md`,
//! G3).

use std::collections::HashSet;

use crate::digest::Sha256;
use crate::store::error::{StoreError, io_error};
use crate::store::records::files::Files;
use crate::store::records::session::{self, Holder};
use crate::store::records::view::list_packs;

/// A pack that is to go, and the journal that it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::store) struct Condemned {
    pub(in crate::store) pack: Sha256,
    pub(in crate::store) journal: u64,
}

/// Renames packs to the trash. Gives those that living processes rely on, after these were put
/// back.
pub(in crate::store) fn condemn(
    files: &Files,
    packs: &[Condemned],
) -> Result<HashSet<Sha256>, StoreError> {
    for condemned in packs {
        files.rename(
            &files.path("packs", condemned.pack),
            &files.path("trash", condemned.pack),
        )?;
    }
    // After the renames: who relies on a pack from now on does not find it.
    let sessions = files.root.join("sessions");
    let pinned = session::pinned(files).map_err(io_error("read", &sessions))?;
    let mut back = HashSet::new();
    for condemned in packs {
        let used = pinned.contains(&Holder::Pack(condemned.pack))
            || (condemned.journal != 0 && pinned.contains(&Holder::Journal(condemned.journal)));
        if used {
            restore(files, condemned.pack)?;
            back.insert(condemned.pack);
        }
    }
    Ok(back)
}

/// Puts a pack back.
pub(super) fn restore(files: &Files, pack: Sha256) -> Result<(), StoreError> {
    files.rename(&files.path("trash", pack), &files.path("packs", pack))
}

/// Removes packs that are in the trash for good.
pub(in crate::store) fn destroy(
    files: &Files,
    packs: impl IntoIterator<Item = Sha256>,
) -> Result<(), StoreError> {
    // What takes their place is on disk by now, and has its name there. Tags and roots that moved
    // or went must not come back.
    for directory in ["packs", "tags", "roots"] {
        files.sync_directory(&files.root.join(directory))?;
    }
    for pack in packs {
        files.remove(&files.path("trash", pack))?;
    }
    Ok(())
}

/// Puts back what a garbage collection that was killed had taken away. For who holds the lock `gc`.
pub(in crate::store) fn put_back(files: &Files) -> Result<(), StoreError> {
    for pack in list_packs(&files.root.join("trash"))? {
        restore(files, pack)?;
    }
    Ok(())
}

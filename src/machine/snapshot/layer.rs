//! Layers: their ids, and the directories that hold them.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, DirEntry, File};
use std::io::{self, BufWriter};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::disk::{Qcow2, overlay};
use crate::host::Interrupt;
use crate::host::file::{self, Durability, Replace, is_at};
use crate::machine::error::{MachineError, io_error};
use crate::machine::launch::utf8;

/// A layer, or the overlay that becomes one: 32 hexadecimal digits, drawn at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerId(Uuid);

impl LayerId {
    /// One that nobody has.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The file of the overlay in a machine's directory, as long as the machine writes to it.
    pub(in crate::machine) fn overlay(&self) -> String {
        format!("overlay-{self}.qcow2")
    }

    /// The digits that tell it from the others of a machine.
    pub(in crate::machine) fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

impl FromStr for LayerId {
    type Err = String;

    /// Only what [`Display`](fmt::Display) writes: it is the name of a file.
    fn from_str(text: &str) -> Result<Self, String> {
        let id = Uuid::try_parse(text).ok().map(Self);
        id.filter(|id| id.to_string() == text)
            .ok_or_else(|| format!("\"{text}\" is not the id of a layer"))
    }
}

impl TryFrom<String> for LayerId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<LayerId> for String {
    fn from(id: LayerId) -> Self {
        id.to_string()
    }
}

/// A directory with layers: that of the snapshots of a home or project, or that of a volume. Each
/// directory has hard links of its own, so its owner alone decides when to remove them.
#[derive(Debug, Clone)]
pub(in crate::machine) struct Layers(PathBuf);

impl Layers {
    /// Those below a directory.
    pub(in crate::machine) fn of(directory: &Path) -> Self {
        Self(directory.join("layers"))
    }

    pub(in crate::machine) fn directory(&self) -> &Path {
        &self.0
    }

    /// The file of a layer.
    pub(in crate::machine) fn file(&self, id: &LayerId) -> PathBuf {
        self.0.join(format!("{id}.qcow2"))
    }

    /// The files of layers, for QEMU; each is one of those that this program makes.
    pub(in crate::machine) fn checked(&self, ids: &[LayerId]) -> Result<Vec<String>, MachineError> {
        let checked = ids.iter().map(|id| {
            let path = self.file(id);
            overlay::check(&path)?;
            utf8(path)
        });
        checked.collect()
    }

    /// Bytes that layers take on this host.
    pub(in crate::machine) fn stored_size(&self, ids: &[LayerId]) -> u64 {
        let sizes = ids.iter().map(|id| fs::metadata(self.file(id)));
        sizes.flatten().map(|meta| meta.blocks() * 512).sum()
    }

    /// Makes the overlay at `path` a layer, by a hard link.
    pub(super) fn add(&self, path: &Path, id: &LayerId) -> Result<(), MachineError> {
        let layer = self.file(id);
        match fs::hard_link(path, &layer) {
            // A vmfab was killed after that.
            Err(_) if File::open(path).is_ok_and(|file| is_at(&file, &layer)) => Ok(()),
            result => result.map_err(io_error("link", path)),
        }
    }

    /// Adds the layers of another directory that are missing here: as hard links, or as copies from
    /// another file system. They are on disk when this returns.
    pub(super) fn take(&self, from: &Self, ids: &[LayerId]) -> Result<(), MachineError> {
        for id in ids {
            let (theirs, own) = (from.file(id), self.file(id));
            if own.exists() {
                continue;
            }
            // A hard link to a symbolic link would lead elsewhere.
            overlay::check(&theirs)?;
            match fs::hard_link(&theirs, &own) {
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                    self.copy(&theirs, &own)?;
                }
                result => result.map_err(io_error("link", &theirs))?,
            }
        }
        self.sync()
    }

    /// Forces the names of the layers to disk.
    pub(super) fn sync(&self) -> Result<(), MachineError> {
        let synced = File::open(&self.0).and_then(|directory| directory.sync_all());
        synced.map_err(io_error("write", &self.0))
    }

    /// Removes all layers but these, and unfinished copies of killed processes. Only call it while
    /// nobody adds a layer.
    pub(in crate::machine) fn retain(&self, needed: &HashSet<LayerId>) {
        for entry in self.others(needed) {
            let _ = fs::remove_file(entry.path());
        }
    }

    /// All layers but these, and unfinished copies.
    pub(super) fn others(&self, needed: &HashSet<LayerId>) -> impl Iterator<Item = DirEntry> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        entries.filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let id = name.strip_suffix(".qcow2").map(str::parse::<LayerId>);
            match id {
                Some(Ok(id)) => !needed.contains(&id),
                _ => name.starts_with(file::NEW),
            }
        })
    }

    /// Makes a layer. It is on disk when this returns.
    pub(super) fn write(
        &self,
        qcow2: Qcow2<'_>,
        interrupt: &Interrupt,
    ) -> Result<LayerId, MachineError> {
        let layer = LayerId::random();
        let path = self.file(&layer);
        let write = || -> io::Result<()> {
            let go = || match interrupt.requested() {
                true => Err(io::ErrorKind::Interrupted.into()),
                false => Ok(()),
            };
            let file = File::create_new(&path)?;
            let mut out = BufWriter::with_capacity(1 << 20, &file);
            qcow2.write(&mut out, &go)?;
            io::Write::flush(&mut out)?;
            drop(out);
            file.sync_all()
        };
        let written = write();
        if written.is_err() {
            let _ = fs::remove_file(&path);
        }
        match written {
            Ok(()) => self.sync().map(|()| layer),
            Err(_) if interrupt.requested() => Err(MachineError::Interrupted { running: None }),
            Err(error) => Err(io_error("write", &path)(error)),
        }
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<(), MachineError> {
        let copied = Replace::new(to, Durability::Whole)
            .fill(|mut file| io::copy(&mut File::open(from)?, &mut file).map(drop));
        copied.map_err(io_error("copy", from))
    }
}

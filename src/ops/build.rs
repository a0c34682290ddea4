//! Building an image from a recipe.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

use super::{Context, Error, Failure};
use crate::digest::{ActionKey, ObjectId};
use crate::store::TagName;

/// What to build, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildOptions {
    /// Path of a recipe file, or the name of a recipe that comes with vmfab.
    pub recipe: String,
    /// Which image of the recipe; when absent the one named like the recipe, or the only one.
    pub image: Option<String>,
    /// Values of parameters.
    pub settings: BTreeMap<String, String>,
    /// Tags that are to name the image; its own name when empty.
    pub tags: Vec<TagName>,
    /// A disk file to write.
    pub output: Option<PathBuf>,
    /// The format of that file.
    pub format: Option<DiskFormat>,
    /// Whether an existing file may be replaced.
    pub force: bool,
    /// Build every step twice and compare.
    pub check: bool,
    /// How many steps may run at once; one for each processor when absent.
    pub jobs: Option<usize>,
    /// After a failure, go on with what does not depend on it.
    pub keep_going: bool,
    /// Run every step, even when its result is known.
    pub rebuild: bool,
}

/// A finished build.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Built {
    /// The image.
    pub image: ObjectId,
    /// Its name in the recipe.
    pub name: String,
    /// The tags that name it now, without `@`.
    #[serde(serialize_with = "tag_names")]
    pub tags: Vec<TagName>,
    /// Whether one of them named another image before, or none.
    pub tags_moved: bool,
    /// The disk file that was written.
    pub output: Option<PathBuf>,
    /// What became of the steps.
    pub steps: StepCounts,
    /// How many steps were built twice and compared, when that was asked for.
    pub checked: Option<usize>,
    /// Wall time in seconds.
    pub seconds: f64,
}

/// How many steps ran, and how many did not have to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct StepCounts {
    /// They ran.
    pub built: usize,
    /// Their results were in the store.
    pub cached: usize,
}

/// What a build would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// The image's name in the recipe.
    pub name: String,
    /// Its steps, inputs before those that read them.
    pub steps: Vec<PlannedStep>,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedStep {
    /// Its label.
    pub name: String,
    /// Its kind.
    pub builder: String,
    /// Positions, in the list of steps, of those that it reads.
    pub inputs: Vec<usize>,
    /// Its key; unknown while the content of an input is.
    pub key: Option<ActionKey>,
    /// Whether it would run.
    pub state: PlannedState,
}

/// Whether a step would run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlannedState {
    /// Its result is in the store.
    Cached,
    /// It would run.
    Build,
    /// Something that it reads would run: what comes out of that decides.
    Depends,
}

/// The format of a disk file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// QEMU, Proxmox, OpenStack, libvirt.
    Qcow2,
    /// Everything, and `dd`.
    Raw,
    /// VMware, VirtualBox.
    Vmdk,
    /// Hyper-V.
    Vhdx,
}

impl DiskFormat {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Qcow2, Self::Raw, Self::Vmdk, Self::Vhdx];

    /// Its name, as QEMU has it and as file extension.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
            Self::Vmdk => "vmdk",
            Self::Vhdx => "vhdx",
        }
    }

    /// What the extension of a file name says. `.img` is raw.
    #[must_use]
    pub fn of_path(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "img" => Some(Self::Raw),
            other => other.parse().ok(),
        }
    }
}

impl fmt::Display for DiskFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no disk format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no disk format: use qcow2, raw, vmdk or vhdx")]
pub struct ParseFormatError(String);

impl FromStr for DiskFormat {
    type Err = ParseFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|format| format.as_str() == text)
            .ok_or_else(|| ParseFormatError(text.to_owned()))
    }
}

fn tag_names<S: serde::Serializer>(tags: &[TagName], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(tags.iter().map(TagName::as_str))
}

/// Builds an image.
///
/// # Errors
/// The recipe is wrong, a program is missing, a step fails, the user gives up.
pub fn build(_context: &Context, options: &BuildOptions) -> Result<Built, Error> {
    Err(unfinished(options))
}

/// What [`build`] would do.
///
/// # Errors
/// The recipe is wrong.
pub fn plan(_context: &Context, options: &BuildOptions) -> Result<Plan, Error> {
    Err(unfinished(options))
}

fn unfinished(options: &BuildOptions) -> Error {
    Error::Failed(Failure {
        message: format!("{} cannot be built by this program", options.recipe),
        ..Failure::default()
    })
}

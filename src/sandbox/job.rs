//! What a step has to be done, and who does it.
//!
//! A job is a plain value: it names its inputs by digest and its files by paths below its own
//! directory, so a machine or another host can do it as well as this one. A [`Runner`] prepares it
//! (inputs become directories and files), runs it, and collects what it made.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::request::Task;
use super::run::Scratch;
use crate::derivation::BuildRequest;
use crate::digest::ObjectRef;
use crate::failure::Failure;
use crate::host::Secret;

/// Tasks over layers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The layers below, lowest first.
    pub layers: Vec<ObjectRef>,
    /// Trees and files that tasks name by their places here.
    pub beside: Vec<Beside>,
    /// Files of the job that are inputs, by name.
    pub files: BTreeMap<String, ObjectRef>,
    /// What to do, in order.
    pub tasks: Vec<Task>,
    /// How what they changed becomes a layer; it is forgotten when absent.
    pub layer: Option<Packing>,
}

/// Files that tasks read beside their tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Beside {
    /// The layers of a tree, lowest first.
    Layers(Vec<ObjectRef>),
    /// A tar below the directory of the job.
    Archive(PathBuf),
    /// Local files: a [`Listing`](crate::derivation::Listing) below the directory of the job. Where
    /// they are is [lent](Lent::local).
    Local(PathBuf),
}

/// How changes become a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packing {
    /// Whether build identity is removed first.
    pub clean: bool,
}

/// What only this host can lend to a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lent {
    /// What no output of the job shows.
    pub secrets: Vec<Secret>,
    /// Directories that outlive the job, by the ids of caches.
    pub caches: BTreeMap<String, PathBuf>,
    /// Directories of local files, by the names of their lists.
    pub local: BTreeMap<PathBuf, PathBuf>,
}

impl Job {
    /// Does `tasks` and forgets what they changed in the tree.
    #[must_use]
    pub fn over(layers: &[ObjectRef], tasks: Vec<Task>) -> Self {
        Self {
            layers: layers.to_vec(),
            tasks,
            ..Self::default()
        }
    }

    /// Does `tasks` and makes a layer of what they changed; `clean` removes build identity from it.
    #[must_use]
    pub fn layer(layers: &[ObjectRef], tasks: Vec<Task>, clean: bool) -> Self {
        Self {
            layer: Some(Packing { clean }),
            ..Self::over(layers, tasks)
        }
    }
}

/// Does jobs.
pub trait Runner {
    /// Does a job in its directory, in which nothing ran yet, and returns the layer that it makes.
    /// Its files are there before, and those that it leaves are there afterwards.
    ///
    /// # Errors
    /// See [`Failure`].
    fn run(
        &self,
        job: Job,
        lent: &Lent,
        scratch: &Scratch,
        step: &BuildRequest<'_>,
    ) -> Result<Option<ObjectRef>, Failure>;

    /// The same for a job that makes a layer.
    ///
    /// # Errors
    /// See [`Failure`].
    fn layer(
        &self,
        job: Job,
        lent: &Lent,
        scratch: &Scratch,
        step: &BuildRequest<'_>,
    ) -> Result<ObjectRef, Failure> {
        let layer = self.run(job, lent, scratch, step)?;
        layer.ok_or_else(|| Failure::of_step(std::io::Error::other("the job makes no layer")))
    }
}

//! Running a step over the layers below it, and packing what it changed into a layer.
//!
//! What a step has to be done is a [`Job`]: a plain value with its inputs by digest. The sandbox is
//! the [`Runner`] of this host. It runs a job in a *worker*: this program again, with one hidden
//! argument, so that all of the work happens in namespaces that die with it. The worker gets a
//! `Request`, in which inputs are directories:
//!
//! ```text
//! vmfab ──spawns──► worker: user and mount namespace, ids mapped            (namespace)
//!                     │  unpacks the layers that are not unpacked yet       (layer::unpack)
//!                     │  mounts them as one overlay file system             (overlay)
//!                     │  runs the tasks: commands in bubblewrap, edits
//!                     │  of the tree, programs of the host on the tree      (tasks, bwrap, edit)
//!                     │  removes what must not be in an image               (identity)
//!                     └─ packs the upper directory as a sorted tar          (layer::pack)
//! ```
//!
//! `RUN`, `COPY` and `ADD` of Dockerfiles follow docker's rules: a process with the users and
//! mounts of an image (`process`, `shown`, `accounts`, `setuser`), and files put into a tree
//! (`add/`). Both read trees beside their own (`beside`).
//!
//! It works the same way as root and as a user with subordinate ids. File syncs inside are answered
//! without doing them: what counts is made durable by the store.

mod accounts;
mod add;
mod beside;
mod bootable;
mod bootable_container;
mod borrowed;
mod bwrap;
mod cache;
mod caches;
mod confinement;
mod edit;
mod identity;
mod ids;
mod job;
mod keeper;
mod launch;
mod layer;
mod limits;
mod mounts;
mod namespace;
mod overlay;
mod own_init;
mod packages;
mod pipe;
mod probe;
mod process;
mod procfs;
mod request;
mod root;
mod run;
mod setuser;
mod shown;
mod tasks;
mod worker;

pub use add::read_content;
pub use cache::{CachedLayer, LayerCache};
pub use caches::{CacheMount, CacheMounts, HeldCache};
pub use confinement::{Changes, Confinement, Grant, Isolation, Processes, Weakness};
pub use edit::{Edit, owner_ids};
#[cfg(test)]
pub(crate) use identity::{EMPTIED, REMOVED};
pub use ids::{Ids, IdsError, Kind};
pub use job::{Beside, Job, Lent, Packing, Runner};
pub use layer::{AttributesLeftOut, Form};
pub use limits::DEFAULT_SECONDS;
pub use probe::{Refusal, probe};
pub use request::{
    AddFiles, Bind, Bootable, Command, HostCommand, Install, JobPath, Process, Put, Shown, Task,
    What,
};
pub use run::{Sandbox, Scratch};
pub use worker::{WORKER_ARGUMENT, attached, worker_main};

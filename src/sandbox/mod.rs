//! Running a step over the layers below it, and packing what it changed into a layer.
//!
//! A step runs in a *worker*: this program again, with one hidden argument, so that all of the work
//! happens in namespaces that die with it. The worker gets a `Request`, a plain value:
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
//! It works the same way as root and as a user with subordinate ids. File syncs inside are answered
//! without doing them: what counts is made durable by the store.

mod bootable;
mod borrowed;
mod bwrap;
mod cache;
mod confinement;
mod edit;
mod identity;
mod ids;
mod keeper;
mod launch;
mod layer;
mod limits;
mod mounts;
mod namespace;
mod overlay;
mod packages;
mod probe;
mod procfs;
mod request;
mod run;
mod tasks;
mod worker;

pub use cache::{CachedLayer, LayerCache};
pub use confinement::{Changes, Confinement, Grant, Isolation, Processes, Weakness};
pub use edit::{Edit, owner_ids};
#[cfg(test)]
pub(crate) use identity::{EMPTIED, REMOVED};
pub use ids::{Ids, IdsError, Kind};
pub use layer::{AttributesLeftOut, Form};
pub use limits::DEFAULT_SECONDS;
pub use probe::{Refusal, probe};
pub use request::{Bind, Bootable, Command, HostCommand, Install, Task};
pub use run::{Sandbox, Scratch};
pub use worker::{WORKER_ARGUMENT, attached, worker_main};

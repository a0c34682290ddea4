//! The contract between `executor`, which schedules derivations, and `builder`, which realises
//! them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::graph::{Derivation, NodeId};
use crate::digest::{ActionKey, ObjectRef};
use crate::host::Interrupt;

/// What a derivation made: objects in the store, by name (`layer`, `disk`, `kernel`, …).
pub type Outputs = BTreeMap<String, ObjectRef>;

/// An input of a derivation, resolved to the object that it stands for.
#[derive(Debug, Clone)]
pub struct ResolvedInput {
    /// The role under which the derivation reads it.
    pub role: String,
    pub object: ObjectRef,
}

/// The inputs of a derivation, in order, or `None` while `outputs` does not know what one of its
/// inputs made. An output that its maker does not have (an image without an initrd) is no input.
pub fn resolve_inputs<'a>(
    derivation: &Derivation,
    outputs: impl Fn(NodeId) -> Option<&'a Outputs>,
) -> Option<Vec<ResolvedInput>> {
    let mut resolved = Vec::new();
    for input in &derivation.inputs {
        if let Some(&object) = outputs(input.node)?.get(&input.output) {
            resolved.push(ResolvedInput {
                role: input.role.clone(),
                object,
            });
        }
    }
    Some(resolved)
}

/// All that a builder gets to realise one derivation.
pub struct BuildRequest<'a> {
    /// The action key of the derivation with these inputs.
    pub key: ActionKey,
    pub derivation: &'a Derivation,
    /// Its inputs, in order.
    pub inputs: &'a [ResolvedInput],
    /// The file that all of the step's output is appended to.
    pub log: &'a Path,
    /// How many bytes a command of the step may write.
    pub log_limit: u64,
    /// Takes each line of output, to be shown.
    pub output: &'a (dyn Fn(&str) + Sync),
    /// Tells when the user gave up.
    pub interrupt: &'a Interrupt,
}

impl BuildRequest<'_> {
    /// The inputs of one role, in order.
    pub fn inputs_of<'s>(&'s self, role: &'s str) -> impl Iterator<Item = ObjectRef> + 's {
        self.inputs
            .iter()
            .filter(move |input| input.role == role)
            .map(|input| input.object)
    }
}

/// Realises one kind of derivation. Outputs must be in the store and durable when it returns.
pub trait Builder: Send + Sync {
    /// Builds what is requested.
    ///
    /// # Errors
    /// See [`BuildError`]. Nothing of a failed build may be seen in the store.
    fn build(&self, request: &BuildRequest<'_>) -> Result<Outputs, BuildError>;
}

/// Finds the builder of a kind of derivation.
pub trait Builders: Sync {
    /// The builder of that name.
    fn builder(&self, name: &str) -> Option<&dyn Builder>;

    /// Whether steps of this kind mostly wait, for a network or a machine: they run beside those
    /// that use the processors.
    fn waits(&self, _name: &str) -> bool {
        false
    }

    /// Whether this host can do a step at all, as far as its parameters say. It is asked for all
    /// steps that have to run before the first one does.
    ///
    /// # Errors
    /// What the host lacks.
    fn possible(&self, _derivation: &Derivation) -> Result<(), Impossible> {
        Ok(())
    }
}

/// What a host lacks for a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impossible {
    /// What is missing.
    pub message: String,
    /// How to get it.
    pub help: String,
}

/// Why a derivation could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A command of the step ended with an error.
    #[error("{command} {how}")]
    Command {
        /// The command, as a user would type it.
        command: String,
        /// `exited with code 3`, `was killed by signal 9`, `took longer than 30s`, …
        how: String,
        /// Its last lines of output.
        tail: Vec<String>,
    },
    /// The user gave up.
    #[error("interrupted")]
    Interrupted,
    /// What the recipe asks for is not possible with these inputs.
    #[error("{message}")]
    Unsatisfiable {
        message: String,
        /// What to do next.
        help: String,
    },
    /// Content from outside cannot be had, or not as it should be.
    #[error("{message}")]
    Outside {
        /// What is to be done about it, roughly.
        kind: Outside,
        message: String,
        /// What to do next.
        help: Vec<String>,
    },
    /// The disk of this host is full.
    #[error("no space left on {}", .0.display())]
    NoSpace(PathBuf),
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried: `read`, `write`, …
        action: &'static str,
        /// On what.
        path: PathBuf,
        source: std::io::Error,
    },
    /// Anything else, from a lower module.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

/// What is to be done about content from outside that cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outside {
    /// Look at the network, or try again.
    Download,
    /// It is not what it should be: never to be passed over.
    Verification,
    /// Install something.
    Missing,
    /// Go online once.
    Offline,
    /// Look at files and space of this host.
    Local,
}

impl BuildError {
    /// Wraps an error of a lower module.
    pub fn other(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Other(Box::new(error))
    }

    /// For `map_err`: an input or output error with what was tried, and on what. A full disk is
    /// said as that.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            std::io::ErrorKind::StorageFull => Self::NoSpace(path),
            _ => Self::Io {
                action,
                path,
                source,
            },
        }
    }
}

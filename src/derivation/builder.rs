//! The contract between `executor`, which schedules derivations, and `builder`, which realises
//! them.

use std::collections::BTreeMap;
use std::path::Path;

use super::graph::{Derivation, NodeId};
use crate::digest::{ActionKey, ObjectRef};
use crate::failure::Failure;
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
    /// Nothing of a failed build may be seen in the store.
    fn build(&self, request: &BuildRequest<'_>) -> Result<Outputs, Failure>;
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
    fn possible(&self, _derivation: &Derivation) -> Result<(), Failure> {
        Ok(())
    }
}

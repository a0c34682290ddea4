//! What went into the last build of each image, for the next one to be compared with; and into each
//! build that has a record, for reports.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Context, RecipeChoice};
use crate::derivation::{Derivation, Outputs, ResolvedInput, action_key, resolve_inputs};
use crate::digest::{ActionKey, Hasher, ObjectId, ObjectRef};
use crate::executor::Execution;
use crate::failure::Failure;
use crate::host::file;
use crate::plan;

/// What went into the last build of an image: what the next one is compared with.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Path or name of the recipe.
    #[serde(default)]
    pub(super) recipe: String,
    #[serde(default)]
    pub(super) image: String,
    /// What the steps made.
    #[serde(default)]
    pub(super) outputs: Vec<ObjectId>,
    /// Whether all steps were to run, known or not.
    #[serde(default)]
    pub(super) rebuild: bool,
    pub(super) steps: Vec<RecordedStep>,
}

/// A step with all that its key was made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RecordedStep {
    pub(super) name: String,
    pub(super) builder: String,
    pub(super) version: u32,
    pub(super) params: Value,
    pub(super) inputs: Vec<(String, ObjectId)>,
    /// Its index in the graph; nothing in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<usize>,
    /// What it made; nothing in records of earlier versions, and of a step that made nothing.
    #[serde(default, skip_serializing_if = "Outputs::is_empty")]
    pub(super) outputs: Outputs,
}

impl RecordedStep {
    pub(super) fn new(derivation: &Derivation, inputs: &[ResolvedInput]) -> Self {
        Self {
            name: derivation.name.clone(),
            builder: derivation.builder.clone(),
            version: derivation.version,
            params: derivation.params.clone(),
            inputs: inputs
                .iter()
                .map(|i| (i.role.clone(), i.object.id))
                .collect(),
            node: None,
            outputs: Outputs::new(),
        }
    }

    /// Its key.
    pub(super) fn key(&self) -> ActionKey {
        let inputs: Vec<_> = self
            .inputs
            .iter()
            .map(|(role, id)| ResolvedInput {
                role: role.clone(),
                // Sizes are no part of a key.
                object: ObjectRef { id: *id, size: 0 },
            })
            .collect();
        let derivation = Derivation {
            name: String::new(),
            builder: self.builder.clone(),
            version: self.version,
            params: self.params.clone(),
            inputs: Vec::new(),
        };
        action_key(&derivation, &inputs)
    }
}

impl Record {
    /// All records of a home; those that cannot be read are left out.
    pub(super) fn all(context: &Context) -> Vec<Self> {
        let entries = fs::read_dir(context.home.build_records());
        entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Self::read(&entry.path()).ok().flatten())
            .collect()
    }

    /// Whether an object went into the build or came out of it.
    pub(super) fn names(&self, object: &ObjectId) -> bool {
        let inputs = self.steps.iter().flat_map(|step| &step.inputs);
        self.outputs.contains(object) || inputs.into_iter().any(|(_, input)| input == object)
    }

    pub(super) fn read(path: &Path) -> Result<Option<Self>, Failure> {
        match fs::read(path) {
            // A record of another version, or a torn one, is as good as none.
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::io("read", path)(error)),
        }
    }
}

/// Remembers what went into a build and came out of it. If steps ran or came from a cache, the next
/// build of the image is compared with it.
pub(super) fn remember(
    context: &Context,
    choice: &RecipeChoice,
    plan: &plan::Plan,
    execution: &Execution,
    rebuild: bool,
) -> Result<(), Failure> {
    let counts = execution.built + execution.remote > 0;
    let kept = context.sink.record();
    if !counts && kept.is_none() {
        return Ok(());
    }
    let outputs = &execution.outputs;
    let mut record = Record {
        recipe: choice.path().display().to_string(),
        image: plan.image_name.clone(),
        outputs: outputs
            .iter()
            .flatten()
            .flat_map(|outputs| outputs.values().map(|object| object.id))
            .collect(),
        rebuild,
        steps: Vec::new(),
    };
    for (node, derivation) in plan.graph.nodes().iter().enumerate() {
        if let Some(inputs) = resolve_inputs(derivation, |node| outputs[node.index()].as_ref()) {
            record.steps.push(RecordedStep {
                node: Some(node),
                outputs: outputs[node].clone().unwrap_or_default(),
                ..RecordedStep::new(derivation, &inputs)
            });
        }
    }
    let path = record_path(context, choice, plan);
    let bytes = serde_json::to_vec(&record).unwrap_or_default();
    if let Some(kept) = &kept {
        // Without them, a report says less. Files of caches are replaced, never changed: a link
        // stays what it is.
        let _ = fs::hard_link(&path, with_ending(kept, BEFORE));
        if !counts {
            let _ = file::cache(&with_ending(kept, INPUTS), &bytes);
            return Ok(());
        }
    }
    file::cache(&path, &bytes).map_err(Failure::io("write", &path))?;
    if let Some(kept) = &kept {
        let _ = fs::hard_link(&path, with_ending(kept, INPUTS));
    }
    Ok(())
}

/// What went into one graph of a build that has a record: `INPUTS`, or `BEFORE` for the build of the
/// same image before it.
pub(super) fn of_graph(kept: &Path, which: &str) -> Option<Record> {
    Record::read(&with_ending(kept, which)).ok().flatten()
}

/// What went into a graph, and came out of it.
pub(super) const INPUTS: &str = "inputs";
/// The same of the build of that image before.
pub(super) const BEFORE: &str = "before";

fn with_ending(kept: &Path, ending: &str) -> PathBuf {
    let mut name = kept.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// One record for each image of each recipe.
pub(super) fn record_path(context: &Context, choice: &RecipeChoice, plan: &plan::Plan) -> PathBuf {
    let recipe = choice.path();
    let mut hasher = Hasher::new("vmfab build record v1");
    hasher.update_field(recipe.as_os_str().as_encoded_bytes());
    hasher.update_field(plan.image_name.as_bytes());
    context
        .home
        .build_records()
        .join(format!("{}.json", hasher.finish().short()))
}

//! What went into the last build of each image, for the next one to be compared with.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Context, RecipeChoice};
use crate::derivation::{Derivation, Outputs, ResolvedInput, resolve_inputs};
use crate::digest::{Hasher, ObjectId};
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
        }
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

/// Remembers what went into a build whose outputs are `outputs`, by index.
pub(super) fn remember(
    context: &Context,
    choice: &RecipeChoice,
    plan: &plan::Plan,
    outputs: &[Option<Outputs>],
) -> Result<(), Failure> {
    let mut record = Record {
        recipe: choice.path().display().to_string(),
        image: plan.image_name.clone(),
        outputs: outputs
            .iter()
            .flatten()
            .flat_map(|outputs| outputs.values().map(|object| object.id))
            .collect(),
        steps: Vec::new(),
    };
    for derivation in plan.graph.nodes() {
        if let Some(inputs) = resolve_inputs(derivation, |node| outputs[node.index()].as_ref()) {
            record.steps.push(RecordedStep::new(derivation, &inputs));
        }
    }
    let path = record_path(context, choice, plan);
    let bytes = serde_json::to_vec(&record).unwrap_or_default();
    file::cache(&path, &bytes).map_err(Failure::io("write", &path))
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

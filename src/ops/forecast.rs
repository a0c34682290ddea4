//! What a build would do, and why.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use super::build_record::{Record, RecordedStep, record_path};
use super::cache::{self, CacheOptions};
pub use super::reason::Reason;
use super::reason::{Last, own_changes, reasons};
use super::{Context, RecipeChoice};
use crate::derivation::{Derivation, Listing, action_key, step};
use crate::digest::{ActionKey, Digest};
use crate::executor::{Sources, survey};
use crate::failure::Failure;
use crate::store::Store;
use crate::{plan, world};

/// What a build would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    /// The image's name in the recipe.
    pub name: String,
    /// Its steps, inputs before those that read them.
    pub steps: Vec<ForecastStep>,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ForecastStep {
    pub name: String,
    pub builder: String,
    /// Positions, in the list of steps, of those that it reads.
    pub inputs: Vec<usize>,
    /// Its key; unknown while the content of an input is.
    pub key: Option<ActionKey>,
    /// Whether it would run.
    pub state: ForecastState,
    /// The cache that has its result, when it is remote.
    pub from: Option<String>,
    /// Why it would run, compared with the last build of this image; empty when it would not.
    pub reasons: Vec<Reason>,
}

/// Whether a step would run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForecastState {
    /// Its result is in the store, or known without being needed.
    Cached,
    /// A cache has its result: see [`ForecastStep::from`].
    Remote,
    /// It would run.
    Build,
    /// Something that it reads would run: what comes out of that decides.
    Depends,
}

impl ForecastState {
    pub const ALL: [Self; 4] = [Self::Cached, Self::Remote, Self::Build, Self::Depends];

    /// Whether the step would run, or could.
    #[must_use]
    pub const fn runs(self) -> bool {
        matches!(self, Self::Build | Self::Depends)
    }

    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Remote => "remote",
            Self::Build => "build",
            Self::Depends => "depends",
        }
    }
}

impl Forecast {
    /// How many steps are in a state.
    #[must_use]
    pub fn count(&self, state: ForecastState) -> usize {
        let steps = self.steps.iter();
        steps.filter(|step| step.state == state).count()
    }
}

/// What a build would do.
///
/// # Errors
/// The recipe is wrong.
pub fn forecast(
    context: &Context,
    choice: &RecipeChoice,
    caches: &CacheOptions,
) -> Result<Forecast, Failure> {
    let store = context.store()?;
    let plan = world::plan(context, choice)?;
    let last = Record::read(&record_path(context, choice, &plan))?;
    let last = Last::new(last.as_ref());
    let cache = cache::open(context, caches)?;
    let surveyed = survey(
        &Sources {
            store: &store,
            remembered: &context.remembered(),
            cache: cache.as_deref(),
        },
        &plan.graph,
        plan.image,
    );
    let mut steps: Vec<ForecastStep> = Vec::new();
    for (derivation, step) in plan.graph.nodes().iter().zip(&surveyed) {
        let reads: BTreeSet<_> = derivation.inputs.iter().map(|i| i.node.index()).collect();
        let (state, reasons) = match (&step.inputs, &step.outputs) {
            (_, Some(_)) if step.from.is_some() => (ForecastState::Remote, Vec::new()),
            (_, Some(_)) => (ForecastState::Cached, Vec::new()),
            (Some(inputs), None) => {
                let makers = derivation
                    .inputs
                    .iter()
                    .map(|i| plan.graph.get(i.node).name.as_str());
                let now = RecordedStep::new(derivation, inputs);
                let reasons = reasons(&last, &now, &makers.collect::<Vec<_>>());
                let files = |reason| files(&store, &plan, derivation, reason);
                (
                    ForecastState::Build,
                    reasons.into_iter().map(files).collect(),
                )
            }
            (None, None) => {
                let waits = reads.iter().filter(|&&input| steps[input].state.runs());
                let mut reasons = own_changes(&last, derivation);
                reasons.extend(waits.map(|&input| Reason::Depends {
                    step: steps[input].name.clone(),
                }));
                (ForecastState::Depends, reasons)
            }
        };
        steps.push(ForecastStep {
            name: derivation.name.clone(),
            builder: derivation.builder.clone(),
            inputs: reads.into_iter().collect(),
            key: step.key,
            state,
            from: step.from.clone(),
            reasons,
        });
    }
    Ok(Forecast {
        name: plan.image_name,
        steps,
    })
}

/// Names the files, where a reason is that the digest of local files is another.
fn files(store: &Store, plan: &plan::Plan, derivation: &Derivation, reason: Reason) -> Reason {
    let Reason::Parameter { name, was, is } = &reason else {
        return reason;
    };
    let local = |tree: &Value| serde_json::from_value::<Digest>(tree.clone()).ok();
    let now = local(is).and_then(|tree| plan.locals.get(&tree));
    let (Some(now), "tree") = (now, name.as_str()) else {
        return reason;
    };
    let mut before = derivation.clone();
    before.params[name] = was.clone();
    let listed = store.action(&action_key(&before, &[])).and_then(|result| {
        let listing = result.outputs.get(step::LISTING)?;
        Listing::from_bytes(store.read_object(&listing.id).ok()?)
    });
    let changed = listed.map(|listed| listed.differences(&now.listing));
    Reason::Files {
        path: now.files.path.clone(),
        changed: changed.unwrap_or_default(),
    }
}

//! What a build would do, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use super::build_record::{Record, RecordedStep, record_path};
use super::cache::{self, CacheOptions};
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
    /// Whether the step would run, or could.
    const fn runs(self) -> bool {
        matches!(self, Self::Build | Self::Depends)
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

/// Why a step would run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Reason {
    /// The image was never built here, or the step was not in it.
    New,
    /// A parameter is another.
    Parameter { name: String, was: Value, is: Value },
    /// Local files are others.
    Files {
        /// The file or directory that the recipe names.
        path: PathBuf,
        /// What is new, changed or gone in it, by paths below it; `.` is the path itself. Empty
        /// when the earlier content is not in the store any more.
        changed: Vec<PathBuf>,
    },
    /// The step has more or fewer inputs than before, or others.
    Inputs,
    /// The content of an input is another.
    Input {
        /// The step that makes it.
        step: String,
    },
    /// This vmfab builds such steps differently.
    Builder,
    /// Nothing changed, but the result is not in the store any more.
    Lost,
    /// A step that it reads would run.
    Depends { step: String },
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
                let reasons = reasons(last.as_ref(), &now, &makers.collect::<Vec<_>>());
                let files = |reason| files(&store, &plan, derivation, reason);
                (
                    ForecastState::Build,
                    reasons.into_iter().map(files).collect(),
                )
            }
            (None, None) => {
                let waits = reads.iter().filter(|&&input| steps[input].state.runs());
                let mut reasons = own_changes(last.as_ref(), derivation);
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

/// What changed about a step itself, whatever it reads.
fn own_changes(last: Option<&Record>, now: &Derivation) -> Vec<Reason> {
    let Some(last) = last else {
        return Vec::new();
    };
    let same_kind = |step: &&RecordedStep| step.builder == now.builder;
    let before = last.steps.iter().filter(same_kind);
    match before.clone().find(|step| step.name == now.name) {
        Some(before) => changes(before, now.version, &now.params),
        // Its label is made from its parameters.
        None => vec![Reason::New],
    }
}

/// What is another about a step than before, but for its inputs.
fn changes(before: &RecordedStep, version: u32, params: &Value) -> Vec<Reason> {
    let builder = (before.version != version).then_some(Reason::Builder);
    let parameters = changed("", &before.params, params);
    builder.into_iter().chain(parameters).collect()
}

/// Why `now` would run, when the last build is `last`. `makers` are the steps that make its inputs.
fn reasons(last: Option<&Record>, now: &RecordedStep, makers: &[&str]) -> Vec<Reason> {
    let same_kind = |step: &&RecordedStep| step.builder == now.builder;
    let before = last.and_then(|last| {
        let named = last
            .steps
            .iter()
            .filter(same_kind)
            .find(|step| step.name == now.name);
        // A step whose label changed with its parameters stands on the same inputs.
        named.or_else(|| {
            last.steps
                .iter()
                .filter(same_kind)
                .find(|step| step.inputs == now.inputs)
        })
    });
    let Some(before) = before else {
        return vec![Reason::New];
    };
    let mut reasons = changes(before, now.version, &now.params);
    let roles = |step: &RecordedStep| step.inputs.iter().map(|i| i.0.clone()).collect::<Vec<_>>();
    if roles(before) == roles(now) {
        let inputs = before.inputs.iter().zip(&now.inputs).zip(makers);
        for ((_, _), maker) in inputs.filter(|((was, is), _)| was != is) {
            reasons.push(Reason::Input {
                step: (*maker).to_owned(),
            });
        }
    } else {
        reasons.push(Reason::Inputs);
    }
    if reasons.is_empty() {
        reasons.push(Reason::Lost);
    }
    reasons
}

/// What differs between two objects, by the names on the way to it.
fn changed(around: &str, was: &Value, is: &Value) -> Vec<Reason> {
    let empty = serde_json::Map::new();
    let fields = |value: &Value| value.as_object().unwrap_or(&empty).clone();
    let (was, is) = (fields(was), fields(is));
    let names: BTreeMap<&String, ()> = was.keys().chain(is.keys()).map(|name| (name, ())).collect();
    let value = |map: &serde_json::Map<String, Value>, name: &str| {
        map.get(name).cloned().unwrap_or(Value::Null)
    };
    names
        .into_keys()
        .map(|name| (name, value(&was, name), value(&is, name)))
        .filter(|(_, was, is)| was != is)
        .flat_map(|(name, was, is)| {
            let name = match around {
                "" => name.clone(),
                around => format!("{around} {name}"),
            };
            match was.is_object() && is.is_object() {
                true => changed(&name, &was, &is),
                false => vec![Reason::Parameter { name, was, is }],
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::digest::{Hasher, ObjectId};

    fn step(name: &str, params: Value, inputs: &[&str]) -> RecordedStep {
        let id = |text: &&str| ObjectId::new(Hasher::new("test").update(text.as_bytes()).finish());
        RecordedStep {
            name: name.into(),
            builder: "run".into(),
            version: 1,
            params,
            inputs: inputs
                .iter()
                .map(|text| ("layer".to_owned(), id(text)))
                .collect(),
        }
    }

    #[test]
    fn the_reason_is_what_changed() {
        let last = Record {
            steps: vec![step("a", json!({"command": "x"}), &["1", "2"])],
            ..Record::default()
        };
        let why = |now: &RecordedStep| reasons(Some(&last), now, &["base", "middle"]);
        let same = step("a", json!({"command": "x"}), &["1", "2"]);
        assert_eq!(why(&same), [Reason::Lost]);
        assert_eq!(reasons(None, &same, &[]), [Reason::New]);
        let renamed = step("b", json!({"command": "y"}), &["1", "2"]);
        let changed = Reason::Parameter {
            name: "command".into(),
            was: "x".into(),
            is: "y".into(),
        };
        assert_eq!(why(&renamed), [changed]);
        let below = step("a", json!({"command": "x"}), &["1", "3"]);
        assert_eq!(
            why(&below),
            [Reason::Input {
                step: "middle".into()
            }]
        );
        assert_eq!(
            why(&step("a", json!({"command": "x"}), &["1"])),
            [Reason::Inputs]
        );
        assert_eq!(
            why(&step("b", json!({"command": "x"}), &["7"])),
            [Reason::New]
        );
        let newer = RecordedStep { version: 2, ..same };
        assert_eq!(why(&newer), [Reason::Builder]);
    }
}

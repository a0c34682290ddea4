//! Finding out what an image stands for: the steps are built whose packages are to be known.

use std::collections::{BTreeMap, BTreeSet};

use super::super::build::{self, BuildOptions};
use super::super::template;
use super::super::{Context, RecipeChoice};
use crate::builder::packages;
use crate::derivation::{NodeId, Outputs, action_key, resolve_inputs};
use crate::digest::Digest;
use crate::failure::Failure;
use crate::lock::{Lock, PinnedStep, Source, Target};
use crate::plan::{PackageStep, Plan};
use crate::store::{ActionResult, Store};
use crate::template::TemplateName;
use crate::world::lock_file::Place;
use crate::world::templates::Versions;
use crate::world::{Pins, Resolve, apply, package_steps, recipes};

/// An entry of a lock.
pub(super) enum Entry<'a> {
    /// Content from outside, by its address.
    Source(&'a str),
    Step(&'a PackageStep),
    Template(&'a TemplateName),
}

/// What is to be found out.
pub(super) struct Pinning<'a> {
    pub(super) context: &'a Context,
    pub(super) store: &'a Store,
    pub(super) place: &'a Place,
    pub(super) choice: &'a RecipeChoice,
    pub(super) resolver: &'a dyn Resolve,
    /// Entries that are found out again although the lock has them.
    pub(super) afresh: &'a dyn Fn(&Entry<'_>) -> bool,
}

/// What was found out, and what the lock had.
pub(super) struct Pinned {
    pub(super) target: Target,
    pub(super) sources: BTreeMap<String, Source>,
    pub(super) steps: BTreeMap<Digest, PinnedStep>,
    pub(super) templates: Versions,
    /// The steps in the order in which they run.
    pub(super) order: Vec<Digest>,
}

impl Pinning<'_> {
    /// Finds out what `lock` does not have, or not afresh.
    pub(super) fn pin(&self, lock: &Lock) -> Result<Pinned, Failure> {
        let afresh = |url: &str| (self.afresh)(&Entry::Source(url));
        let pins = Pins {
            afresh: &afresh,
            ..Pins::new(Some(lock), Some(self.resolver))
        };
        let pins = pins.with_templates(&self.place.recipe, &self.choice.settings, |name| {
            (self.afresh)(&Entry::Template(name))
        });
        let plan = recipes::plan_with(self.context, self.choice, &pins)?;
        template::consent(self.context, self.choice)?;
        let all = package_steps(self.context, &plan, self.place);
        let mut kept = lock.clone();
        for step in all.iter().filter(|step| (self.afresh)(&Entry::Step(step))) {
            kept.steps.remove(&step.key);
        }
        let mut locked = plan.clone();
        let wanted: Vec<PackageStep> = apply(&mut locked, &all, &kept)
            .into_iter()
            .cloned()
            .collect();
        let found = self.build(&locked, &wanted)?;
        let mut steps: BTreeMap<Digest, PinnedStep> = BTreeMap::new();
        for step in &all {
            let pinned = match kept.steps.get(&step.key).or_else(|| found.get(&step.key)) {
                Some(pinned) => pinned.clone(),
                None => continue,
            };
            steps.insert(step.key, pinned);
        }
        let mut order = Vec::new();
        for step in &all {
            if !order.contains(&step.key) {
                order.push(step.key);
            }
        }
        let templates = pins.told_templates.take();
        let versions = templates.iter();
        let versions = versions.map(|(name, template)| (name.clone(), template.version.clone()));
        Ok(Pinned {
            target: Target {
                templates: versions.collect(),
                recipe: self.place.recipe.clone(),
                image: plan.image_name,
                settings: self.choice.settings.clone(),
                sources: pins.asked(),
                steps: steps.keys().copied().collect(),
            },
            sources: pins.told.into_inner(),
            steps,
            templates,
            order,
        })
    }

    /// Builds the steps `wanted` and what they stand on, and reads which packages they installed.
    fn build(
        &self,
        plan: &Plan,
        wanted: &[PackageStep],
    ) -> Result<BTreeMap<Digest, PinnedStep>, Failure> {
        let mut found = BTreeMap::new();
        if wanted.is_empty() {
            return Ok(found);
        }
        let nodes: BTreeSet<NodeId> = wanted.iter().map(|step| step.node).collect();
        let (part, originals) = plan.graph.part(&nodes);
        let in_part = |node: NodeId| {
            let index = originals.binary_search(&node).unwrap_or_default();
            NodeId(index as u32)
        };
        let afresh = wanted
            .iter()
            .filter(|step| (self.afresh)(&Entry::Step(step)))
            .map(|step| in_part(step.node))
            .collect();
        let part_of_plan = build::Part {
            graph: &part,
            wanted: nodes.iter().map(|&node| in_part(node)).collect(),
            afresh,
        };
        let execution = build::execute(
            self.context,
            self.store,
            plan,
            part_of_plan,
            &BuildOptions::default(),
            None,
        )
        .and_then(build::finished)?;
        let outputs = |node: NodeId| execution.outputs[node.index()].as_ref();
        for step in wanted {
            let node = in_part(step.node);
            let installed = outputs(node).and_then(|outputs| outputs.get(packages::OUTPUT));
            let set = match installed {
                Some(output) => Some(packages::read(self.store, output).map_err(|error| {
                    Failure::failed(format!(
                        "cannot read what \"{}\" installed: {error}",
                        step.label
                    ))
                    .with_help("check the store with \"vmfab store verify\"")
                })?),
                None => None,
            };
            if let Some(set) = &set {
                // The locked step installs the same: its result is known already.
                let mut locked = plan.clone();
                locked.lock(step.node, set);
                let mut derivation = part.get(node).clone();
                derivation.params = locked.graph.get(step.node).params.clone();
                let inputs = resolve_inputs(&derivation, outputs);
                if let (Some(inputs), Some(outputs)) = (inputs, outputs(node)) {
                    self.record(&action_key(&derivation, &inputs), outputs)?;
                }
            }
            let pinned = PinnedStep {
                label: step.label.clone(),
                packages: set,
            };
            found.insert(step.key, pinned);
        }
        Ok(found)
    }

    fn record(&self, key: &crate::digest::ActionKey, outputs: &Outputs) -> Result<(), Failure> {
        let result = ActionResult {
            outputs: outputs.clone(),
        };
        if self.store.action(key).is_none() {
            self.store.put_action(key, result)?;
        }
        Ok(())
    }
}

//! How long a build still takes, from what its steps took before.

use std::collections::BTreeMap;
use std::fs;

use crate::digest::Hasher;
use crate::event::PlannedStep;
use crate::host::{Home, file};

/// The most steps that are remembered.
const REMEMBERED: usize = 5000;

/// What steps took, by their labels, which are made from their parameters.
#[derive(Debug, Default)]
pub(super) struct Times {
    before: BTreeMap<String, f64>,
    new: BTreeMap<String, f64>,
}

impl Times {
    pub(super) fn load(home: &Home) -> Self {
        let bytes = fs::read(home.step_times()).unwrap_or_default();
        Self {
            before: serde_json::from_slice(&bytes).unwrap_or_default(),
            new: BTreeMap::new(),
        }
    }

    /// What a step took in earlier builds.
    pub(super) fn of(&self, name: &str) -> Option<f64> {
        self.before.get(&key(name)).copied()
    }

    /// A step took so long in this one.
    pub(super) fn learn(&mut self, name: &str, seconds: f64) {
        self.new.insert(key(name), seconds);
    }

    /// Saves what was learnt. If two processes save at once, what one of them learnt is lost.
    pub(super) fn save(&mut self, home: &Home) {
        if self.new.is_empty() {
            return;
        }
        let mut times = Self::load(home).before;
        if times.len() > REMEMBERED {
            times.clear();
        }
        for (key, seconds) in std::mem::take(&mut self.new) {
            let before = times.entry(key).or_insert(seconds);
            // Later ones count more: a host becomes faster, a package larger.
            *before = (*before + seconds) / 2.0;
        }
        let bytes = serde_json::to_vec(&times).unwrap_or_default();
        // Without it, later builds say less.
        let _ = file::cache(&home.step_times(), &bytes);
    }
}

fn key(name: &str) -> String {
    let mut hasher = Hasher::new("vmfab step name");
    hasher.update_field(name.as_bytes());
    hasher.finish().short()
}

/// Seconds until a build is done that runs `parallel` steps at once. `left` gives the seconds that a
/// step still takes: zero when it has ended, `None` when no earlier build ran it. A step that never
/// ran counts as the average of the known steps that have yet to end. Without any, the result is
/// `None`.
///
/// No schedule can be faster: it is the longest chain of steps, or all of them shared among the
/// processors.
pub(super) fn seconds_left(
    plan: &[PlannedStep],
    left: impl Fn(usize) -> Option<f64>,
    parallel: usize,
) -> Option<f64> {
    let own: Vec<Option<f64>> = (0..plan.len()).map(left).collect();
    let known: Vec<f64> = own
        .iter()
        .flatten()
        .copied()
        .filter(|own| *own > 0.0)
        .collect();
    let usual = (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64);
    let mut chains: Vec<f64> = Vec::with_capacity(plan.len());
    let mut all = 0.0;
    for (step, own) in plan.iter().zip(own) {
        let own = own.or(usual)?;
        let inputs = step.inputs.iter().filter_map(|input| chains.get(*input));
        let before = inputs.copied().fold(0.0, f64::max);
        chains.push(before + own);
        all += own;
    }
    let longest = chains.into_iter().fold(0.0, f64::max);
    Some(longest.max(all / parallel.max(1) as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(inputs: &[&[usize]]) -> Vec<PlannedStep> {
        let step = |inputs: &&[usize]| PlannedStep {
            inputs: inputs.to_vec(),
            ..PlannedStep::default()
        };
        inputs.iter().map(step).collect()
    }

    #[test]
    fn a_chain_takes_its_sum_and_others_share_processors() {
        let chain = plan(&[&[], &[0], &[1]]);
        let left = |index: usize| Some([4.0, 5.0, 6.0][index]);
        assert_eq!(seconds_left(&chain, left, 8), Some(15.0));
        let apart = plan(&[&[], &[], &[]]);
        assert_eq!(seconds_left(&apart, left, 3), Some(6.0));
        assert_eq!(seconds_left(&apart, left, 2), Some(7.5));
        assert_eq!(seconds_left(&apart, left, 1), Some(15.0));
    }

    #[test]
    fn unknown_steps_take_the_usual_time() {
        let chain = plan(&[&[], &[0], &[1]]);
        let left = |index: usize| [None, Some(0.0), Some(2.0)][index];
        assert_eq!(seconds_left(&chain, left, 1), Some(4.0));
        let left = |index: usize| [None, Some(0.0), Some(0.0)][index];
        assert_eq!(seconds_left(&chain, left, 1), None);
        assert_eq!(seconds_left(&[], left, 1), Some(0.0));
    }

    #[test]
    fn what_was_learnt_is_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        for seconds in [8.0, 4.0] {
            let mut times = Times::load(&home);
            times.learn("docker: disk", seconds);
            times.save(&home);
        }
        let times = Times::load(&home);
        assert_eq!(times.of("docker: disk"), Some(6.0));
        assert_eq!(times.of("docker: system"), None);
    }
}

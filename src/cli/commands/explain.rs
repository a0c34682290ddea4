//! `vmfab explain`

use clap::Args;

use super::super::Status;
use super::super::output::count;
use super::super::session::Session;
use super::plan::PlanArgs;
use crate::failure::Failure;
use crate::ops::forecast::{Forecast, ForecastState, ForecastStep, Reason};

/// Explain why steps of a build would run again
///
/// Compare with the last build of the image on this host, and name what changed: a parameter of the
/// step, the content of an input, or a result that is no longer in the store. Build nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab explain docker
  vmfab explain docker --set base=debian-12 --json")]
pub(crate) struct Explain {
    #[command(flatten)]
    of: PlanArgs,
}

impl Explain {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        session.print(&self.of.forecast(session)?, text)?;
        Ok(Status::Done)
    }
}

fn text(planned: &Forecast) -> String {
    let mut text = String::new();
    let (named, after): (Vec<_>, Vec<_>) = planned
        .steps
        .iter()
        .filter(|step| matches!(step.state, ForecastState::Build | ForecastState::Depends))
        .partition(|step| changed_itself(step));
    for step in named {
        text += &format!("{}\n", step.name);
        for reason in &step.reasons {
            text += &format!("    {reason}\n");
        }
    }
    if !after.is_empty() {
        text += &format!(
            "and {} that read their outputs, if these differ\n",
            count(after.len(), "step")
        );
    }
    if text.is_empty() {
        let steps = count(planned.steps.len(), "step");
        let known = match planned.count(ForecastState::Remote) {
            0 => format!("{steps}, all cached"),
            remote => format!(
                "{steps}, {} cached, {remote} remote",
                planned.count(ForecastState::Cached)
            ),
        };
        text = format!("{}: {known}; nothing would run\n", planned.name);
    }
    text
}

/// Whether there is more to say of a step than that it reads others that run.
fn changed_itself(step: &ForecastStep) -> bool {
    let mut reasons = step.reasons.iter();
    reasons.any(|reason| !matches!(reason, Reason::Depends { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_read_as_sentences() {
        let step = |name: &str, state, reasons: Vec<Reason>| ForecastStep {
            name: name.into(),
            builder: "run".into(),
            inputs: Vec::new(),
            key: None,
            state,
            from: None,
            reasons,
        };
        let parameter = Reason::Parameter {
            name: "command".into(),
            was: serde_json::Value::Null,
            is: "x".repeat(100).into(),
        };
        let plan = Forecast {
            name: "web".into(),
            steps: vec![
                step("web: user vm", ForecastState::Cached, Vec::new()),
                step(
                    "web: run x",
                    ForecastState::Build,
                    vec![parameter, Reason::Lost],
                ),
                step(
                    "web: disk",
                    ForecastState::Depends,
                    vec![Reason::Depends {
                        step: "web: run x".into(),
                    }],
                ),
            ],
        };
        insta::assert_snapshot!(text(&plan), @r#"
        web: run x
            command was absent, is "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…
            is unchanged, but its result is not in the store
        and 1 step that read their outputs, if these differ
        "#);
    }

    #[test]
    fn nothing_to_run_says_where_the_results_are() {
        let step = |state| ForecastStep {
            name: "web: user vm".into(),
            builder: "run".into(),
            inputs: Vec::new(),
            key: None,
            state,
            from: None,
            reasons: Vec::new(),
        };
        let said = |states: &[ForecastState]| {
            text(&Forecast {
                name: "web".into(),
                steps: states.iter().copied().map(step).collect(),
            })
        };
        let (cached, remote) = (ForecastState::Cached, ForecastState::Remote);
        insta::assert_snapshot!(said(&[cached, cached]), @"web: 2 steps, all cached; nothing would run");
        insta::assert_snapshot!(said(&[cached, remote]), @"web: 2 steps, 1 cached, 1 remote; nothing would run");
    }
}

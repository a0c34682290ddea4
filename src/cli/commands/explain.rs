//! `vmfab explain`

use std::path::{Path, PathBuf};

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
            text += &format!("    {}\n", describe(reason));
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

fn describe(reason: &Reason) -> String {
    match reason {
        Reason::New => "was not part of the last build on this host".to_owned(),
        Reason::Parameter { name, was, is } => {
            let (was, is) = (text_of(was), text_of(is));
            let same = was.iter().zip(&is).take_while(|(a, b)| a == b).count();
            format!("{name} was {}, is {}", short(&was, same), short(&is, same))
        }
        Reason::Files { path, changed } => files(path, changed),
        Reason::Inputs => "reads different steps than in the last build".to_owned(),
        Reason::Input { step } => format!("reads \"{step}\", whose result changed"),
        Reason::Builder => "this vmfab builds such steps differently".to_owned(),
        Reason::Lost => "is unchanged, but its result is not in the store".to_owned(),
        Reason::Depends { step } => format!("reads \"{step}\", which runs"),
    }
}

/// What changed in local files, the first few by name.
fn files(path: &Path, changed: &[PathBuf]) -> String {
    const SHOWN: usize = 5;
    let path = path.display();
    // A file by itself is its own root.
    if matches!(changed, []) || changed == [Path::new(".")] {
        return format!("{path} changed");
    }
    let (shown, more) = changed.split_at(changed.len().min(SHOWN));
    let mut names: Vec<_> = shown.iter().map(|one| one.display().to_string()).collect();
    if !more.is_empty() {
        names.push(format!("and {} more", more.len()));
    }
    format!("{path} changed: {}", names.join(", "))
}

/// A value as JSON.
fn text_of(value: &serde_json::Value) -> Vec<char> {
    match value.is_null() {
        true => "absent".chars().collect(),
        false => value.to_string().chars().collect(),
    }
}

/// A text; of a long one what is around the place from which on it differs from another.
fn short(text: &[char], same: usize) -> String {
    const BEFORE: usize = 20;
    const LONGEST: usize = 64;
    if text.len() <= LONGEST {
        return text.iter().collect();
    }
    let start = same.saturating_sub(BEFORE).min(text.len() - LONGEST);
    let end = start + LONGEST;
    let dots = |cut: bool| if cut { "…" } else { "" };
    let middle: String = text[start..end].iter().collect();
    format!("{}{middle}{}", dots(start > 0), dots(end < text.len()))
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

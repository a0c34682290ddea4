//! Steps that failed, as failures.

use std::path::PathBuf;

use super::hint;
use crate::failure::{Failure, Kind};

/// A step that failed.
#[derive(Debug)]
pub struct FailedStep {
    pub step: String,
    pub log: PathBuf,
    pub error: Failure,
}

/// The failure of a build in which steps failed; there is at least one.
#[must_use]
pub fn steps(failed: Vec<FailedStep>) -> Failure {
    let again = match failed.len() {
        1 => "change the step and build again: vmfab keeps the steps before it",
        _ => "vmfab keeps the steps that succeeded: only the others run next time",
    };
    let message = format!("{} steps failed", failed.len());
    let steps = failed.into_iter().map(Failure::from).collect();
    Failure::several(steps, message).or_help(again)
}

impl From<FailedStep> for Failure {
    fn from(failed: FailedStep) -> Self {
        let FailedStep { step, log, error } = failed;
        if error.is(Kind::Interrupted) {
            return Self::interrupted();
        }
        // Where nothing says what to do, the log may.
        let log = (error.is_command() || error.is(Kind::Unwritable) || error.help().is_empty())
            .then_some(log);
        let hint = hint::of_output(&error.details().output).filter(|_| error.is_command());
        let message = format!("step \"{step}\" failed: {}", error.message());
        let kind = match error.kind() {
            // They are the step's, and not the user's.
            Kind::NotFound | Kind::Usage | Kind::Recipe => Kind::Failed,
            kind => kind,
        };
        let failure = error.with_message(message).with_kind(kind).and_help(hint);
        match log {
            Some(log) => failure.with_log(log),
            None => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(error: Failure) -> FailedStep {
        FailedStep {
            step: "s".to_owned(),
            log: "/log".into(),
            error,
        }
    }

    #[test]
    fn kinds() {
        let kind = |error| steps(vec![step(error)]).kind();
        for kept in [
            Kind::Interrupted,
            Kind::Unwritable,
            Kind::Missing,
            Kind::Verification,
        ] {
            assert_eq!(kind(Failure::new(kept, "")), kept);
        }
        assert_eq!(kind(Failure::unknown("image", "x")), Kind::Failed);
        let mixed = [Kind::Missing, Kind::Verification];
        let mixed = mixed.map(|kind| step(Failure::new(kind, "")));
        assert_eq!(steps(mixed.into()).kind(), Kind::Failed);
    }
}

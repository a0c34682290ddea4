//! Steps that failed, as failures.

use std::path::PathBuf;

use super::hint;
use crate::derivation::{BuildError, Outside};
use crate::failure::{Failure, Kind};
use crate::store::StoreError;

/// A step that failed.
#[derive(Debug)]
pub struct FailedStep {
    pub step: String,
    pub log: PathBuf,
    pub error: BuildError,
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
        let message = |why: &str| format!("step \"{step}\" failed: {why}");
        match error {
            BuildError::Command { command, how, tail } => Self::failed(message(&how))
                .and_help(hint::of_output(&tail))
                .with_command(command)
                .with_output(tail)
                .with_log(log),
            BuildError::Interrupted => Self::interrupted(),
            BuildError::Unsatisfiable { message: why, help } => {
                Self::failed(message(&why)).with_help(help)
            }
            BuildError::Outside {
                kind,
                message: why,
                help,
            } => {
                let kind = match kind {
                    Outside::Verification => Kind::Verification,
                    Outside::Missing => Kind::Missing,
                    Outside::Download | Outside::Offline | Outside::Local => Kind::Failed,
                };
                Self::new(kind, message(&why)).and_help(help)
            }
            BuildError::NoSpace(path) => named(Self::no_space(&path), message).with_log(log),
            BuildError::Io {
                action,
                path,
                source,
            } => named(Self::of_io(action, &path, &source), message),
            BuildError::Other(inner) => match inner.downcast_ref() {
                Some(StoreError::Io { source, path, .. })
                    if source.kind() == std::io::ErrorKind::StorageFull =>
                {
                    named(Self::no_space(path), message).with_log(log)
                }
                Some(error) => {
                    let said = Self::other(inner.as_ref());
                    named(said, message).with_kind(kind_of(error)).with_log(log)
                }
                None => named(Self::other(inner.as_ref()), message).with_log(log),
            },
        }
    }
}

/// What callers do about an error of the store; as a step's it has the exit code of a failure.
fn kind_of(error: &StoreError) -> Kind {
    match error {
        StoreError::Io { source, .. } => Kind::of_io(source),
        StoreError::ReadOnly { .. } | StoreError::Version { .. } | StoreError::Features { .. } => {
            Kind::Unwritable
        }
        _ => Kind::Failed,
    }
}

fn named(failure: Failure, message: impl FnOnce(&str) -> String) -> Failure {
    let message = message(failure.message());
    failure.with_message(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(error: BuildError) -> FailedStep {
        FailedStep {
            step: "s".to_owned(),
            log: "/log".into(),
            error,
        }
    }

    #[test]
    fn kinds() {
        let outside = |kind| BuildError::Outside {
            kind,
            message: String::new(),
            help: Vec::new(),
        };
        let kind = |error| steps(vec![step(error)]).kind();
        assert_eq!(kind(BuildError::Interrupted), Kind::Interrupted);
        assert_eq!(kind(BuildError::NoSpace("/a".into())), Kind::Unwritable);
        assert_eq!(kind(outside(Outside::Missing)), Kind::Missing);
        assert_eq!(kind(outside(Outside::Verification)), Kind::Verification);
        let mixed = [Outside::Missing, Outside::Verification];
        let mixed = mixed.map(|kind| step(outside(kind)));
        assert_eq!(steps(mixed.into()).kind(), Kind::Failed);
    }
}

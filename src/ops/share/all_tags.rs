//! Pulling the images of all tags of a repository.

use std::io;

use super::super::{Context, Error, StepFailure};
use super::pull::{One, PullOptions, Pulled, Tried};
use crate::derivation::BuildError;
use crate::event::Event;
use crate::http::HttpError;
use crate::registry::{RegistryError, Repository, Version};
use crate::share::RESULT_TAG;
use crate::store::{StoreError, TagName};

/// The longest tag.
const MAX_TAG: usize = 128;

/// Pulls them. One that fails does not keep the others from being tried, unless they must fail for
/// the same reason.
///
/// # Errors
/// There is none, or their names cannot be had.
pub(super) fn pull(
    context: &Context,
    repository: &dyn Repository,
    options: &PullOptions,
) -> Result<Pulled, Error> {
    let mut tags = repository.tags()?;
    tags.retain(|tag| !tag.starts_with(RESULT_TAG));
    let mut pulled = Pulled::default();
    for (index, tag) in tags.iter().enumerate() {
        let one = One {
            options,
            repository,
            version: &Version::Tag(tag.clone()),
            name: &format!("{}:{tag}", repository.name()),
            tag: Some(tag),
        };
        match one.pull(context) {
            Ok(Tried::Pulled(image)) => pulled.images.push(image),
            Ok(Tried::Other(why)) => context.emit(Event::Note {
                message: format!("skipped: {why}"),
            }),
            Err(error) if context.interrupt.requested() => return Err(error),
            Err(error) => {
                let is_last = must_fail_again(&error);
                pulled.failures.push(error);
                if is_last {
                    tell_untried(context, repository, tags.len() - index - 1);
                    break;
                }
            }
        }
    }
    match pulled.images.is_empty() && pulled.failures.is_empty() {
        true => Err(Error::NotFound {
            noun: "image under any tag of",
            name: repository.name(),
            help: None,
        }),
        false => Ok(pulled),
    }
}

/// Says how many tags are left out.
fn tell_untried(context: &Context, repository: &dyn Repository, count: usize) {
    let what = match count {
        0 => return,
        1 => "1 more tag".to_owned(),
        count => format!("{count} more tags"),
    };
    let message = format!(
        "{what} of {} not tried, because they would fail for the same reason",
        repository.name()
    );
    context.emit(Event::Warning { message });
}

/// The tag of one of several images: its own name, shortened by what the tag that it has there
/// needs, and that.
///
/// # Errors
/// What it has there cannot be a part of a tag.
pub(super) fn name(own: &str, tag: &str) -> Result<TagName, Error> {
    let room = MAX_TAG.saturating_sub(tag.len() + 1);
    let own: String = own.chars().take(room).collect();
    let name = match own.as_str() {
        "" => tag.to_owned(),
        own => format!("{own}-{tag}"),
    };
    Ok(name.parse()?)
}

/// Whether what one image fails for keeps all others of the repository from being pulled, too.
fn must_fail_again(error: &Error) -> bool {
    match error {
        Error::Store(error) => of_store(error),
        Error::Registry(error) => of_registry(error),
        Error::Io { source, .. } => of_file(source),
        Error::Home(_) => true,
        Error::Steps(failures) => failures.iter().any(of_step),
        _ => false,
    }
}

fn of_store(error: &StoreError) -> bool {
    match error {
        StoreError::Io { source, .. } => of_file(source),
        StoreError::ReadOnly { .. } | StoreError::Version { .. } | StoreError::Features { .. } => {
            true
        }
        _ => false,
    }
}

fn of_registry(error: &RegistryError) -> bool {
    match error {
        RegistryError::Denied { .. }
        | RegistryError::Credentials { .. }
        | RegistryError::Offline(_) => true,
        RegistryError::Io { source, .. } => of_file(source),
        RegistryError::Http { source, .. } => matches!(
            **source,
            HttpError::Unreachable { .. }
                | HttpError::Dns { .. }
                | HttpError::Tls { .. }
                | HttpError::Refused { .. }
                | HttpError::Proxy { .. }
                | HttpError::Authorities { .. }
        ),
        _ => false,
    }
}

fn of_step(failure: &StepFailure) -> bool {
    match &failure.error {
        BuildError::NoSpace(_) => true,
        BuildError::Io { source, .. } => of_file(source),
        BuildError::Other(error) => error.downcast_ref().is_some_and(of_store),
        _ => false,
    }
}

fn of_file(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(
        error.kind(),
        StorageFull | QuotaExceeded | ReadOnlyFilesystem
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(kind: io::ErrorKind) -> StoreError {
        StoreError::Io {
            action: "write",
            path: "/store/packs/1".into(),
            source: kind.into(),
        }
    }

    fn http(error: HttpError) -> Error {
        Error::Registry(Box::new(RegistryError::Http {
            place: "registry.example/web".to_owned(),
            source: Box::new(error),
        }))
    }

    fn step(error: BuildError) -> Error {
        Error::Steps(vec![StepFailure {
            name: "web".to_owned(),
            log: "/log".into(),
            error,
        }])
    }

    #[test]
    fn what_all_fail_for_and_what_one_fails_for() {
        let host = || "registry.example".to_owned();
        let full = io::ErrorKind::StorageFull;
        for error in [
            store(full).into(),
            store(io::ErrorKind::QuotaExceeded).into(),
            store(io::ErrorKind::ReadOnlyFilesystem).into(),
            StoreError::ReadOnly {
                path: "/store".into(),
                reason: String::new(),
            }
            .into(),
            Error::io("write", "/downloads/1".as_ref())(full.into()),
            step(BuildError::Other(Box::new(store(full)))),
            http(HttpError::Refused { host: host() }),
            Error::Registry(Box::new(RegistryError::Denied {
                registry: host(),
                what: "web".to_owned(),
                message: String::new(),
                known: true,
            })),
        ] {
            assert!(must_fail_again(&error), "{error:?}");
        }
        let damaged = || StoreError::Damaged {
            path: "/store/packs/1".into(),
            reason: String::new(),
        };
        for error in [
            damaged().into(),
            store(io::ErrorKind::NotFound).into(),
            StoreError::TagName("x y".to_owned()).into(),
            step(BuildError::Other(Box::new(damaged()))),
            http(HttpError::Cut { host: host() }),
            Error::not_found("image", "web", []),
            Error::Verification {
                message: String::new(),
                help: None,
            },
        ] {
            assert!(!must_fail_again(&error), "{error:?}");
        }
    }

    #[test]
    fn names_of_several_are_short_enough() {
        let said = |own: &str, tag: &str| name(own, tag).unwrap().as_str().to_owned();
        let x = |count: usize| "x".repeat(count);
        assert_eq!(said("web", "1.0"), "web-1.0");
        assert_eq!(said(&x(124), "1.0"), format!("{}-1.0", x(124)));
        assert_eq!(said(&x(128), "1.0"), format!("{}-1.0", x(124)));
        assert_eq!(said("web", &x(126)), format!("w-{}", x(126)));
        assert_eq!(said("web", &x(128)), x(128));
        assert!(name("web", &x(129)).is_err());
        assert!(name("web", "a b").is_err());
    }
}

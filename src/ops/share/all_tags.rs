//! Pulling the images of all tags of a repository.

use super::super::Context;
use super::pull::{One, PullOptions, Pulled, Tried};
use crate::event::Event;
use crate::failure::{Failure, Kind};
use crate::registry::{Repository, Version};
use crate::share::RESULT_TAG;
use crate::store::TagName;

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
) -> Result<Pulled, Failure> {
    let mut tags = repository.tags()?;
    tags.retain(|tag| !tag.starts_with(RESULT_TAG));
    let mut pulled = Pulled::default();
    for (index, tag) in tags.iter().enumerate() {
        let one = One {
            options,
            repository,
            version: &Version::Tag(tag.clone()),
            asked: &Version::Tag(tag.clone()),
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
        true => Err(Failure::unknown(
            "image under any tag of",
            repository.name(),
        )),
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
pub(super) fn name(own: &str, tag: &str) -> Result<TagName, Failure> {
    let room = MAX_TAG.saturating_sub(tag.len() + 1);
    let own: String = own.chars().take(room).collect();
    let name = match own.as_str() {
        "" => tag.to_owned(),
        own => format!("{own}-{tag}"),
    };
    Ok(name.parse()?)
}

/// Whether what one image fails for keeps all others of the repository from being pulled, too.
fn must_fail_again(failure: &Failure) -> bool {
    matches!(failure.kind(), Kind::Unavailable | Kind::Unwritable)
        || failure.causes().iter().any(must_fail_again)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::executor::{FailedStep, steps};
    use crate::http::HttpError;
    use crate::registry::RegistryError;
    use crate::store::StoreError;

    fn store(kind: io::ErrorKind) -> StoreError {
        StoreError::Io {
            action: "write",
            path: "/store/packs/1".into(),
            source: kind.into(),
        }
    }

    fn http(error: HttpError) -> Failure {
        let error = RegistryError::Http {
            place: "registry.example/web".to_owned(),
            source: Box::new(error),
        };
        error.into()
    }

    fn step(error: Failure) -> Failure {
        steps(vec![FailedStep {
            step: "web".to_owned(),
            log: "/log".into(),
            error,
        }])
    }

    #[test]
    fn what_all_fail_for_and_what_one_fails_for() {
        let host = || "registry.example".to_owned();
        let full = io::ErrorKind::StorageFull;
        let denied = RegistryError::Denied {
            registry: host(),
            what: "web".to_owned(),
            message: String::new(),
            known: true,
        };
        for failure in [
            store(full).into(),
            store(io::ErrorKind::QuotaExceeded).into(),
            store(io::ErrorKind::ReadOnlyFilesystem).into(),
            StoreError::ReadOnly {
                path: "/store".into(),
                reason: String::new(),
            }
            .into(),
            Failure::io("write", "/downloads/1".as_ref())(full.into()),
            step(Failure::of_step(store(full))),
            http(HttpError::Refused { host: host() }),
            denied.into(),
        ] {
            assert!(must_fail_again(&failure), "{failure:?}");
        }
        let damaged = || StoreError::Damaged {
            path: "/store/packs/1".into(),
            reason: String::new(),
        };
        for failure in [
            damaged().into(),
            store(io::ErrorKind::NotFound).into(),
            StoreError::TagName("x y".to_owned()).into(),
            step(Failure::of_step(damaged())),
            http(HttpError::Cut { host: host() }),
            Failure::not_found("image", "web", []),
            Failure::verification(""),
        ] {
            assert!(!must_fail_again(&failure), "{failure:?}");
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

//! Images to and from registries, layouts and archives.

mod all_tags;
mod container;
mod containerdisk;
pub(super) mod conversion;
mod details;
mod pull;
mod pulled;
mod push;

pub use container::push_container;
pub use containerdisk::push_containerdisk;
pub use conversion::disk_file;
pub use details::{ContainerDetails, container_details};
pub(super) use pull::pull_rest;
pub use pull::{PullOptions, Pulled, PulledImage, named, pull};
pub use push::{PushImage, PushedImage, push};

use super::Context;
use crate::registry::Platform;
use crate::share::{Memory, Sharing};
use crate::store::Store;

/// Who pushes and pulls for a context.
pub(super) fn sharing<'a>(context: &'a Context, store: &'a Store) -> Sharing<'a> {
    Sharing {
        store,
        downloads: context.home.downloads(),
        memory: Memory::new(context.home.registries()),
        sink: context.sink.as_ref(),
        interrupt: &context.interrupt,
        parallel: context.config.parallel,
    }
}

/// A platform as users write it: `linux/amd64`, `amd64`, `x86_64`, `linux/arm/v7`.
///
/// # Errors
/// It is none.
pub fn parse_platform(text: &str) -> Result<Platform, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let good = |part: &&str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let (os, architecture, variant) = match parts.as_slice() {
        [architecture] => ("linux", *architecture, None),
        [os, architecture] => (*os, *architecture, None),
        [os, architecture, variant] => (*os, *architecture, Some(*variant)),
        _ => ("", "", None),
    };
    let all = [os, architecture].into_iter().chain(variant);
    if !all.clone().all(|part| good(&part)) {
        return Err(format!(
            "\"{text}\" is not a platform such as linux/amd64 or arm64"
        ));
    }
    Ok(Platform {
        os: os.to_owned(),
        variant: variant.map(str::to_owned),
        ..Platform::linux(architecture)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Failure, Kind};
    use crate::http::HttpError;
    use crate::registry::RegistryError;
    use crate::share::ShareError;
    use crate::source::FetchError;

    #[test]
    fn a_fault_of_a_registry_keeps_its_kind() {
        let text = || "registry.example".to_owned();
        let missing = || RegistryError::Missing {
            place: text(),
            what: text(),
        };
        let invalid = || RegistryError::Invalid {
            place: text(),
            what: text(),
            reason: text(),
        };
        let http = |error| RegistryError::Http {
            place: text(),
            source: Box::new(error),
        };
        let cut = || http(HttpError::Cut { host: text() });
        let refused = || http(HttpError::Refused { host: text() });
        let gave_up = || http(HttpError::Interrupted);
        let faults: [(&dyn Fn() -> RegistryError, Kind); 5] = [
            (&missing, Kind::NotFound),
            (&invalid, Kind::Verification),
            (&cut, Kind::Transient),
            (&refused, Kind::Unavailable),
            (&gave_up, Kind::Interrupted),
        ];
        for (fault, kind) in faults {
            let shared = Failure::from(ShareError::from(fault()));
            let fetched = Failure::from(FetchError::Origin {
                name: text(),
                error: fault().into(),
            });
            for failure in [fault().into(), shared, fetched] {
                assert_eq!(failure.kind(), kind, "{failure}");
            }
        }
    }

    #[test]
    fn platforms() {
        let of = |text| {
            let platform = parse_platform(text).unwrap();
            let variant = platform.variant.unwrap_or_default();
            format!("{} {} {variant}", platform.os, platform.architecture)
        };
        assert_eq!(of("x86_64"), "linux amd64 ");
        assert_eq!(of("linux/arm64"), "linux arm64 ");
        assert_eq!(of("linux/arm/v7"), "linux arm v7");
        for text in ["", "/", "linux/", "a/b/c/d", "amd 64"] {
            assert!(parse_platform(text).is_err(), "{text}");
        }
    }
}

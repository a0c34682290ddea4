//! Whether what is there is for the machine that an image is built for.

use crate::plan::PinError;
use crate::registry::{Descriptor, Index, Platform};

/// The descriptor in an index that is for an architecture. The only one of an index may keep silent about that, as
/// those of some tools do: then the config tells.
///
/// # Errors
/// There is none: those that there are are named.
pub(super) fn choose<'a>(index: &'a Index, architecture: &str) -> Result<&'a Descriptor, PinError> {
    if let [only] = index.manifests.as_slice()
        && only.platform.is_none()
    {
        return Ok(only);
    }
    let wanted = Platform::linux(architecture);
    index.choose(&wanted).ok_or_else(|| PinError {
        message: format!("it has no image for {wanted}"),
        help: Some(match index.platforms().as_slice() {
            [] => "its index names no platform".to_owned(),
            there => format!("there are images for {}", there.join(", ")),
        }),
        outage: false,
    })
}

/// Looks whether what a config says it is for is not another architecture.
///
/// # Errors
/// It is for another one.
pub(super) fn check(told: &Platform, architecture: &str) -> Result<(), PinError> {
    let wanted = Platform::linux(architecture);
    if !told.is_other_than(&wanted) {
        return Ok(());
    }
    Err(PinError {
        message: format!("it is for {told}, not for {wanted}"),
        help: Some("start from an image of the same architecture".to_owned()),
        outage: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Blob, media};

    fn index(platforms: &[Option<(&str, &str, Option<&str>)>]) -> Index {
        let manifests = platforms.iter().map(|platform| {
            let mut one = Descriptor::new(media::MANIFEST, &Blob::of(b""));
            one.platform = platform.map(|(os, architecture, variant)| Platform {
                architecture: architecture.to_owned(),
                os: os.to_owned(),
                variant: variant.map(str::to_owned),
            });
            one
        });
        Index {
            schema_version: 2,
            media_type: None,
            artifact_type: None,
            manifests: manifests.collect(),
            annotations: Default::default(),
        }
    }

    fn refused(index: &Index) -> String {
        let error = choose(index, "x86_64").unwrap_err();
        format!("{error}; {}", error.help.as_deref().unwrap_or_default())
    }

    #[test]
    fn what_there_is_is_told_when_nothing_is_for_the_machine() {
        let others = index(&[
            Some(("linux", "arm64", Some("v8"))),
            Some(("unknown", "unknown", None)),
        ]);
        assert!(choose(&others, "aarch64").is_ok());
        assert_eq!(
            refused(&others),
            "it has no image for linux/amd64; there are images for linux/arm64/v8"
        );
    }

    #[test]
    fn an_index_may_keep_silent_about_its_only_manifest() {
        assert!(choose(&index(&[None]), "x86_64").is_ok());
        for silent in [&index(&[]), &index(&[None, None])] {
            assert_eq!(
                refused(silent),
                "it has no image for linux/amd64; its index names no platform"
            );
        }
    }

    #[test]
    fn configs_of_other_platforms_are_refused() {
        assert!(check(&Platform::linux("x86_64"), "x86_64").is_ok());
        let error = check(&Platform::linux("arm64"), "x86_64").unwrap_err();
        assert_eq!(
            error.to_string(),
            "it is for linux/arm64, not for linux/amd64"
        );
    }
}

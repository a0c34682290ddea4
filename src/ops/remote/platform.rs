//! Which of the images in an index is for a machine.

use crate::plan::PinError;
use crate::registry::{Descriptor, Index, Platform};
use crate::share::foreign;

/// Go's names of the architectures that machines have.
fn go_architecture(architecture: &str) -> &str {
    match architecture {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The descriptor in an index that is for an architecture: the one that asks for the least of the processor.
///
/// # Errors
/// There is none: those that there are are named.
pub(super) fn choose<'a>(index: &'a Index, architecture: &str) -> Result<&'a Descriptor, PinError> {
    if let [only] = index.manifests.as_slice()
        && only.platform.is_none()
    {
        return Ok(only);
    }
    // Of podman's machines there are several for one platform.
    if let Some(machine) = foreign::choose(index, architecture)
        && machine.annotations.contains_key("disktype")
    {
        return Ok(machine);
    }
    let wanted = go_architecture(architecture);
    let with_platform = |one: &'a Descriptor| Some((one, one.platform.as_ref()?));
    let mut fitting: Vec<_> = index
        .manifests
        .iter()
        .filter_map(with_platform)
        .filter(|(_, platform)| platform.os == "linux" && platform.architecture == wanted)
        .collect();
    // Sorting keeps the order of equal ones.
    fitting.sort_by_key(|(_, platform)| rank(platform));
    if let Some((one, _)) = fitting.first() {
        return Ok(one);
    }
    let mut there: Vec<String> = index
        .manifests
        .iter()
        .filter_map(|one| one.platform.as_ref())
        // Attestations have a place in the index and are no images.
        .filter(|platform| platform.os != "unknown")
        .map(shown)
        .collect();
    there.sort();
    there.dedup();
    Err(PinError {
        message: format!("it has no image for linux/{wanted}"),
        help: Some(match there.as_slice() {
            [] => "its index names no platform".to_owned(),
            there => format!("there are images for {}", there.join(", ")),
        }),
        outage: false,
    })
}

/// The usual variant first: 64-bit ARM is always at least v8, and amd64 at least v1.
fn rank(platform: &Platform) -> (bool, Option<&str>) {
    let variant = platform.variant.as_deref();
    let variant = variant.filter(|variant| !matches!(*variant, "" | "v8" | "v1"));
    (variant.is_some(), variant)
}

fn shown(platform: &Platform) -> String {
    let Platform {
        architecture, os, ..
    } = platform;
    match platform.variant.as_deref() {
        None | Some("") => format!("{os}/{architecture}"),
        Some(variant) => format!("{os}/{architecture}/{variant}"),
    }
}

/// Looks whether a config is for an architecture. What it does not say is as good as right.
///
/// # Errors
/// It is for another one.
pub(super) fn check(own: &str, os: &str, architecture: &str) -> Result<(), PinError> {
    let wanted = go_architecture(architecture);
    if (own.is_empty() || own == wanted) && (os.is_empty() || os == "linux") {
        return Ok(());
    }
    Err(PinError {
        message: format!("it is for {os}/{own}, not for linux/{wanted}"),
        help: Some("start from an image of the same architecture".to_owned()),
        outage: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[(&str, &str, Option<&str>)]) -> Index {
        let manifests = platforms.iter().enumerate().map(|(number, platform)| {
            serde_json::json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": format!("sha256:{number:064}"),
                "size": number,
                "platform": {
                    "os": platform.0, "architecture": platform.1, "variant": platform.2,
                },
            })
        });
        let manifests: Vec<_> = manifests.collect();
        serde_json::from_value(serde_json::json!({ "schemaVersion": 2, "manifests": manifests }))
            .unwrap()
    }

    fn chosen(platforms: &[(&str, &str, Option<&str>)], architecture: &str) -> Result<u64, String> {
        match choose(&index(platforms), architecture) {
            Ok(descriptor) => Ok(descriptor.size),
            Err(error) => Err(format!(
                "{error}; {}",
                error.help.as_deref().unwrap_or_default()
            )),
        }
    }

    #[test]
    fn the_platform_of_the_machine_is_chosen() {
        let all = [
            ("windows", "amd64", None),
            ("linux", "arm", Some("v7")),
            ("linux", "amd64", Some("v3")),
            ("linux", "amd64", None),
            ("linux", "arm64", Some("v8")),
            ("unknown", "unknown", None),
        ];
        assert_eq!(chosen(&all, "x86_64"), Ok(3));
        assert_eq!(chosen(&all, "aarch64"), Ok(4));
        assert_eq!(chosen(&all[..3], "x86_64"), Ok(2), "better than none");
        assert_eq!(
            chosen(&all[4..], "x86_64"),
            Err("it has no image for linux/amd64; there are images for linux/arm64/v8".to_owned())
        );
        assert!(chosen(&[], "x86_64").is_err());
    }

    #[test]
    fn configs_of_other_platforms_are_refused() {
        assert!(check("amd64", "linux", "x86_64").is_ok());
        assert!(check("", "", "x86_64").is_ok());
        let error = check("arm64", "linux", "x86_64").unwrap_err();
        assert_eq!(
            error.to_string(),
            "it is for linux/arm64, not for linux/amd64"
        );
    }
}

//! Whether what is there is for the machine that an image is built for.

use crate::failure::{Failure, Kind};
use crate::registry::Platform;

/// The index has nothing for the platform, but for these.
pub(super) fn none(wanted: &Platform, there: &[String]) -> Failure {
    let message = format!("it has no image for {wanted}");
    Failure::new(Kind::Recipe, message).with_help(match there {
        [] => "its index names no platform".to_owned(),
        there => format!("there are images for {}", there.join(", ")),
    })
}

/// Looks whether what a config says it is for is not another architecture.
///
/// # Errors
/// It is for another one.
pub(super) fn check(told: &Platform, architecture: &str) -> Result<(), Failure> {
    let wanted = Platform::linux(architecture);
    if !told.is_other_than(&wanted) {
        return Ok(());
    }
    let message = format!("it is for {told}, not for {wanted}");
    Err(Failure::new(Kind::Recipe, message)
        .with_help("start from an image of the same architecture"))
}

#[cfg(test)]
mod tests {
    use super::*;

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

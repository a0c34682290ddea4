//! Configurations for Ignition.

use std::path::Path;

use serde_json::Value;

use crate::failure::Failure;
use crate::host::file::read_text;

/// A file has at most so many bytes.
const MOST: u64 = 1 << 20;

/// Reads a configuration for Ignition.
///
/// # Errors
/// The file cannot be read, or Ignition would not take it.
pub fn ignition(path: &Path) -> Result<String, Failure> {
    let wrong = |why: String| {
        Failure::usage(format!("{}: {why}", path.display()))
            .with_help("give a configuration for Ignition, as butane writes it")
    };
    let text = read_text(path, MOST).map_err(|error| wrong(error.to_string()))?;
    let parsed: Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    match parsed["ignition"]["version"].is_string() {
        true => Ok(text),
        false => Err(wrong("it has no ignition.version".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_configuration_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.ign");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            ignition(&path)
        };
        let good = r#"{"ignition":{"version":"3.3.0"}}"#;
        assert_eq!(read(good).unwrap(), good);
        for bad in ["", "{}", "variant: fcos", r#"{"ignition":{}}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}

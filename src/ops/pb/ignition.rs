//! Configurations for Ignition.

use std::path::Path;

use crate::failure::Failure;
use crate::host::file::read_text;
use crate::image::check_ignition;

/// A file has at most so many bytes.
const MOST: u64 = 1 << 20;

/// Reads a configuration for Ignition.
///
/// # Errors
/// The file cannot be read, or Ignition would not take it.
pub fn ignition(path: &Path) -> Result<String, Failure> {
    let wrong = |why: String| {
        Failure::usage(format!("{} {why}", path.display()))
            .with_help("give a configuration for Ignition, as butane writes it")
    };
    let text = read_text(path, MOST).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    check_ignition(&text).map_err(wrong)?;
    Ok(text)
}

//! Compose files as the `vmfab.kdl` that says the same.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Context;
use crate::compose;
use crate::failure::{Failure, Kind};
use crate::world::recipes;

/// A Compose file as a recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conversion {
    pub file: PathBuf,
    pub kdl: String,
    pub warnings: Vec<Warning>,
}

/// What has no effect, or another one than with docker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// `FILE:LINE`; nothing when it is about the whole file.
    pub place: Option<String>,
    pub message: String,
}

/// Reads a Compose file: that of the working directory unless one is named. The recipe is checked
/// as `up` does it.
///
/// # Errors
/// There is none, or it is wrong.
pub fn convert(context: &Context, file: Option<&Path>) -> Result<Conversion, Failure> {
    let usual = || {
        let mut names = compose::USUAL.into_iter().map(PathBuf::from);
        names.find(|path| path.is_file())
    };
    let none = || {
        let message = "no Compose file found in the working directory";
        Failure::new(Kind::NotFound, message).with_help("name one: vmfab compose convert FILE")
    };
    let file = file.map(Path::to_owned).or_else(usual).ok_or_else(none)?;
    let converted = recipes::convert(context, &file)?;
    if compose::is_compose(&file) {
        recipes::load(context, &file, &Default::default())?;
    }
    let warnings = converted.warnings.iter().map(|warning| Warning {
        place: warning.place(),
        message: warning.to_string(),
    });
    Ok(Conversion {
        file,
        warnings: warnings.collect(),
        kdl: converted.kdl,
    })
}

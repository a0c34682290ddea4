//! `vmfab template convert`

use std::path::PathBuf;

use clap::Args;

use super::super::super::Status;
use super::super::super::session::Session;
use crate::failure::Failure;
use crate::ops::compose::Warning;
use crate::ops::template::convert::{self, ConvertOptions, ConvertedTemplate};

/// Turn the YAML definition of a template into a recipe
///
/// vmfab prints the recipe, or writes it to template.kdl in DIRECTORY with the requirements.txt
/// that it copies. It reports what the recipe cannot say on standard error, with its line.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab template convert template-definition.yaml
  vmfab template convert template-definition.yaml -o ./python-dev
  vmfab template convert template-definition.yaml --base debian-12 -o ./python-dev --force")]
pub(super) struct Convert {
    /// The definition
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,

    /// Write a template to this directory
    #[arg(short, long, value_name = "DIRECTORY", value_hint = clap::ValueHint::DirPath)]
    output: Option<PathBuf>,

    /// Start from this instead of the definition's base_image
    #[arg(long, value_name = "REFERENCE")]
    base: Option<String>,

    /// Replace a template in the directory
    #[arg(long, requires = "output")]
    force: bool,
}

impl Convert {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let options = ConvertOptions {
            base: self.base,
            output: self.output,
            force: self.force,
        };
        let converted = convert::convert(session.reading_context()?, &self.file, &options)?;
        if !session.json() {
            for Warning { place, message } in &converted.conversion.warnings {
                match place {
                    Some(place) => session.note(&format!("{place}: {message}")),
                    None => session.note(message),
                }
            }
        }
        session.print(&converted, text)?;
        Ok(Status::Done)
    }
}

fn text(converted: &ConvertedTemplate) -> String {
    if converted.written.is_empty() {
        return converted.conversion.kdl.clone();
    }
    let written = converted.written.iter();
    written
        .map(|path| format!("{}: written\n", path.display()))
        .collect()
}

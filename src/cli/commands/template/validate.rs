//! `vmfab template validate`

use std::path::PathBuf;

use clap::Args;

use super::super::super::Status;
use super::super::super::session::Session;
use crate::failure::Failure;
use crate::ops::template::validate::{self, Validated};

/// Check templates without building them
///
/// A template needs a version and an image. vmfab warns if it lacks what its users look for, such
/// as a description, a licence and what it requires of a machine.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab template validate
  vmfab template validate ./python-dev --json
  vmfab template validate web.kdl --error    exit with 1 for warnings, too")]
pub(super) struct Validate {
    /// Directories or recipe files
    #[arg(value_name = "TEMPLATE", default_value = ".", value_hint = clap::ValueHint::AnyPath)]
    templates: Vec<PathBuf>,

    /// Exit with 1 if vmfab warns of anything
    #[arg(long)]
    error: bool,
}

impl Validate {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.reading_context()?;
        let mut all = Vec::new();
        for path in &self.templates {
            all.push(validate::validate(context, path)?);
        }
        session.print(&all, |all| all.iter().map(text).collect::<String>())?;
        let fails = all
            .iter()
            .any(|one| !one.errors.is_empty() || (self.error && !one.warnings.is_empty()));
        Ok(if fails { Status::Code(1) } else { Status::Done })
    }
}

fn text(one: &Validated) -> String {
    let file = one.file.display();
    let mut text = String::new();
    for error in &one.errors {
        text += &format!("{file}: error: {error}\n");
    }
    for warning in &one.warnings {
        text += &format!("{file}: warning: {warning}\n");
    }
    if text.is_empty() {
        let version = one.details.version.as_deref().unwrap_or_default();
        text += &format!("{file}: {} {version} is a template\n", one.details.name);
    }
    text
}

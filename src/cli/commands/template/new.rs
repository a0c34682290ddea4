//! `vmfab template new`

use std::path::{Path, PathBuf};

use clap::Args;

use super::super::super::Status;
use super::super::super::session::Session;
use crate::checked::Name;
use crate::failure::Failure;
use crate::ops::template::new;

/// Begin a template: a directory with a recipe, a test and a README
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab template new web
  vmfab template new web --from ubuntu-24.04    start from another recipe
  vmfab template new web --from ./python-dev    copy another template")]
pub(super) struct New {
    /// Name of the template, and of its directory
    #[arg(value_name = "NEW-TEMPLATE", value_parser = parse_name)]
    name: Name,

    /// The recipe or image that it starts from, or the path of a template to copy [default:
    /// debian-12]
    #[arg(long, value_name = "TEMPLATE|REFERENCE", value_hint = clap::ValueHint::AnyPath)]
    from: Option<String>,

    /// Make its directory in this one
    #[arg(long, value_name = "DIRECTORY", value_hint = clap::ValueHint::DirPath)]
    directory: Option<PathBuf>,
}

fn parse_name(text: &str) -> Result<Name, String> {
    text.parse()
        .map_err(|error: crate::checked::Unfit| format!("{error}: {}", error.help()))
}

impl New {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let parent = self.directory.as_deref().unwrap_or(Path::new(""));
        let context = session.reading_context()?;
        let made = new::new(context, parent, &self.name, self.from.as_deref())?;
        session.print(&made, |made| {
            let directory = made.directory.display();
            let files = made.files.iter();
            let files: String = files
                .map(|file| format!("{}: written\n", file.display()))
                .collect();
            format!("{files}test it with: vmfab template test {directory}\n")
        })?;
        Ok(Status::Done)
    }
}

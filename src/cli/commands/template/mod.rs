//! `vmfab template`

mod convert;
mod new;
mod packages;
mod repo;
mod search;
mod test;
mod validate;

use clap::{Args, Subcommand};

use super::super::Status;
use super::super::session::Session;
use crate::failure::Failure;

/// Work with templates: recipes that others can use
///
/// TEMPLATE is a recipe that says what it is and what it needs, or a directory with template.kdl.
#[derive(Debug, Args)]
#[command(
    subcommand_value_name = "COMMAND",
    after_help = "\
Examples:
  vmfab template new web
  vmfab template validate ./web
  vmfab template test ./web
  vmfab create my-web --template ./web --start
  vmfab template convert template-definition.yaml -o ./python-dev
  vmfab template repo add acme oci://ghcr.io/acme/templates
  vmfab template search python
  vmfab template push ./python-dev acme --sign"
)]
pub(crate) struct Template {
    #[command(subcommand)]
    command: TemplateCommand,
}

#[derive(Debug, Subcommand)]
enum TemplateCommand {
    New(new::New),
    Convert(convert::Convert),
    Test(test::Test),
    Validate(validate::Validate),
    Package(packages::Package),
    Push(packages::Push),
    Pull(packages::Pull),
    Import(packages::Import),
    List(packages::List),
    Rm(packages::Rm),
    Search(search::Search),
    Show(search::Show),
    Versions(search::Versions),
    Repo(repo::Repo),
}

impl Template {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        match self.command {
            TemplateCommand::New(command) => command.run(session),
            TemplateCommand::Convert(command) => command.run(session),
            TemplateCommand::Test(command) => command.run(session),
            TemplateCommand::Validate(command) => command.run(session),
            TemplateCommand::Package(command) => command.run(session),
            TemplateCommand::Push(command) => command.run(session),
            TemplateCommand::Pull(command) => command.run(session),
            TemplateCommand::Import(command) => command.run(session),
            TemplateCommand::List(command) => command.run(session),
            TemplateCommand::Rm(command) => command.run(session),
            TemplateCommand::Search(command) => command.run(session),
            TemplateCommand::Show(command) => command.run(session),
            TemplateCommand::Versions(command) => command.run(session),
            TemplateCommand::Repo(command) => command.run(session),
        }
    }
}

//! `vmfab create`

use std::time::Duration;

use clap::Args;

use super::super::Status;
use super::super::session::Session;
use super::boot::{TIMEOUT, parse_name};
use super::inspect::describe;
use super::new_machine::NewMachineArgs;
use crate::failure::Failure;
use crate::machine::{MachineName, Until};
use crate::ops::machine::{self, CreateOptions, Created, StartOptions};

/// Create a machine without starting it
///
/// vmfab start starts it. vmfab boot does both at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab create web --from @docker
  vmfab create web --from ./Dockerfile --save-base @web --start
  vmfab create db --from debian-12 --memory 4G --disk-size 40G
  vmfab create dev --template ./python-dev --memory 4G --set port=8000
  vmfab create dev --template acme/python-dev@^1.2 --start")]
pub(crate) struct Create {
    /// Name of the machine
    #[arg(value_parser = parse_name)]
    name: MachineName,

    /// What it is made of: an image, a recipe or a Dockerfile (vmfab builds it first), a disk file
    /// or an image in a registry
    #[arg(
        long = "from",
        value_name = "IMAGE|RECIPE|@TAG|DISK|REF",
        required_unless_present = "template"
    )]
    image: Option<String>,

    /// Make it of a template: the path of one, the name of a recipe that comes with vmfab, or
    /// [NAMESPACE/]NAME[@VERSION] of a repository (see vmfab template repo)
    ///
    /// On a terminal, vmfab asks for the parameters that have no default. --json prints what inspect
    /// --json prints.
    #[arg(
        long,
        value_name = "TEMPLATE",
        conflicts_with = "image",
        value_hint = clap::ValueHint::AnyPath
    )]
    template: Option<String>,

    #[command(flatten)]
    new: NewMachineArgs,

    /// Start the machine, and wait until it is ready
    #[arg(long)]
    start: bool,
}

impl Create {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let is_template = self.template.is_some();
        let source = self.image.or(self.template).unwrap_or_default();
        let ingredients =
            self.new
                .of_template(is_template)
                .prepare(session, source, Some(&self.name), false)?;
        let context = &ingredients.context;
        let options = CreateOptions {
            name: Some(self.name),
            hardware: ingredients.hardware,
            ports: ingredients.ports,
            ..CreateOptions::default()
        };
        let created = machine::create(context, &ingredients.image, &options)?;
        if self.start {
            let options = StartOptions {
                until: Until::Ssh,
                timeout: Duration::from_secs(TIMEOUT),
            };
            let started = machine::start(context, created.name.as_str(), options)?;
            if is_template && session.json() {
                return details(session, &created);
            }
            session.print_last(
                &started,
                |one| one.name.clone(),
                |one| format!("{}: created and started\n", one.name),
            )?;
            return Ok(Status::Done);
        }
        if is_template && session.json() {
            return details(session, &created);
        }
        session.print_last(&created, |one| one.name.clone(), text)?;
        Ok(Status::Done)
    }
}

/// What `inspect --json` prints.
fn details(session: &Session, created: &Created) -> Result<Status, Failure> {
    let details = machine::inspect(session.context()?, created.name.as_str())?;
    session.print_last(&details, |one| one.entry.name.clone(), describe)?;
    Ok(Status::Done)
}

pub(super) fn text(created: &Created) -> String {
    let name = &created.name;
    format!("{name}: created; start it with: vmfab start {name}\n")
}

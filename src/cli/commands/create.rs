//! `vmfab create`

use std::time::Duration;

use clap::Args;

use super::super::Status;
use super::super::session::Session;
use super::boot::{Ports, TIMEOUT, parse_name, parse_ports};
use super::build::parse_tag;
use super::cache::CacheArgs;
use super::hardware::HardwareArgs;
use super::recipe::{DockerfileArgs, LockArgs, SecretArgs, parse_setting};
use crate::failure::Failure;
use crate::machine::{MachineName, Until};
use crate::ops::RecipeChoice;
use crate::ops::machine::{self, CreateOptions, Created, ImageOptions, StartOptions};
use crate::ops::snapshot;
use crate::store::TagName;

/// Create a machine without starting it
///
/// vmfab start starts it. vmfab boot does both at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab create web --from @docker
  vmfab create web --from ./Dockerfile --save-base @web --start
  vmfab create db --from debian-12 --memory 4G --disk-size 40G")]
pub(crate) struct Create {
    /// Name of the machine
    #[arg(value_parser = parse_name)]
    name: MachineName,

    /// What it is made of: an image, a recipe or a Dockerfile (vmfab builds it first), a disk file
    /// or an image in a registry
    #[arg(
        long = "from",
        value_name = "IMAGE|RECIPE|@TAG|DISK|REF",
        required = true
    )]
    image: String,

    /// Set a parameter of the recipe (repeatable)
    #[arg(short, long = "set", value_name = "NAME=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, String)>,

    #[command(flatten)]
    dockerfile: DockerfileArgs,

    #[command(flatten)]
    secrets: SecretArgs,

    #[command(flatten)]
    lock: LockArgs,

    #[command(flatten)]
    hardware: HardwareArgs,

    /// Forward port HOST of 127.0.0.1 to port GUEST of the machine (repeatable)
    #[arg(short, long = "port", value_name = "[ADDRESS:]HOST:GUEST[/udp]", value_parser = parse_ports)]
    ports: Vec<Ports>,

    /// Tag the image as well
    #[arg(long, value_name = "@TAG", value_parser = parse_tag)]
    save_base: Option<TagName>,

    /// Let --save-base replace a tag of another image
    #[arg(long, requires = "save_base")]
    force: bool,

    /// Start the machine, and wait until it is ready
    #[arg(long)]
    start: bool,

    #[command(flatten)]
    cache: CacheArgs,
}

impl Create {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = &session.registry_context(self.cache.registries)?;
        if let Some(tag) = &self.save_base {
            snapshot::check_base(context, tag, self.force)?;
        }
        let choice = RecipeChoice {
            recipe: self.image,
            settings: self.settings.into_iter().collect(),
            ..RecipeChoice::default()
        };
        let choice = self.dockerfile.apply(choice)?;
        let options = ImageOptions {
            choice: self.lock.apply(choice),
            secrets: self.secrets.read()?,
            cache: self.cache.options(context)?,
            fallback: false,
        };
        let hardware = self.hardware.hardware()?;
        let image = machine::image(context, options)?;
        if let Some(tag) = &self.save_base {
            snapshot::save_base(context, &image.image, tag, self.force)?;
        }
        let options = CreateOptions {
            name: self.name,
            hardware,
            ports: self.ports.into_iter().flat_map(|ports| ports.0).collect(),
        };
        let created = machine::create(context, &image, &options)?;
        if self.start {
            let options = StartOptions {
                until: Until::Ssh,
                timeout: Duration::from_secs(TIMEOUT),
            };
            let started = machine::start(context, created.name.as_str(), options)?;
            session.print_last(
                &started,
                |one| one.name.clone(),
                |one| format!("{}: created and started\n", one.name),
            )?;
            return Ok(Status::Done);
        }
        session.print_last(&created, |one| one.name.clone(), text)?;
        Ok(Status::Done)
    }
}

pub(super) fn text(created: &Created) -> String {
    let name = &created.name;
    format!("{name}: created; start it with: vmfab start {name}\n")
}

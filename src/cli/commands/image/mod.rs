//! `vmfab image inspect|history|tree|diff|sbom|check-updates|record-boot|export|tag|rm`

mod browse;
mod diff;
mod provenance;
mod record;
mod sbom;
mod tree;
mod updates;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::super::Status;
use super::super::output::{age, size};
use super::super::session::Session;
use super::super::table::{Align, Table};
use super::build::{OutputArgs, parse_tag};
use super::images::about;
use crate::digest::ObjectId;
use crate::failure::Failure;
use crate::image::Firmware;
use crate::ops::export::{self, ExportOptions};
use crate::ops::images::{self, FoundImage, ImageSource, LayerEntry};
use crate::store::TagName;

/// Inspect, compare, export, tag and remove images
#[derive(Debug, Args)]
#[command(
    subcommand_value_name = "COMMAND",
    after_help = "\
IMAGE is a tag (@docker, or docker) or the first digits of an image's id.

Examples:
  vmfab image inspect @docker
  vmfab image tree @docker
  vmfab image diff @docker-stable @docker --html review.html
  vmfab image sbom @docker --format spdx -o docker.spdx.json
  vmfab image check-updates @docker
  vmfab image record-boot @docker
  vmfab image export @docker -o docker.qcow2
  vmfab image tag @docker @docker-stable
  vmfab image rm @docker"
)]
pub(crate) struct Image {
    #[command(subcommand)]
    command: ImageCommand,
}

#[derive(Debug, Subcommand)]
enum ImageCommand {
    Inspect(Inspect),
    History(History),
    Tree(tree::Tree),
    Diff(diff::Diff),
    Sbom(sbom::Sbom),
    CheckUpdates(updates::CheckUpdates),
    Provenance(provenance::Provenance),
    RecordBoot(record::RecordBoot),
    Export(Export),
    Tag(Tag),
    Rm(Rm),
}

impl Image {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        match self.command {
            ImageCommand::Inspect(command) => command.run(session),
            ImageCommand::History(command) => command.run(session),
            ImageCommand::Tree(command) => command.run(session),
            ImageCommand::Diff(command) => command.run(session),
            ImageCommand::Sbom(command) => command.run(session),
            ImageCommand::CheckUpdates(command) => command.run(session),
            ImageCommand::Provenance(command) => command.run(session),
            ImageCommand::RecordBoot(command) => command.run(session),
            ImageCommand::Export(command) => command.run(session),
            ImageCommand::Tag(command) => command.run(session),
            ImageCommand::Rm(command) => command.run(session),
        }
    }
}

/// Show what an image is made of and how it boots
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab image inspect @docker
  vmfab image inspect @docker --json | jq .config.boot")]
struct Inspect {
    /// Tag, or first digits of an id
    image: String,
}

impl Inspect {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let found = images::find(session.reading_context()?, &self.image)?;
        session.print(&found, describe)?;
        Ok(Status::Done)
    }
}

fn describe(found: &FoundImage) -> String {
    let config = &found.config;
    let template = &config.template;
    let mut rows: Vec<(&str, String)> = vec![
        ("image", found.image.to_string()),
        ("tags", at(&found.tags)),
        ("name", template.name.to_string()),
        (
            "recipe",
            match &template.recipe.version {
                Some(version) => format!("{} {version}", template.recipe.name),
                None => template.recipe.name.to_string(),
            },
        ),
    ];
    if let Some(created) = found.created {
        let created_at = SystemTime::UNIX_EPOCH + Duration::from_secs(created);
        let date = humantime::format_rfc3339_seconds(created_at);
        rows.push(("created", format!("{date}, {}", age(created))));
    }
    if let Some(source) = &found.source {
        rows.push((
            "source",
            match source {
                ImageSource::Built { recipe } => format!("built from {recipe}"),
                ImageSource::Pulled { reference } => format!("pulled from {reference}"),
                ImageSource::Imported { from } => format!("imported from {from}"),
                ImageSource::Committed { machine, base } => {
                    format!("made of the machine {machine}, over image {}", base.short())
                }
            },
        ));
    }
    if let Some(description) = &template.description {
        rows.push(("description", description.to_string()));
    }
    // "source" is where the image comes from.
    rows.extend(
        about(&template.recipe.about).map(|(name, value)| match name {
            "source" => ("recipe source", value),
            _ => (name, value),
        }),
    );
    rows.push(("requires", template.requires.describe()));
    for (key, value) in &template.metadata {
        rows.push(("metadata", format!("{key}: {value}")));
    }
    let boot = &template.boot;
    let firmware = match (boot.firmware, boot.uefi, boot.bios) {
        (Firmware::Direct, false, false) => "kernel directly",
        (Firmware::Direct, true, _) => "kernel directly; the disk boots with UEFI, too",
        (Firmware::Direct, false, true) => "kernel directly; the disk boots with a BIOS, too",
        (Firmware::Uefi, ..) => "UEFI",
        (Firmware::Bios, ..) => "BIOS",
    };
    rows.extend([
        ("architecture", template.architecture.to_string()),
        ("boots", firmware.to_owned()),
        ("command line", boot.command_line.to_string()),
        ("seed", boot.seed.describe().to_owned()),
    ]);
    rows.extend(boot.platform.describe());
    rows.extend([
        (
            "disk",
            match &template.filesystem {
                Some(filesystem) => format!(
                    "{} {} \"{}\", {}",
                    size(config.disk.size),
                    filesystem.kind,
                    filesystem.label,
                    config.disk.id.short()
                ),
                None => format!(
                    "{}, made elsewhere, {}",
                    size(config.disk.size),
                    config.disk.id.short()
                ),
            },
        ),
        ("on this host", size(found.stored_size)),
        ("layers", config.layers.len().to_string()),
        ("user", template.ssh_user.to_string()),
    ]);
    for port in &template.ports {
        let name = template.port_names.get(&port.guest);
        let name = name.map_or_else(String::new, |name| format!(" {name}"));
        let host = port
            .host
            .map_or_else(String::new, |host| format!(" (127.0.0.1:{host})"));
        rows.push((
            "port",
            format!("{}{}{host}{name}", port.guest, port.protocol.suffix()),
        ));
    }
    rows.extend(
        template
            .volumes
            .iter()
            .map(|path| ("volume", path.to_string())),
    );
    rows.extend(template.shares.iter().map(|share| {
        let read_only = if share.read_only { ", read-only" } else { "" };
        (
            "asks for",
            format!("{} at {}{read_only}", share.host, share.at),
        )
    }));
    rows.iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{:<14}{value}\n", format!("{name}:")))
        .collect()
}

fn at(tags: &[String]) -> String {
    let tags: Vec<_> = tags.iter().map(|tag| format!("@{tag}")).collect();
    tags.join(" ")
}

/// List the layers of an image and their steps, the last one first
///
/// The step is shown if this host built the image or its base.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab image history @docker")]
struct History {
    /// Tag, or first digits of an id
    image: String,
}

impl History {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let mut layers = images::history(session.reading_context()?, &self.image)?;
        layers.reverse();
        session.print(&layers, |layers| layer_table(layers))?;
        Ok(Status::Done)
    }
}

fn layer_table(layers: &[LayerEntry]) -> Table {
    let mut table = Table::new([
        ("LAYER", Align::Left),
        ("SIZE", Align::Right),
        ("STEP", Align::Left),
    ]);
    for layer in layers {
        let step = layer.step.as_deref().unwrap_or_default();
        let state = match (layer.present, step) {
            (true, step) => step.to_owned(),
            (false, "") => "(not in the store)".to_owned(),
            (false, step) => format!("{step} (not in the store)"),
        };
        table.row([layer.layer.short(), size(layer.size), state]);
    }
    table
}

/// Write the disk of an image to a file
///
/// Warn if the image may not work elsewhere: missing drivers, no boot loader, or no way to log in.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab image export @docker -o docker.qcow2 --compress
  vmfab image export @docker -o docker.vmdk --for vmware
  vmfab image export @docker -o docker.vhdx --for hyperv --force")]
struct Export {
    /// Tag, or first digits of an id
    image: String,

    /// File to write
    #[arg(short, long, value_name = "FILE", required = true)]
    output: PathBuf,

    #[command(flatten)]
    shape: OutputArgs,
}

impl Export {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?;
        let found = images::find(context, &self.image)?;
        let OutputArgs {
            format,
            hypervisor,
            compress,
            force,
        } = self.shape;
        let options = ExportOptions {
            disk: found.config.disk.id,
            format: export::format(&self.output, format, hypervisor, compress)?,
            target: self.output,
            hypervisor,
            compress,
            force,
        };
        let exported = export::export(context, &options)?;
        export::advise(context, &found.config, &options)?;
        session.print_last(
            &exported,
            |exported| exported.path.display().to_string(),
            |exported| {
                format!(
                    "{}: {}, a disk of {}\n",
                    exported.path.display(),
                    size(exported.allocated),
                    size(exported.disk_size)
                )
            },
        )?;
        Ok(Status::Done)
    }
}

/// Add tags to an image
///
/// If a tag names another image, it moves to this one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab image tag @docker @docker-stable
  vmfab image tag 3f2a9c01 @yesterday")]
struct Tag {
    /// Tag, or first digits of an id
    image: String,

    /// New tags
    #[arg(required = true, value_name = "@TAG", value_parser = parse_tag)]
    tags: Vec<TagName>,
}

impl Tag {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let found = images::tag(session.reading_context()?, &self.image, &self.tags)?;
        session.print(&found, |found| {
            format!("{} is {}", at(&found.tags), found.image.short())
        })?;
        Ok(Status::Done)
    }
}

/// Remove tags; garbage collection removes the images later
///
/// The images keep their ids until vmfab store gc removes those that no tag, machine or recent
/// build needs.
#[derive(Debug, Args)]
#[command(
    visible_alias = "untag",
    after_help = "\
Examples:
  vmfab image rm @docker
  vmfab image rm @docker @docker-stable"
)]
struct Rm {
    /// Tags to remove
    #[arg(required = true, value_name = "@TAG", value_parser = parse_tag)]
    tags: Vec<TagName>,
}

#[derive(Serialize)]
struct Removed {
    tag: String,
    image: ObjectId,
}

impl Rm {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let removed = images::untag(session.reading_context()?, &self.tags)?;
        let removed: Vec<_> = removed
            .into_iter()
            .map(|(tag, image)| Removed {
                tag: tag.as_str().to_owned(),
                image,
            })
            .collect();
        session.print(&removed, |removed| {
            let lines = removed.iter();
            lines
                .map(|one| format!("removed @{} (was {})\n", one.tag, one.image.short()))
                .collect::<String>()
        })?;
        Ok(Status::Done)
    }
}

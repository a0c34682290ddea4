//! `vmfab pb images`

use clap::Args;

use super::super::super::Status;
use super::super::super::session::Session;
use super::columns::{ago, columns, now};
use crate::failure::Failure;
use crate::ops::pb::{self, ContainerImage, human_size};

/// List bootable container images on this host
///
/// They are those in podman's storage with the label containers.bootc=1, if this host has podman,
/// and those that vmfab has installed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab pb images
  vmfab pb images --json | jq -r '.[].id'")]
pub(crate) struct Images {}

impl Images {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let Self {} = self;
        let images = pb::images(session.reading_context()?);
        session.print(&images, |images| {
            if session.quiet() {
                let ids = images.iter().map(|image| format!("{}\n", image.id.short()));
                ids.collect()
            } else {
                table(images)
            }
        })?;
        Ok(Status::Done)
    }
}

fn table(images: &[ContainerImage]) -> String {
    let rows = images.iter().map(|image| {
        let or_none = |name: &Option<String>| name.clone().unwrap_or_else(|| "<none>".to_owned());
        let size = human_size(image.size);
        let unit = size
            .find(|c: char| c.is_ascii_alphabetic())
            .unwrap_or(size.len());
        [
            or_none(&image.repository),
            or_none(&image.tag),
            image.id.short(),
            image
                .created
                .map_or_else(|| "<unknown>".to_owned(), |time| ago(time, now())),
            format!("{} {}", &size[..unit], &size[unit..]),
        ]
    });
    let rows: Vec<[String; 5]> = rows.collect();
    columns(["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"], &rows)
}

//! `vmfab push`

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};

use super::super::Status;
use super::super::error::CliError;
use super::super::options::RegistryOptions;
use super::super::output::size;
use super::super::session::Session;
use crate::ops::share::{self, PushImage, PushedImage};
use crate::registry::Location;

/// Push an image to a registry
///
/// Only what the repository lacks is sent: when it has an earlier version, what is new in this one. The
/// same image gives the same manifest wherever it was built, as long as the repository has no
/// other version of it; with --full always.
///
/// oci:DIR[:TAG] and oci-archive:FILE[:TAG] write an OCI layout instead, which skopeo and oras copy to
/// registries.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab push @docker ghcr.io/me/docker:1.0
  vmfab push @base ghcr.io/me/base:12 --layers   for recipes that start from it
  vmfab push @docker-arm ghcr.io/me/docker:1.0 --index
  vmfab push @docker oci:out:1.0
  vmfab push @docker ghcr.io/me/docker-disk:1.0 --layout containerdisk
  vmfab push @docker ghcr.io/me/docker:1.0 --annotation org.opencontainers.image.revision=$(git rev-parse HEAD)")]
pub(crate) struct Push {
    /// A tag, or the first digits of an image's id
    #[arg(value_name = "IMAGE|@TAG")]
    image: String,

    /// Where to: HOST/NAME[:TAG], oci:DIR[:TAG] or oci-archive:FILE[:TAG]
    #[arg(value_name = "REF")]
    to: Location,

    /// Use nothing of other versions: the manifest depends on the image only
    #[arg(long)]
    full: bool,

    /// Push the layers, too, which recipes that start from the image stand on
    ///
    /// Without them such recipes do their steps in a machine that is booted from the disk. To boot the image
    /// nothing of them is needed.
    #[arg(long)]
    layers: bool,

    /// Make the tag an index of several architectures, and put this image into it
    ///
    /// A tag that is an index stays one also without this.
    #[arg(long)]
    index: bool,

    /// Add an annotation to the manifest (repeatable)
    #[arg(long = "annotation", value_name = "NAME=VALUE", value_parser = super::build::parse_setting)]
    annotations: Vec<(String, String)>,

    /// What is pushed: vmfab, or containerdisk, an ordinary container image that KubeVirt runs
    ///
    /// A containerdisk is not pulled in parts, and nothing of other versions is used.
    #[arg(
        long,
        value_name = "LAYOUT",
        value_enum,
        default_value_t,
        hide_possible_values = true
    )]
    layout: Layout,

    #[command(flatten)]
    registries: RegistryOptions,
}

/// What is pushed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Layout {
    #[default]
    Vmfab,
    Containerdisk,
}

impl Push {
    pub(super) fn run(self, session: &Session) -> Result<Status, CliError> {
        let options = PushImage {
            image: self.image,
            to: self.to,
            full: self.full,
            index: self.index,
            layers: self.layers,
            annotations: self.annotations.into_iter().collect::<BTreeMap<_, _>>(),
        };
        let context = session.registry_context(self.registries)?;
        let pushed = match self.layout {
            Layout::Vmfab => share::push(&context, &options)?,
            Layout::Containerdisk if options.full || options.index || options.layers => {
                let message = "--full, --index and --layers have no meaning for a containerdisk";
                return Err(CliError::usage(message));
            }
            Layout::Containerdisk => share::push_containerdisk(&context, &options)?,
        };
        session.print(&pushed, |pushed| match session.quiet() {
            true => format!("{}\n", pushed.digest),
            false => told(pushed),
        })?;
        Ok(Status::Done)
    }
}

fn told(pushed: &PushedImage) -> String {
    let (image, reference, digest) = (pushed.image.short(), &pushed.reference, &pushed.digest);
    if pushed.present {
        return format!("{image} is at {reference} already\n{digest}\n");
    }
    if pushed.packs == 0 {
        let sent = size(pushed.sent);
        return format!("{image} is at {reference} ({sent} sent)\n{digest}\n");
    }
    let mut packs = format!("{} of {} packs new", pushed.new_packs, pushed.packs);
    if pushed.mounted_packs > 0 {
        packs = format!("{packs}, {} linked", pushed.mounted_packs);
    }
    let sent = size(pushed.sent);
    format!("{image} is at {reference} ({sent} sent, {packs})\n{digest}\n")
}

//! `vmfab push`

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::super::Status;
use super::super::options::RegistryOptions;
use super::super::output::size;
use super::super::session::Session;
use super::boot::TIMEOUT;
use crate::failure::Failure;
use crate::ops::lazy::{self, RecordOptions};
use crate::ops::share::{self, PushImage, PushedImage};
use crate::ops::signatures;
use crate::ops::{Context, attestations, images, keys};
use crate::qemu::AccelChoice;
use crate::registry::Location;

/// Push an image to a registry
///
/// Send only what the repository lacks: if it has an earlier version, only what is new. The same
/// image gives the same manifest on every host if the repository has no other version of it, or
/// with --full.
///
/// With oci:DIR[:TAG] or oci-archive:FILE[:TAG], write an OCI layout instead, which skopeo and oras
/// can copy to registries.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab push @docker ghcr.io/me/docker:1.0
  vmfab push @base ghcr.io/me/base:12 --layers   as a base for recipes
  vmfab push @docker ghcr.io/me/docker:1.0 --sign
  vmfab push @docker ghcr.io/me/docker:1.0 --sign --attest
  vmfab push @docker-arm ghcr.io/me/docker:1.0 --index
  vmfab push @docker oci:out:1.0
  vmfab push @web ghcr.io/me/web:1.0 --layout container
  vmfab push @docker ghcr.io/me/docker-disk:1.0 --layout containerdisk
  vmfab push @docker ghcr.io/me/docker:1.0 --annotation org.opencontainers.image.revision=$(git rev-parse HEAD)")]
pub(crate) struct Push {
    /// Tag, or first digits of an image's id
    #[arg(value_name = "IMAGE|@TAG")]
    image: String,

    /// Destination: HOST/NAME[:TAG], oci:DIR[:TAG] or oci-archive:FILE[:TAG]
    #[arg(value_name = "REF")]
    to: Location,

    /// Reuse nothing from other versions, so that the manifest depends only on the image
    #[arg(long)]
    full: bool,

    /// Also push the layers, for recipes that start from the image
    ///
    /// Without layers, such recipes run their steps in a machine booted from the disk. Booting the
    /// image does not need layers.
    #[arg(long)]
    layers: bool,

    /// First record what a boot of the image reads, unless that was done (see vmfab image record-boot)
    #[arg(long)]
    record_boot: bool,

    /// Make the tag an index of several architectures, and add this image to it
    ///
    /// A tag that is an index stays one, even without this option.
    #[arg(long)]
    index: bool,

    /// Add an annotation to the manifest (repeatable)
    #[arg(long = "annotation", value_name = "NAME=VALUE", value_parser = super::recipe::parse_setting)]
    annotations: Vec<(String, String)>,

    /// Choose what to push: vmfab, container or containerdisk
    ///
    /// container is the tree as an ordinary container image, which docker and podman run: for a
    /// Dockerfile without what makes a machine of it. containerdisk is an ordinary container image
    /// with the disk in it, for KubeVirt; its versions share nothing: each push and pull transfers
    /// all of it.
    #[arg(
        long,
        value_name = "LAYOUT",
        value_enum,
        default_value_t,
        hide_possible_values = true
    )]
    layout: Layout,

    /// Sign the manifest that was pushed [default: with your only key]
    #[arg(long, value_name = "KEY", num_args = 0..=1, require_equals = true)]
    sign: Option<Option<String>>,

    /// Also push how the image was made (SLSA provenance) and what is in it (SPDX), signed
    ///
    /// vmfab signs with the key of --sign, or with your only key: an Ed25519 key in a file without a
    /// passphrase. The image must have been built on this host.
    #[arg(long)]
    attest: bool,

    #[command(flatten)]
    registries: RegistryOptions,
}

/// What is pushed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Layout {
    #[default]
    Vmfab,
    Container,
    Containerdisk,
}

/// Records what a boot of an image reads, unless that is known.
fn ensure_recorded(context: &Context, image: &str) -> Result<(), Failure> {
    if !lazy::is_recorded(context, &images::find(context, image)?) {
        let options = RecordOptions {
            accel: AccelChoice::Auto,
            timeout: Duration::from_secs(TIMEOUT),
        };
        lazy::record_boot(context, image, &options)?;
    }
    Ok(())
}

impl Push {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let options = PushImage {
            image: self.image,
            to: self.to,
            full: self.full,
            index: self.index,
            layers: self.layers,
            annotations: self.annotations.into_iter().collect::<BTreeMap<_, _>>(),
        };
        let context = session.registry_context(self.registries)?;
        let key = self.sign.clone().flatten();
        if self.sign.is_some() {
            keys::own(&context, key.as_deref())?;
        }
        if self.attest {
            if !matches!(self.layout, Layout::Vmfab) {
                return Err(Failure::usage("--attest applies to the layout vmfab only"));
            }
            attestations::check(&context, &options.image, &options.to, key.as_deref())?;
        }
        if self.record_boot {
            if !matches!(self.layout, Layout::Vmfab) {
                return Err(Failure::usage(
                    "--record-boot applies to the layout vmfab only",
                ));
            }
            ensure_recorded(&context, &options.image)?;
        }
        let pushed = match self.layout {
            Layout::Vmfab => share::push(&context, &options)?,
            Layout::Container if options.full || options.layers => {
                let message = "--full and --layers do not apply to a container";
                return Err(Failure::usage(message));
            }
            Layout::Container => share::push_container(&context, &options)?,
            Layout::Containerdisk if options.full || options.index || options.layers => {
                let message = "--full, --index and --layers do not apply to a containerdisk";
                return Err(Failure::usage(message));
            }
            Layout::Containerdisk => share::push_containerdisk(&context, &options)?,
        };
        if self.attest {
            let key = key.as_deref();
            let said = attestations::attest(&context, &pushed, &options.to, key)?;
            session.note(&format!("attested: {}", said.join(", ")));
        }
        if self.sign.is_some() {
            let signed = signatures::sign(&context, &pushed.signed(&options.to), key.as_deref())?;
            session.note(&format!("signed with {}", signed.key));
        }
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
        return format!("{reference} already has {image}\n{digest}\n");
    }
    if pushed.packs == 0 {
        let sent = size(pushed.sent);
        return format!("pushed {image} to {reference} ({sent} sent)\n{digest}\n");
    }
    let mut packs = format!("{} of {} packs new", pushed.new_packs, pushed.packs);
    if pushed.mounted_packs > 0 {
        packs = format!("{packs}, {} linked", pushed.mounted_packs);
    }
    let sent = size(pushed.sent);
    format!("pushed {image} to {reference} ({sent} sent, {packs})\n{digest}\n")
}

//! `vmfab pull`

use clap::Args;

use super::super::Status;
use super::super::options::RegistryOptions;
use super::super::output::{count, size};
use super::super::session::Session;
use crate::config::TrustedUse;
use crate::failure::Failure;
use crate::ops::share::{self, PullOptions, PulledImage, parse_platform};
use crate::registry::{Location, Platform};
use crate::store::TagName;

/// Pull an image from a registry
///
/// Fetch only what no local image has. If it is interrupted, the same command resumes where it
/// stopped.
///
/// vmfab also pulls disks that other tools publish, for this host's architecture: a containerdisk
/// of KubeVirt, a machine of podman, a single disk pushed with oras. It does not pull container
/// images; a recipe can start from one.
///
/// --all-tags skips tags of other things and says which. If an image cannot be pulled, vmfab tries
/// the others before it fails; it stops early if they would fail, too, as on a full disk.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab pull ghcr.io/me/docker:1.0
  vmfab pull ghcr.io/me/docker:1.0 --tag @docker-old
  vmfab pull ghcr.io/me/docker --all-tags
  vmfab pull ghcr.io/me/docker@sha256:… --platform linux/arm64
  vmfab pull oci-archive:docker.tar")]
pub(crate) struct Pull {
    /// Source: HOST/NAME[:TAG][@DIGEST], oci:DIR[:TAG] or oci-archive:FILE[:TAG]
    #[arg(value_name = "REF")]
    from: Location,

    /// Tag the image with @TAG (repeatable) [default: its name in the recipe]
    #[arg(short, long = "tag", value_name = "@TAG")]
    tags: Vec<TagName>,

    /// Pull all tags of the repository, and tag the images @NAME-TAG
    #[arg(long, conflicts_with = "tags")]
    all_tags: bool,

    /// Choose one of several architectures [default: this host's]
    #[arg(long, value_name = "OS/ARCH", value_parser = parse_platform)]
    platform: Option<Platform>,

    #[command(flatten)]
    registries: RegistryOptions,
}

impl Pull {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let options = PullOptions {
            from: self.from,
            tags: self.tags,
            all_tags: self.all_tags,
            platform: self.platform,
            containers: false,
            used_for: TrustedUse::Pull,
        };
        let pulled = share::pull(&session.registry_context(self.registries)?, &options)?;
        session.print(&pulled.images, |images| {
            let lines = images.iter().map(|image| told(image, session));
            lines.collect::<String>()
        })?;
        if pulled.failures.is_empty() {
            return Ok(Status::Done);
        }
        let failures: Vec<Failure> = pulled.failures;
        let message = format!("{} could not be pulled", count(failures.len(), "image"));
        Err(Failure::several(failures, message))
    }
}

fn told(pulled: &PulledImage, session: &Session) -> String {
    let tags: Vec<String> = pulled.tags.iter().map(|tag| format!("@{tag}")).collect();
    let tags = tags.join(", ");
    if session.quiet() {
        return format!("{tags}\n");
    }
    let (image, reference) = (pulled.image.short(), &pulled.reference);
    match pulled.fetched {
        0 => format!("{tags} is {image} from {reference}: nothing to fetch\n"),
        bytes => format!(
            "{tags} is {image} from {reference} ({} fetched)\n",
            size(bytes)
        ),
    }
}

//! `vmfab image provenance`

use clap::Args;

use super::super::super::Status;
use super::super::super::options::RegistryOptions;
use super::super::super::output::write_text;
use super::super::super::session::Session;
use crate::failure::Failure;
use crate::ops::attestations::{self, Attested};
use crate::ops::provenance;
use crate::registry::Location;

/// Print how an image was made: a SLSA provenance in an in-toto statement
///
/// It has the recipe, parameters, sources and steps with their digests, and the version of vmfab. It
/// has no paths of this host and no secrets of --secret; values of --set are parameters, and are in it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab image provenance @docker
  vmfab image provenance @docker | jq '.predicate.buildDefinition.resolvedDependencies'
  vmfab image provenance ghcr.io/team/docker:1.0 --attached")]
pub(super) struct Provenance {
    /// Tag, or first digits of an id; with --attached a reference
    image: String,

    /// Print the statement that was pushed with an image and that a trusted key signed
    #[arg(long)]
    attached: bool,

    #[command(flatten)]
    registries: RegistryOptions,
}

impl Provenance {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        if self.attached {
            let what = Attested::Provenance;
            return print_attached(session, self.registries, &self.image, what);
        }
        let document = provenance::provenance(session.reading_context()?, &self.image)?;
        write_text(&document)?;
        Ok(Status::Done)
    }
}

/// Prints what was pushed with an image.
pub(super) fn print_attached(
    session: &Session,
    registries: RegistryOptions,
    from: &str,
    what: Attested,
) -> Result<Status, Failure> {
    let from: Location = from.parse().map_err(|error| {
        let message = format!("\"{from}\" is no reference: {error}");
        Failure::usage(message)
            .with_help("--attached needs HOST/NAME[:TAG|@DIGEST] or oci:DIR[:TAG]")
    })?;
    let context = session.registry_context(registries)?;
    let document = attestations::published(&context, &from, what)?;
    session.end_progress();
    write_text(&document)?;
    Ok(Status::Done)
}

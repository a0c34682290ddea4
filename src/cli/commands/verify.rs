//! `vmfab verify`

use std::path::PathBuf;

use clap::Args;

use super::super::Status;
use super::super::options::RegistryOptions;
use super::super::session::Session;
use crate::failure::Failure;
use crate::ops::rebuild;
use crate::ops::signatures::{self, Signed};

/// Verify who signed an image in a registry, or a file
///
/// Exit with 6 unless a trusted key that may sign this name made a signature. vmfab pull, boot and
/// build verify by themselves what "signatures" in config.kdl asks for.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab verify ghcr.io/team/docker:1.0
  vmfab verify ghcr.io/team/docker:1.0 --signers team/allowed_signers
  vmfab verify ghcr.io/others/app:2 --cosign-key cosign.pub
  vmfab verify --rebuild @docker
  vmfab verify dev.snapshot.tar.gz --json | jq -r '.signatures[].comment'")]
pub(crate) struct Verify {
    /// Image: HOST/NAME[:TAG|@DIGEST], oci:DIR[:TAG] or oci-archive:FILE[:TAG]; or a file
    #[arg(value_name = "REF|FILE")]
    signed: String,

    /// Trust the keys of this file of allowed signers, and no others
    #[arg(long, value_name = "FILE")]
    signers: Option<PathBuf>,

    /// Verify signatures of cosign with this public key, too
    #[arg(long, value_name = "FILE")]
    cosign_key: Option<PathBuf>,

    /// Build an image of this host again, and compare it bit by bit
    ///
    /// REF is then a tag or the first digits of an id. vmfab runs every step again, with the recipe,
    /// parameters and lock of its provenance, and names the first step that differs.
    #[arg(long, conflicts_with_all = ["signers", "cosign_key"])]
    rebuild: bool,

    #[command(flatten)]
    registries: RegistryOptions,
}

impl Verify {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        if self.rebuild {
            return rebuild_image(session, &self.signed);
        }
        let context = session.registry_context(self.registries)?;
        let (signers, cosign) = (self.signers.as_deref(), self.cosign_key.as_deref());
        let verified = signatures::verify(&context, &Signed::named(&self.signed), signers, cosign)?;
        session.print(&verified, |verified| {
            let mut text = format!("{} ({})\n", verified.signed, verified.digest);
            for one in &verified.signatures {
                text += &format!("signed by {} {}\n", one.key, &one.comment);
            }
            for one in &verified.attestations {
                let kind = &one.predicate_type;
                text += &match (&one.key, &one.problem) {
                    (Some(key), _) => format!("attested by {key}: {kind}\n"),
                    (None, problem) => {
                        let problem = problem.as_deref().unwrap_or_default();
                        format!("attestation not counted: {kind}: {problem}\n")
                    }
                };
            }
            for reason in &verified.rejected {
                text += &format!("not counted: {reason}\n");
            }
            text
        })?;
        Ok(Status::Done)
    }
}

fn rebuild_image(session: &Session, image: &str) -> Result<Status, Failure> {
    let rebuilt = rebuild::rebuild(session.context()?, image)?;
    session.print(&rebuilt, |rebuilt| {
        let mut text = String::new();
        for source in &rebuilt.sources {
            text += &format!("source is not what it was: {source}\n");
        }
        for difference in &rebuilt.differences {
            text += &format!("differs: {difference}\n");
        }
        if rebuilt.image == rebuilt.again {
            let (again, steps) = (rebuilt.again.short(), rebuilt.steps);
            text += &format!("{steps} steps give the same image {again}\n");
        }
        text
    })?;
    if rebuilt.image == rebuilt.again {
        return Ok(Status::Done);
    }
    let (before, again) = (rebuilt.image.short(), rebuilt.again.short());
    Err(Failure::verification(format!(
        "building {before} again gives {again}"
    )))
}

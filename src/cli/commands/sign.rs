//! `vmfab sign`

use clap::Args;

use super::super::Status;
use super::super::options::RegistryOptions;
use super::super::session::Session;
use crate::failure::Failure;
use crate::ops::signatures::{self, Signed};

/// Sign an image in a registry, or a file
///
/// A signature of an image is a referrer of its manifest: it lies in the same repository, and other
/// tools list and copy it with the image. That of a file is FILE.sig. Both are OpenSSH's, in the
/// namespace vmfab, over the line sha256:DIGEST: ssh-keygen -Y verify verifies them, too.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab sign ghcr.io/team/docker:1.0
  vmfab sign ghcr.io/team/docker:1.0 --key release
  vmfab sign dev.snapshot.tar.gz --key ~/.ssh/id_ed25519_sk.pub")]
pub(crate) struct Sign {
    /// Image: HOST/NAME[:TAG|@DIGEST] or oci:DIR[:TAG]; or a file
    #[arg(value_name = "REF|FILE")]
    signed: String,

    /// Sign with this key: the name of your own, or a file of OpenSSH's [default: your only key]
    ///
    /// Name the .pub file of a key that is in an agent or on a hardware token.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,

    #[command(flatten)]
    registries: RegistryOptions,
}

impl Sign {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.registry_context(self.registries)?;
        let made = signatures::sign(&context, &Signed::named(&self.signed), self.key.as_deref())?;
        session.print(&made, |made| match session.quiet() {
            true => format!("{}\n", made.signature),
            false => format!(
                "signed {} ({}) with {}\n{}\n",
                made.signed, made.digest, made.key, made.signature
            ),
        })?;
        Ok(Status::Done)
    }
}

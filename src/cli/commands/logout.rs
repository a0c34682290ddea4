//! `vmfab logout`

use clap::Args;

use super::super::Status;
use super::super::session::Session;
use crate::failure::Failure;
use crate::ops::registries::{self, Logout as Done};

/// Log out from a registry
///
/// Remove its credentials from every file and helper that vmfab reads, including those of podman
/// and docker.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab logout ghcr.io
  vmfab logout --all                 from all registries that \"vmfab login\" saved")]
pub(crate) struct Logout {
    /// Host of the registry, with a port if needed
    #[arg(required_unless_present = "all")]
    registry: Option<String>,

    /// Log out from all registries in the file where vmfab login saves credentials
    #[arg(long, conflicts_with = "registry")]
    all: bool,
}

impl Logout {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?;
        let done = match &self.registry {
            Some(registry) => vec![registries::logout(context, registry)?],
            None => registries::logout_all(context)?,
        };
        session.print(&done, |done| match session.quiet() {
            true => String::new(),
            false => done.iter().map(shown).collect(),
        })?;
        if done.is_empty() {
            session.note("no login found");
        }
        Ok(Status::Done)
    }
}

fn shown(logout: &Done) -> String {
    format!(
        "{}: removed from {}\n",
        logout.registry,
        logout.places.join(" and ")
    )
}

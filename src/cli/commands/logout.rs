//! `vmfab logout`

use clap::Args;

use super::super::Status;
use super::super::error::CliError;
use super::super::session::Session;
use crate::ops::registries::{self, Logout as Done};

/// Log out from a registry
///
/// Its credentials are taken out of every file and program that vmfab looks into, podman's and docker's too.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab logout ghcr.io
  vmfab logout --all                 from all that \"vmfab login\" keeps in its file")]
pub(crate) struct Logout {
    /// Host of the registry, with a port if it has one
    #[arg(required_unless_present = "all")]
    registry: Option<String>,

    /// Log out from all registries in the file where logins are kept
    #[arg(long, conflicts_with = "registry")]
    all: bool,
}

impl Logout {
    pub(super) fn run(self, session: &Session) -> Result<Status, CliError> {
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
            session.note("there is no login");
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

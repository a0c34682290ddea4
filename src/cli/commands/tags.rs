//! `vmfab tags`

use clap::Args;

use super::super::Status;
use super::super::options::RegistryOptions;
use super::super::output::count;
use super::super::session::Session;
use crate::failure::Failure;
use crate::ops::registries;

/// List the tags of a repository in a registry
///
/// Ignore a tag in REFERENCE, and leave out invalid tags in the registry's list.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab tags ghcr.io/me/vm
  vmfab tags debian                  on Docker Hub
  vmfab tags localhost:5000/vm --json | jq -r '.tags[]'")]
pub(crate) struct Tags {
    /// Repository: HOST[:PORT]/NAME
    reference: String,

    #[command(flatten)]
    registries: RegistryOptions,
}

impl Tags {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.registry_context(self.registries)?;
        let tags = registries::tags(&context, &self.reference)?;
        session.print(&tags, |tags| {
            let lines = tags.tags.iter().map(|tag| format!("{tag}\n"));
            lines.collect::<String>()
        })?;
        if tags.results > 0 {
            let results = count(tags.results, "result");
            session.note(&format!("{results} of a build cache not listed"));
        } else if tags.tags.is_empty() {
            session.note(&format!("{} has no tags", tags.name));
        }
        Ok(Status::Done)
    }
}

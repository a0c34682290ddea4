//! `vmfab pause`

use clap::Args;

use super::super::Status;
use super::super::session::Session;
use super::several::{Named, finish};
use crate::failure::Failure;
use crate::ops::machine::{self, Affected, Paused};

/// Pause running machines
///
/// A paused machine keeps its memory and uses no processor. Connections to it wait, and may time
/// out. vmfab resume continues it; its clock is then behind until the guest corrects it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab pause docker
  vmfab pause --all && vmfab resume --all")]
pub(crate) struct Pause {
    #[command(flatten)]
    machines: Named,
}

impl Pause {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?;
        let paused = self
            .machines
            .targets(Affected::Started)
            .each(context, |machine| machine::pause(context, machine))?;
        finish(session, paused, "paused", describe)
    }
}

fn describe(paused: &Paused) -> String {
    let how = match paused.was_running {
        true => "paused",
        false => "was already paused",
    };
    format!("{}: {how}\n", paused.name)
}

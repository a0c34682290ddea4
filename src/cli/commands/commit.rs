//! `vmfab commit`

use std::time::Duration;

use clap::Args;

use super::super::Status;
use super::super::output::size;
use super::super::session::Session;
use super::boot::TIMEOUT;
use super::build::parse_tag;
use crate::failure::Failure;
use crate::ops::snapshot::{self, CommitOptions};
use crate::store::TagName;

/// Make an image of a machine
///
/// The image holds what the machine's disk holds now, without its identity (host keys, ids, leases,
/// logs, the machine's key). A copy of the machine is booted once to take that out. The machine
/// itself goes on: a running one writes its file systems back for a moment. Only what differs from
/// the machine's image is stored anew.
#[derive(Debug, Args)]
#[command(
    visible_alias = "export",
    after_help = "\
Examples:
  vmfab commit web @my-web
  vmfab commit web @my-web --description 'nginx with our certificates'
  vmfab boot @my-web"
)]
pub(crate) struct Commit {
    /// Name of the machine
    machine: String,

    /// Tag of the image
    #[arg(value_name = "@TAG", value_parser = parse_tag)]
    tag: TagName,

    /// Say what the image is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    /// Wait at most SECONDS until the copy of the machine has booted
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT)]
    timeout: u64,
}

impl Commit {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let options = CommitOptions {
            machine: self.machine,
            tag: self.tag,
            description: self.description,
            timeout: Duration::from_secs(self.timeout),
        };
        let made = snapshot::commit(session.context()?, &options)?;
        session.print(&made, |made| {
            format!(
                "@{}: image {} of {}, {}, of which {} are not in its base\n",
                made.tag,
                made.image.short(),
                made.machine,
                size(made.stored_size),
                size(made.own_size),
            )
        })?;
        Ok(Status::Done)
    }
}

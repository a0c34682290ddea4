//! `vmfab image record-boot`

use clap::Args;

use super::super::super::Status;
use super::super::super::output::size;
use super::super::super::session::Session;
use super::super::boot::StartArgs;
use crate::failure::Failure;
use crate::ops::lazy::{RecordOptions, RecordedBoot, record_boot};

/// Record what a boot of an image reads, for boots from a registry
///
/// vmfab boots a machine of the image, records what it reads of its disk until it is ready, and
/// removes it. vmfab push puts the record, the boot order, into the registry. Then vmfab boot of the image
/// elsewhere fetches that first, in that order and in large pieces, and the rest when the guest has
/// booted. Record again after a change of what starts in the image: a new image has no boot order.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab image record-boot @docker && vmfab push @docker ghcr.io/me/docker:1.0
  vmfab push @docker ghcr.io/me/docker:1.0 --record-boot   both in one")]
pub(super) struct RecordBoot {
    /// Tag, or first digits of an id
    image: String,

    #[command(flatten)]
    start: StartArgs,
}

impl RecordBoot {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let (accel, timeout) = self.start.chosen();
        let options = RecordOptions { accel, timeout };
        let recorded = record_boot(session.context()?, &self.image, &options)?;
        session.print(&recorded, |recorded| format!("{}\n", shown(recorded)))?;
        Ok(Status::Done)
    }
}

fn shown(recorded: &RecordedBoot) -> String {
    format!(
        "a boot of {} reads {} of {}, in {} parts",
        recorded.image.short(),
        size(recorded.bytes),
        size(recorded.disk),
        recorded.parts
    )
}

//! How failures reach the user, and those that only the command line has.

mod diagnostic;
mod show;

use std::io;

pub(super) use diagnostic::to_text;
pub(super) use show::{report, usage};

use crate::failure::{Failure, Kind};

/// Standard output cannot be written to.
pub(super) fn standard_output(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => {
            Failure::new(Kind::ReaderGone, "nobody reads standard output any more")
        }
        _ => Failure::failed(format!("cannot write to standard output: {error}")),
    }
}

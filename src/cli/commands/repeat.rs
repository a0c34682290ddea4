//! Showing something again and again.

use std::time::Duration;

use clap::Args;
use console::Term;
use serde::Serialize;

use super::super::Status;
use super::super::output;
use super::super::session::Session;
use crate::failure::Failure;

/// Options of lists that change by themselves.
#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// List again every SECONDS, until Ctrl-C; with --json one line each time
    #[arg(
        short,
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    watch: Option<u64>,
}

impl WatchArgs {
    /// How often to list again, if that is wanted.
    pub(super) fn every(&self) -> Option<Duration> {
        self.watch.map(Duration::from_secs)
    }
}

/// Shows what `ask` finds every so often, until Ctrl-C or an error: on a terminal in place of what
/// it showed before, with `--json` as one line each time.
pub(super) fn watch<T: Serialize>(
    session: &Session,
    every: Duration,
    mut ask: impl FnMut() -> Result<T, Failure>,
    draw: impl Fn(&T) -> String,
) -> Result<Status, Failure> {
    let screen = Term::stdout().is_term() && !session.json();
    loop {
        let found = ask()?;
        if session.json() {
            output::write_json_line(&found)?;
        } else {
            let clear = if screen { "\u{1b}[H\u{1b}[2J" } else { "" };
            output::write(&format!("{clear}{}\n", draw(&found)))?;
        }
        std::thread::sleep(every);
    }
}

//! `vmfab report`

use std::path::{Path, PathBuf};

use clap::Args;

use super::super::Status;
use super::super::output::size;
use super::super::session::Session;
use crate::failure::Failure;
use crate::ops::page_file;
use crate::ops::report::{self, Report as Shown, StepState, Written};

/// Write a build as a page: graph, timeline, reasons, sizes, checks
///
/// The page is one HTML file that needs no network. It shows which steps ran and why, how long each
/// took, what the image consists of, and what checks printed. Without BUILD, take the build that
/// began last.
///
/// Print the path of the page; with --json, print the data of the page and write no file unless
/// --output is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab report
  vmfab report 3fa2 --output report.html
  vmfab report --json | jq '.graphs[0].counts'")]
pub(crate) struct Report {
    /// Id of the build, or its first digits (see vmfab builds --all)
    #[arg(value_name = "BUILD")]
    build: Option<String>,

    /// Write to FILE [default: IMAGE-BUILD.html in the working directory]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Report {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        if let Some(path) = &self.output {
            page_file::check(path)?;
        }
        let context = session.reading_context()?;
        let shown = report::report(context, self.build.as_deref())?;
        let output = self.output.as_deref();
        if session.json() {
            if let Some(path) = output {
                report::write(&shown, Some(path))?;
            }
            session.print(&shown, |_| "")?;
            return Ok(Status::Done);
        }
        let written = report::write(&shown, output)?;
        session.print(&written, |written| match session.quiet() {
            true => written.path.display().to_string(),
            false => summary(&shown, written),
        })?;
        Ok(Status::Done)
    }
}

/// Writes the report of the build that a command has ended, and says so.
pub(super) fn after_build(session: &Session, build: &str, path: &Path) -> Result<(), Failure> {
    let shown = report::report(session.context()?, Some(build))?;
    if shown.graphs.is_empty() {
        // It did not come so far as to know its steps, and has said why.
        return Ok(());
    }
    let written = report::write(&shown, Some(path))?;
    session.note(&format!("wrote {}", summary(&shown, &written)));
    Ok(())
}

fn summary(shown: &Shown, written: &Written) -> String {
    let steps = || shown.graphs.iter().flat_map(|graph| &graph.steps);
    let ran = steps().filter(|step| matches!(step.state, StepState::Built | StepState::Failed));
    format!(
        "{}: build {}, {}, {} of {} steps ran ({})",
        written.path.display(),
        written.build,
        shown.outcome,
        ran.count(),
        steps().count(),
        size(written.bytes),
    )
}

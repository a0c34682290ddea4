//! `vmfab doctor`

use clap::Args;
use console::Style;

use super::super::Status;
use super::super::session::Session;
use super::super::table::{Align, Table};
use crate::failure::{Failure, Kind};
use crate::host::apt_get;
use crate::ops::doctor::{self, Report, State};

/// Check whether this host has what vmfab needs
///
/// Exit with 5 if something is missing; the last line says how to install it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab doctor
  vmfab doctor --json | jq -r '.packages[]'")]
pub(crate) struct Doctor {}

impl Doctor {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let report = doctor::examine(&session.reading_context()?.home);
        session.print(&report, |report| text(report, session))?;
        if report.ok {
            Ok(Status::Done)
        } else {
            Ok(Status::Code(Kind::Missing.exit_code()))
        }
    }
}

fn text(report: &Report, session: &Session) -> String {
    let mut table = Table::new([
        ("CHECK", Align::Left),
        ("STATE", Align::Left),
        ("FOUND", Align::Left),
        ("FOR", Align::Left),
    ]);
    for check in &report.checks {
        if session.quiet() && check.state == State::Ok {
            continue;
        }
        let state = match check.state {
            State::Ok => session.style(Style::new().green()).apply_to("ok"),
            State::Optional => session.style(Style::new().yellow()).apply_to("optional"),
            State::Missing => session.style(Style::new().red().bold()).apply_to("missing"),
        };
        table.row([
            check.name.clone(),
            state.to_string(),
            check.detail.clone(),
            check.purpose.clone(),
        ]);
    }
    let mut text = String::new();
    if !table.is_empty() {
        text += &format!("{table}\n");
    }
    for check in &report.checks {
        if let Some(help) = &check.help {
            text += &format!("{}: {help}\n", check.name);
        }
    }
    if !report.packages.is_empty() {
        let packages = report.packages.iter().map(String::as_str);
        text += &format!("Install what is missing: {}\n", apt_get(packages));
    } else if report.ok && !session.quiet() {
        text += "This host has everything that vmfab needs.\n";
    }
    text
}

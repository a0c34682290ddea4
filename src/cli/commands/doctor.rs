//! `vmfab doctor`

use clap::Args;
use console::Style;
use serde::Serialize;

use super::super::Status;
use super::super::session::Session;
use super::super::table::{Align, Table};
use crate::failure::{Failure, Kind};
use crate::host::apt_get;
use crate::ops::doctor::{self, HomeReport, Report, State};

/// Check whether this host and vmfab's home have all that is needed
///
/// Exit with 5 if something is missing on this host; a line says how to install it. Exit with 1 if
/// a machine cannot be used.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab doctor
  vmfab doctor --fix --dry-run           show what would be mended
  vmfab doctor --json | jq -r '.packages[]'")]
pub(crate) struct Doctor {
    /// Mend what can be mended in vmfab's home, after a question
    #[arg(long)]
    fix: bool,

    /// With --fix: do not ask
    #[arg(short, long, requires = "fix")]
    yes: bool,

    /// With --fix: show what would be done, and change nothing
    #[arg(short = 'n', long, requires = "fix", conflicts_with = "yes")]
    dry_run: bool,
}

/// The whole report.
#[derive(Debug, Serialize)]
struct Examined {
    #[serde(flatten)]
    host: Report,
    home: HomeReport,
}

impl Doctor {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = match self.fix {
            true => session.context()?,
            false => session.reading_context()?,
        };
        let mut report = Examined {
            host: doctor::examine(&context.home),
            home: doctor::look(context)?,
        };
        let fixes: Vec<String> = fixes(&report.home).collect();
        if self.fix && !self.dry_run && !fixes.is_empty() {
            if !self.yes {
                session.confirm(&fixes.join("\n"), "--yes")?;
            }
            doctor::fix(context, &report.home)?;
            report.home = doctor::look(context)?;
        }
        report.host.ok &= report.home.is_ok();
        session.print(&report, |report| {
            let mut text = text(&report.host, session) + &findings(&report.home, session);
            if self.dry_run {
                let would = fixes.iter().map(|fix| format!("would: {fix}\n"));
                text.extend(would);
            }
            if report.host.ok && !session.quiet() {
                text += "This host has everything that vmfab needs.\n";
            }
            text
        })?;
        let missing = report
            .host
            .checks
            .iter()
            .any(|check| check.state == State::Missing);
        Ok(match (report.host.ok, missing) {
            (true, _) => Status::Done,
            (false, true) => Status::Code(Kind::Missing.exit_code()),
            (false, false) => Status::Code(Kind::Failed.exit_code()),
        })
    }
}

/// What `--fix` does, a line each.
fn fixes(report: &HomeReport) -> impl Iterator<Item = String> {
    let findings = report.findings.iter();
    findings.filter_map(|finding| Some(format!("{}: {}", finding.message, finding.fix.as_ref()?)))
}

/// Which images machines need, and what does not fit.
fn findings(report: &HomeReport, session: &Session) -> String {
    let mut text = String::new();
    if !report.images.is_empty() && !session.quiet() {
        let mut table = Table::new([
            ("IMAGE", Align::Left),
            ("ID", Align::Left),
            ("STATE", Align::Left),
            ("NEEDED BY", Align::Left),
        ]);
        for image in &report.images {
            table.row([
                image.name.clone(),
                image.image.short(),
                if image.stored { "stored" } else { "missing" }.to_owned(),
                image.machines.join(" "),
            ]);
        }
        text += &format!("\n{table}\n");
    }
    for finding in &report.findings {
        let (style, word) = match finding.kind.is_broken() {
            true => (Style::new().red().bold(), "broken"),
            false => (Style::new().yellow(), "note"),
        };
        let word = session.style(style).apply_to(word);
        text += &format!("{word}: {}\n", finding.message);
        if let Some(help) = &finding.help {
            text += &format!("  {help}\n");
        }
        if let Some(fix) = &finding.fix {
            text += &format!("  vmfab doctor --fix would {fix}\n");
        }
    }
    text
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
    }
    text
}

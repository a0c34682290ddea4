//! `vmfab lint`

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::super::Status;
use super::super::output::{self, count};
use super::super::session::Session;
use super::recipe::parse_setting;
use crate::failure::Failure;
use crate::ops::lint::{self, Report};
use crate::text::Finding;

/// Check recipes and Dockerfiles without building them
///
/// Dockerfiles: the checks of docker build --check, by the same names. A Dockerfile chooses among
/// them with # check=skip=RULE,RULE and turns findings into errors with # check=error=true.
/// Recipes: formatting, unused parameters, downloads and bases that nothing pins, secrets in env.
///
/// Without FILE, check the .kdl files and Dockerfiles in the working directory.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab lint
  vmfab lint Dockerfile.dev --build-arg VERSION=2
  vmfab lint --error                 exit with 1 if anything is found
  vmfab lint - < Dockerfile")]
pub(crate) struct Lint {
    /// Recipes, Dockerfiles, directories of them, or - for a Dockerfile on standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Set a build argument of Dockerfiles, or a parameter of recipes (repeatable)
    #[arg(
        long = "build-arg",
        visible_alias = "set",
        value_name = "NAME=VALUE",
        value_parser = parse_setting
    )]
    build_args: Vec<(String, String)>,

    /// Exit with 1 if anything is found
    #[arg(long)]
    error: bool,
}

/// The JSON form of a finding. Lines and columns count from 1, columns in characters.
#[derive(Serialize)]
struct Json<'a> {
    rule: &'a str,
    message: &'a str,
    help: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    file: &'a str,
    line: usize,
    column: usize,
    /// In bytes from the beginning of the file.
    offset: usize,
    length: usize,
}

impl<'a> From<&'a Finding> for Json<'a> {
    fn from(finding: &'a Finding) -> Self {
        let range = finding.span.range;
        let text = finding.span.source.inner();
        let before = text.get(..range.offset()).unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        Json {
            rule: finding.rule,
            message: &finding.message,
            help: finding.help,
            url: finding.url.as_deref(),
            file: finding.span.source.name(),
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
            offset: range.offset(),
            length: range.len(),
        }
    }
}

impl Lint {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.reading_context()?;
        let paths = match self.files.is_empty() {
            true => vec![PathBuf::from(".")],
            false => self.files,
        };
        let paths = match paths.as_slice() {
            [only] if only.as_os_str() == "-" => paths,
            _ => lint::files_of(&paths)?,
        };
        if paths.is_empty() {
            return Err(Failure::unknown("recipe or Dockerfile", ".")
                .with_help("name the files: vmfab lint FILE"));
        }
        let build_args = self.build_args.into_iter().collect();
        let (mut reports, mut errors) = (Vec::new(), Vec::new());
        for path in &paths {
            match lint::lint(context, path, &build_args) {
                Ok(report) => reports.push(report),
                Err(error) => errors.push(error),
            }
        }
        show(&reports, session)?;
        if !errors.is_empty() {
            let message = format!("{} cannot be checked", count(errors.len(), "file"));
            return Err(Failure::several(errors, message));
        }
        let found = reports.iter().any(|report| !report.findings.is_empty());
        let fails = reports.iter().any(|report| report.fails) || (self.error && found);
        Ok(if fails { Status::Code(1) } else { Status::Done })
    }
}

fn show(reports: &[Report], session: &Session) -> Result<(), Failure> {
    let findings: Vec<&Finding> = reports.iter().flat_map(|report| &report.findings).collect();
    if session.json() {
        let json: Vec<Json<'_>> = findings.into_iter().map(Json::from).collect();
        return output::write_json(&json);
    }
    let mut text = String::new();
    for finding in &findings {
        text += &session.shown(*finding);
        text.push('\n');
    }
    let files = count(reports.len(), "file");
    if !session.quiet() && !reports.is_empty() {
        text += &match findings.len() {
            0 => format!("{files} checked, nothing found\n"),
            number => format!("{files} checked, {} found\n", count(number, "warning")),
        };
    }
    output::write(&text)
}

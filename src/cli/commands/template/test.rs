//! `vmfab template test`

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::super::super::Status;
use super::super::super::output::count;
use super::super::super::session::Session;
use super::super::boot::TIMEOUT;
use super::super::recipe::{AgreeArgs, parse_setting};
use crate::failure::Failure;
use crate::ops::template::test::{self, TestOptions, TestReport};

/// Build a template, boot it, and run its tests in the machine
///
/// vmfab builds it in an empty home, so that nothing of yours is in it, and removes the home
/// afterwards. A template must not copy files from outside of its directory. The tests are the test
/// nodes of its image. vmfab exits with 1 if the build, the boot or a test fails.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab template test ./python-dev
  vmfab template test ./python-dev --set port=8000 --junit report.xml
  vmfab template test . --matrix base=debian-12,ubuntu-24.04 --json
  vmfab template test acme/python-dev@^1.2
  vmfab template test . --home /var/cache/template-tests    keep results for the next run")]
pub(super) struct Test {
    /// Directory or recipe file, or [NAMESPACE/]NAME[@VERSION] of a repository
    #[arg(value_name = "TEMPLATE", default_value = ".", value_hint = clap::ValueHint::AnyPath)]
    template: String,

    /// Set a parameter (repeatable)
    #[arg(short, long = "set", value_name = "NAME=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, String)>,

    /// Test with each of these values of a parameter, and with every combination (repeatable)
    #[arg(long, value_name = "NAME=VALUE,VALUE", value_parser = parse_matrix)]
    matrix: Vec<(String, Vec<String>)>,

    /// Write a report for CI systems: JUnit's XML
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    junit: Option<PathBuf>,

    /// Build in this home, and keep it
    #[arg(long, value_name = "DIRECTORY", value_hint = clap::ValueHint::DirPath)]
    home: Option<PathBuf>,

    /// Wait this long until a machine is ready
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT)]
    timeout: u64,

    #[command(flatten)]
    agree: AgreeArgs,
}

fn parse_matrix(text: &str) -> Result<(String, Vec<String>), String> {
    let (name, values) = parse_setting(text)?;
    let values: Vec<String> = values.split(',').map(str::to_owned).collect();
    match values.iter().any(String::is_empty) {
        true => Err("write NAME=VALUE,VALUE".to_owned()),
        false => Ok((name, values)),
    }
}

impl Test {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let options = TestOptions {
            settings: self.settings.into_iter().collect(),
            matrix: self.matrix,
            home: self.home,
            timeout: Duration::from_secs(self.timeout),
        };
        let context = self.agree.apply(session.context()?.clone());
        let report = test::test(&context, &self.template, &options)?;
        if let Some(path) = &self.junit {
            fs::write(path, report.junit()).map_err(Failure::io("write", path))?;
        }
        session.print_last(&report, |_| String::new(), text)?;
        Ok(if report.failed() == 0 {
            Status::Done
        } else {
            Status::Code(1)
        })
    }
}

fn text(report: &TestReport) -> String {
    let mut text = String::new();
    for case in &report.cases {
        let title = case.title();
        let seconds = case.seconds;
        match &case.failure {
            None => text += &format!("passed  {title} ({seconds:.1} s)\n"),
            Some(failure) => {
                text += &format!("FAILED  {title} ({seconds:.1} s)\n");
                for line in failure.lines() {
                    text += &format!("        {line}\n");
                }
            }
        }
    }
    let passed = report.cases.len() - report.failed();
    text + &format!(
        "{}, {} failed\n",
        count(passed, "case") + " passed",
        report.failed()
    )
}

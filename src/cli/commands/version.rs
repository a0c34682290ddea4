//! `vmfab version`

use std::ffi::OsString;

use clap::Args;
use clap::error::ErrorKind;
use serde::Serialize;

use super::super::Status;
use super::super::session::Session;
use crate::derivation::scripts::INIT;
use crate::failure::Failure;
use crate::ops::doctor;

/// Print the version
///
/// With --verbose, also print how vmfab was built and which programs it finds; a report of a problem
/// should say that. vmfab --version --verbose prints the same.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab version
  vmfab version --verbose
  vmfab version --verbose --json | jq -r .commit")]
pub(crate) struct Version {}

#[derive(Debug, Serialize)]
struct About {
    version: &'static str,
    #[serde(flatten)]
    details: Option<Details>,
}

#[derive(Debug, Serialize)]
struct Details {
    /// The commit of the sources, if it was known when vmfab was built.
    commit: Option<&'static str>,
    /// The platform that vmfab was built for.
    target: &'static str,
    /// Whether it needs no shared libraries.
    is_static: bool,
    /// What it has that not all builds have.
    features: Vec<&'static str>,
    /// Version of the kernel.
    kernel: String,
    programs: Vec<Program>,
}

/// A program that vmfab calls.
#[derive(Debug, Serialize)]
struct Program {
    name: String,
    /// Path and version, or that it is missing.
    found: String,
}

impl Version {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let about = About {
            version: env!("CARGO_PKG_VERSION"),
            details: session.verbose().then(details),
        };
        session.print(&about, text)?;
        Ok(Status::Done)
    }
}

fn details() -> Details {
    let programs = doctor::programs().into_iter();
    let mut features = Vec::new();
    if !INIT.is_empty() {
        features.push("init");
    }
    Details {
        commit: Some(env!("VMFAB_COMMIT")).filter(|commit| !commit.is_empty()),
        target: env!("VMFAB_TARGET"),
        is_static: cfg!(target_feature = "crt-static"),
        features,
        kernel: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        programs: programs
            .map(|check| Program {
                name: check.name,
                found: check.detail,
            })
            .collect(),
    }
}

fn text(about: &About) -> String {
    let mut text = format!("vmfab {}\n", about.version);
    let Some(details) = &about.details else {
        return text;
    };
    let mut row = |name: &str, value: &str| text += &format!("{name:<20}{value}\n");
    row("commit", details.commit.unwrap_or("unknown"));
    row("target", details.target);
    row(
        "linked",
        if details.is_static {
            "statically"
        } else {
            "dynamically"
        },
    );
    row("features", &details.features.join(" "));
    row("kernel", &details.kernel);
    for program in &details.programs {
        row(&program.name, &program.found);
    }
    text
}

/// The arguments of this command that say the same as `--version` with `--verbose` or `--json`,
/// which clap answers with the version only.
pub(in crate::cli) fn instead_of_option(
    error: &clap::Error,
    arguments: &[OsString],
) -> Option<Vec<OsString>> {
    let asks = |word: &OsString| word == "--verbose" || word == "--json" || is_letter_v(word);
    if error.kind() != ErrorKind::DisplayVersion || !arguments.iter().any(asks) {
        return None;
    }
    let program = arguments.iter().take(1).cloned();
    let rest = arguments.iter().skip(1).filter(|word| asks(word));
    let rest = rest.map(|word| match is_letter_v(word) {
        true => "--verbose".into(),
        false => word.clone(),
    });
    Some(program.chain(["version".into()]).chain(rest).collect())
}

/// Whether a word is `-v`, or `-v` and `-V` in one.
fn is_letter_v(word: &OsString) -> bool {
    ["-v", "-vv", "-vV", "-Vv"]
        .iter()
        .any(|letters| word == letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_with_details_is_the_command() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let instead = |line: &str| {
            let arguments = words(line);
            let parsed = super::super::root().try_get_matches_from(&arguments);
            instead_of_option(&parsed.unwrap_err(), &arguments)
        };
        for line in [
            "vmfab --version --verbose",
            "vmfab -v -V",
            "vmfab -vV",
            "vmfab -Vv",
        ] {
            assert_eq!(
                instead(line),
                Some(words("vmfab version --verbose")),
                "{line}"
            );
        }
        let json = "vmfab --json --verbose --version";
        assert_eq!(instead(json), Some(words("vmfab version --json --verbose")));
        assert_eq!(instead("vmfab --version"), None);
        assert_eq!(instead("vmfab --verbose --help"), None);
    }
}

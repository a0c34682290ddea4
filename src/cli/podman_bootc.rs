//! The program under the name `podman-bootc`: a link to it takes podman-bootc's command line, which
//! is that of `vmfab pb`.
//!
//! Source: <https://github.com/containers/podman-bootc>. Its flags are those of Go's `pflag`, where
//! one without a value may have one all the same: `--rm=false`.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, FromArgMatches};

use super::commands::{self, Root};
use super::options::GlobalOptions;
use crate::failure::Kind;

/// The name of the link.
pub(super) const NAME: &str = "podman-bootc";
/// Its flags without a value.
const FLAGS: [&str; 7] = [
    "--all",
    "--background",
    "--force",
    "--help",
    "--no-descriptions",
    "--quiet",
    "--rm",
];

/// Whether this process was started under that name.
pub(super) fn is_called() -> bool {
    let name = std::env::args_os().next().unwrap_or_default();
    Path::new(&name)
        .file_stem()
        .is_some_and(|name| name == NAME)
}

/// Its command line: `pb` as the root, with the global options.
pub(super) fn command(mut root: clap::Command) -> clap::Command {
    let pb = root.find_subcommand_mut("pb").map(std::mem::take);
    let pb = pb.unwrap_or_default().name(NAME).bin_name(NAME);
    let about = pb.get_about().cloned().unwrap_or_default();
    GlobalOptions::augment_args(renamed(pb))
        .about(about)
        .long_about(None::<&str>)
        .styles(root.get_styles().clone())
        .max_term_width(100)
}

/// Parses the arguments of a process with that name.
pub(super) fn parse(
    arguments: &[OsString],
    color: clap::ColorChoice,
) -> clap::error::Result<(String, Root)> {
    let mut arguments = plain(arguments);
    if arguments.len() == 1 {
        arguments.push("--help".into());
    }
    let matches = command(commands::root())
        .color(color)
        .try_get_matches_from(arguments)?;
    let root = Root {
        options: GlobalOptions::from_arg_matches(&matches)?,
        command: commands::pb(&matches)?,
    };
    Ok(("pb".to_owned(), root))
}

/// The exit code of a failure: podman-bootc has one for all, but passes on that of `ssh`.
pub(super) fn exit_code(kind: Kind) -> ExitCode {
    ExitCode::from(match kind {
        Kind::NoSession | Kind::ReaderGone => kind.exit_code(),
        _ => 1,
    })
}

/// Examples under that name.
fn renamed(command: clap::Command) -> clap::Command {
    let examples = command.get_after_help().map(ToString::to_string);
    let command = match examples {
        Some(text) => command.after_help(text.replace("vmfab pb", NAME)),
        None => command,
    };
    command.mut_subcommands(renamed)
}

/// The arguments without values of flags, up to `--`.
fn plain(arguments: &[OsString]) -> Vec<OsString> {
    let mut is_over = false;
    let arguments = arguments.iter().filter_map(|argument| {
        is_over |= argument == "--";
        let split = argument.to_str().and_then(|text| text.split_once('='));
        match split {
            Some((flag, value)) if !is_over && FLAGS.contains(&flag) => match value {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(flag.into()),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => None,
                _ => Some(argument.clone()),
            },
            _ => Some(argument.clone()),
        }
    });
    arguments.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn flags_may_have_values() {
        assert_eq!(
            plain(&words(
                "podman-bootc rm --all=true -f --quiet=false --rm=x -- --rm=true"
            )),
            words("podman-bootc rm --all -f --rm=x -- --rm=true")
        );
    }

    #[test]
    fn its_command_lines_are_taken() {
        for line in [
            "run quay.io/centos-bootc/centos-bootc:stream9",
            "run -u core --cloudinit /usr --filesystem=xfs -B image",
            "run image --rm --quiet --root-size-max 8G --disk-size=20G",
            "run image whoami",
            "run image -- ls -l",
            "ssh d0300f628e13",
            "ssh d0300f628e13 -u core uname",
            "--log-level debug list",
            "list --log-level=warning",
            "images",
            "stop d0300f628e13",
            "rm d0300f628e13",
            "rm --all -f",
            "rm -f --all=true",
            "completion bash --no-descriptions",
            "help run",
        ] {
            let arguments = words(&format!("podman-bootc {line}"));
            match parse(&arguments, clap::ColorChoice::Never) {
                Ok(_) => {}
                Err(error) if line == "help run" && !error.use_stderr() => {}
                Err(error) => panic!("{line}: {error}"),
            }
        }
        for line in [
            "run",
            "rm",
            "rm --all x",
            "stop",
            "stop a b",
            "list --foo",
            "frob",
        ] {
            let arguments = words(&format!("podman-bootc {line}"));
            let error = parse(&arguments, clap::ColorChoice::Never)
                .map(drop)
                .unwrap_err();
            let text = error.to_string();
            assert!(!text.contains("pb"), "{line}: {text}");
        }
    }
}

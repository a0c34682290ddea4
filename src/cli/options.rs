//! The options that every command takes.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use console::Term;

use crate::checked::BuildId;
use crate::registry::Access;

/// Heading of these options in help texts.
const HEADING: &str = "Global options";
/// Heading of the options for registries.
const REGISTRIES: &str = "Registries";

/// The options that every command takes.
#[derive(Debug, Clone, Args)]
pub(super) struct GlobalOptions {
    /// Print results as JSON (build, boot, up, start and restart: also events)
    #[arg(long, global = true, help_heading = HEADING)]
    pub(super) json: bool,

    /// Print no progress; only results, warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = HEADING)]
    pub(super) quiet: bool,

    /// Show the output of steps (-vv: also cached steps)
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = HEADING)]
    pub(super) verbose: u8,

    /// Never use the network; fail if something is not in the store
    #[arg(long, global = true, env = "VMFAB_OFFLINE", value_parser = clap::builder::FalseyValueParser::new(), hide_env = true, help_heading = HEADING)]
    pub(super) offline: bool,

    /// Append all events to FILE, as JSON lines
    #[arg(long, global = true, value_name = "FILE", help_heading = HEADING)]
    pub(super) log: Option<PathBuf>,

    /// Append diagnostics of vmfab itself to FILE, as JSON lines (see VMFAB_LOG)
    #[arg(long, global = true, value_name = "FILE", help_heading = HEADING)]
    pub(super) trace: Option<PathBuf>,

    /// Keep the record of the build under this id, which the vmfab in the foreground chose
    #[arg(long, global = true, hide = true, value_name = "ID")]
    pub(super) as_build: Option<BuildId>,

    /// Run CMD in a shell when the command ends, and when a build takes twice as long as before or
    /// shows no sign of life for ten minutes
    #[arg(long, global = true, value_name = "CMD", help_heading = HEADING)]
    pub(super) notify: Option<String>,

    /// Use colours and bars: auto, always or never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        help_heading = HEADING
    )]
    pub(super) color: ColorWhen,
}

/// The options of commands that talk to registries.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(super) struct RegistryOptions {
    /// Connect to registries without TLS
    #[arg(long, help_heading = REGISTRIES)]
    plain_http: bool,

    /// Connect to registries with TLS, but do not verify their certificates
    #[arg(long, conflicts_with = "plain_http", help_heading = REGISTRIES)]
    insecure: bool,
}

impl RegistryOptions {
    /// How registries are to be reached.
    pub(super) const fn access(self) -> Access {
        Access {
            plain_http: self.plain_http,
            insecure: self.insecure,
        }
    }
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb.
    #[default]
    Auto,
    /// In pipes and files, too.
    Always,
    /// Never.
    Never,
}

impl ColorWhen {
    /// Whether to colour what goes to `stream`.
    pub(super) fn decide(self, stream: &Term) -> bool {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                !set("NO_COLOR")
                    && stream.is_term()
                    && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
        }
    }
}

impl From<ColorWhen> for clap::ColorChoice {
    fn from(when: ColorWhen) -> Self {
        match when {
            ColorWhen::Auto => Self::Auto,
            ColorWhen::Always => Self::Always,
            ColorWhen::Never => Self::Never,
        }
    }
}

/// What must be known even when the arguments make no sense: how to show that error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hints {
    /// `--json` was given.
    pub(super) json: bool,
    /// The last `--color` that was given.
    pub(super) color: ColorWhen,
}

impl Hints {
    /// Looks through raw arguments, up to `--`.
    pub(super) fn of(arguments: &[OsString]) -> Self {
        let mut hints = Self {
            json: false,
            color: ColorWhen::Auto,
        };
        let mut rest = arguments
            .iter()
            .skip(1)
            .filter_map(|argument| argument.to_str())
            .take_while(|argument| *argument != "--");
        while let Some(argument) = rest.next() {
            let color = match argument {
                "--json" => {
                    hints.json = true;
                    None
                }
                "--color" => rest.next(),
                _ => argument.strip_prefix("--color="),
            };
            if let Some(when) = color.and_then(|text| ColorWhen::from_str(text, false).ok()) {
                hints.color = when;
            }
        }
        hints
    }
}

/// A length of time, as people write it.
pub(super) fn parse_time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "write a number and a unit, such as 12h, 14d or 2months".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(line: &str) -> Hints {
        Hints::of(
            &line
                .split_whitespace()
                .map(OsString::from)
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn hints_are_found_among_wrong_arguments() {
        let found = hints("vmfab --nonsense --color always build --json");
        assert_eq!((found.json, found.color), (true, ColorWhen::Always));
        assert_eq!(hints("vmfab --color=never").color, ColorWhen::Never);
        assert_eq!(hints("vmfab --color").color, ColorWhen::Auto);
    }

    #[test]
    fn hints_end_where_the_arguments_of_another_program_begin() {
        assert!(!hints("vmfab ssh docker -- ls --json").json);
    }
}

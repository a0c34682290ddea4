//! Diagnostics of what the program does, for those who look for a fault in it: `VMFAB_LOG` and
//! `--trace`.
//!
//! Events tell users what happens; these lines tell developers how. Modules write them with
//! `tracing`. Without `VMFAB_LOG` and `--trace` nothing listens, and a span costs as much as a
//! branch.

use std::env;
use std::io;
use std::path::Path;
use std::sync::{Mutex, OnceLock};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use super::output::clean_lines;
use super::reporter::log::append_to;
use crate::failure::Failure;

/// What to write: `LEVEL`, or `TARGET=LEVEL` separated by commas.
pub(super) const VARIABLE: &str = "VMFAB_LOG";

/// Whether lines go to standard error, where bars would be in their way.
pub(super) fn to_standard_error(file: Option<&Path>) -> bool {
    file.is_none() && (filter_text().is_some() || LEVEL.get().is_some())
}

/// The level that an option of the command asks for.
static LEVEL: OnceLock<LevelFilter> = OnceLock::new();

/// Begins to listen when the user asked for it: lines of JSON to `file`, or else text to standard
/// error. `level` is what an option of the command asks for; `VMFAB_LOG` goes before it.
///
/// # Errors
/// `VMFAB_LOG` is no filter, or the file cannot be opened.
pub(super) fn begin(file: Option<&Path>, level: Option<LevelFilter>) -> Result<(), Failure> {
    let text = filter_text();
    if file.is_none() && text.is_none() && level.is_none() {
        return Ok(());
    }
    let level = level.map(|level| *LEVEL.get_or_init(|| level));
    let filter = match &text {
        Some(text) => parse(text)?,
        None => Targets::new().with_default(level.unwrap_or(LevelFilter::DEBUG)),
    };
    let registry = tracing_subscriber::registry();
    // Another subscriber would be a second call of this function.
    let _ = match file {
        Some(path) => {
            let file = append_to(path).map_err(|error| {
                Failure::failed(format!("cannot open {}: {error}", path.display()))
            })?;
            let lines = fmt::layer()
                .json()
                .with_span_events(FmtSpan::CLOSE)
                .with_writer(Mutex::new(file));
            registry.with(lines.with_filter(filter)).try_init()
        }
        None => {
            let lines = fmt::layer()
                .with_ansi(false)
                .with_span_events(FmtSpan::CLOSE)
                .with_writer(|| Clean(io::stderr()));
            registry.with(lines.with_filter(filter)).try_init()
        }
    };
    Ok(())
}

fn filter_text() -> Option<String> {
    env::var(VARIABLE).ok().filter(|text| !text.is_empty())
}

fn parse(text: &str) -> Result<Targets, Failure> {
    // The library takes any word for a target.
    let no_level = text.split(',').find(|part| {
        !part.contains('=') && !part.starts_with("vmfab") && part.parse::<LevelFilter>().is_err()
    });
    let parsed = match no_level {
        Some(part) => Err(format!("\"{part}\" is not a level")),
        None => text.parse().map_err(|error: ParseError| error.to_string()),
    };
    parsed.map_err(|why| {
        Failure::usage(format!("{VARIABLE} is \"{text}\": {why}")).with_help(
            "give a level (error, warn, info, debug, trace), or TARGET=LEVEL as in \
             info,vmfab::http=trace",
        )
    })
}

/// A terminal that words of servers and guests cannot steer.
struct Clean<W>(W);

impl<W: io::Write> io::Write for Clean<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = clean_lines(&String::from_utf8_lossy(bytes));
        self.0.write_all(text.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        for text in ["debug", "info,vmfab::http=trace", "vmfab::store=off"] {
            assert!(parse(text).is_ok(), "{text}");
        }
        assert!(parse("vmfab=loud").is_err());
        let error = parse("loud").unwrap_err();
        assert!(
            error.message().starts_with("VMFAB_LOG is \"loud\": "),
            "{error:?}"
        );
    }
}

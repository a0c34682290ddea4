//! `vmfab audit`

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::super::Status;
use super::super::options::parse_time;
use super::super::output::count;
use super::super::session::Session;
use super::super::table::{Align, Table};
use crate::failure::Failure;
use crate::ops::audit::{self, Entry, Filter, Verified};

/// How many digits of a digest are shown.
const DIGITS: usize = 12;

/// Show and verify the log of who did what
///
/// log/audit.jsonl records builds, pulls, pushes, exports, imports, keys, refused signatures, starts
/// of machines and deletions. Each entry has the hash of the one before.
#[derive(Debug, Args)]
#[command(
    subcommand_value_name = "COMMAND",
    after_help = "\
Examples:
  vmfab audit show
  vmfab audit verify"
)]
pub(crate) struct Audit {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    Show(Show),
    Verify(Verify),
}

impl Audit {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        match self.command {
            AuditCommand::Show(command) => command.run(session),
            AuditCommand::Verify(command) => command.run(session),
        }
    }
}

/// List who did what, the last entry at the bottom
#[derive(Debug, Args)]
#[command(
    visible_aliases = ["list", "ls"],
    after_help = "\
Examples:
  vmfab audit show
  vmfab audit show docker --since 7d
  vmfab audit show --deed image-untagged --user anna
  vmfab audit show --json | jq -r '.[] | select(.deed == \"image-pulled\").from'
  vmfab audit show --head > /elsewhere/audit-head"
)]
struct Show {
    /// Show entries that name this: a tag, machine, image, reference, key or file
    #[arg(value_name = "TEXT")]
    about: Option<String>,

    /// Show this kind of deed, such as image-built or machine-removed
    #[arg(long, value_name = "DEED")]
    deed: Option<String>,

    /// Show what this user did
    #[arg(long, value_name = "USER|UID")]
    user: Option<String>,

    /// Show entries of at most TIME ago
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Duration>,

    /// List at most the last N entries [default: all]
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,

    /// Print the hash of the last entry, to note it elsewhere
    #[arg(long, conflicts_with_all = ["about", "deed", "user", "since", "last"])]
    head: bool,
}

impl Show {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.reading_context()?;
        if self.head {
            let head = audit::head(context)?;
            session.print(&head, |head| format!("{}\n", head.hash))?;
            return Ok(Status::Done);
        }
        let filter = Filter {
            about: self.about,
            deed: self.deed,
            user: self.user,
            since: self.since,
        };
        let mut entries = audit::show(context, &filter)?;
        let most = self.last.unwrap_or(entries.len());
        entries.drain(..entries.len().saturating_sub(most));
        session.print(&entries, |entries| match entries.is_empty() {
            true => String::new(),
            false => table(entries),
        })?;
        if entries.is_empty() {
            session.note("no entry matches");
        }
        Ok(Status::Done)
    }
}

/// Verify that nobody changed, removed or moved an entry
///
/// Exit with 6 and name the line otherwise. The log alone cannot show that its end was cut off, or
/// that all of it was written anew: note the hash of its last entry elsewhere, and give it with
/// --head.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab audit verify
  vmfab audit verify --head $(cat /elsewhere/audit-head)")]
struct Verify {
    /// Also require an entry with this hash, which vmfab audit show --head printed before
    #[arg(long, value_name = "HASH")]
    head: Option<String>,
}

impl Verify {
    fn run(self, session: &Session) -> Result<Status, Failure> {
        let verified = audit::verify(session.reading_context()?, self.head.as_deref())?;
        session.print(&verified, shown)?;
        match verified.breaks.len() {
            0 => Ok(Status::Done),
            breaks => Err(Failure::verification(format!(
                "the audit log is not what vmfab wrote: it breaks at {}",
                count(breaks, "line")
            ))),
        }
    }
}

fn shown(verified: &Verified) -> String {
    let mut text = String::new();
    for one in &verified.breaks {
        text += &format!("line {} {}\n", one.line, one.what);
    }
    if verified.torn > 0 {
        text += &format!(
            "a process was killed while it wrote: the next entry removes the {} bytes that it left\n",
            verified.torn
        );
    }
    let number = verified.entries;
    let entries = if number == 1 { "entry" } else { "entries" };
    match (&verified.head, verified.breaks.is_empty()) {
        (None, true) => text += "the audit log is empty\n",
        (Some(head), true) => {
            text += &format!("{number} {entries}, the last with the hash {}\n", head.hash);
        }
        (_, false) => {}
    }
    text
}

fn table(entries: &[Entry]) -> String {
    let mut table = Table::new([
        ("ENTRY", Align::Right),
        ("TIME", Align::Left),
        ("USER", Align::Left),
        ("DEED", Align::Left),
        ("WHAT", Align::Left),
    ]);
    for entry in entries {
        let about = entry.about.iter().filter(|(_, value)| !is_empty(value));
        let about: Vec<_> = about
            .map(|(name, value)| format!("{name}={}", brief(value)))
            .collect();
        let user = entry.user.clone();
        table.row([
            entry.number.to_string(),
            entry.time.clone(),
            user.unwrap_or_else(|| entry.uid.to_string()),
            entry.deed.clone(),
            about.join(" "),
        ]);
    }
    table.to_string()
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

/// A value on a line: digests with their first digits.
fn brief(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let digits = text.strip_prefix("sha256:").unwrap_or(text);
            let is_digest =
                digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            match is_digest {
                true => digits[..DIGITS].to_owned(),
                false => text.clone(),
            }
        }
        Value::Array(values) => {
            let values: Vec<_> = values.iter().map(brief).collect();
            values.join(",")
        }
        other => other.to_string(),
    }
}

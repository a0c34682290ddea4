//! `vmfab store gc`

use std::time::{Duration, UNIX_EPOCH};

use clap::Args;

use super::super::super::Status;
use super::super::super::options::parse_time;
use super::super::super::output::{count, duration, size};
use super::super::super::session::Session;
use super::super::hardware::parse_size;
use crate::config::AutoCollect;
use crate::failure::Failure;
use crate::ops::store::{self, Collected, Freed, GcOptions};
use crate::store::CollectOptions;

/// Remove what nothing needs (garbage collection)
///
/// Keep everything that tags, roots and machines name, and recently used results of steps, so that
/// builds still find them. Also remove cache entries that belong to nothing in the store. Builds
/// may run at the same time.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab store gc --dry-run
  vmfab store gc --older-than 0s --keep-last 0    keep only what has a name
  vmfab store gc --max-size 20G --cache-size 20G  fit the store and the caches")]
pub(super) struct Gc {
    /// Keep results of steps that were used within TIME
    #[arg(long, value_name = "TIME", default_value = "14d", value_parser = parse_time)]
    older_than: Duration,

    /// Keep the last N images built, however old they are
    #[arg(long, value_name = "N", default_value_t = AutoCollect::default().keep_last)]
    keep_last: usize,

    /// Then drop the least recently used results until the store fits into SIZE
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_size: Option<u64>,

    /// Drop the least recently used disks, layers and cache mounts until the caches fit into SIZE
    #[arg(long, value_name = "SIZE", default_value = "20G", value_parser = parse_size)]
    cache_size: Option<u64>,

    /// Show what would be removed, and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl Gc {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let options = GcOptions {
            store: CollectOptions {
                older_than: self.older_than,
                keep_last: self.keep_last,
                max_size: self.max_size,
                dry_run: self.dry_run,
            },
            cache_size: self.cache_size,
        };
        let done = store::gc(session.context()?, &options)?;
        session.print(&done, |done| match session.quiet() {
            true => String::new(),
            false => text(done),
        })?;
        for absent in &done.absent_projects {
            let until = UNIX_EPOCH + Duration::from_secs(absent.until);
            let until = humantime::format_rfc3339_seconds(until).to_string();
            let day = until.split('T').next().unwrap_or(&until);
            let what = match absent.forgotten {
                true => format!("the store no longer keeps what they need, since {day}"),
                false => format!("the store keeps what they need until {day}"),
            };
            session.note(&format!(
                "the machines of the project {} are missing: {what}",
                absent.path.display()
            ));
        }
        if done.too_large {
            session.note(
                "the store is still larger than --max-size: tags, roots and machines need the rest",
            );
        }
        if done.results.kept > 0 && done.objects.removed == 0 && !done.too_large {
            session.note(&format!(
                "{} of steps that were used lately keep what no tag names: --older-than and --keep-last \
                 say how many",
                count(done.results.kept as usize, "result")
            ));
        }
        Ok(Status::Done)
    }
}

fn text(done: &Collected) -> String {
    let removed = if done.dry_run {
        "would be removed"
    } else {
        "removed"
    };
    let mut text = String::new();
    for (outputs, number) in store::by_output(&done.dropped) {
        let results = count(number, "result");
        text += &format!("{results} of steps with output {outputs} {removed}\n");
    }
    for (freed, noun) in [
        (done.disks, "cached disk"),
        (done.layers, "cached layer"),
        (done.mounts, "cache mount"),
    ] {
        let Freed {
            removed: number,
            bytes,
        } = freed;
        if number > 0 {
            let what = count(number as usize, noun);
            text += &format!("{what} {removed} ({})\n", size(bytes));
        }
    }
    if done.stale > 0 {
        let bytes = size(done.stale);
        text += &format!("stale downloads {removed} ({bytes})\n");
    }
    let objects = count(done.objects.removed as usize, "object");
    text + &format!(
        "{objects} {removed}, {} kept: the store {} {} instead of {} ({})\n",
        done.objects.kept,
        if done.dry_run { "would have" } else { "has" },
        size(done.after),
        size(done.before),
        duration(done.seconds)
    )
}

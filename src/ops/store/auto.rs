//! Garbage collection by itself, after commands that build, when the configuration asks for it.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::super::Context;
use super::gc::{GcOptions, gc};
use crate::config::AutoCollect;
use crate::event::Event;
use crate::failure::{Failure, Kind};
use crate::host::file;
use crate::store::{CollectOptions, Store};

/// Between two collections of a store that has no size to keep to.
const PERIOD: Duration = Duration::from_hours(24);

/// Collects garbage when the configuration says so and it is time. Of a context whose store nobody
/// has used: what a process relies on stays. A collection that fails stops nothing: it is a
/// warning, and the next command tries again.
pub fn collect_if_due(context: &Context) {
    let Some(wanted) = &context.config.gc else {
        return;
    };
    match collect(context, wanted) {
        Err(error) if error.is(Kind::Interrupted) => {}
        Err(error) => context.emit(Event::Warning {
            message: format!("garbage was not collected: {error}"),
        }),
        Ok(()) => {}
    }
}

fn collect(context: &Context, wanted: &AutoCollect) -> Result<(), Failure> {
    let last = Last::read(context);
    let store = Store::open(context.home.store())?;
    let due = match wanted.max_size {
        Some(most) => {
            let stored = store.stored()?;
            // What names keep does not go: it is not tried again before there is something new.
            stored > most.max(last.after.saturating_add(most / 20))
        }
        None => last
            .time
            .is_none_or(|time| time.elapsed().is_ok_and(|age| age > PERIOD)),
    };
    // One is enough when another process collects.
    if !due || store.try_lock("gc")?.is_none() {
        return Ok(());
    }
    let collected = gc(
        context,
        &GcOptions {
            store: CollectOptions {
                older_than: wanted.older_than,
                keep_last: wanted.keep_last,
                max_size: wanted.max_size,
                dry_run: false,
            },
            cache_size: Some(wanted.cache_size),
        },
    )?;
    if collected.too_large && wanted.max_size.is_some() {
        context.emit(Event::Note {
            message: "the store is larger than the configuration's max-size: tags, roots and machines need \
                      what is in it; vmfab store stat shows how much each takes"
                .to_owned(),
        });
    }
    Ok(())
}

/// The last collection: a file with the size of the store after it.
#[derive(Default)]
struct Last {
    /// When it was; nothing when there was none.
    time: Option<SystemTime>,
    /// Bytes of the store after it.
    after: u64,
}

impl Last {
    /// A file that cannot be read makes a collection more.
    fn read(context: &Context) -> Self {
        let path = path(context);
        let time = std::fs::metadata(&path).and_then(|meta| meta.modified());
        let after = std::fs::read_to_string(&path).ok();
        Self {
            time: time.ok(),
            after: after
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or_default(),
        }
    }
}

/// Remembers that there was a collection, which left so many bytes.
pub(super) fn remember(context: &Context, after: u64) {
    let _ = file::cache(&path(context), format!("{after}\n").as_bytes());
}

fn path(context: &Context) -> PathBuf {
    context.home.log().join("collected")
}

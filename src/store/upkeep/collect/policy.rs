//! Which action results stay.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::catalogs::{Catalogs, Recorded};
use super::mark::Mark;
use super::{ByShort, CollectOptions, Collection, Dropped, Reason, short};
use crate::digest::{ActionKey, Digest};
use crate::store::error::StoreError;
use crate::store::format::Kind;
use crate::store::names::action::{DAY, now};
use crate::store::records::table::Table;

/// The output of derivations that make images.
const IMAGE: &str = "config";
/// The only output of results that say where in an object something is.
const PLACE: &str = "packages";

/// What stays.
pub(super) struct Plan {
    /// Keys of results.
    pub(super) kept: HashSet<Digest, ByShort>,
    /// With counts of objects and results.
    pub(super) report: Collection,
}

/// Decides about results, and marks what those that stay need.
pub(super) fn decide(
    mark: &mut Mark<'_>,
    catalogs: &Catalogs,
    options: &CollectOptions,
) -> Result<Plan, StoreError> {
    let running = |result: &Recorded| catalogs.all[result.catalog as usize].open;
    let mut results: Vec<&Recorded> = catalogs.results.iter().collect();
    // What stays in any case takes its room first.
    results
        .sort_by_cached_key(|result| std::cmp::Reverse((running(result), result.time, result.key)));
    let oldest = now().saturating_sub(options.older_than.as_secs());
    let mut room = match options.max_size {
        Some(most) => Some(Room::new(catalogs, mark, most)?),
        None => None,
    };
    let mut kept = HashSet::default();
    let mut report = Collection::default();
    let mut images = 0;
    let mut full = false;
    let mut places = Vec::new();
    for result in results {
        if place(result).is_some() {
            places.push(result);
            continue;
        }
        let is_image = result.outputs.iter().any(|(name, _)| name == IMAGE);
        let among_last = is_image && images < options.keep_last;
        images += usize::from(is_image);
        let needs = needs(mark, result, catalogs)?;
        let complete = needs
            .as_ref()
            .is_some_and(|needs| needs.iter().all(|key| catalogs.objects.contains_key(key)));
        let needs = needs.unwrap_or_default();
        let running = running(result);
        let reason = if !complete {
            Some(Reason::Incomplete)
        } else if running {
            None
        } else if result.time.saturating_add(DAY) < oldest || options.older_than.is_zero() {
            // One whose objects stay for a name costs nothing, and saves the step that made them.
            let stays = among_last || needs.iter().all(|key| mark.is_live(key));
            (!stays).then_some(Reason::Unused)
        } else if full {
            Some(Reason::Size)
        } else {
            None
        };
        if let Some(reason) = reason {
            report.dropped.push(dropped(result, reason));
            continue;
        }
        let must = running || among_last;
        if let Some(room) = &mut room
            && !room.takes(&needs, catalogs, must)
        {
            full = true;
            report.dropped.push(dropped(result, Reason::Size));
            continue;
        }
        kept.insert(result.key);
        for key in &needs {
            mark.object(key, catalogs)?;
        }
    }
    // A place says where in an object something is: it stays as long as that does, and keeps
    // nothing.
    for result in places {
        match place(result).is_some_and(|object| mark.is_live(object)) {
            true => drop(kept.insert(result.key)),
            false => report.dropped.push(dropped(result, Reason::Unused)),
        }
    }
    report.too_large = room.is_some_and(|room| room.used > room.most);
    report.dropped.reverse();
    report.results.kept = kept.len() as u64;
    report.results.removed = report.dropped.len() as u64;
    let live = catalogs
        .objects
        .keys()
        .filter(|object| mark.is_live(object))
        .count();
    report.objects.kept = live as u64;
    report.objects.removed = (catalogs.objects.len() - live) as u64;
    Ok(Plan { kept, report })
}

/// The object of a result that only says where something is.
fn place(result: &Recorded) -> Option<&Digest> {
    match &*result.outputs {
        [(name, object)] if name == PLACE => Some(object.id.digest()),
        _ => None,
    }
}

/// The objects that stay with a result: its outputs, and what those of them that are image configs
/// refer to. Nothing when that cannot be told.
fn needs(
    mark: &mut Mark<'_>,
    result: &Recorded,
    catalogs: &Catalogs,
) -> Result<Option<Vec<Digest>>, StoreError> {
    let mut needs = Vec::new();
    for (name, object) in result.outputs.iter() {
        needs.push(*object.id.digest());
        if name == IMAGE {
            let Some(references) = mark.references(&object.id, catalogs)? else {
                return Ok(None);
            };
            needs.extend(references.iter().map(|object| *object.digest()));
        }
    }
    Ok(Some(needs))
}

fn dropped(result: &Recorded, reason: Reason) -> Dropped {
    Dropped {
        key: ActionKey::new(result.key),
        outputs: Arc::clone(&result.outputs),
        used: result.time,
        reason,
    }
}

/// How much more may stay.
struct Room {
    most: u64,
    used: u64,
    /// Stored bytes of each chunk that nothing that stays has yet.
    chunks: HashMap<u64, u32, ByShort>,
    objects: HashSet<Digest, ByShort>,
}

impl Room {
    fn new(catalogs: &Catalogs, mark: &Mark<'_>, most: u64) -> Result<Self, StoreError> {
        let mut room = Self {
            most,
            used: 0,
            chunks: HashMap::default(),
            objects: HashSet::default(),
        };
        let mut add = |entry: &crate::store::format::Entry| {
            let record = &entry.record;
            let length = record.length() as u32;
            match record.kind {
                Kind::Chunk if mark.is_live_chunk(&record.key) => room.used += u64::from(length),
                Kind::Chunk => {
                    room.chunks.insert(short(&record.key), length);
                }
                Kind::Object | Kind::Blob if mark.is_live(&record.key) => {
                    room.used += u64::from(length);
                    room.objects.insert(record.key);
                }
                _ => {}
            }
        };
        for catalog in &catalogs.all {
            catalog.entries.iter().for_each(&mut add);
        }
        for pack in &catalogs.data {
            let path = mark.path(pack.name);
            let (table, _) = Table::of_pack(path, pack.name)?;
            table.for_each(|entry, _| {
                add(&entry);
                Ok(())
            })?;
        }
        Ok(room)
    }

    /// Whether objects fit, or must; then they count as used.
    fn takes(&mut self, needs: &[Digest], catalogs: &Catalogs, must: bool) -> bool {
        let mut objects = Vec::new();
        let mut chunks = Vec::new();
        let mut more = 0;
        for key in needs {
            let Some(&(catalog, entry)) = catalogs.objects.get(key) else {
                continue;
            };
            if self.objects.contains(key) || objects.contains(key) {
                continue;
            }
            objects.push(*key);
            let catalog = &catalogs.all[catalog as usize];
            more += catalog.entries[entry as usize].record.length();
            for chunk in super::mark::chunks(catalog, entry as usize) {
                if let Some(length) = self.chunks.remove(&short(&chunk)) {
                    more += u64::from(length);
                    chunks.push((short(&chunk), length));
                }
            }
        }
        if self.used + more > self.most && !must {
            self.chunks.extend(chunks);
            return false;
        }
        self.used += more;
        self.objects.extend(objects);
        true
    }
}

//! Writing packs anew without what is dead, and taking the old ones away.

use std::collections::HashSet;

use super::catalogs::{Catalogs, DataPack};
use super::mark::Mark;
use super::take::{self, Condemned};
use super::{ByShort, CollectOptions, Collection};
use crate::digest::{Digest, Sha256};
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::format::{Entry, Kind, Role};
use crate::store::pack::Rewriter;
use crate::store::session::Holder;
use crate::store::table::Table;

/// Packs that are smaller than this are merged, in bytes,
const SMALL: u64 = 8 << 20;
/// when there are more than so many catalog packs of that size,
const MANY: usize = 8;
/// or so many data packs.
const MANY_DATA: usize = 64;

/// Writes catalog packs anew without dead records. `kept` are the keys of results that stay.
pub(super) fn catalogs(
    store: &Store,
    catalogs: &mut Catalogs,
    mark: &mut Mark<'_>,
    kept: &HashSet<Digest, ByShort>,
    options: &CollectOptions,
    report: &mut Collection,
) -> Result<(), StoreError> {
    let newest: HashSet<(u32, u32)> = catalogs
        .results
        .iter()
        .filter(|result| kept.contains(&result.key))
        .map(|result| (result.catalog, result.entry))
        .collect();
    let is_live = |catalog: usize, number: usize, entry: &Entry, mark: &Mark<'_>| {
        let key = &entry.record.key;
        match entry.record.kind {
            Kind::Action => newest.contains(&(catalog as u32, number as u32)),
            Kind::Chunk => mark.is_live_chunk(key),
            // Of several copies one is enough.
            Kind::Object | Kind::Blob => {
                mark.is_live(key)
                    && catalogs.objects.get(key) == Some(&(catalog as u32, number as u32))
            }
        }
    };
    let packs = || {
        catalogs
            .all
            .iter()
            .enumerate()
            .filter(|(_, catalog)| !catalog.open)
    };
    let small = packs().filter(|(_, one)| one.size < SMALL).count();
    let mut chosen = Vec::new();
    for (index, catalog) in packs() {
        let dead = catalog
            .entries
            .iter()
            .enumerate()
            .any(|(number, entry)| !is_live(index, number, entry, mark));
        if dead || (small > MANY && catalog.size < SMALL) {
            chosen.push(index);
        }
    }
    let at_writing = mark.objects();
    let mut writer = Rewriter::new(&store.records, Role::Catalog, options.dry_run);
    let mut old = Vec::new();
    let mut removed = 0;
    for &index in &chosen {
        let catalog = &catalogs.all[index];
        interrupted(mark)?;
        for (number, entry) in catalog.entries.iter().enumerate() {
            if is_live(index, number, entry, mark) {
                writer.copy(&catalog.file, &catalog.path, entry)?;
            }
        }
        if let Holder::Pack(pack) = catalog.holder {
            let journal = catalog.journal;
            old.push(Condemned { pack, journal });
        }
        removed += catalog.size;
    }
    let (new, written) = writer.finish()?;
    report.packs.kept += (packs().count() - chosen.len() + new.len()) as u64;
    report.packs.removed += chosen.len() as u64;
    report.after = (report.before + written).saturating_sub(removed);
    if options.dry_run {
        return Ok(());
    }
    store.records.refresh()?;
    let files = &store.records.files;
    let mut back = take::condemn(files, &old)?;
    // What came meanwhile, and what is in packs that stay: all of it is live.
    for index in catalogs.read_more(&store.records)? {
        mark_all(index, catalogs, mark)?;
    }
    mark.roots(catalogs)?;
    for &index in &chosen {
        let Holder::Pack(pack) = catalogs.all[index].holder else {
            continue;
        };
        let needed = catalogs.all[index].entries.iter().any(|entry| {
            // Live now, and not when it was written anew.
            matches!(entry.record.kind, Kind::Object | Kind::Blob)
                && mark.is_live(&entry.record.key)
                && !at_writing.contains(&entry.record.key)
        });
        if needed && back.insert(pack) {
            take::restore(files, pack)?;
        }
        if back.contains(&pack) {
            mark_all(index, catalogs, mark)?;
            report.put_back += 1;
            report.after += catalogs.all[index].size;
        }
    }
    take::destroy(
        files,
        old.iter()
            .map(|condemned| condemned.pack)
            .filter(|pack| !back.contains(pack)),
    )
}

/// Everything in a catalog stays: so do the chunks that its objects have.
fn mark_all(index: usize, catalogs: &Catalogs, mark: &mut Mark<'_>) -> Result<(), StoreError> {
    for entry in &catalogs.all[index].entries {
        if matches!(entry.record.kind, Kind::Object | Kind::Blob) {
            mark.object(&entry.record.key, catalogs)?;
        }
    }
    Ok(())
}

/// Takes data packs away that have nothing live, and writes those anew that have little.
pub(super) fn data(
    store: &Store,
    catalogs: &mut Catalogs,
    mark: &mut Mark<'_>,
    options: &CollectOptions,
    report: &mut Collection,
) -> Result<(), StoreError> {
    let files = &store.records.files;
    let mut writer = Rewriter::new(&store.records, Role::Data, options.dry_run);
    let mut old: Vec<DataPack> = Vec::new();
    let mut removed = 0;
    let small = catalogs.data.iter().filter(|one| one.size < SMALL).count();
    for pack in &catalogs.data {
        interrupted(mark)?;
        let path = files.path("packs", pack.name);
        let live = live_chunks(&path, pack.name, mark)?;
        let bytes: u64 = live.iter().map(|entry| entry.record.length()).sum();
        let merged = small > MANY_DATA && pack.size < SMALL;
        if bytes * 2 >= pack.size && !merged {
            continue;
        }
        if !live.is_empty() {
            let (file, _) = crate::store::files::open_file(&path)?;
            for entry in &live {
                writer.copy(&file, &path, entry)?;
            }
        }
        old.push(*pack);
        removed += pack.size;
    }
    let (new, written) = writer.finish()?;
    report.packs.kept += (catalogs.data.len() - old.len() + new.len()) as u64;
    report.packs.removed += old.len() as u64;
    report.after = (report.after + written).saturating_sub(removed);
    if options.dry_run {
        return Ok(());
    }
    store.records.refresh()?;
    let condemned: Vec<Condemned> = old
        .iter()
        .map(|pack| Condemned {
            pack: pack.name,
            journal: 0,
        })
        .collect();
    let at_writing = mark.chunks();
    let mut back = take::condemn(files, &condemned)?;
    for index in catalogs.read_more(&store.records)? {
        mark_all(index, catalogs, mark)?;
    }
    mark.roots(catalogs)?;
    let now = mark.chunks();
    let more: HashSet<&u64> = now.difference(&at_writing).collect();
    for pack in &old {
        if !more.is_empty() && !back.contains(&pack.name) {
            let path = files.path("trash", pack.name);
            let needed = live_chunks(&path, pack.name, mark)?
                .iter()
                .any(|entry| more.contains(&super::short(&entry.record.key)));
            if needed {
                take::restore(files, pack.name)?;
                back.insert(pack.name);
            }
        }
        if back.contains(&pack.name) {
            report.put_back += 1;
            report.after += pack.size;
        }
    }
    let gone: HashSet<Sha256> = old
        .iter()
        .map(|pack| pack.name)
        .filter(|pack| !back.contains(pack))
        .collect();
    catalogs.forget_data(&gone);
    take::destroy(files, gone)
}

/// The records of a data pack that are live, in the order of the file.
fn live_chunks(
    path: &std::path::Path,
    name: Sha256,
    mark: &Mark<'_>,
) -> Result<Vec<Entry>, StoreError> {
    let (table, _) = Table::of_pack(path.to_owned(), name)?;
    let mut live = Vec::new();
    table.for_each(|entry, _| {
        if mark.is_live_chunk(&entry.record.key) {
            live.push(entry);
        }
        Ok(())
    })?;
    live.sort_by_key(|entry| entry.offset);
    Ok(live)
}

fn interrupted(mark: &Mark<'_>) -> Result<(), StoreError> {
    if mark.roots.interrupted() {
        return Err(StoreError::Interrupted);
    }
    Ok(())
}

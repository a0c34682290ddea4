//! Writing packs anew without what is dead, and taking the old ones away.

use std::collections::HashSet;

use super::catalogs::{Catalogs, DataPack};
use super::mark::Mark;
use super::take::{self, Condemned};
use super::{ByShort, CollectOptions, Collection};
use crate::digest::{Digest, ObjectId, Sha256};
use crate::store::Store;
use crate::store::error::{StoreError, io_error};
use crate::store::format::{Entry, Kind, Role};
use crate::store::records::files::open_file;
use crate::store::records::pack::{FULL, Rewriter};
use crate::store::records::session::{self, Holder};
use crate::store::records::table::Table;

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
    let pinned = pinned(store)?;
    let (mut chosen, mut held) = (Vec::new(), Vec::new());
    for (index, catalog) in packs() {
        if pinned.contains(&catalog.holder) || pinned.contains(&Holder::Journal(catalog.journal)) {
            // It would only be put back.
            held.push(index);
            continue;
        }
        let dead = catalog
            .entries
            .iter()
            .enumerate()
            .any(|(number, entry)| !is_live(index, number, entry, mark));
        if dead || (small > MANY && catalog.size < SMALL) {
            chosen.push(index);
        }
    }
    let at_writing = AtWriting {
        objects: mark.objects(),
        chunks: mark.chunks(),
    };
    let mut writer = Rewriter::new(&store.records, Role::Catalog, options.dry_run);
    let mut old = Vec::new();
    let mut removed = 0;
    for &index in &chosen {
        let catalog = &catalogs.all[index];
        interrupted(mark)?;
        let live = catalog.entries.iter().enumerate();
        let live = live.filter(|(number, entry)| is_live(index, *number, entry, mark));
        let live: Vec<Entry> = live.map(|(_, entry)| *entry).collect();
        writer.copy(&catalog.holder, &catalog.file, &catalog.path, live)?;
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
    for index in catalogs.read_more(&store.records)?.into_iter().chain(held) {
        // What was written anew is live already.
        if !matches!(catalogs.all[index].holder, Holder::Pack(pack) if new.contains(&pack)) {
            mark_all(index, catalogs, mark)?;
        }
    }
    mark.roots(catalogs)?;
    // What is put back may need more of what was taken away.
    let mut waiting: Vec<usize> = chosen;
    loop {
        let (stay, rest): (Vec<usize>, Vec<usize>) = waiting.into_iter().partition(|&index| {
            let catalog = &catalogs.all[index];
            matches!(catalog.holder, Holder::Pack(pack) if back.contains(&pack))
                || at_writing.misses(&catalog.entries, mark)
        });
        if stay.is_empty() {
            break;
        }
        for &index in &stay {
            if let Holder::Pack(pack) = catalogs.all[index].holder
                && back.insert(pack)
            {
                take::restore(files, pack)?;
            }
            mark_all(index, catalogs, mark)?;
            report.put_back += 1;
            report.after += catalogs.all[index].size;
        }
        waiting = rest;
    }
    take::destroy(
        files,
        old.iter()
            .map(|condemned| condemned.pack)
            .filter(|pack| !back.contains(pack)),
    )
}

/// What was live when packs were written anew.
struct AtWriting {
    objects: HashSet<Digest, ByShort>,
    chunks: HashSet<u64, ByShort>,
}

impl AtWriting {
    /// Whether one of these records is live now, and was not copied.
    fn misses(&self, entries: &[Entry], mark: &Mark<'_>) -> bool {
        entries.iter().any(|entry| {
            let key = &entry.record.key;
            match entry.record.kind {
                Kind::Object | Kind::Blob => mark.is_live(key) && !self.objects.contains(key),
                Kind::Chunk => mark.is_live_chunk(key) && !self.chunks.contains(&super::short(key)),
                Kind::Action => false,
            }
        })
    }
}

/// What running processes rely on: it is not worth a copy.
fn pinned(store: &Store) -> Result<HashSet<Holder>, StoreError> {
    let files = &store.records.files;
    session::pinned(files).map_err(io_error("read", &files.root.join("sessions")))
}

/// Everything in a catalog stays: so does what its image configs refer to, and the chunks of its
/// objects.
fn mark_all(index: usize, catalogs: &Catalogs, mark: &mut Mark<'_>) -> Result<(), StoreError> {
    for entry in &catalogs.all[index].entries {
        if matches!(entry.record.kind, Kind::Object | Kind::Blob) {
            mark.any(&ObjectId::new(entry.record.key), catalogs)?;
        }
    }
    Ok(())
}

/// A data pack that is to go, and how much of it is to stay.
struct Sparse {
    pack: DataPack,
    live: u64,
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
    let pinned = pinned(store)?;
    let small = catalogs.data.iter().filter(|one| one.size < SMALL).count();
    let mut sparse = Vec::new();
    for pack in &catalogs.data {
        interrupted(mark)?;
        if pinned.contains(&Holder::Pack(pack.name)) {
            continue;
        }
        let live = live_chunks(&files.path("packs", pack.name), pack.name, mark)?;
        let live = live.iter().map(|entry| entry.record.length()).sum();
        let merged = small > MANY_DATA && pack.size < SMALL;
        if live * 2 < pack.size || merged {
            sparse.push(Sparse { pack: *pack, live });
        }
    }
    report.packs.kept += (catalogs.data.len() - sparse.len()) as u64;
    // Those with nothing live first: a full disk has room then for what is written anew.
    sparse.sort_by_key(|sparse| sparse.live);
    let mut start = 0;
    while start < sparse.len() {
        interrupted(mark)?;
        let mut live = 0;
        let count = sparse[start..]
            .iter()
            .take_while(|sparse| {
                let first = live == 0;
                live += sparse.live;
                sparse.live == 0 || first || live <= FULL
            })
            .count();
        replace(
            store,
            catalogs,
            mark,
            &sparse[start..start + count],
            options,
            report,
        )?;
        start += count;
    }
    Ok(())
}

/// Writes what is live of some packs to new ones, and takes them away.
fn replace(
    store: &Store,
    catalogs: &mut Catalogs,
    mark: &mut Mark<'_>,
    old: &[Sparse],
    options: &CollectOptions,
    report: &mut Collection,
) -> Result<(), StoreError> {
    let files = &store.records.files;
    let mut writer = Rewriter::new(&store.records, Role::Data, options.dry_run);
    for sparse in old.iter().filter(|sparse| sparse.live > 0) {
        let path = files.path("packs", sparse.pack.name);
        let live = live_chunks(&path, sparse.pack.name, mark)?;
        let (file, _) = open_file(&path)?;
        writer.copy(&Holder::Pack(sparse.pack.name), &file, &path, live)?;
    }
    let (new, written) = writer.finish()?;
    let removed: u64 = old.iter().map(|sparse| sparse.pack.size).sum();
    report.packs.kept += new.len() as u64;
    report.packs.removed += old.len() as u64;
    report.after = (report.after + written).saturating_sub(removed);
    if options.dry_run {
        return Ok(());
    }
    store.records.refresh()?;
    let condemned: Vec<Condemned> = old
        .iter()
        .filter(|sparse| !new.contains(&sparse.pack.name))
        .map(|sparse| Condemned {
            pack: sparse.pack.name,
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
    for pack in condemned.iter().map(|condemned| condemned.pack) {
        if !more.is_empty() && !back.contains(&pack) {
            let needed = live_chunks(&files.path("trash", pack), pack, mark)?
                .iter()
                .any(|entry| more.contains(&super::short(&entry.record.key)));
            if needed {
                take::restore(files, pack)?;
                back.insert(pack);
            }
        }
    }
    for sparse in old.iter().filter(|sparse| back.contains(&sparse.pack.name)) {
        report.put_back += 1;
        report.after += sparse.pack.size;
    }
    let gone: HashSet<Sha256> = condemned
        .iter()
        .map(|condemned| condemned.pack)
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

//! What was seen of repositories: which packs are where, and what is in them. A cache: without it
//! more is asked.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::artifact::PackRef;
use crate::digest::Sha256;
use crate::host::file;
use crate::image::local_scheme;
use crate::registry::Blob;
use crate::store::PackedChunk;

/// Packs of a repository that are remembered.
const MOST: usize = 400;
/// Repositories of a registry that blobs may be mounted from, that are looked at.
const MOST_REPOSITORIES: usize = 32;

/// The directory of what is remembered, and what this process has just seen. Clones share that.
#[derive(Debug, Clone)]
pub struct Memory {
    directory: PathBuf,
    session: Arc<Mutex<Session>>,
}

/// What this process has seen.
#[derive(Debug, Default)]
struct Session {
    tables: HashMap<Sha256, Arc<Vec<PackedChunk>>>,
    /// Packs that are in repositories.
    there: HashSet<(String, Sha256)>,
}

impl Memory {
    /// Memory below a directory, which is made when there is something to remember.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            session: Arc::default(),
        }
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The chunks of a pack, when this process has seen them.
    pub(super) fn table(&self, pack: &Sha256) -> Option<Arc<Vec<PackedChunk>>> {
        self.session().tables.get(pack).cloned()
    }

    /// Remembers the chunks of a pack for this process.
    pub(super) fn saw_table(&self, pack: Sha256, chunks: Arc<Vec<PackedChunk>>) {
        self.session().tables.insert(pack, chunks);
    }

    /// Whether this process has seen that a pack is in a repository.
    pub(super) fn is_there(&self, repository: &str, pack: &Sha256) -> bool {
        let session = self.session();
        session.there.contains(&(repository.to_owned(), *pack))
    }

    /// The file of a repository `HOST/NAME`. A name has no `%`.
    fn path(&self, repository: &str) -> PathBuf {
        self.directory.join(repository.replace('/', "%"))
    }

    /// Packs that were seen in a repository, those seen last first.
    #[must_use]
    pub fn packs(&self, repository: &str) -> Vec<PackRef> {
        read(&self.path(repository))
    }

    /// Remembers that a manifest in a repository names these packs, which need not be there.
    pub fn heard(&self, repository: &str, packs: &[PackRef]) {
        self.remember(repository, packs);
    }

    /// Remembers that these packs are in a repository. What cannot be remembered is asked again.
    pub fn saw(&self, repository: &str, packs: &[PackRef]) {
        let there = packs
            .iter()
            .map(|pack| (repository.to_owned(), pack.blob.digest));
        self.session().there.extend(there);
        self.remember(repository, packs);
    }

    fn remember(&self, repository: &str, packs: &[PackRef]) {
        // What is in a directory is told faster by looking.
        if packs.is_empty() || local_scheme(repository).is_some() {
            return;
        }
        let mut all = packs.to_vec();
        for pack in self.packs(repository) {
            if all.len() < MOST && !all.contains(&pack) {
                all.push(pack);
            }
        }
        let lines = all.iter().map(|pack| {
            let (blob, table) = (pack.blob, pack.table_offset);
            format!("{} {} {table}\n", blob.digest, blob.size)
        });
        let _ = file::cache(&self.path(repository), lines.collect::<String>().as_bytes());
    }

    /// Forgets a repository: what was remembered of it is wrong.
    pub fn forget(&self, repository: &str) {
        let _ = fs::remove_file(self.path(repository));
    }

    /// Other repositories of the same registry that have a blob, without the host.
    #[must_use]
    pub fn elsewhere(&self, repository: &str, blob: &Blob) -> Vec<String> {
        let Some((host, _)) = repository.split_once('/') else {
            return Vec::new();
        };
        let prefix = format!("{host}%");
        let mut names: Vec<String> = fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.starts_with(&prefix))
            .collect();
        names.sort();
        names.truncate(MOST_REPOSITORIES);
        names
            .iter()
            .map(|name| name.replace('%', "/"))
            .filter(|name| name != repository)
            .filter(|name| self.packs(name).iter().any(|pack| pack.blob == *blob))
            .filter_map(|name| name.split_once('/').map(|(_, rest)| rest.to_owned()))
            .collect()
    }
}

fn read(path: &Path) -> Vec<PackRef> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let pack = |line: &str| {
        let mut fields = line.split(' ');
        let digest: Sha256 = fields.next()?.parse().ok()?;
        let size = fields.next()?.parse().ok()?;
        let table_offset = fields.next()?.parse().ok()?;
        Some(PackRef {
            blob: Blob { digest, size },
            table_offset,
        })
    };
    text.lines().filter_map(pack).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(n: u64) -> PackRef {
        PackRef {
            blob: Blob::of(&n.to_le_bytes()),
            table_offset: n,
        }
    }

    #[test]
    fn what_was_seen_last_is_first_and_the_oldest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let memory = Memory::new(directory.path().join("below"));
        let one = "localhost:5000/a/b";
        assert_eq!(memory.packs(one), []);
        memory.saw(one, &[pack(1), pack(2)]);
        memory.saw(one, &[pack(3), pack(2)]);
        assert_eq!(memory.packs(one), [pack(3), pack(2), pack(1)]);
        let many: Vec<PackRef> = (10..1000).map(pack).collect();
        memory.saw(one, &many[..MOST]);
        assert_eq!(memory.packs(one), many[..MOST]);
        memory.forget(one);
        assert_eq!(memory.packs(one), []);
    }

    #[test]
    fn blobs_are_found_in_other_repositories_of_the_registry() {
        let directory = tempfile::tempdir().unwrap();
        let memory = Memory::new(directory.path().to_owned());
        memory.saw("host/a/b", &[pack(1)]);
        memory.saw("host/c", &[pack(1), pack(2)]);
        memory.saw("other/d", &[pack(1)]);
        assert_eq!(memory.elsewhere("host/c", &pack(1).blob), ["a/b"]);
        assert_eq!(memory.elsewhere("host/x", &pack(1).blob), ["a/b", "c"]);
        assert!(memory.elsewhere("host/c", &pack(2).blob).is_empty());
    }
}

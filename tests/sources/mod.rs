//! Sources: from a URL to verified bytes, against a server that misbehaves.

mod checksums;
mod client;
mod faults;
mod mirrors;
mod origins;
mod process;
mod resume;
mod tls;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use vmfab::config::{Config, Mirror};
use vmfab::digest::{Algorithm, Checksum, ChecksumHasher};
use vmfab::event::{Event, Recorder};
use vmfab::host::Interrupt;
use vmfab::http::{Proxies, RetryPolicy, Settings};
use vmfab::source::{
    FetchError, FetchRequest, Fetched, Fetcher, FetcherOptions, Outcome, Source, TakeError, Taker,
};

/// Bytes without a pattern, the same for the same seed.
pub(crate) fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(&[seed])
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

pub(crate) fn sha256(bytes: &[u8]) -> Checksum {
    let mut hasher = ChecksumHasher::new(Algorithm::Sha256);
    hasher.update(bytes);
    hasher.finish()
}

/// A taker that keeps all in memory.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) bytes: Vec<u8>,
    pub(crate) restarts: usize,
    pub(crate) finished: usize,
    /// Does not finish, and is told so.
    pub(crate) fails: bool,
}

impl Taker for Kept {
    fn restart(&mut self) -> Result<(), TakeError> {
        self.bytes.clear();
        self.restarts += 1;
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), TakeError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self, fetched: &Fetched) -> Result<(), TakeError> {
        assert_eq!(fetched.size, self.bytes.len() as u64);
        if self.fails {
            return Err("the store is closed".into());
        }
        self.finished += 1;
        Ok(())
    }
}

/// A directory for downloads, and fetchers that work in it.
pub(crate) struct Desk {
    directory: TempDir,
    pub(crate) config: Config,
    pub(crate) offline: bool,
    pub(crate) settings: Settings,
    pub(crate) interrupt: Interrupt,
    pub(crate) events: Arc<Recorder>,
}

impl Desk {
    /// Fetchers that try again soon, so that tests need little time.
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            config: Config::default(),
            offline: false,
            settings: Settings {
                connect: Duration::from_secs(5),
                stalled: Duration::from_secs(10),
                certificate_authorities: Vec::new(),
                unverified: None,
                proxies: Proxies::default(),
                ..Settings::default()
            },
            interrupt: Interrupt::new().unwrap(),
            events: Arc::default(),
        }
    }

    pub(crate) fn mirror(&mut self, from: &str, to: &str, only: bool) {
        self.config
            .mirrors
            .push(Mirror::new(from, to, only).unwrap());
    }

    pub(crate) fn fetcher(&self) -> Fetcher {
        let options = FetcherOptions {
            offline: self.offline,
            settings: self.settings.clone(),
            retry: quick(self.config.retries),
            ..FetcherOptions::new(self.config.clone(), self.downloads())
        };
        let events = Arc::clone(&self.events);
        Fetcher::new(options, events, self.interrupt.clone())
    }

    /// Where partial files are.
    pub(crate) fn downloads(&self) -> PathBuf {
        self.directory.path().join("downloads")
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Names of files in the directory of downloads.
    pub(crate) fn left(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.downloads()) else {
            return Vec::new();
        };
        let name = |entry: std::fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap())).collect();
        names.sort();
        names
    }

    /// Fetches with a new fetcher, as a new process would.
    pub(crate) fn fetch(
        &self,
        url: &str,
        checksum: Option<&Checksum>,
    ) -> (Result<Outcome, FetchError>, Kept) {
        self.fetch_sized(url, checksum, None)
    }

    pub(crate) fn fetch_sized(
        &self,
        url: &str,
        checksum: Option<&Checksum>,
        size: Option<u64>,
    ) -> (Result<Outcome, FetchError>, Kept) {
        let mut kept = Kept::default();
        let result = fetch(&self.fetcher(), url, checksum, size, &mut kept);
        (result, kept)
    }

    /// Fetches what must come.
    #[track_caller]
    pub(crate) fn gets(&self, url: &str, bytes: &[u8]) -> (Fetched, Kept) {
        let (result, kept) = self.fetch(url, Some(&sha256(bytes)));
        let fetched = match result {
            Ok(Outcome::Fetched(fetched)) => fetched,
            other => panic!("{other:?}"),
        };
        assert!(kept.bytes == bytes, "other bytes");
        assert_eq!(kept.finished, 1);
        assert_eq!(self.left(), [] as [&str; 0]);
        (fetched, kept)
    }

    /// Fetches what must not come.
    #[track_caller]
    pub(crate) fn refuses(&self, url: &str, checksum: Option<&Checksum>) -> FetchError {
        let (result, kept) = self.fetch(url, checksum);
        assert_eq!(kept.finished, 0);
        result.unwrap_err()
    }

    /// What was told, in short: the kinds of events but those of progress.
    pub(crate) fn told(&self) -> Vec<&'static str> {
        let short = |event: Event| match event {
            Event::DownloadStarted { .. } => Some("started"),
            Event::DownloadWaiting { .. } => Some("waiting"),
            Event::DownloadWaited { .. } => Some("waited"),
            Event::DownloadRetrying { .. } => Some("retrying"),
            Event::DownloadFinished { .. } => Some("finished"),
            Event::DownloadFailed { .. } => Some("failed"),
            Event::DownloadProgress { .. } => None,
            other => panic!("{other:?}"),
        };
        self.events.take().into_iter().filter_map(short).collect()
    }
}

pub(crate) fn quick(retries: u32) -> RetryPolicy {
    RetryPolicy {
        retries,
        first: Duration::from_millis(10),
        longest: Duration::from_millis(40),
    }
}

pub(crate) fn fetch(
    fetcher: &Fetcher,
    url: &str,
    checksum: Option<&Checksum>,
    size: Option<u64>,
    kept: &mut Kept,
) -> Result<Outcome, FetchError> {
    let source = Source::new(url).unwrap();
    let request = FetchRequest {
        source: &source,
        checksum,
        size,
        already: &|| panic!("nobody was waited for"),
    };
    fetcher.fetch(&request, kept)
}

//! Events of one download.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::location::Source;
use crate::event::{Event, Sink};

/// Between two events of progress.
const INTERVAL: Duration = Duration::from_millis(100);

pub(super) struct Progress<'a> {
    sink: &'a dyn Sink,
    source: &'a Source,
    began: Instant,
    last: Cell<Option<Instant>>,
}

impl<'a> Progress<'a> {
    pub(super) fn new(sink: &'a dyn Sink, source: &'a Source) -> Self {
        Self {
            sink,
            source,
            began: Instant::now(),
            last: Cell::new(None),
        }
    }

    fn emit(&self, event: impl FnOnce(String, String) -> Event) {
        let (name, url) = (self.source.name().to_owned(), self.source.url().to_owned());
        self.sink.emit(event(name, url));
    }

    pub(super) fn waiting(&self) {
        self.emit(|name, url| Event::DownloadWaiting { name, url });
    }

    pub(super) fn waited(&self) {
        self.emit(|name, url| Event::DownloadWaited { name, url });
    }

    pub(super) fn started(&self, from: &str, done: u64, total: Option<u64>) {
        self.last.set(None);
        let from = from.to_owned();
        self.emit(|name, url| Event::DownloadStarted {
            name,
            url,
            from,
            done,
            total,
        });
    }

    /// Told of often, and tells ten times a second.
    pub(super) fn at(&self, done: u64, total: Option<u64>) {
        let now = Instant::now();
        let soon = |last: Instant| now.duration_since(last) < INTERVAL;
        if self.last.get().is_some_and(soon) {
            return;
        }
        self.last.set(Some(now));
        self.emit(|name, url| Event::DownloadProgress {
            name,
            url,
            done,
            total,
        });
    }

    pub(super) fn retrying(&self, error: &str, pause: Duration) {
        self.last.set(None);
        let error = error.to_owned();
        self.emit(|name, url| Event::DownloadRetrying {
            name,
            url,
            error,
            seconds: pause.as_secs_f64(),
        });
    }

    pub(super) fn failed(&self, from: &str, error: &str) {
        let (from, error) = (from.to_owned(), error.to_owned());
        self.emit(|name, url| Event::DownloadFailed {
            name,
            url,
            from,
            error,
        });
    }

    pub(super) fn finished(&self, done: u64) {
        self.emit(|name, url| Event::DownloadFinished {
            name,
            url,
            done,
            total: Some(done),
            seconds: self.began.elapsed().as_secs_f64(),
        });
    }
}

//! What became of the builds of the last weeks: one line each in `log/history`, those too that found
//! everything in the store and left no record.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::ops::AddAssign;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::record::{BuildState, Ended, Outcome, Record, now};
use crate::checked::BuildId;
use crate::event::Event;
use crate::failure::Failure;
use crate::host::{Home, file};
use crate::ops::Context;

/// The largest file, in bytes: some ten thousand builds.
const LARGEST: u64 = 4 << 20;
/// How long builds are remembered when the file has become too large.
const REMEMBERED: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// A build that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PastBuild {
    pub id: BuildId,
    /// The command: `build`, `boot`, …
    pub command: String,
    /// The image that was built last.
    pub image: Option<String>,
    /// In seconds since 1970.
    pub started: f64,
    /// How long it took, in seconds.
    pub seconds: f64,
    pub outcome: Outcome,
    /// What became of its steps; nothing when the build was killed.
    pub steps: Option<Counts>,
    /// Why it failed.
    pub error: Option<String>,
}

/// What became of the steps of a build.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// They ran.
    pub built: usize,
    /// Their results were known here.
    pub cached: usize,
    /// A cache has their results.
    pub remote: usize,
    pub failed: usize,
    /// They were not tried.
    pub skipped: usize,
}

impl Counts {
    /// All of them.
    #[must_use]
    pub const fn all(&self) -> usize {
        self.built + self.cached + self.remote + self.failed + self.skipped
    }

    /// The part of the steps that were tried and did not have to run, from 0 to 1; nothing when none
    /// was tried.
    #[must_use]
    pub fn cache_rate(&self) -> Option<f64> {
        let known = self.cached + self.remote;
        let tried = known + self.built + self.failed;
        (tried > 0).then(|| known as f64 / tried as f64)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.built += other.built;
        self.cached += other.cached;
        self.remote += other.remote;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl PastBuild {
    pub(super) fn new(state: &BuildState, ended: &Ended, counts: Counts) -> Self {
        Self {
            id: state.id.clone(),
            command: state.command.clone(),
            image: state.image.clone(),
            started: state.started,
            seconds: (ended.time - state.started).max(0.0),
            outcome: ended.outcome,
            steps: Some(counts),
            error: ended.error.clone(),
        }
    }

    /// A build of which only a record tells: it was killed, or ended before there was a history.
    fn of_record(record: &Record) -> Option<Self> {
        let state = record.state()?;
        let ended = state.ended.as_ref()?;
        let mut past = Self::new(&state, ended, Counts::default());
        let log = fs::read_to_string(record.log()).unwrap_or_default();
        let finished = log
            .lines()
            .filter(|line| line.contains("\"build-finished\""));
        past.steps = None;
        for line in finished {
            if let Ok(Event::BuildFinished {
                built,
                cached,
                remote,
                failed,
                skipped,
                ..
            }) = serde_json::from_str(line)
            {
                *past.steps.get_or_insert_default() += Counts {
                    built,
                    cached,
                    remote,
                    failed,
                    skipped,
                };
            }
        }
        Some(past)
    }
}

/// Adds a build. What cannot be written is not known later, and no more.
pub(super) fn append(home: &Home, build: &PastBuild) {
    let path = home.history();
    let Ok(mut line) = serde_json::to_vec(build) else {
        return;
    };
    line.push(b'\n');
    let open = || OpenOptions::new().append(true).create(true).open(&path);
    let opened = open().or_else(|_| {
        fs::create_dir_all(home.log())?;
        open()
    });
    // One write: lines of several processes do not mix.
    if let Ok(mut file) = opened
        && file.write_all(&line).is_ok()
        && file.metadata().is_ok_and(|file| file.len() > LARGEST)
    {
        drop(file);
        let since = now() - REMEMBERED.as_secs_f64();
        let kept = lines(home).into_iter().filter(|one| one.started >= since);
        let mut kept: Vec<_> = kept.collect();
        // Whatever happens, it becomes small enough.
        let most = (LARGEST / 2) as usize / line.len().max(1);
        kept.drain(..kept.len().saturating_sub(most));
        let text: Vec<String> = kept
            .iter()
            .filter_map(|one| Some(serde_json::to_string(one).ok()? + "\n"))
            .collect();
        let _ = file::cache(&path, text.concat().as_bytes());
    }
}

/// The builds of the file. A line that cannot be read is left out.
fn lines(home: &Home) -> Vec<PastBuild> {
    let bytes = fs::read(home.history()).unwrap_or_default();
    let lines = bytes.split(|&byte| byte == b'\n');
    lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect()
}

/// Builds that ended and began in the last `since`, the oldest first.
///
/// # Errors
/// `image` is given, and no build of it is known.
pub fn history(
    context: &Context,
    since: Duration,
    image: Option<&str>,
) -> Result<Vec<PastBuild>, Failure> {
    let home = &context.home;
    let mut found = lines(home);
    for record in Record::all(home) {
        if !found.iter().any(|one| one.id == record.id) {
            found.extend(PastBuild::of_record(&record));
        }
    }
    if let Some(image) = image {
        found.retain(|one| one.image.as_deref() == Some(image));
        if found.is_empty() {
            return Err(Failure::unknown("build of the image", image)
                .with_help("vmfab history lists all builds"));
        }
    }
    let begin = SystemTime::now().checked_sub(since);
    let begin = begin.and_then(|begin| begin.duration_since(SystemTime::UNIX_EPOCH).ok());
    let begin = begin.map_or(0.0, |begin| begin.as_secs_f64());
    found.retain(|one| one.started >= begin);
    found.sort_by(|one, other| one.started.total_cmp(&other.started));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(number: usize, started: f64) -> PastBuild {
        PastBuild {
            id: format!("{number:012x}").parse().unwrap(),
            command: "build".to_owned(),
            image: Some("docker".to_owned()),
            started,
            seconds: 2.0,
            outcome: Outcome::Done,
            steps: Some(Counts {
                built: 1,
                cached: 2,
                remote: 1,
                ..Counts::default()
            }),
            error: None,
        }
    }

    #[test]
    fn the_rate_counts_what_was_tried() {
        let counts = past(0, 0.0).steps.unwrap();
        assert_eq!((counts.all(), counts.cache_rate()), (4, Some(0.75)));
        let skipped = Counts {
            skipped: 3,
            ..Counts::default()
        };
        assert_eq!(skipped.cache_rate(), None);
    }

    #[test]
    fn the_file_forgets_when_it_becomes_too_large() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        append(&home, &past(0, 0.0));
        append(&home, &past(1, now()));
        fs::OpenOptions::new()
            .append(true)
            .open(home.history())
            .and_then(|mut file| file.write_all(&[b'?'; LARGEST as usize]))
            .unwrap();
        assert_eq!(lines(&home).len(), 2);
        append(&home, &past(2, now()));
        let ids: Vec<_> = lines(&home).iter().map(|one| one.id.to_string()).collect();
        // The last one was written behind garbage without an end of its line.
        assert_eq!(ids, ["000000000001"]);
        append(&home, &past(3, now()));
        assert_eq!(lines(&home).len(), 2);
    }
}

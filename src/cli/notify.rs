//! `--notify CMD`: runs `CMD` when a vmfab command ends, and when a build is slow or silent.

use std::fs::File;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::output::duration;
use super::reporter::Reporter;
use crate::event::{Event, Sink};
use crate::failure::{Failure, Kind};
use crate::host::Interrupt;
use crate::host::process::{self, Bounds};
use crate::ops::builds::Recorder;

/// Sets after how many seconds without an event a build counts as silent.
const SILENCE_VARIABLE: &str = "VMFAB_NOTIFY_SILENCE";
const SILENCE: Duration = Duration::from_mins(10);
/// How long `CMD` may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// What `CMD` reports.
#[derive(Debug, Clone, Copy)]
enum News {
    Done,
    Failed,
    Cancelled,
    /// The build takes more than twice the estimated time.
    Slow,
    /// The build had no event for a while.
    Silent,
}

/// Runs `CMD`.
#[derive(Clone)]
pub(super) struct Notifier {
    /// `CMD`.
    told: String,
    /// The name of the vmfab command.
    of: String,
    began: Instant,
    silence: Duration,
    reporter: Arc<Reporter>,
}

impl Notifier {
    /// # Errors
    /// `VMFAB_NOTIFY_SILENCE` is not a number of seconds.
    pub(super) fn new(told: String, of: String, reporter: Arc<Reporter>) -> Result<Self, Failure> {
        let silence = match std::env::var(SILENCE_VARIABLE) {
            Err(_) => SILENCE,
            Ok(text) => match text.parse() {
                Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
                _ => {
                    let message =
                        format!("{SILENCE_VARIABLE} is \"{text}\", not a number of seconds");
                    return Err(Failure::usage(message));
                }
            },
        };
        Ok(Self {
            told,
            of,
            began: Instant::now(),
            silence,
            reporter,
        })
    }

    /// Watches a build as long as this process lives.
    pub(super) fn watch(&self, build: Arc<Recorder>) {
        let this = self.clone();
        std::thread::spawn(move || {
            let (mut silent, mut slow) = (None, None);
            loop {
                std::thread::sleep((this.silence / 20).min(Duration::from_secs(5)));
                let Some(pace) = build.pace() else { continue };
                let (silence, time) = (pace.heard.elapsed(), pace.began.elapsed());
                if silence > this.silence && silent.replace(pace.heard) != Some(pace.heard) {
                    this.tell(News::Silent, silence, Some(&build));
                }
                // Short builds vary: one that takes two seconds instead of one is not slow.
                let least = this.silence / 10;
                let late = |expected: Duration| time > (expected * 2).max(least);
                if pace.expected.is_some_and(late) && slow.replace(pace.began) != Some(pace.began) {
                    this.tell(News::Slow, time, Some(&build));
                }
            }
        });
    }

    pub(super) fn end(&self, error: Option<&Failure>, build: Option<&Recorder>) {
        let news = match error {
            None => News::Done,
            Some(error) if error.is(Kind::Interrupted) => News::Cancelled,
            Some(_) => News::Failed,
        };
        self.tell(news, self.began.elapsed(), build);
    }

    fn tell(&self, news: News, time: Duration, build: Option<&Recorder>) {
        let (id, image) = build.map(Recorder::names).unwrap_or_default();
        let shown = duration(time.as_secs_f64().ceil());
        let (event, how) = match news {
            News::Done => ("done", format!("done after {shown}")),
            News::Failed => ("failed", format!("failed after {shown}")),
            News::Cancelled => ("cancelled", format!("cancelled after {shown}")),
            News::Slow => (
                "slow",
                format!("takes twice as long as before: {shown} so far"),
            ),
            News::Silent => ("silent", format!("no sign of life for {shown}")),
        };
        let what = image.clone().map(|image| format!(" {image}"));
        let message = format!("vmfab {}{}: {how}", self.of, what.unwrap_or_default());
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", &self.told])
            .env("VMFAB_EVENT", event)
            .env("VMFAB_COMMAND", &self.of)
            .env("VMFAB_BUILD", id.map(String::from).unwrap_or_default())
            .env("VMFAB_IMAGE", image.unwrap_or_default())
            .env("VMFAB_SECONDS", time.as_secs().to_string())
            .env("VMFAB_MESSAGE", message);
        let Err(why) = run(&mut command) else { return };
        let message = format!("the command of --notify {why}");
        match news {
            News::Slow | News::Silent => self.reporter.emit(Event::Warning { message }),
            _ => self.reporter.warn_after(message),
        }
    }
}

/// Runs a command, even after Ctrl-C; the error says how it failed.
fn run(command: &mut Command) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot be run: {error}");
    let mut log = File::options()
        .write(true)
        .open("/dev/null")
        .map_err(failed)?;
    let interrupt = Interrupt::new().map_err(failed)?;
    let bounds = Bounds {
        time: Some(PATIENCE),
        output: None,
    };
    let ran = process::run(command, &[], &mut log, &|_| {}, bounds, &interrupt).map_err(failed)?;
    match ran.tail.last() {
        _ if ran.end.success() => Ok(()),
        Some(last) => Err(format!("{}: {last}", ran.end.describe())),
        None => Err(ran.end.describe()),
    }
}

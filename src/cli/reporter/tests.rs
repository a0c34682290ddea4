//! One recorded build, shown in every way.

use std::time::{Duration, Instant};

use indicatif::{InMemoryTerm, ProgressDrawTarget, TermLike};

use super::bars::Screen;
use super::narrator::{Detail, Narrator};
use crate::event::{Event, StepOutcome};
use crate::host::Interrupt;

fn started(step: usize, name: &str) -> Event {
    Event::StepStarted {
        step,
        name: name.to_owned(),
        log: "/log".into(),
    }
}

fn output(step: usize, line: &str) -> Event {
    Event::StepOutput {
        step,
        line: line.to_owned(),
    }
}

fn finished(step: usize, name: &str, outcome: StepOutcome, seconds: f64) -> Event {
    Event::StepFinished {
        step,
        name: name.to_owned(),
        outcome,
        seconds,
    }
}

/// Two cached steps, two that run side by side, one that fails, one that is skipped.
fn build() -> Vec<Event> {
    use StepOutcome::{Built, Cached, Failed, Skipped};
    vec![
        Event::BuildStarted {
            name: "docker".to_owned(),
            steps: 6,
            jobs: 2,
            plan: std::sync::Arc::default(),
        },
        finished(0, "debian-12: bootstrap bookworm", Cached, 0.0),
        finished(1, "debian-12: system", Cached, 0.0),
        started(2, "docker: packages docker.io"),
        output(2, "Reading package lists..."),
        started(3, "docker: copy files"),
        finished(3, "docker: copy files", Built, 0.04),
        output(2, "\u{1b}[32mSetting up\u{1b}[0m docker.io\u{8}\t(20.10)"),
        finished(2, "docker: packages docker.io", Built, 7.12),
        started(4, "docker: run"),
        finished(4, "docker: run", Failed, 125.0),
        finished(5, "docker: disk", Skipped, 0.0),
        Event::BuildFinished {
            built: 2,
            cached: 2,
            remote: 0,
            failed: 1,
            skipped: 1,
            seconds: 132.0,
        },
        Event::Warning {
            message: "little space is left".to_owned(),
        },
    ]
}

fn lines(detail: Detail) -> String {
    let mut narrator = Narrator::new(detail, false);
    let lines: Vec<_> = build()
        .iter()
        .flat_map(|event| narrator.lines(event))
        .collect();
    lines.join("\n")
}

#[test]
fn what_others_wrote_cannot_move_the_cursor() {
    let mut narrator = Narrator::new(Detail::Steps, false);
    let message = "there are images for \u{1b}[2Jlinux/\rx\nand \u{9b}2J".to_owned();
    let events = [
        Event::Note {
            message: message.clone(),
        },
        Event::Warning { message },
    ];
    let lines = events.iter().flat_map(|event| narrator.lines(event));
    let lines: Vec<_> = lines.collect();
    let clean = "there are images for linux/ x\nand ";
    for (line, label) in lines.iter().zip(["note:", "warning:"]) {
        assert!(line.starts_with(&format!("{label} {clean}")), "{line:?}");
        assert!(
            !line.contains(|c: char| c.is_control() && c != '\n'),
            "{line:?}"
        );
    }
    assert_eq!(lines.len(), 2);
}

#[test]
fn plain_lines() {
    insta::assert_snapshot!(lines(Detail::Steps), @r#"
    [2/6] 2 steps cached
    start docker: packages docker.io
    start docker: copy files
    [3/6] docker: copy files … built in 40 ms
    [4/6] docker: packages docker.io … built in 7.1 s
    start docker: run
    [5/6] docker: run … failed after 2 min 5 s
    warning: little space is left
    "#);
}

#[test]
fn plain_lines_with_output() {
    insta::assert_snapshot!(lines(Detail::Output), @r#"
    [2/6] 2 steps cached
    start docker: packages docker.io
    docker: packages docker.io | Reading package lists...
    start docker: copy files
    [3/6] docker: copy files … built in 40 ms
    docker: packages docker.io | Setting up docker.io  (20.10)
    [4/6] docker: packages docker.io … built in 7.1 s
    start docker: run
    [5/6] docker: run … failed after 2 min 5 s
    warning: little space is left
    "#);
}

#[test]
fn plain_lines_with_everything() {
    insta::assert_snapshot!(lines(Detail::All), @r#"
    [1/6] debian-12: bootstrap bookworm … cached
    [2/6] debian-12: system … cached
    start docker: packages docker.io
    docker: packages docker.io | Reading package lists...
    start docker: copy files
    [3/6] docker: copy files … built in 40 ms
    docker: packages docker.io | Setting up docker.io  (20.10)
    [4/6] docker: packages docker.io … built in 7.1 s
    start docker: run
    [5/6] docker: run … failed after 2 min 5 s
    [5/6] docker: disk … skipped
    warning: little space is left
    "#);
}

#[test]
fn quiet_lines() {
    insta::assert_snapshot!(lines(Detail::Warnings), @"warning: little space is left");
}

#[test]
fn a_build_with_nothing_to_do_tells_nothing() {
    let mut narrator = Narrator::new(Detail::Steps, false);
    let events = [
        Event::BuildStarted {
            name: "docker".to_owned(),
            steps: 1,
            jobs: 2,
            plan: std::sync::Arc::default(),
        },
        finished(0, "docker: disk", StepOutcome::Cached, 0.0),
        Event::BuildFinished {
            built: 0,
            cached: 1,
            remote: 0,
            failed: 0,
            skipped: 0,
            seconds: 0.01,
        },
        Event::ImageReady {
            image: "0".to_owned(),
            tag: None,
        },
    ];
    let lines: Vec<_> = events
        .iter()
        .flat_map(|event| narrator.lines(event))
        .collect();
    assert!(lines.is_empty(), "{lines:?}");
}

fn found(step: usize, name: &str) -> Event {
    Event::StepFound {
        step,
        name: name.to_owned(),
        from: Some("ghcr.io/me/cache".to_owned()),
    }
}

/// A step here, two in a cache, one that runs, and one that was found, is needed and gone.
fn build_with_cache() -> Vec<Event> {
    use StepOutcome::{Built, Cached, Remote};
    vec![
        Event::BuildStarted {
            name: "web".to_owned(),
            steps: 5,
            jobs: 2,
            plan: std::sync::Arc::default(),
        },
        finished(0, "web: a", Cached, 0.0),
        found(1, "web: b"),
        found(2, "web: c"),
        found(3, "web: d"),
        started(2, "web: c"),
        finished(2, "web: c", Built, 1.0),
        started(4, "web: e"),
        finished(4, "web: e", Built, 1.0),
        finished(1, "web: b", Remote, 0.0),
        finished(3, "web: d", Remote, 0.0),
        Event::BuildFinished {
            built: 2,
            cached: 1,
            remote: 2,
            failed: 0,
            skipped: 0,
            seconds: 2.0,
        },
    ]
}

#[test]
fn what_a_cache_has_is_told_once() {
    let told = |detail| {
        let mut narrator = Narrator::new(detail, false);
        let events = build_with_cache();
        let lines = events.iter().flat_map(|event| narrator.lines(event));
        lines.collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(told(Detail::Steps), @r#"
    [4/5] 4 steps cached
    start web: c
    [4/5] web: c … built in 1.0 s
    start web: e
    [5/5] web: e … built in 1.0 s
    "#);
    insta::assert_snapshot!(told(Detail::Output), @r#"
    [2/5] 1 step cached
    [2/5] web: b … cached (ghcr.io/me/cache)
    [3/5] web: c … cached (ghcr.io/me/cache)
    [4/5] web: d … cached (ghcr.io/me/cache)
    start web: c
    [4/5] web: c … built in 1.0 s
    start web: e
    [5/5] web: e … built in 1.0 s
    "#);
    insta::assert_snapshot!(told(Detail::All), @r#"
    [1/5] web: a … cached
    [2/5] web: b … cached (ghcr.io/me/cache)
    [3/5] web: c … cached (ghcr.io/me/cache)
    [4/5] web: d … cached (ghcr.io/me/cache)
    start web: c
    [4/5] web: c … built in 1.0 s
    start web: e
    [5/5] web: e … built in 1.0 s
    "#);
}

/// A screen in memory, and the time that it believes in.
struct Film {
    terminal: InMemoryTerm,
    screen: Screen,
    now: Instant,
}

impl Film {
    fn new(width: u16) -> Self {
        let terminal = InMemoryTerm::new(12, width);
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let narrator = Narrator::new(Detail::Steps, false);
        let screen = Screen::new(narrator, target, &["*"], Box::new(terminal.clone()));
        Self {
            terminal,
            screen,
            now: Instant::now(),
        }
    }

    fn events(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.screen.event(event, self.now);
        }
    }

    fn picture(&mut self, seconds_later: u64) -> String {
        self.now += Duration::from_secs(seconds_later);
        self.screen.redraw(self.now);
        self.terminal.contents()
    }
}

#[test]
fn bars_show_what_runs_below_what_is_done() {
    let mut film = Film::new(72);
    film.events(build().drain(..5));
    insta::assert_snapshot!(film.picture(3), @r#"
    [2/6] 2 steps cached
    *  3.0 s docker: packages docker.io  Reading package lists...
    [2/6] docker 3.0 s
    "#);
    film.events([started(3, "docker: copy files")]);
    insta::assert_snapshot!(film.picture(12), @r#"
    [2/6] 2 steps cached
    *   15 s docker: packages docker.io  Reading package lists...
    *   12 s docker: copy files
    [2/6] docker 15 s
    "#);
    film.events(build().drain(6..10));
    insta::assert_snapshot!(film.picture(1), @r#"
    [2/6] 2 steps cached
    [3/6] docker: copy files … built in 40 ms
    [4/6] docker: packages docker.io … built in 7.1 s
    *  1.0 s docker: run
    [4/6] docker 16 s
    "#);
    film.events(build().drain(10..));
    insta::assert_snapshot!(film.picture(1), @r#"
    [2/6] 2 steps cached
    [3/6] docker: copy files … built in 40 ms
    [4/6] docker: packages docker.io … built in 7.1 s
    [5/6] docker: run … failed after 2 min 5 s
    warning: little space is left
    "#);
}

#[test]
fn bars_fit_narrow_terminals() {
    let mut film = Film::new(24);
    film.events(build().drain(..5));
    insta::assert_snapshot!(film.picture(130), @r#"
    [2/6] 2 steps cached
    * 2 min 10 s docker: p…
    [2/6] docker 2 min 10 s
    "#);
}

#[test]
fn bars_of_a_machine_and_a_task() {
    let mut film = Film::new(60);
    film.events([
        Event::TaskStarted {
            name: "converting to qcow2".to_owned(),
        },
        Event::MachineWaiting {
            machine: "docker".to_owned(),
            what: "qemu".to_owned(),
        },
        Event::MachineWaiting {
            machine: "docker".to_owned(),
            what: "ssh".to_owned(),
        },
    ]);
    insta::assert_snapshot!(film.picture(5), @r#"
    *  5.0 s converting to qcow2
    *  5.0 s docker: waiting for ssh
    "#);
    film.events([
        Event::TaskFinished {
            name: "converting to qcow2".to_owned(),
            seconds: 5.1,
        },
        Event::MachineReady {
            machine: "docker".to_owned(),
            seconds: 21.3,
        },
    ]);
    insta::assert_snapshot!(film.picture(1), @r#"
    converting to qcow2 … done in 5.1 s
    docker: ready after 21.3 s
    "#);
}

#[test]
fn what_is_over_at_once_gets_no_bar() {
    let mut film = Film::new(60);
    film.events(build().drain(..6));
    film.screen.redraw(film.now);
    insta::assert_snapshot!(film.terminal.contents(), @"[2/6] 2 steps cached");
}

#[test]
fn the_echo_of_ctrl_c_shifts_nothing() {
    let mut film = Film::new(40);
    film.events(build().drain(..5));
    film.picture(3);
    film.terminal.write_str("^C").unwrap();
    film.events(build().drain(8..9));
    insta::assert_snapshot!(film.picture(1), @r#"
    [2/6] 2 steps cached
    [3/6] docker: packages docker.io … built
     in 7.1 s
    [3/6] docker 4.0 s
    "#);
}

#[test]
fn giving_up_is_noticed_once() {
    let mut film = Film::new(60);
    let interrupt = Interrupt::new().unwrap();
    film.screen.watch(interrupt.clone());
    film.events(build().drain(..3));
    film.picture(1);
    interrupt.request();
    film.picture(1);
    insta::assert_snapshot!(film.picture(1), @"stopping running steps (Ctrl-C again: end at once)");
}

/// A download that is waited for, cut, continued and given up for a mirror that has it.
fn download() -> Vec<Event> {
    let (name, url) = (
        "debian-12.raw".to_owned(),
        "https://a.org/debian-12.raw".to_owned(),
    );
    let started = |from: &str, done| Event::DownloadStarted {
        name: name.clone(),
        url: url.clone(),
        from: from.to_owned(),
        done,
        total: Some(200 << 20),
    };
    let progress = |done| Event::DownloadProgress {
        name: name.clone(),
        url: url.clone(),
        done,
        total: Some(200 << 20),
    };
    vec![
        Event::DownloadWaiting {
            name: name.clone(),
            url: url.clone(),
        },
        Event::DownloadWaited {
            name: name.clone(),
            url: url.clone(),
        },
        started("http://mirror.example:8080/a.org/debian-12.raw", 50 << 20),
        progress(100 << 20),
        Event::DownloadRetrying {
            name: name.clone(),
            url: url.clone(),
            error: "the connection to mirror.example was cut".to_owned(),
            seconds: 0.5,
        },
        Event::DownloadFailed {
            name: name.clone(),
            url: url.clone(),
            from: "http://mirror.example:8080/a.org/debian-12.raw".to_owned(),
            error: "mirror.example answered 404 (Not Found)".to_owned(),
        },
        started(&url, 100 << 20),
        Event::DownloadFinished {
            name: name.clone(),
            url: url.clone(),
            done: 200 << 20,
            total: Some(200 << 20),
            seconds: 12.3,
        },
    ]
}

#[test]
fn lines_of_a_download() {
    let mut narrator = Narrator::new(Detail::Steps, false);
    let lines: Vec<_> = download()
        .iter()
        .flat_map(|event| narrator.lines(event))
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    debian-12.raw: waiting for another download of it
    download debian-12.raw from mirror.example:8080, 200 MiB (50 MiB already here)
    debian-12.raw: the connection to mirror.example was cut; again in 500 ms
    debian-12.raw … failed from mirror.example:8080: mirror.example answered 404 (Not Found)
    download debian-12.raw from a.org, 200 MiB (100 MiB already here)
    debian-12.raw … downloaded 200 MiB in 12.3 s
    "#);
}

#[test]
fn bars_of_a_download() {
    let mut film = Film::new(100);
    let mut events = download().into_iter();
    film.events(events.by_ref().take(1));
    insta::assert_snapshot!(film.picture(2), @"*  2.0 s debian-12.raw (waiting for another download of it)");
    film.events(events.by_ref().take(2));
    film.now += Duration::from_secs(5);
    film.events(events.by_ref().take(1));
    insta::assert_snapshot!(film.picture(0), @"*  5.0 s debian-12.raw  ##########----------  50%  100 MiB of 200 MiB, 10 MiB/s, 10 s left");
    film.events(events.by_ref().take(1));
    insta::assert_snapshot!(film.picture(1), @r#"
    debian-12.raw: the connection to mirror.example was cut; again in 500 ms
    *  6.0 s debian-12.raw  the connection to mirror.example was cut
    "#);
    film.events(events.by_ref().take(2));
    insta::assert_snapshot!(film.picture(1), @r#"
    debian-12.raw: the connection to mirror.example was cut; again in 500 ms
    debian-12.raw … failed from mirror.example:8080: mirror.example answered 404 (Not Found)
    *  1.0 s debian-12.raw  ##########----------  50%  100 MiB of 200 MiB
    "#);
    film.events(events);
    insta::assert_snapshot!(film.picture(1), @r#"
    debian-12.raw: the connection to mirror.example was cut; again in 500 ms
    debian-12.raw … failed from mirror.example:8080: mirror.example answered 404 (Not Found)
    debian-12.raw … downloaded 200 MiB in 12.3 s
    "#);
}

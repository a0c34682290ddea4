//! Progress on a terminal: finished things as lines, below them a line for each thing that runs and
//! one for the whole build.
//!
//! Events only change the state; a thread that lives while something runs draws it ten times a
//! second. So events cost little however many there are, nothing flickers, and a build that finds
//! everything in the store draws nothing at all. A download's line has a bar, its rate and the time
//! left.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use console::{Style, Term};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use super::super::output::{clean, duration, printable, size, unicode};
use super::locked;
use super::meter::Meter;
use super::narrator::Narrator;
use crate::event::Event;
use crate::host::Interrupt;

/// Between two drawings.
const FRAME: Duration = Duration::from_millis(100);
/// What is over sooner gets no line of its own.
const PATIENCE: Duration = Duration::from_millis(150);

/// The bars, and the thread that draws them.
pub(super) struct Bars {
    shared: Arc<Shared>,
    drawer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    screen: Mutex<Screen>,
    /// Wakes the drawing thread early, to end it.
    wake: Condvar,
}

impl Bars {
    /// Bars on standard error.
    pub(super) fn on_stderr(narrator: Narrator) -> Self {
        let target = ProgressDrawTarget::term(Term::buffered_stderr(), 20);
        let frames = if unicode() { FRAMES } else { ASCII_FRAMES };
        let terminal = Box::new(Term::stderr());
        Self {
            shared: Arc::new(Shared {
                screen: Mutex::new(Screen::new(narrator, target, frames, terminal)),
                wake: Condvar::new(),
            }),
            drawer: Mutex::new(None),
        }
    }

    /// Says so when the user gives up: what runs may need a moment to end.
    pub(super) fn watch(&self, interrupt: Interrupt) {
        locked(&self.shared.screen).watch(interrupt);
    }

    /// Takes an event.
    pub(super) fn event(&self, event: Event) {
        let mut screen = locked(&self.shared.screen);
        screen.event(event, Instant::now());
        if screen.busy() && !screen.drawn {
            screen.drawn = true;
            drop(screen);
            self.start();
        }
    }

    /// Removes all bars and ends the thread. A later event starts anew.
    pub(super) fn end(&self) {
        let mut screen = locked(&self.shared.screen);
        screen.clear();
        screen.drawn = false;
        drop(screen);
        self.shared.wake.notify_all();
        if let Some(thread) = locked(&self.drawer).take() {
            // It only draws: when it panicked there is nothing to save.
            let _ = thread.join();
        }
    }

    fn start(&self) {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("progress".into());
        // Without the thread, lines still appear.
        *locked(&self.drawer) = thread.spawn(move || shared.draw()).ok();
    }
}

impl Shared {
    fn draw(&self) {
        let mut screen = locked(&self.screen);
        while screen.drawn {
            screen = self
                .wake
                .wait_timeout(screen, FRAME)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(screen, _)| screen);
            if screen.drawn {
                screen.redraw(Instant::now());
            }
        }
    }
}

const FRAMES: &[&str] = &["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const ASCII_FRAMES: &[&str] = &["|", "/", "-", "\\"];

/// What has a line while it runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Step(usize),
    Task(String),
    /// Name and URL.
    Download(String, String),
    Machine(String),
}

struct Running {
    label: String,
    since: Instant,
    last_line: String,
    bar: Option<ProgressBar>,
    /// Of a download.
    meter: Option<Meter>,
}

/// The state of the terminal.
pub(super) struct Screen {
    narrator: Narrator,
    bars: MultiProgress,
    overall: Option<ProgressBar>,
    running: BTreeMap<Thing, Running>,
    since: Instant,
    frames: &'static [&'static str],
    unicode: bool,
    /// The same terminal that the bars are drawn on.
    terminal: Box<dyn TermLike>,
    /// Whether a thread draws.
    drawn: bool,
    /// Taken out when it was told of.
    interrupt: Option<Interrupt>,
}

impl Screen {
    pub(super) fn new(
        narrator: Narrator,
        target: ProgressDrawTarget,
        frames: &'static [&'static str],
        terminal: Box<dyn TermLike>,
    ) -> Self {
        Self {
            narrator: narrator.without_starts(),
            bars: MultiProgress::with_draw_target(target),
            overall: None,
            running: BTreeMap::new(),
            since: Instant::now(),
            frames,
            unicode: frames == FRAMES,
            terminal,
            drawn: false,
            interrupt: None,
        }
    }

    pub(super) fn watch(&mut self, interrupt: Interrupt) {
        self.interrupt = Some(interrupt);
    }

    fn busy(&self) -> bool {
        !self.running.is_empty()
    }

    pub(super) fn event(&mut self, event: Event, now: Instant) {
        let lines = self.narrator.lines(&event);
        match event {
            Event::BuildStarted { .. } => self.since = now,
            Event::StepStarted { step, name, .. } => self.begin(Thing::Step(step), name, now),
            Event::StepOutput { step, line } => {
                if let Some(running) = self.running.get_mut(&Thing::Step(step)) {
                    running.last_line = line;
                }
            }
            Event::StepWaiting { step, name } => self.begin(
                Thing::Step(step),
                format!("{name} (waiting for another vmfab that runs it)"),
                now,
            ),
            Event::StepQueued { step, name } => self.begin(
                Thing::Step(step),
                format!("{name} (waiting until other builds run fewer steps)"),
                now,
            ),
            Event::StepFinished { step, .. } => self.finish(&Thing::Step(step)),
            Event::BuildFinished { .. } => self.clear(),
            Event::TaskStarted { name } => self.begin(Thing::Task(name.clone()), name, now),
            Event::TaskProgress { name, done, total } => {
                if let Some(running) = self.running.get_mut(&Thing::Task(name)) {
                    running.last_line = format!("{} of {}", size(done), size(total));
                }
            }
            Event::TaskFinished { name, .. } | Event::TaskFailed { name, .. } => {
                self.finish(&Thing::Task(name));
            }
            Event::DownloadStarted {
                name,
                url,
                done,
                total,
                ..
            } => {
                let thing = Thing::Download(name.clone(), url);
                self.begin(thing.clone(), name, now);
                if let Some(running) = self.running.get_mut(&thing) {
                    running.last_line.clear();
                    running.meter = Some(Meter::new(done, total, now));
                }
            }
            Event::DownloadProgress {
                name,
                url,
                done,
                total,
            } => {
                if let Some(running) = self.running.get_mut(&Thing::Download(name, url)) {
                    let meter = running
                        .meter
                        .get_or_insert_with(|| Meter::new(done, total, now));
                    meter.update(done, total, now);
                }
            }
            Event::DownloadWaiting { name, url } => {
                let label = format!("{name} (waiting for another download of it)");
                self.begin(Thing::Download(name, url), label, now);
            }
            Event::DownloadRetrying {
                name, url, error, ..
            } => {
                if let Some(running) = self.running.get_mut(&Thing::Download(name, url)) {
                    running.meter = None;
                    running.last_line = error;
                }
            }
            Event::DownloadFinished { name, url, .. }
            | Event::DownloadWaited { name, url }
            | Event::DownloadFailed { name, url, .. } => {
                self.finish(&Thing::Download(name, url));
            }
            Event::MachineWaiting { machine, what } => {
                let label = format!("{machine}: waiting for {what}");
                self.begin(Thing::Machine(machine), label, now);
            }
            Event::MachineReady { machine, .. } => self.finish(&Thing::Machine(machine)),
            Event::StepFound { .. }
            | Event::ImageReady { .. }
            | Event::MachinePlanned { .. }
            | Event::MachineConsole { .. }
            | Event::RegistryRetrying { .. }
            | Event::Warning { .. }
            | Event::Note { .. } => {}
        }
        if !lines.is_empty() {
            // A terminal that is gone ends the process by itself.
            let _ = self.bars.println(printable(&lines.join("\n"), true));
        }
    }

    fn begin(&mut self, thing: Thing, label: String, now: Instant) {
        let earlier = self.running.remove(&thing);
        let running = match earlier {
            Some(earlier) => Running { label, ..earlier },
            None => Running {
                label,
                since: now,
                last_line: String::new(),
                bar: None,
                meter: None,
            },
        };
        self.running.insert(thing, running);
    }

    fn finish(&mut self, thing: &Thing) {
        if let Some(bar) = self.running.remove(thing).and_then(|running| running.bar) {
            remove(&self.bars, &bar);
        }
    }

    /// Removes everything that is not a line.
    fn clear(&mut self) {
        for running in std::mem::take(&mut self.running).into_values() {
            if let Some(bar) = running.bar {
                remove(&self.bars, &bar);
            }
        }
        if let Some(bar) = self.overall.take() {
            remove(&self.bars, &bar);
        }
    }

    pub(super) fn redraw(&mut self, now: Instant) {
        if self
            .interrupt
            .take_if(|interrupt| interrupt.requested())
            .is_some()
        {
            let text = "stopping running steps (Ctrl-C again: end at once)";
            let _ = self.bars.println(text);
        }
        // One column less: some terminals wrap when the last one is written.
        let width = usize::from(self.terminal.width()).saturating_sub(1).max(10);
        let frame = |since: Instant| {
            let passed = now.duration_since(since).as_millis() / FRAME.as_millis();
            self.frames[passed as usize % self.frames.len()]
        };
        let faint = self.narrator.style(Style::new().dim());
        let accent = self.narrator.style(Style::new().cyan());
        for running in self.running.values_mut() {
            let passed = now.duration_since(running.since);
            if passed < PATIENCE {
                continue;
            }
            let bars = &self.bars;
            let overall = self.overall.as_ref();
            let bar = running.bar.get_or_insert_with(|| match overall {
                Some(overall) => bars.insert_before(overall, line()),
                None => bars.add(line()),
            });
            let last = match &running.meter {
                Some(meter) => meter.text(self.unicode),
                None => clean(&running.last_line),
            };
            let text = format!(
                "{} {:>6} {}  {}",
                accent.apply_to(frame(running.since)),
                seconds(passed),
                clean(&running.label),
                faint.apply_to(last),
            );
            bar.set_message(fit(&text, width));
        }
        let any_bar = self.overall.is_some() || self.running.values().any(|one| one.bar.is_some());
        if let Some((position, build)) = self.narrator.overall()
            && any_bar
        {
            let passed = seconds(now.duration_since(self.since));
            let text = format!("{position} {build} {passed}");
            let bars = &self.bars;
            let bar = self.overall.get_or_insert_with(|| bars.add(line()));
            bar.set_message(fit(&text, width));
        }
        if any_bar {
            // indicatif leaves the cursor at the end of a full line, where the `^C` that a terminal
            // echoes would begin a new one and shift all that is drawn later.
            let terminal = &self.terminal;
            let _ = terminal.write_str("\r").and_then(|()| terminal.flush());
        }
    }
}

fn line() -> ProgressBar {
    // The template is a constant that indicatif accepts; its default would be harmless.
    let style = ProgressStyle::with_template("{msg}");
    ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

fn remove(bars: &MultiProgress, bar: &ProgressBar) {
    bar.finish_and_clear();
    bars.remove(bar);
}

fn fit(text: &str, width: usize) -> String {
    console::truncate_str(text.trim_end(), width, "…").into_owned()
}

/// Running time, calm enough to be read: tenths only in the first ten seconds.
fn seconds(passed: Duration) -> String {
    match passed.as_secs() {
        0..10 => format!("{:.1} s", passed.as_secs_f64()),
        10..100 => format!("{} s", passed.as_secs()),
        _ => duration(passed.as_secs_f64()),
    }
}

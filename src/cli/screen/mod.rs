//! Pages that take the whole terminal. The terminal is given back however the program ends.
//!
//! A page is a value that knows what keys mean and how it looks; it never touches the terminal. The
//! command that shows it has the [`Screen`].

mod text;

use std::io::{self, BufWriter, IsTerminal, Stdout};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{execute, style};
use ratatui::style::{Color, Style};
use ratatui::symbols::border;
use ratatui::widgets::Block;
use ratatui::{Frame, Terminal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::output;
use super::session::Session;
use crate::failure::{Failure, Kind};
use crate::host::Interrupt;

pub(super) use text::{bottom_line, fitting, width, wrap};

/// How long a page waits for a key before it looks whether there is something new.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long a page may take to end.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// Whether the terminal shows a page now.
static OPEN: AtomicBool = AtomicBool::new(false);

/// The terminal, as long as a page has it.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    interrupt: Interrupt,
}

/// What the user did at a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    Key(KeyEvent),
    /// The terminal has another size.
    Resized,
    Nothing,
}

impl Screen {
    /// Takes the terminal until the interrupt is requested, at the latest. `instead` says what to do
    /// where there is none.
    pub(super) fn open(
        session: &Session,
        interrupt: &Interrupt,
        instead: &str,
    ) -> Result<Self, Failure> {
        if !can_show() {
            return Err(
                Failure::usage("a page needs a terminal for its input and output")
                    .with_help(instead),
            );
        }
        session.end_progress();
        style::force_color_output(session.colors());
        guard(interrupt.clone()).map_err(|error| failed(&error))?;
        enter().map_err(|error| failed(&error))?;
        let backend = CrosstermBackend::new(BufWriter::with_capacity(64 << 10, io::stdout()));
        let terminal = Terminal::new(backend);
        match terminal {
            Ok(terminal) => Ok(Self {
                terminal,
                interrupt: interrupt.clone(),
            }),
            Err(error) => {
                leave();
                Err(failed(&error))
            }
        }
    }

    /// Shows a page. Only what differs from before is written, at once.
    pub(super) fn draw(&mut self, page: impl FnOnce(&mut Frame<'_>)) -> Result<(), Failure> {
        self.terminal
            .draw(page)
            .map(drop)
            .map_err(|error| failed(&error))
    }

    /// What the user does within a moment.
    pub(super) fn input(&mut self) -> Result<Input, Failure> {
        // At a terminal that is gone, crossterm reads nothing for ever.
        let read = || {
            self.wait(Duration::ZERO)?;
            match event::poll(Duration::ZERO)? {
                true => event::read().map(Some),
                // What comes now is there the next time.
                false => self.wait(PATIENCE).map(|()| None),
            }
        };
        Ok(match read().map_err(|error| failed(&error))? {
            Some(Event::Key(key)) if key.kind != KeyEventKind::Release => Input::Key(key),
            Some(Event::Resize(..)) => Input::Resized,
            _ => Input::Nothing,
        })
    }

    /// Waits for a key or the interrupt; fails when the terminal is gone.
    fn wait(&self, patience: Duration) -> io::Result<()> {
        let stdin = rustix::stdio::stdin();
        let mut fds = [
            PollFd::new(&stdin, PollFlags::IN),
            PollFd::new(&self.interrupt, PollFlags::IN),
        ];
        match poll(&mut fds, Timespec::try_from(patience).ok().as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        match fds[0].revents().intersects(gone) {
            true => Err(io::Error::other("it is gone")),
            false => Ok(()),
        }
    }

    /// Gives the terminal to something else for a while.
    pub(super) fn away<T>(&mut self, other: impl FnOnce() -> T) -> Result<T, Failure> {
        leave();
        let done = other();
        enter()
            .and_then(|()| self.terminal.clear())
            .map_err(|error| failed(&error))?;
        Ok(done)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

/// Ends the process when it was asked to end and still shows a page: half of an escape sequence, or a
/// terminal that went away at the wrong moment, can hold crossterm for ever.
fn guard(interrupt: Interrupt) -> io::Result<()> {
    let guard = move || {
        let requested = &mut [PollFd::new(&interrupt, PollFlags::IN)];
        while !interrupt.requested() {
            let _ = poll(requested, None);
        }
        std::thread::sleep(LAST_MOMENT);
        if OPEN.load(Ordering::SeqCst) {
            leave();
            std::process::exit(Kind::Interrupted.exit_code().into());
        }
    };
    let started = std::thread::Builder::new().name("screen".into());
    started.spawn(guard).map(drop)
}

/// Whether there is a terminal that can show a page.
pub(super) fn can_show() -> bool {
    io::stdin().is_terminal()
        && io::stdout().is_terminal()
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn enter() -> io::Result<()> {
    static HOOK: Once = Once::new();
    // What a panic says is for the screen that remains.
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            leave();
            before(panic);
        }));
    });
    enable_raw_mode()?;
    OPEN.store(true, Ordering::SeqCst);
    execute!(io::stdout(), EnterAlternateScreen, Hide)
}

/// Once for each time that the terminal was taken. A terminal that is gone needs nothing.
fn leave() {
    if OPEN.swap(false, Ordering::SeqCst) {
        let _ = disable_raw_mode();
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    }
}

fn failed(error: &io::Error) -> Failure {
    Failure::failed(format!("the terminal cannot be used: {error}"))
}

/// Whether a key ends every page, whatever it shows.
pub(super) fn is_interrupt(key: KeyEvent) -> bool {
    key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL)
}

/// What pages are drawn with on this terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    colors: bool,
    unicode: bool,
}

impl Look {
    /// What this terminal can show, as far as the user wants it.
    pub(super) fn of(session: &Session) -> Self {
        Self {
            colors: session.colors(),
            unicode: output::unicode(),
        }
    }

    /// For tests.
    #[cfg(test)]
    pub(super) const fn new(colors: bool, unicode: bool) -> Self {
        Self { colors, unicode }
    }

    pub(super) fn color(self, color: Color) -> Style {
        match self.colors {
            true => Style::new().fg(color),
            false => Style::new(),
        }
    }

    /// A box.
    pub(super) fn block<'a>(self) -> Block<'a> {
        const ASCII: border::Set<'_> = border::Set {
            top_left: "+",
            top_right: "+",
            bottom_left: "+",
            bottom_right: "+",
            vertical_left: "|",
            vertical_right: "|",
            horizontal_top: "-",
            horizontal_bottom: "-",
        };
        Block::bordered().border_set(match self.unicode {
            true => border::PLAIN,
            false => ASCII,
        })
    }

    /// A line of others, as characters that each fill one or two cells and do nothing else: a
    /// terminal and vmfab agree then on where each of them is.
    pub(super) fn plain(self, line: &str) -> String {
        text::plain(line, self.unicode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "takes the terminal that it runs in"]
    fn a_page_that_panics() {
        enter().unwrap();
        // Whichever thread it is.
        let panics = std::thread::spawn(|| panic!("this page is broken"));
        panics.join().unwrap();
    }

    #[test]
    fn a_panic_gives_the_terminal_back() {
        let directory = tempfile::tempdir().unwrap();
        let tmux = |arguments: &[&str]| {
            let mut tmux = std::process::Command::new("tmux");
            tmux.env_remove("TMUX").arg("-S");
            tmux.arg(directory.path().join("socket")).args(arguments);
            let output = tmux.output().expect("install the Debian package tmux");
            String::from_utf8(output.stdout).unwrap()
        };
        let script = "stty -g | cksum; \"$0\" --ignored --exact --nocapture \
                      cli::screen::tests::a_page_that_panics; stty -g | cksum; sleep 1000";
        // Before and after.
        let modes = |screen: &str| -> Vec<String> {
            let is_checksum = |line: &&str| line.bytes().all(|c| c == b' ' || c.is_ascii_digit());
            let lines = screen.lines().filter(|line| !line.is_empty());
            lines.filter(is_checksum).map(str::to_owned).collect()
        };
        let program = std::env::current_exe().unwrap();
        let program = program.to_str().unwrap();
        tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "sh",
            "-c",
            script,
            program,
        ]);
        let screen = loop {
            let screen = tmux(&["capture-pane", "-p", "-S", "-"]);
            if modes(&screen).len() == 2 {
                break screen;
            }
            std::thread::sleep(PATIENCE);
        };
        let alternate = tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        tmux(&["kill-server"]);
        assert!(screen.contains("this page is broken"), "{screen}");
        assert_eq!(alternate, "0 1\n");
        let modes = modes(&screen);
        assert_eq!(modes[0], modes[1], "{screen}");
    }
}

//! A terminal of some size, which tmux emulates.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Ran, tool};

/// What tests wait at most for things that take a moment.
const MOMENT: Duration = Duration::from_secs(120);

/// What a program writes stays when it has ended.
const CONFIGURATION: &str = "
set -g status off
set -g remain-on-exit on
set -g escape-time 0
set -g allow-rename on
set -g set-titles off
";

/// A program in a terminal.
pub(crate) struct Terminal {
    directory: tempfile::TempDir,
}

impl Terminal {
    /// Starts a program in a terminal of so many columns and rows.
    #[track_caller]
    pub(crate) fn open(columns: u16, rows: u16, program: &Command) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let terminal = Self { directory };
        std::fs::write(terminal.path("conf"), CONFIGURATION).unwrap();
        let mut tmux = terminal.tmux();
        tmux.arg("-f").arg(terminal.path("conf"));
        tmux.args(["new-session", "-d", "-x", &columns.to_string()]);
        tmux.args(["-y", &rows.to_string()]);
        for (name, value) in program.get_envs() {
            let value = value.unwrap_or_default().to_str().unwrap();
            tmux.args(["-e", &format!("{}={value}", name.to_str().unwrap())]);
        }
        if let Some(directory) = program.get_current_dir() {
            tmux.arg("-c").arg(directory);
        }
        tmux.arg("--").arg(program.get_program());
        // With a single word tmux would start a shell.
        tmux.args(program.get_args());
        assert!(program.get_args().next().is_some());
        Ran::of(&mut tmux).ends_with(0);
        terminal
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.directory.path()).join(name)
    }

    fn tmux(&self) -> Command {
        let mut tmux = tool("tmux", "tmux");
        tmux.env("LC_ALL", "C.UTF-8").env_remove("TMUX");
        tmux.arg("-u").arg("-S").arg(self.path("socket"));
        tmux
    }

    /// Presses keys, by tmux's names of them.
    #[track_caller]
    pub(crate) fn press<const N: usize>(&self, keys: [&str; N]) {
        let mut tmux = self.tmux();
        Ran::of(tmux.arg("send-keys").args(keys)).ends_with(0);
    }

    /// Types a line.
    #[track_caller]
    pub(crate) fn line(&self, text: &str) {
        let mut tmux = self.tmux();
        Ran::of(tmux.args(["send-keys", "-l", text])).ends_with(0);
        self.press(["Enter"]);
    }

    /// What is seen.
    #[track_caller]
    pub(crate) fn screen(&self) -> String {
        let mut tmux = self.tmux();
        Ran::of(tmux.args(["capture-pane", "-p"]))
            .ends_with(0)
            .stdout
    }

    /// What tmux knows, such as `#{alternate_on}`.
    #[track_caller]
    pub(crate) fn get(&self, what: &str) -> String {
        let mut tmux = self.tmux();
        let ran = Ran::of(tmux.args(["display-message", "-p", what]));
        ran.ends_with(0).stdout.trim_end().to_owned()
    }

    /// Gives the terminal another size.
    #[track_caller]
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        let mut tmux = self.tmux();
        tmux.args(["resize-window", "-x", &columns.to_string()]);
        Ran::of(tmux.args(["-y", &rows.to_string()])).ends_with(0);
    }

    /// The terminal is gone from one moment to the next.
    pub(crate) fn vanish(&self) {
        Ran::of(self.tmux().arg("kill-server")).ends_with(0);
    }

    /// Waits until what is seen is as it should be; returns it.
    #[track_caller]
    pub(crate) fn wait(&self, condition: impl Fn(&str) -> bool) -> String {
        let started = Instant::now();
        loop {
            let screen = self.screen();
            if condition(&screen) {
                return screen;
            }
            assert!(started.elapsed() < MOMENT, "waited in vain:\n{screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the program has ended well. tmux 3.3 does not always learn the exit code of a
    /// program that is gone, and then writes nothing on the screen either.
    #[track_caller]
    pub(crate) fn ends(&self) {
        let started = Instant::now();
        loop {
            match self.get("#{pane_dead} #{pane_dead_status}").trim() {
                "1 0" | "1" => return,
                "0" => {}
                other => panic!("it ended with {other}:\n{}", self.screen()),
            }
            assert!(started.elapsed() < MOMENT, "it runs on:\n{}", self.screen());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a text is seen; returns what else is.
    #[track_caller]
    pub(crate) fn shows(&self, text: &str) -> String {
        self.wait(|screen| screen.contains(text))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux().arg("kill-server").output();
    }
}

//! `vmfab watch` with a machine of the real tests.

use crate::support::{Lab, Terminal};

/// Watches a machine that runs, and enters it from there.
#[track_caller]
pub(super) fn is_watched(name: &str) {
    // What a kernel writes meanwhile scrolls what was there before.
    let write = |text: &str| {
        let command = format!("echo {text} | sudo tee /dev/ttyS0");
        let words = ["exec", name, "--", "sh", "-c", &command];
        Lab::get().run(words).ends_with(0);
    };
    for columns in [40, 200] {
        let mut watch = Lab::get().command();
        let terminal = Terminal::open(columns, 30, watch.args(["watch", name]));
        terminal.shows("q quit");
        let text = format!("seen-{columns}");
        write(&text);
        let screen = terminal.shows(&text);
        assert!(screen.contains(" running "), "{screen}");
        assert!(
            screen
                .lines()
                .all(|line| line.chars().count() <= usize::from(columns))
        );
        terminal.press(["q"]);
        terminal.ends();
    }
    let mut watch = Lab::get().command();
    let terminal = Terminal::open(80, 24, watch.args(["watch", name]));
    // It says so once it knows the machine.
    terminal.shows("s ssh");
    terminal.press(["s"]);
    terminal.wait(|screen| screen.contains('$') && !screen.contains("q quit"));
    terminal.line("echo $((6 * 7))-$(tput lines)");
    // The session has the whole terminal.
    terminal.shows("\n42-24\n");
    terminal.line("exit");
    terminal.shows("q quit");
    write("seen-again");
    terminal.shows("seen-again");
    terminal.press(["q"]);
    terminal.ends();
}

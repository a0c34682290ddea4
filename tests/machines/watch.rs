//! `vmfab watch` in terminals of several sizes.

use std::io::{BufRead, BufReader};

use super::support::Terminal;
use super::*;

/// The program in a terminal, and after it what it left.
fn watching(bench: &Bench, columns: u16, rows: u16, arguments: &str) -> Terminal {
    let script = format!(
        "trap : INT; stty -g | cksum; \"$0\" watch {arguments}; echo \"ended with $?\"; stty -g | cksum; \
         exec sleep 1000"
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_vmfab")]);
    shell
        .env("VMFAB_HOME", &bench.home)
        .env("LC_ALL", "C.UTF-8");
    shell.current_dir(bench.directory.path());
    Terminal::open(columns, rows, &shell)
}

/// The terminal is as it was before.
#[track_caller]
fn is_restored(terminal: &Terminal, code: u8) {
    terminal.shows(&format!("ended with {code}"));
    let screen = terminal.wait(|screen| !screen.trim_end().ends_with(&format!("with {code}")));
    // tmux leaves parts of a page on the screen when it grew meanwhile.
    let is_checksum = |line: &&str| {
        let only = |c: u8| c == b' ' || c.is_ascii_digit();
        !line.is_empty() && line.bytes().all(only)
    };
    let modes: Vec<&str> = screen.lines().filter(is_checksum).collect();
    assert_eq!(modes.len(), 2, "{screen}");
    assert_eq!(modes[0], modes[1], "{screen}");
    assert_eq!(terminal.get("#{alternate_on} #{cursor_flag}"), "0 1");
}

#[test]
fn watching_needs_a_terminal_and_machines_that_exist() {
    let bench = Bench::new();
    bench
        .run(["watch"])
        .ends_with(2)
        .says("a page needs a terminal")
        .says("vmfab list --watch");
    bench
        .run(["watch", "web"])
        .ends_with(3)
        .says("no machine \"web\" found");
    let terminal = watching(&bench, 80, 24, "");
    terminal.shows("no machines: vmfab up or vmfab boot creates some");
    terminal.press(["q"]);
    is_restored(&terminal, 0);
}

#[test]
fn machines_are_seen_in_every_width_whatever_they_write() {
    let bench = Bench::new();
    let name = bench.boot();
    bench
        .run(["create", "worker", "--from", "@tiny"])
        .ends_with(0);
    for (columns, rows) in [(40, 20), (80, 24), (200, 50)] {
        let terminal = watching(&bench, columns, rows, "");
        let screen = terminal.shows("tiny: up");
        let first = screen.lines().next().unwrap();
        assert!(
            first.contains(" tiny ") && first.contains(" running "),
            "{screen}"
        );
        assert!(
            first.contains("%, ") || first.contains("% of 1, "),
            "{screen}"
        );
        assert!(screen.contains(" worker  stopped "), "{screen}");
        assert!(screen.contains("q quit  ? help  s ssh  x stop"), "{screen}");
        assert!(screen.trim_end().ends_with("1/2"), "{screen}");
        terminal.press(["q"]);
        is_restored(&terminal, 0);
    }

    // One large, in a terminal that grows. What the guest writes does nothing but to be seen.
    let terminal = watching(&bench, 40, 20, &name);
    terminal.press(["Enter"]);
    terminal.shows("tiny: up");
    let hostile = "\u{1b}]0;owned\u{7}\u{1b}]2;owned\u{1b}\\\u{1b}[?1049l\u{1b}[2J\u{1b}[31;1;1H\
                   \u{1b}c\u{9b}2J\u{1b}[?1000h\u{1b}[6n\u{1b}kowned\u{1b}\\\u{e}\u{202e}\
                   e\u{301}\u{200d}harmless\r\nagain\r\n";
    bench.say(&name, hostile, "again");
    let screen = terminal.shows("again");
    let lines: Vec<&str> = screen.lines().collect();
    assert_eq!(lines.len(), 20, "{screen}");
    assert!(
        lines[0].contains(" tiny ") && lines[19].starts_with("q quit"),
        "{screen}"
    );
    for line in &lines[1..18] {
        assert!(line.starts_with('│') && line.ends_with('│'), "{screen}");
        assert_eq!(line.chars().count(), 40, "{screen}");
    }
    assert!(screen.contains("harmless"), "{screen}");
    let state = "#{alternate_on} #{mouse_any_flag} #{pane_title} #{window_name}";
    let state = terminal.get(state);
    assert!(
        state.starts_with("1 0 ") && !state.contains("owned"),
        "{state}"
    );
    terminal.resize(100, 30);
    terminal.wait(|screen| {
        screen.lines().count() == 30
            && screen
                .lines()
                .nth(28)
                .is_some_and(|line| line.ends_with('┘'))
    });
    terminal.press(["C-c"]);
    is_restored(&terminal, 0);
}

#[test]
fn keys_reach_machines() {
    let bench = Bench::new();
    let name = bench.boot();
    let terminal = watching(&bench, 80, 24, "");
    terminal.shows("tiny: up");

    // At the console of the machine, and back.
    terminal.press(["c"]);
    terminal.shows("Ctrl-] detaches");
    terminal.press(["h", "e", "l", "l", "o"]);
    terminal.shows("hello");
    terminal.press(["C-]"]);
    terminal.shows("q quit");
    terminal.press(["x"]);
    terminal.shows("Stop tiny? [y/N]");
    terminal.press(["n"]);
    terminal.shows("q quit");
    assert_eq!(bench.entry(&name)["state"], "running");
    terminal.press(["x", "y"]);
    terminal.shows("tiny: stopped");
    assert_eq!(bench.entry(&name)["state"], "stopped");
    terminal.shows(" tiny  stopped ");
    terminal.press(["s"]);
    terminal.shows("tiny is stopped; r starts it");

    // vmfab waits for what was begun until the user gives that up, too.
    terminal.press(["r"]);
    terminal.shows(" restarting ");
    terminal.press(["q"]);
    terminal.shows("not yet done: tiny; Ctrl-C gives up");
    bench.wait_for_log(&name, "tiny: up");
    terminal.press(["C-c"]);
    is_restored(&terminal, 130);
}

#[test]
fn a_signal_ends_the_page() {
    let bench = Bench::new();
    bench.boot();
    let terminal = watching(&bench, 80, 24, "--all");
    terminal.shows("tiny: up");
    let shell = terminal.get("#{pane_pid}");
    let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
    let program = Pid::from_raw(children.trim().parse().unwrap()).unwrap();
    kill_process(program, Signal::TERM).unwrap();
    is_restored(&terminal, 130);
}

#[test]
fn programs_read_it_line_by_line() {
    let bench = Bench::new();
    bench.boot();
    let mut watch = Running(bench.command(["watch", "--json"]).spawn().unwrap());
    let stdout = BufReader::new(watch.0.stdout.take().unwrap());
    for line in stdout.lines().take(2) {
        let found: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!(found[0]["name"], "tiny");
        assert_eq!(found[0]["state"], "running");
        let console = found[0]["console"].as_array().unwrap();
        assert_eq!(console.last().unwrap(), "tiny: up");
    }
}

#[test]
fn nothing_goes_on_without_its_terminal() {
    let bench = Bench::new();
    // Half of an escape sequence holds who reads it.
    for half in [false, true] {
        let mut watch = bench.command(["watch", "--all"]);
        watch.current_dir(bench.directory.path());
        let terminal = Terminal::open(80, 24, &watch);
        terminal.shows("no machines");
        let program = terminal.get("#{pane_pid}");
        if half {
            terminal.press(["-H", "1b", "5b"]);
        }
        terminal.vanish();
        let process = Path::new("/proc").join(&program);
        wait_until("the end of vmfab watch", || !process.exists());
    }
}

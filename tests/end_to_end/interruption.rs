//! Builds that are given up or killed in the middle of a step.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;

use super::super::support::{Lab, Recipes};

/// The processes whose command line has this text.
fn processes_with(text: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let command_lines = entries.filter_map(|entry| {
        let bytes = fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
    });
    command_lines.filter(|line| line.contains(text)).collect()
}

/// An image with a quick step, and one that prints "asleep" and then does nothing for long.
fn sleeping(recipes: &Recipes, name: &str, second: &str) -> String {
    let first = format!("echo quick > /{name}");
    recipes.image(
        name,
        &format!("        run \"{first}\"\n        run \"{second}\""),
    );
    format!("{name}: run {first}")
}

/// A time that nobody else sleeps.
fn long_time(digit: u32) -> String {
    format!("1000.{}{digit}", std::process::id())
}

#[test]
fn ctrl_c_ends_the_step_and_keeps_what_is_finished() {
    let recipes = Recipes::new();
    let time = long_time(1);
    let script = format!("trap '' INT TERM; sleep {time} & echo asleep; wait; wait");
    let first = sleeping(&recipes, "interrupted", &script);
    let mut build = recipes.start("interrupted");
    build.until_line("asleep");
    assert_ne!(processes_with(&time), [""; 0]);
    build.signal(Signal::INT);
    let build = build.finish().ends_with(130);
    assert_eq!(build.error()["kind"], "interrupted");
    assert_eq!(processes_with(&time), [""; 0]);
    assert_eq!(build.ended("built"), [&first]);
    assert_eq!(build.ended("failed"), [""; 0]);

    sleeping(&recipes, "interrupted", "echo awake");
    let resumed = recipes.build("interrupted").succeeds();
    assert!(resumed.ended("cached").contains(&first.as_str()));
    assert_eq!(resumed.started()[0], "interrupted: run echo awake");
}

#[test]
fn a_killed_build_leaves_nothing_that_runs_and_nothing_that_stays() {
    let recipes = Recipes::new();
    let time = long_time(2);
    let script = format!("touch /half-done; echo asleep; sleep {time}; echo over");
    let first = sleeping(&recipes, "killed", &script);
    let mut build = recipes.start("killed");
    build.until_line("asleep");
    let scratch = scratch_with("upper/half-done");
    let written = temporary_files();
    build.signal(Signal::KILL);
    assert_eq!(build.finish().code, None);
    for _ in 0..600 {
        if processes_with(&time).is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(processes_with(&time), [""; 0]);
    let free = |path: &PathBuf| File::open(path).is_ok_and(|file| file.try_lock().is_ok());
    let left: Vec<PathBuf> = written.into_iter().filter(free).collect();

    sleeping(&recipes, "killed", "echo alive");
    let next = recipes.build("killed").succeeds();
    assert!(next.ended("cached").contains(&first.as_str()));
    assert!(!scratch.exists(), "{} is left", scratch.display());
    assert!(!scratch.with_extension("lock").exists());
    let kept: Vec<_> = left.iter().filter(|path| path.exists()).collect();
    assert!(kept.is_empty(), "{kept:?} are left of {left:?}");
}

/// What is being written into the store.
fn temporary_files() -> Vec<PathBuf> {
    let entries = fs::read_dir(Lab::get().home().join("store/tmp")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The scratch directory that holds a file.
#[track_caller]
fn scratch_with(file: &str) -> PathBuf {
    let entries = fs::read_dir(Lab::get().home().join("cache/work")).unwrap();
    let mut directories = entries.map(|entry| entry.unwrap().path());
    directories
        .find(|path| path.join(file).exists())
        .expect("a scratch directory")
}

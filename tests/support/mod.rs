//! What tests share that build for real: a home with a bootstrapped base image for the whole run,
//! recipes in directories of their own, builds by their events, machines, and a web server
//! that misbehaves.

mod archive;
mod build;
pub(crate) mod debian;
pub(crate) mod http;
mod lab;
mod machine;
mod ports;
pub(crate) mod proxy;
mod recipes;
pub(crate) mod registry;
mod synthetic;
mod terminal;
mod webdriver;
mod workshop;

use std::process::{Command, Output};

pub(crate) use archive::Archive;
pub(crate) use build::{Build, Running};
pub(crate) use lab::{Lab, base, command_in, program};
pub(crate) use machine::Machine;
pub(crate) use ports::free_port;
pub(crate) use recipes::Recipes;
use serde_json::Value;
pub(crate) use synthetic::{Synthetic, SyntheticStep};
pub(crate) use terminal::Terminal;
use vmfab::host::find_program;
pub(crate) use webdriver::Browser;
pub(crate) use workshop::Workshop;

/// A program of the host; a test that needs it fails when it is not there.
#[track_caller]
pub(crate) fn tool(name: &str, package: &str) -> Command {
    match find_program(name) {
        Some(path) => Command::new(path),
        None => panic!("{name} is not installed: install the Debian package {package}"),
    }
}

/// What a process gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// Runs a command to its end, without input unless it was given one.
    #[track_caller]
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output();
        Self::from(output.unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    #[track_caller]
    pub(crate) fn ends_with(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout:\n{}stderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Standard output as one JSON value.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}:\n{}", self.stdout))
    }
}

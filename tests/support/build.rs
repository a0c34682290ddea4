//! Builds by their events.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::Ran;

/// A build that is over: one run of the program with `--json`.
#[derive(Debug)]
pub(crate) struct Build {
    pub(crate) code: Option<i32>,
    pub(crate) stderr: String,
    events: Vec<Value>,
}

impl Build {
    /// Runs a build, or a boot.
    #[track_caller]
    pub(crate) fn of(command: &mut Command) -> Self {
        let ran = Ran::of(command);
        Self {
            code: ran.code,
            events: ran.stdout.lines().map(event).collect(),
            stderr: ran.stderr,
        }
    }

    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        self.ends_with(0)
    }

    #[track_caller]
    pub(crate) fn ends_with(self, code: i32) -> Self {
        let lines: Vec<String> = self.events.iter().map(Value::to_string).collect();
        assert_eq!(
            self.code,
            Some(code),
            "{}\n{}",
            lines[lines.len().saturating_sub(40)..].join("\n"),
            self.stderr
        );
        self
    }

    /// Events of one kind.
    pub(crate) fn events<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.events
            .iter()
            .filter(move |event| event["event"] == kind)
    }

    /// The names of the steps that ran, in the order in which they started.
    pub(crate) fn started(&self) -> Vec<&str> {
        self.events("step-started")
            .map(|event| event["name"].as_str().unwrap())
            .collect()
    }

    /// The names of the steps that ended so.
    pub(crate) fn ended(&self, outcome: &str) -> Vec<&str> {
        self.events("step-finished")
            .filter(|event| event["outcome"] == outcome)
            .map(|event| event["name"].as_str().unwrap())
            .collect()
    }

    /// How often each step ran.
    pub(crate) fn count_started(&self, counts: &mut BTreeMap<String, usize>) {
        for name in self.started() {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }

    /// What steps printed.
    pub(crate) fn output(&self) -> Vec<&str> {
        self.events("step-output")
            .map(|event| event["line"].as_str().unwrap())
            .collect()
    }

    /// The last line of the stream.
    #[track_caller]
    pub(crate) fn result(&self) -> &Value {
        let result = self.events("result").last();
        result.unwrap_or_else(|| panic!("no result: {}", self.stderr))
    }

    /// The id of the image.
    #[track_caller]
    pub(crate) fn image(&self) -> &str {
        self.result()["image"].as_str().unwrap()
    }

    /// The error.
    #[track_caller]
    pub(crate) fn error(&self) -> Value {
        serde_json::from_str(&self.stderr)
            .unwrap_or_else(|error| panic!("{error}:\n{}", self.stderr))
    }
}

#[track_caller]
fn event(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// A build that goes on. It is killed when it is dropped before its end.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    events: Vec<Value>,
}

impl Running {
    /// Starts a build.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
            events: Vec::new(),
        }
    }

    /// Goes on until a step prints this line.
    #[track_caller]
    pub(crate) fn until_line(&mut self, wanted: &str) {
        let mut line = String::new();
        while self.stdout.read_line(&mut line).unwrap() > 0 {
            self.events.push(event(&line));
            if self.events.last().is_some_and(|e| e["line"] == wanted) {
                return;
            }
            line.clear();
        }
        let mut stderr = String::new();
        let mut pipe = self.child.stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).unwrap();
        panic!("it ended and no step printed {wanted:?}: {stderr}");
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Build {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        let mut stderr = String::new();
        let mut pipe = self.child.stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).unwrap();
        let mut events = std::mem::take(&mut self.events);
        events.extend(rest.lines().map(event));
        Build {
            code: self.child.wait().unwrap().code(),
            stderr,
            events,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! The guest agent: a program in the guest that runs commands for the host, over a serial port of
//! its own (QEMU, `qga/qapi-schema.json`).

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use serde::Deserialize;
use serde_json::{Value, json};

use super::socket::{self, Peer};

/// How long the agent may take for an answer. It answers at once what it is asked here.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two questions whether a command has ended, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));
/// What begins and ends what belongs to the present conversation: no text has it.
const DELIMITER: u8 = 0xff;
/// The most that a command may read or write, in bytes; the agent's own limit.
pub const MOST: usize = 16 << 20;

/// A connection to a guest's agent.
pub struct Agent {
    stream: BufReader<UnixStream>,
}

/// What a command in a guest gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code, or 128 and the number of the signal that ended it.
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Whether it wrote more than is here.
    pub truncated: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ExecStatus {
    exited: bool,
    #[serde(default, rename = "exitcode")]
    exit_code: Option<i32>,
    #[serde(default)]
    signal: Option<i32>,
    #[serde(default)]
    out_data: String,
    #[serde(default)]
    err_data: String,
    #[serde(default)]
    out_truncated: bool,
    #[serde(default)]
    err_truncated: bool,
}

impl Agent {
    /// Connects to the agent at the socket `name` in `directory`. Others wait for their turn.
    ///
    /// # Errors
    /// Nobody listens, or the agent does not answer.
    pub fn connect(directory: &Path, name: &str) -> io::Result<Self> {
        let Peer::Listening(stream) = socket::connect(directory, name, PATIENCE)? else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let mut agent = Self {
            stream: BufReader::new(stream),
        };
        // What was left of an earlier conversation ends here.
        let id = u64::from(std::process::id());
        agent.stream.get_mut().write_all(&[DELIMITER])?;
        agent.send(&json!({"execute": "guest-sync-delimited", "arguments": {"id": id}}))?;
        loop {
            agent.stream.read_until(DELIMITER, &mut Vec::new())?;
            if agent.receive()? == id {
                return Ok(agent);
            }
        }
    }

    /// Runs a program, as root, and waits for its end as long as `wait` says so.
    ///
    /// # Errors
    /// The agent cannot start it (a phrase of its own), or does not answer; or `wait` gave up.
    pub fn run(
        &mut self,
        command: &[String],
        input: Option<&[u8]>,
        mut wait: impl FnMut(Duration) -> bool,
    ) -> io::Result<Ended> {
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut exec = json!({"path": program, "arg": arguments, "capture-output": true});
        if let Some(input) = input {
            exec["input-data"] = Base64::encode_string(input).into();
        }
        let started = self.ask("guest-exec", exec)?;
        let pid = &started["pid"];
        let (mut pause, longest) = PAUSES;
        loop {
            let status = self.ask("guest-exec-status", json!({ "pid": pid }))?;
            let status: ExecStatus = serde_json::from_value(status)?;
            if status.exited {
                let decoded = |text: &str| Base64::decode_vec(text).map_err(io::Error::other);
                let code = status.exit_code;
                let code = code.or(status.signal.map(|signal| 128 + signal));
                return Ok(Ended {
                    code: code.unwrap_or(255),
                    stdout: decoded(&status.out_data)?,
                    stderr: decoded(&status.err_data)?,
                    truncated: status.out_truncated || status.err_truncated,
                });
            }
            if !wait(pause) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            pause = longest.min(pause * 2);
        }
    }

    fn ask(&mut self, command: &str, arguments: Value) -> io::Result<Value> {
        self.send(&json!({"execute": command, "arguments": arguments}))?;
        self.receive()
    }

    fn send(&mut self, message: &Value) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)
    }

    fn receive(&mut self) -> io::Result<Value> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut message: Value = serde_json::from_slice(&line)?;
        match message["error"]["desc"].as_str() {
            Some(error) => Err(io::Error::other(error.to_owned())),
            None => Ok(message["return"].take()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// The messages are those of qemu-ga 7.2, after the rest of an interrupted conversation.
    #[test]
    fn a_command_and_what_it_gave() {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("agent.sock")).unwrap();
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            let mut asked = Vec::new();
            let mut answer = |text: &[u8]| {
                let mut line = Vec::new();
                lines.read_until(b'\n', &mut line).unwrap();
                line.retain(|byte| *byte != DELIMITER);
                asked.push(serde_json::from_slice::<Value>(&line).unwrap());
                stream.write_all(text).unwrap();
            };
            let id = std::process::id();
            let sync = format!("{{\"return\": {{\"pid\": 1}}}}\n\u{0}{{\"return\": {id}}}\n");
            answer(
                &sync
                    .into_bytes()
                    .iter()
                    .map(|byte| if *byte == 0 { DELIMITER } else { *byte })
                    .collect::<Vec<_>>(),
            );
            answer(b"{\"return\": {\"pid\": 7}}\n");
            answer(b"{\"return\": {\"exited\": false}}\n");
            answer(b"{\"return\": {\"exitcode\": 3, \"out-data\": \"aGk=\", \"exited\": true}}\n");
            answer(b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such program\"}}\n");
            asked
        });
        let mut agent = Agent::connect(directory.path(), "agent.sock").unwrap();
        let command = ["cat", "-"].map(str::to_owned);
        let ended = agent.run(&command, Some(b"hi"), |_| true).unwrap();
        assert_eq!((ended.code, ended.stdout.as_slice()), (3, &b"hi"[..]));
        assert!(!ended.truncated);
        let error = agent.run(&command, None, |_| true).unwrap_err();
        assert_eq!(error.to_string(), "no such program");
        let asked = peer.join().unwrap();
        assert_eq!(asked[1]["arguments"]["input-data"], "aGk=");
        assert_eq!(asked[2]["arguments"]["pid"], 7);
    }
}

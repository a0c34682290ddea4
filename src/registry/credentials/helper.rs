//! `docker-credential-NAME`: programs that keep credentials for docker, podman and others.
//!
//! `get` reads a server from standard input and prints a JSON object, `store` reads such an object,
//! `erase` reads a server. Secrets go through pipes only.

use std::fmt;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use serde::Deserialize;

use super::Credential;
use crate::host::{Interrupt, find_program};
use crate::registry::RegistryError;

/// What a helper prints is not longer.
const LONGEST: u64 = 1 << 20;
/// The name under which helpers keep identity tokens.
const TOKEN_USER: &str = "<token>";
/// How helpers say that they do not know a server.
const NOT_FOUND: &str = "credentials not found";

/// A program that keeps credentials of a registry.
pub(super) struct Helper {
    name: String,
    registry: String,
    program: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

impl Helper {
    /// The program with a name, for a registry.
    pub(super) fn find(name: &str, registry: &str) -> Result<Self, RegistryError> {
        let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let program = name
            .chars()
            .all(fine)
            .then(|| find_program(&format!("docker-credential-{name}")));
        match program.flatten() {
            Some(program) => Ok(Self {
                name: name.to_owned(),
                registry: registry.to_owned(),
                program,
            }),
            None => Err(RegistryError::Credentials {
                registry: registry.to_owned(),
                message: format!(
                    "the program docker-credential-{name} that keeps them is not installed"
                ),
                help: "install it, or take its name out of credHelpers and credsStore in the file \
                       of credentials"
                    .to_owned(),
            }),
        }
    }

    /// The credential of a server; `None` when the helper has none.
    pub(super) fn get(
        &self,
        server: &str,
        interrupt: &Interrupt,
    ) -> Result<Option<Credential>, RegistryError> {
        let (success, output) = self.run("get", server.as_bytes(), interrupt)?;
        if !success {
            let text = String::from_utf8_lossy(&output).into_owned();
            return match text.contains(NOT_FOUND) {
                true => Ok(None),
                false => Err(self.refused(&text)),
            };
        }
        let answer: Answer = serde_json::from_slice(&output)
            .map_err(|_| self.failed("printed something else than a credential".to_owned()))?;
        Ok(match (answer.username.as_str(), answer.secret.as_str()) {
            (_, "") => None,
            (TOKEN_USER, _) => Some(Credential::Identity(answer.secret)),
            _ => Some(Credential::Password {
                user: answer.username,
                password: answer.secret,
            }),
        })
    }

    /// Keeps a name with a password.
    pub(super) fn store(
        &self,
        server: &str,
        user: &str,
        password: &str,
        interrupt: &Interrupt,
    ) -> Result<(), RegistryError> {
        let input = serde_json::json!({
            "ServerURL": server,
            "Username": user,
            "Secret": password,
        });
        let (success, output) = self.run("store", input.to_string().as_bytes(), interrupt)?;
        let text = String::from_utf8_lossy(&output).replace(password, "…");
        success.then_some(()).ok_or_else(|| self.refused(&text))
    }

    /// Forgets a server.
    pub(super) fn erase(&self, server: &str, interrupt: &Interrupt) -> Result<(), RegistryError> {
        let (success, output) = self.run("erase", server.as_bytes(), interrupt)?;
        let text = String::from_utf8_lossy(&output);
        success.then_some(()).ok_or_else(|| self.refused(&text))
    }

    /// Whether it succeeded, and what it printed.
    fn run(
        &self,
        action: &str,
        input: &[u8],
        interrupt: &Interrupt,
    ) -> Result<(bool, Vec<u8>), RegistryError> {
        let started = Command::new(&self.program)
            .arg(action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child =
            started.map_err(|error| self.failed(format!("cannot be started: {error}")))?;
        let (done_to, done) = sync_channel(1);
        if let Some(mut stdin) = child.stdin.take() {
            let input = input.to_vec();
            // A helper need not read what it does not want.
            std::thread::spawn(move || stdin.write_all(&input));
        }
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                let mut output = Vec::new();
                let read = stdout.take(LONGEST).read_to_end(&mut output);
                // Nobody may be there to hear it.
                let _ = done_to.send(read.map(|_| output));
            });
        }
        loop {
            match done.recv_timeout(Duration::from_millis(50)) {
                Ok(output) => {
                    let ended = child.wait();
                    return match (output, ended) {
                        (Ok(output), Ok(status)) => Ok((status.success(), output)),
                        (Err(error), _) | (_, Err(error)) => {
                            Err(self.failed(format!("cannot be read: {error}")))
                        }
                    };
                }
                Err(RecvTimeoutError::Timeout) if !interrupt.requested() => {}
                Err(_) => {
                    // It may be over already.
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(match interrupt.requested() {
                        true => RegistryError::Interrupted,
                        false => self.failed("cannot be read".to_owned()),
                    });
                }
            }
        }
    }

    fn failed(&self, why: String) -> RegistryError {
        RegistryError::Credentials {
            registry: self.registry.clone(),
            message: format!("{self} {why}"),
            help: format!("try \"{self} list\""),
        }
    }

    fn refused(&self, output: &str) -> RegistryError {
        let line = output.lines().next().unwrap_or_default().trim();
        let line: String = line.chars().filter(|c| !c.is_control()).take(200).collect();
        self.failed(match line.is_empty() {
            true => "failed".to_owned(),
            false => format!("failed: {line}"),
        })
    }
}

impl fmt::Display for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "docker-credential-{}", self.name)
    }
}

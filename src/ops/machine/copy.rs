//! Copying files into machines and out of them, as tar archives over SSH.
//!
//! Both ends run the same two scripts, each with the host's or the guest's `sh` and `tar`. What a
//! guest sends is not trusted: only the name that was asked for is unpacked, without owners, and
//! `tar` follows no link that came in the archive.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use serde::Serialize;

use super::super::Context;
use super::enter::{SshOptions, shell_words, ssh};
use super::find_machine;
use crate::checked::AccountName;
use crate::failure::{Failure, Kind};
use crate::host::{Interrupt, bare_command, process};
use crate::machine::MachineName;

/// Writes an archive of `$1` to standard output.
const SEND: &str = include_str!("copy/send.sh");
/// Unpacks the archive on standard input, whose only entry at the top is `$2`, to `$1`; or all of
/// it when `$2` is empty.
const RECEIVE: &str = include_str!("copy/receive.sh");

/// Where files come from, or go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A path in a machine; a relative one is below the account's home directory.
    Guest {
        machine: String,
        path: String,
    },
    Host(PathBuf),
    /// A tar archive on standard input or output.
    Stream,
}

impl Place {
    /// The place that a word names: `MACHINE:PATH`, `-`, or a path of this host. What has a `/`
    /// before its first `:` is a path of this host.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text == "-" {
            return Self::Stream;
        }
        match text.split_once(':') {
            Some((machine, path)) if machine.parse::<MachineName>().is_ok() => Self::Guest {
                machine: machine.to_owned(),
                path: if path.is_empty() { "." } else { path }.to_owned(),
            },
            _ => Self::Host(text.into()),
        }
    }
}

/// How to copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// The account in the guest; the image's when absent.
    pub user: Option<AccountName>,
}

/// Files that were copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copied {
    pub from: String,
    pub to: String,
}

/// Copies files and directories. One that is copied to a directory goes into it under its own
/// name; else it gets the name of the destination. Of a source that ends in `/.` only the content
/// is copied.
///
/// # Errors
/// Neither or each place is on this host, a machine is stopped, a file is missing, or one cannot be
/// written.
pub fn copy(
    context: &Context,
    from: &Place,
    to: &Place,
    options: &CopyOptions,
) -> Result<(), Failure> {
    let guest = |place: &Place| matches!(place, Place::Guest { .. });
    if !guest(from) && !guest(to) {
        return Err(
            Failure::usage("neither the source nor the destination is in a machine")
                .with_help("write one of them as MACHINE:PATH"),
        );
    }
    let name = match from {
        Place::Guest { path, .. } => base_name(path)?,
        Place::Host(path) => {
            if !path.exists() {
                return Err(Failure::unknown("file or directory", path.display()));
            }
            base_name(&path.to_string_lossy())?
        }
        Place::Stream => String::new(),
    };
    let mut send = end(context, from, options, SEND, None)?;
    let mut receive = end(context, to, options, RECEIVE, Some(&name))?;
    let mut ends = Vec::new();
    if let Some(send) = &mut send {
        send.stdin(Stdio::null());
        if receive.is_some() {
            send.stdout(Stdio::piped());
        }
        ends.push(End::start(send)?);
    }
    if let Some(receive) = &mut receive {
        if let Some(archive) = ends.first_mut().and_then(|end| end.child.stdout.take()) {
            receive.stdin(archive);
        }
        ends.push(End::start(receive.stdout(Stdio::null()))?);
    }
    // Else this process would keep the pipe open when the other end is gone.
    drop((send, receive));
    // The receiver first: a sender does not end before it. But what a sender complains of explains
    // what its receiver does.
    let mut failed = None;
    for end in ends.into_iter().rev() {
        let (status, said) = end.finish(&context.interrupt)?;
        if !status.success() {
            failed = Some(said);
        }
    }
    if context.interrupt.requested() {
        return Err(Failure::interrupted_with("the copy is incomplete"));
    }
    match failed {
        None => Ok(()),
        // Of a reader that has enough, `ssh` says nothing.
        Some(said) if said.is_empty() && *to == Place::Stream => Err(Failure::new(
            Kind::ReaderGone,
            "nobody reads standard output",
        )),
        Some(said) => Err(Failure::failed(format!(
            "cannot copy {} to {}",
            place_name(from),
            place_name(to)
        ))
        .with_output(said)),
    }
}

/// A running script, and what it says on standard error.
struct End {
    child: Child,
    said: JoinHandle<String>,
}

impl End {
    fn start(command: &mut Command) -> Result<Self, Failure> {
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Failure::io("start", "sh".as_ref()))?;
        let stderr = child.stderr.take();
        let read = move || {
            let mut text = Vec::new();
            if let Some(mut stderr) = stderr {
                // What is missing of a message is no other mistake.
                let _ = stderr.read_to_end(&mut text);
            }
            String::from_utf8_lossy(&text).into_owned()
        };
        Ok(Self {
            child,
            said: std::thread::spawn(read),
        })
    }

    fn finish(mut self, interrupt: &Interrupt) -> Result<(ExitStatus, Vec<String>), Failure> {
        let status = process::wait(&mut self.child, interrupt)
            .map_err(Failure::io("wait for", "sh".as_ref()))?;
        let said = self.said.join().unwrap_or_default();
        Ok((status, said.lines().map(str::to_owned).collect()))
    }
}

/// One end: a script in the guest or on this host; nothing for a stream.
fn end(
    context: &Context,
    place: &Place,
    options: &CopyOptions,
    script: &str,
    name: Option<&str>,
) -> Result<Option<Command>, Failure> {
    let words = |path: &str| {
        let words = ["sh", "-c", script, "vmfab cp", path].map(str::to_owned);
        let name = name.map(str::to_owned);
        words.into_iter().chain(name).collect::<Vec<String>>()
    };
    Ok(match place {
        Place::Stream => None,
        Place::Host(path) => {
            // Not an option of `tar`, and not one of `cd`.
            let path = match path.is_absolute() {
                true => path.clone(),
                false => Path::new(".").join(path),
            };
            let words = words(&path.to_string_lossy());
            let mut command = bare_command("/bin/sh");
            command.args(&words[1..]);
            Some(command)
        }
        Place::Guest { machine, path } => {
            let machine = find_machine(context, machine)?;
            let path = match path.starts_with('/') {
                true => path.clone(),
                false => format!("./{path}"),
            };
            let options = SshOptions {
                user: options.user.clone(),
                ..SshOptions::default()
            };
            Some(ssh(&machine, &options, &[shell_words(&words(&path))])?)
        }
    })
}

/// The name in the archive: that of the file, or `.` for the content of a directory.
fn base_name(path: &str) -> Result<String, Failure> {
    let trimmed = path.trim_end_matches('/');
    let last = trimmed.rsplit('/').next().unwrap_or_default();
    match last {
        "" | "." => Ok(".".to_owned()),
        ".." => Err(Failure::usage(format!("the source {path} has no name"))
            .with_help("name the directory itself, or end it in /. to copy its content")),
        name => Ok(name.to_owned()),
    }
}

/// As the user wrote it.
fn place_name(place: &Place) -> String {
    match place {
        Place::Guest { machine, path } => format!("{machine}:{path}"),
        Place::Host(path) => path.display().to_string(),
        Place::Stream => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let guest = |machine: &str, path: &str| Place::Guest {
            machine: machine.into(),
            path: path.into(),
        };
        assert_eq!(Place::parse("web:/var/log"), guest("web", "/var/log"));
        assert_eq!(Place::parse("web:"), guest("web", "."));
        assert_eq!(Place::parse("./a:b"), Place::Host("./a:b".into()));
        assert_eq!(Place::parse("-"), Place::Stream);
        assert_eq!(Place::parse("file"), Place::Host("file".into()));
    }

    #[test]
    fn names_in_the_archive() {
        for (path, name) in [("/var/log/", "log"), ("a", "a"), ("a/.", "."), ("/", ".")] {
            assert_eq!(base_name(path).unwrap(), name);
        }
        assert!(base_name("a/..").is_err());
    }
}

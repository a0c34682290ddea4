//! Commands in a guest, and files for it.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::build_machine::{BuildMachine, MOMENT, Report, open_log};
use super::error::failed;
use super::files::Looked;
use super::shell::{LOOK, STOP, WRITE};
use crate::derivation::{SOURCE_DATE_EPOCH, file_time};
use crate::failure::Failure;
use crate::host::process::{self, End, Finished};
use crate::machine::{after_loss, watched};
use crate::sandbox::DEFAULT_SECONDS;

/// What is in every environment; a command's own variables win. As in the sandbox, but for
/// `SYSTEMD_OFFLINE`: here the services run.
const ENVIRONMENT: [(&str, &str); 5] = [
    ("HOME", "/root"),
    ("LANG", "C.UTF-8"),
    (
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("TERM", "dumb"),
    ("USER", "root"),
];

/// With this code `ssh` ends when it has no connection, or lost it.
const LOST: i32 = 255;

/// Unpacks standard input. GNU's tar would put directories in the place of links to directories: a
/// system whose `/lib` is a link would not survive it.
const UNPACK: &str = "
if tar --version 2>/dev/null | grep -q GNU
then exec tar --keep-directory-symlink --xattrs --xattrs-include='*' -xpf -
else exec tar -xpf -
fi";

/// A command that root runs in a guest.
#[derive(Default)]
pub struct Command<'a> {
    /// What it is called in errors; its last argument when absent.
    pub label: Option<String>,
    /// The program and its arguments, such as `sh`, `-ec` and a script.
    pub argv: Vec<String>,
    /// Its variables, besides those of every command.
    pub env: BTreeMap<String, String>,
    /// Its directory, which is made when it is not there; `/` when empty.
    pub workdir: String,
    /// Its standard input, which is empty when absent.
    pub stdin: Option<&'a mut (dyn Read + Send)>,
    /// Wall time in seconds; as in the sandbox when absent.
    pub seconds: Option<u64>,
}

impl BuildMachine {
    /// Runs a command to its end. Its output goes line by line to the log and to the step. When its
    /// time is over or the user gives up it is ended with all that it started in its session. A
    /// daemon that it starts in another session must not keep the output open, or the step waits
    /// for it.
    ///
    /// # Errors
    /// The command fails, takes too long, or its guest is no more. Then the disk is in between, and
    /// the build machine is good for nothing but looking.
    pub fn run(&mut self, command: Command<'_>, report: &Report<'_>) -> Result<(), Failure> {
        self.touched = true;
        let last = || command.argv.last().cloned().unwrap_or_default();
        let name = command.label.clone().unwrap_or_else(last);
        let mut env: BTreeMap<String, String> = ENVIRONMENT
            .iter()
            .map(|&(name, value)| (name.into(), value.into()))
            .collect();
        env.insert("SOURCE_DATE_EPOCH".into(), SOURCE_DATE_EPOCH.to_string());
        env.extend(command.env);
        let mut words = vec!["env".to_owned(), "-i".to_owned()];
        words.extend(
            env.into_iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
        words.extend(command.argv);
        let directory = match command.workdir.as_str() {
            "" => "/",
            directory => directory,
        };
        let Some(line) = self.root.step(directory, &words) else {
            return Err(Failure::failed("the command is longer than 128 KiB")
                .with_help("put the script into a file and run the file"));
        };
        let limit = Duration::from_secs(command.seconds.unwrap_or(DEFAULT_SECONDS));
        let ended = self.end_of(&line, command.stdin, limit, &name, report);
        self.log_console(report)?;
        let Finished { end, tail } = ended?;
        let how = match end {
            end if end.success() => return Ok(()),
            End::TimedOut(limit) => {
                format!("took longer than its limit of {} s", limit.as_secs())
            }
            end => end.describe(),
        };
        Err(Failure::command(name, how, tail))
    }

    /// Runs a command line and sees to its end.
    fn end_of(
        &self,
        line: &str,
        input: Option<&mut (dyn Read + Send)>,
        limit: Duration,
        name: &str,
        report: &Report<'_>,
    ) -> Result<Finished, Failure> {
        let mut log = open_log(report)?;
        let mut process = self.remote(line);
        let (finished, trouble) = watched(&self.machine, report.interrupt, |stop| {
            process::run_fed(
                &mut process,
                input,
                &mut log,
                report.output,
                report.bounds(limit),
                stop,
            )
        })
        .map_err(Failure::of_step)?;
        if let Some(trouble) = trouble {
            return Err(failed(trouble.error(&self.machine, name.to_owned())));
        }
        let finished = finished.map_err(Failure::step_io("run ssh, logging to", report.log))?;
        // The code may also be the command's own.
        if matches!(finished.end, End::Exited(status) if status.code() == Some(LOST))
            && let Some(trouble) = after_loss(&self.machine, report.interrupt)
        {
            return Err(failed(trouble.error(&self.machine, name.to_owned())));
        }
        if matches!(finished.end, End::TimedOut(_) | End::TooMuchOutput(_)) {
            // The client is gone, and the command knows nothing of that.
            self.quiet(&self.root.script(STOP, &[]), None, report)?;
        }
        Ok(finished)
    }

    /// Unpacks a tar below `destination`, a directory that is made when it is not there.
    ///
    /// # Errors
    /// The archive cannot be read, or the guest cannot unpack it.
    pub fn extract(
        &mut self,
        archive: &mut (dyn Read + Send),
        destination: &str,
        report: &Report<'_>,
    ) -> Result<(), Failure> {
        let argv = ["sh", "-ec", UNPACK].map(str::to_owned).into();
        let command = Command {
            label: Some(format!("unpack files below {destination}")),
            argv,
            workdir: destination.to_owned(),
            stdin: Some(archive),
            ..Command::default()
        };
        self.run(command, report)
    }

    /// Asks what is where files are to be put: `questions` are for `look.sh`.
    pub(super) fn look(
        &self,
        mut questions: &[u8],
        report: &Report<'_>,
    ) -> Result<Looked, Failure> {
        let looked = Mutex::new(Looked::default());
        let output = |line: &str| {
            looked
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .add(line);
        };
        let asked = Report {
            // The answer is nothing to log.
            log: Path::new("/dev/null"),
            output: &output,
            ..*report
        };
        let line = self.root.script(LOOK, &[]);
        let finished = self.end_of(&line, Some(&mut questions), MOMENT, "look at files", &asked)?;
        if finished.end.success() {
            return Ok(looked.into_inner().unwrap_or_else(PoisonError::into_inner));
        }
        let said = |line: &String| !line.starts_with("vmfab:");
        Err(Failure::command(
            "look at the files that are there",
            finished.end.describe(),
            finished.tail.into_iter().filter(said).collect(),
        ))
    }

    /// Writes a file, in place of what is there. `mode` has the permission bits, `owner` is as for
    /// chown(1). Its time follows from its content when none is given.
    ///
    /// # Errors
    /// The guest cannot write it.
    pub fn write(
        &mut self,
        path: &str,
        mut content: &[u8],
        mode: u32,
        owner: &str,
        time: Option<i64>,
        report: &Report<'_>,
    ) -> Result<(), Failure> {
        self.touched = true;
        let mode = format!("{mode:04o}");
        let time = file_time(time, blake3::hash(content).as_bytes()).to_string();
        let line = self.root.script(WRITE, &[path, &mode, owner, &time]);
        let finished = self.quiet(&line, Some(&mut content), report)?;
        self.log_console(report)?;
        if finished.end.success() {
            return Ok(());
        }
        Err(Failure::command(
            format!("write {path}"),
            finished.end.describe(),
            finished.tail,
        ))
    }
}

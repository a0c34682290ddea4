//! Running a child process to its end: its output goes line by line to a log and to a callback, and
//! it is ended with its whole process group when the user gives up or its time is over.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};

use super::{Interrupt, Redactor, Secret};

/// Lines of output that are kept for error messages.
const TAIL_LINES: usize = 20;
/// What a process group gets between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(3);

/// How long a wait for something that cannot be polled sleeps.
const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// Sleeps a twentieth of a second; `false` at once when the user gives up.
#[must_use]
pub fn pause(interrupt: &Interrupt) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(interrupt.as_fd(), PollFlags::IN)];
    // A signal only makes the pause shorter.
    let _ = poll(&mut fds, Some(&PAUSE));
    !interrupt.requested()
}

/// Waits for a child that has the terminal; when the user gives up it is asked to end, with
/// SIGTERM.
///
/// # Errors
/// It cannot be waited for.
pub fn wait(child: &mut Child, interrupt: &Interrupt) -> io::Result<ExitStatus> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let mut fds = [
        PollFd::new(&pidfd, PollFlags::IN),
        PollFd::from_borrowed_fd(interrupt.as_fd(), PollFlags::IN),
    ];
    while let Err(error) = poll(&mut fds, None) {
        if error != rustix::io::Errno::INTR {
            return Err(error.into());
        }
    }
    if interrupt.requested() {
        // It may have ended meanwhile.
        let _ = kill_process(Pid::from_child(child), Signal::TERM);
    }
    child.wait()
}

/// How a child process ended.
#[derive(Debug)]
pub struct Finished {
    /// Why it is over.
    pub end: End,
    /// Its last lines of output.
    pub tail: Vec<String>,
}

/// Why a child process is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It ended by itself.
    Exited(ExitStatus),
    /// It was ended because the user gave up.
    Interrupted,
    /// It was ended because its time was over.
    TimedOut(Duration),
    /// It was ended because it wrote more than so many bytes.
    TooMuchOutput(u64),
}

impl End {
    /// Whether it ended by itself, and well.
    #[must_use]
    pub fn success(self) -> bool {
        matches!(self, Self::Exited(status) if status.success())
    }

    /// `exited with code 3`, `was killed by signal 9 (SIGKILL)`, `took longer than 30 s`.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::Exited(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exited with code {code}"),
                (None, Some(signal)) => format!("was killed by signal {signal}"),
                (None, None) => "ended for an unknown reason".to_owned(),
            },
            Self::Interrupted => "was interrupted".to_owned(),
            Self::TimedOut(limit) => format!("took longer than {} s", limit.as_secs()),
            Self::TooMuchOutput(limit) => format!(
                "wrote more than {} MiB of output (limits step-log of the configuration)",
                limit >> 20
            ),
        }
    }
}

/// What a child process may take before it is ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    pub time: Option<Duration>,
    /// Bytes of output.
    pub output: Option<u64>,
}

/// Runs `command` in a process group of its own, with `input` as its standard input. Standard
/// output and standard error go, as one stream, to `log` and line by line to `output`.
///
/// # Errors
/// The program cannot be started, or its output cannot be read or logged.
pub fn run(
    command: &mut Command,
    mut input: &[u8],
    log: &mut File,
    output: &(dyn Fn(&str) + Sync),
    bounds: Bounds,
    interrupt: &Interrupt,
) -> io::Result<Finished> {
    let reader: Option<&mut (dyn Read + Send)> = match input.is_empty() {
        true => None,
        false => Some(&mut input),
    };
    run_fed(command, reader, log, output, bounds, interrupt)
}

/// As [`run`], with a standard input that is read while the command runs.
///
/// # Errors
/// As for [`run`], and when the input cannot be read: then the command is ended, so that it does
/// not take a part for the whole.
pub fn run_fed(
    command: &mut Command,
    input: Option<&mut (dyn Read + Send)>,
    log: &mut File,
    output: &(dyn Fn(&str) + Sync),
    bounds: Bounds,
    interrupt: &Interrupt,
) -> io::Result<Finished> {
    run_hiding(command, input, &[], log, output, bounds, interrupt)
}

/// As [`run_fed`]. These secrets are in neither the log nor the lines.
///
/// # Errors
/// As for [`run_fed`].
pub fn run_hiding(
    command: &mut Command,
    input: Option<&mut (dyn Read + Send)>,
    secrets: &[Secret],
    log: &mut File,
    output: &(dyn Fn(&str) + Sync),
    bounds: Bounds,
    interrupt: &Interrupt,
) -> io::Result<Finished> {
    let (mut reader, writer) = io::pipe()?;
    command
        .process_group(0)
        .stdout(writer.try_clone()?)
        .stderr(writer);
    command.stdin(match input {
        None => Stdio::null(),
        Some(_) => Stdio::piped(),
    });
    let mut child = command.spawn()?;
    // The command holds the writing end: without this the pipe would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut lines = Lines {
        tail: VecDeque::new(),
        partial: Vec::new(),
        log,
        output,
        count: 0,
        redactor: Redactor::new(secrets),
    };
    let group = Pid::from_child(&child);
    let stdin = child.stdin.take();
    let end = std::thread::scope(|scope| {
        let feeder = stdin
            .zip(input)
            .map(|(stdin, input)| scope.spawn(move || feed(stdin, input, group)));
        let end = follow(&mut child, &mut reader, &mut lines, bounds, interrupt)
            .inspect_err(|_| end_group(&mut child));
        let fed = feeder.map_or(Ok(Ok(())), std::thread::ScopedJoinHandle::join);
        // What happened to the input was first.
        fed.unwrap_or_else(|_| Err(io::Error::other("the thread for the input ended")))?;
        end
    })?;
    lines.finish()?;
    Ok(Finished {
        end,
        tail: lines.tail.into(),
    })
}

/// Copies the input. When it cannot be read, the command is ended before it can see an end of it.
fn feed(mut stdin: ChildStdin, input: &mut dyn Read, group: Pid) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let _ = kill_process_group(group, Signal::KILL);
                return Err(error);
            }
        };
        match stdin.write_all(&buffer[..count]) {
            // A command need not read all that there is.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            result => result?,
        }
    }
}

fn follow(
    child: &mut Child,
    reader: &mut io::PipeReader,
    lines: &mut Lines<'_>,
    bounds: Bounds,
    interrupt: &Interrupt,
) -> io::Result<End> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let started = Instant::now();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let timeout = match bounds.time {
            Some(limit) => match limit.checked_sub(started.elapsed()) {
                Some(left) => Timespec::try_from(left).ok(),
                None => {
                    end_group(child);
                    return Ok(End::TimedOut(limit));
                }
            },
            None => None,
        };
        let mut fds = [
            PollFd::new(reader, PollFlags::IN),
            PollFd::new(&pidfd, PollFlags::IN),
            PollFd::from_borrowed_fd(interrupt.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let ready = fds.map(|fd| !fd.revents().is_empty());
        if ready[2] {
            end_group(child);
            return Ok(End::Interrupted);
        }
        if ready[0] {
            let count = reader.read(&mut buffer)?;
            lines.take(&buffer[..count])?;
            if let Some(most) = bounds.output
                && lines.count > most
            {
                end_group(child);
                return Ok(End::TooMuchOutput(most));
            }
            if count == 0 {
                return Ok(End::Exited(child.wait()?));
            }
        } else if ready[1] {
            // The child is over and the pipe is empty. What it left running in the background may
            // hold the pipe open; it does not outlive the step.
            let status = child.wait()?;
            let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
            return Ok(End::Exited(status));
        }
    }
}

/// Ends a process group: SIGTERM, and SIGKILL when that is not enough. Waits for the child.
fn end_group(child: &mut Child) {
    let group = Pid::from_child(child);
    let _ = kill_process_group(group, Signal::TERM);
    let asked = Instant::now();
    while asked.elapsed() < GRACE {
        if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = kill_process_group(group, Signal::KILL);
    let _ = child.wait();
}

struct Lines<'a> {
    tail: VecDeque<String>,
    partial: Vec<u8>,
    log: &'a mut File,
    output: &'a (dyn Fn(&str) + Sync),
    /// Bytes so far.
    count: u64,
    redactor: Redactor,
}

impl Lines<'_> {
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.count += bytes.len() as u64;
        let shown = self.redactor.pass(bytes);
        self.show(&shown)
    }

    fn show(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.log.write_all(bytes)?;
        for &byte in bytes {
            if byte == b'\n' || byte == b'\r' {
                self.line();
            } else if self.partial.len() < 4096 {
                self.partial.push(byte);
            }
        }
        Ok(())
    }

    fn line(&mut self) {
        let text = String::from_utf8_lossy(&self.partial).trim_end().to_owned();
        self.partial.clear();
        if text.is_empty() {
            return;
        }
        (self.output)(&text);
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(text);
    }

    fn finish(&mut self) -> io::Result<()> {
        let rest = self.redactor.finish();
        self.show(&rest)?;
        self.line();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn run_shell(
        script: &str,
        limit: Option<Duration>,
        interrupt: &Interrupt,
    ) -> (Finished, Vec<String>) {
        let seen = Mutex::new(Vec::new());
        let mut log = tempfile::tempfile().unwrap();
        let finished = run(
            Command::new("/bin/sh").args(["-c", script]),
            b"input",
            &mut log,
            &|line| seen.lock().unwrap().push(line.to_owned()),
            Bounds {
                time: limit,
                output: Some(10_000),
            },
            interrupt,
        )
        .unwrap();
        (finished, seen.into_inner().unwrap())
    }

    #[test]
    fn passes_lines_and_status() {
        let interrupt = Interrupt::new().unwrap();
        let (finished, seen) = run_shell(
            "cat; echo; echo two >&2; printf three; exit 3",
            None,
            &interrupt,
        );
        assert_eq!(seen, ["input", "two", "three"]);
        assert_eq!(finished.tail, seen);
        assert_eq!(finished.end.describe(), "exited with code 3");
    }

    #[test]
    fn input_is_read_while_the_command_runs() {
        struct Failing(usize);
        impl Read for Failing {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::InvalidData)?;
                buffer.fill(b'x');
                Ok(buffer.len())
            }
        }
        let interrupt = Interrupt::new().unwrap();
        let mut log = tempfile::tempfile().unwrap();
        let mut run = |script: &str, input: &mut (dyn Read + Send)| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            run_fed(
                &mut command,
                Some(input),
                &mut log,
                &|_| {},
                Bounds::default(),
                &interrupt,
            )
        };
        // More than pipes hold, in both directions.
        let finished = run("cat | wc -c", &mut io::repeat(b'x').take(3_000_000));
        assert_eq!(finished.unwrap().tail, ["3000000"]);
        assert!(
            run("read -r line", &mut io::repeat(b'\n'))
                .unwrap()
                .end
                .success()
        );
        let error = run("cat >/dev/null; echo whole", &mut Failing(3)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn does_not_wait_for_what_the_child_left_behind() {
        let interrupt = Interrupt::new().unwrap();
        let (finished, seen) = run_shell("sleep 1000 & echo done", None, &interrupt);
        assert!(finished.end.success());
        assert_eq!(seen, ["done"]);
    }

    #[test]
    fn ends_at_the_limit() {
        let interrupt = Interrupt::new().unwrap();
        let limit = Duration::from_millis(50);
        let (finished, _) = run_shell("sleep 1000", Some(limit), &interrupt);
        assert_eq!(finished.end, End::TimedOut(limit));
    }

    #[test]
    fn ends_when_it_writes_too_much() {
        let interrupt = Interrupt::new().unwrap();
        let (finished, seen) = run_shell("yes", None, &interrupt);
        assert_eq!(finished.end, End::TooMuchOutput(10_000));
        // What was in the pipe comes along.
        assert!(seen.len() < 100_000, "{}", seen.len());
    }

    #[test]
    fn ends_when_interrupted() {
        let interrupt = Interrupt::new().unwrap();
        let other = interrupt.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            other.request();
        });
        let (finished, _) = run_shell("sleep 1000", None, &interrupt);
        assert_eq!(finished.end, End::Interrupted);
        thread.join().unwrap();
    }
}

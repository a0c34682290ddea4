//! Adding an entry.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::{AuditLog, Deed, HASH, NOTHING, hash_of, parts};
use crate::host::file::{open_lock, read_text, try_lock};
use crate::text::without_logins;

/// How long another process may hold the log.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of the end of the file is read at first: more than an entry usually has.
const TAIL: u64 = 4 << 10;
/// The longest list of accounts that is read, in bytes.
const MAX_ACCOUNTS: u64 = 1 << 20;

/// An entry as it is written; its hash follows.
#[derive(Serialize)]
struct Line<'a> {
    number: u64,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    uid: u32,
    #[serde(flatten)]
    deed: &'a Deed,
    before: &'a str,
}

/// What the file ends with.
struct End {
    /// The length of its whole lines.
    length: u64,
    /// What a killed process left behind them.
    torn: u64,
    /// The number of the last entry.
    number: u64,
    hash: String,
}

impl AuditLog {
    /// Adds an entry. Returns how many bytes of a torn one were removed, if there were any.
    ///
    /// # Errors
    /// It cannot be written. The log is as it was.
    pub fn append(&self, deed: &Deed) -> io::Result<Option<u64>> {
        let open = || open_lock(&self.path, 0);
        let mut file = open().or_else(|error| match self.path.parent() {
            Some(directory) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(directory)?;
                open()
            }
            _ => Err(error),
        })?;
        wait_for(&file)?;
        let mut end = end(&mut file)?;
        let mut text = String::new();
        if end.torn > 0 {
            file.set_len(end.length)?;
            let bytes = end.torn;
            end.add(&Deed::LogRepaired { bytes }, &mut text)?;
        }
        end.add(deed, &mut text)?;
        file.seek(SeekFrom::Start(end.length))?;
        if let Err(error) = file.write_all(text.as_bytes()) {
            // A part of a line is worse than none.
            let _ = file.set_len(end.length);
            return Err(error);
        }
        Ok((end.torn > 0).then_some(end.torn))
    }
}

impl End {
    /// Writes the next entry behind `text`.
    fn add(&mut self, deed: &Deed, text: &mut String) -> io::Result<()> {
        // Somebody may have written any number there.
        self.number = self.number.saturating_add(1);
        let uid = rustix::process::getuid().as_raw();
        let content = serde_json::to_string(&Line {
            number: self.number,
            time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            user: user(uid),
            uid,
            deed,
            before: &self.hash,
        })?;
        // Addresses of repositories may have passwords.
        let mut content = without_logins(&content);
        content.pop();
        self.hash = hash_of(&content);
        *text += &format!("{content}{HASH}{}\"}}\n", self.hash);
        Ok(())
    }
}

/// Waits until no other process writes.
fn wait_for(file: &File) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    while !try_lock(file)? {
        if Instant::now() > until {
            let message = "another process holds it";
            return Err(io::Error::new(ErrorKind::TimedOut, message));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn end(file: &mut File) -> io::Result<End> {
    let meta = file.metadata()?;
    if !meta.is_file() {
        let message = "it is no regular file";
        return Err(io::Error::new(ErrorKind::InvalidInput, message));
    }
    let size = meta.len();
    let mut tail = TAIL;
    loop {
        let from = size.saturating_sub(tail);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        (&*file).take(tail).read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n');
        let whole = whole.map_or(0, |at| at + 1);
        let torn = (bytes.len() - whole) as u64;
        let last = bytes[..whole].strip_suffix(b"\n").unwrap_or_default();
        let begin = last.iter().rposition(|byte| *byte == b'\n');
        if begin.is_none() && from > 0 {
            tail *= 4;
            continue;
        }
        let last = &last[begin.map_or(0, |at| at + 1)..];
        let (number, hash) = match (whole, told(last)) {
            (0, _) => (0, NOTHING.to_owned()),
            (_, Some(told)) => told,
            // Somebody changed it. The chain goes on, and verification names that line.
            (_, None) => (lines(file)?, hash_of(&String::from_utf8_lossy(last))),
        };
        return Ok(End {
            length: size - torn,
            torn,
            number,
            hash,
        });
    }
}

/// The number and the hash of an entry.
fn told(line: &[u8]) -> Option<(u64, String)> {
    let line = str::from_utf8(line).ok()?;
    let (_, hash) = parts(line)?;
    let entry: serde_json::Value = serde_json::from_str(line).ok()?;
    Some((entry.get("number")?.as_u64()?, hash.to_owned()))
}

fn lines(file: &mut File) -> io::Result<u64> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes.iter().filter(|byte| **byte == b'\n').count() as u64)
}

/// What `/etc/passwd` calls a user: variables of the environment can say anything.
fn user(uid: u32) -> Option<String> {
    let accounts = read_text("/etc/passwd".as_ref(), MAX_ACCOUNTS).ok()?;
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

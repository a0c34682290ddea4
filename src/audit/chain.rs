//! Reading the log, and verifying that each entry follows the one before.

use std::fs;
use std::io::ErrorKind;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{AuditLog, NOTHING, hash_of, parts};
use crate::failure::Failure;

/// An entry that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub number: u64,
    /// In UTC, as RFC 3339 has it.
    pub time: String,
    /// Nothing when `/etc/passwd` had no such user.
    #[serde(default)]
    pub user: Option<String>,
    pub uid: u32,
    /// See [`Deed`](super::Deed); a newer vmfab may have more.
    pub deed: String,
    /// The hash of the entry before.
    pub before: String,
    pub hash: String,
    /// What belongs to the deed.
    #[serde(flatten)]
    pub about: Map<String, Value>,
}

/// The last entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Head {
    pub number: u64,
    pub hash: String,
}

/// Where the log is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Break {
    /// Counted from 1.
    pub line: usize,
    /// A phrase that goes on after the line.
    pub what: String,
}

/// The whole log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// Those that can be read.
    pub entries: Vec<Entry>,
    pub breaks: Vec<Break>,
    /// How many bytes of a last line were written before a process was killed.
    pub torn: usize,
}

impl AuditLog {
    /// Reads the log. One that is not there is empty.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self) -> Result<Chain, Failure> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(Chain::of(&bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Chain::default()),
            Err(error) => Err(Failure::of_io("read", &self.path, &error)),
        }
    }
}

impl Chain {
    fn of(bytes: &[u8]) -> Self {
        let whole = bytes.iter().rposition(|byte| *byte == b'\n');
        let whole = whole.map_or(0, |at| at + 1);
        let mut chain = Self {
            torn: bytes.len() - whole,
            ..Self::default()
        };
        let (mut number, mut before) = (0_u64, NOTHING.to_owned());
        let lines = bytes[..whole].strip_suffix(b"\n");
        let lines = lines.map(|lines| lines.split(|byte| *byte == b'\n'));
        for (index, line) in lines.into_iter().flatten().enumerate() {
            let text = String::from_utf8_lossy(line);
            let Some((content, entry)) = read(&text) else {
                chain.broken(index, "is no entry: somebody changed it");
                (number, before) = (number.saturating_add(1), hash_of(&text));
                continue;
            };
            if hash_of(content) != entry.hash {
                chain.broken(index, "has another hash than it says: somebody changed it");
            }
            match entry.number.checked_sub(number.saturating_add(1)) {
                Some(0) if entry.before == before => {}
                Some(0) => chain.broken(
                    index,
                    "does not follow the line before: somebody replaced one of them",
                ),
                Some(missing) => chain.broken(
                    index,
                    &format!("is entry {}: {missing} before it are missing", entry.number),
                ),
                None => chain.broken(
                    index,
                    &format!("is entry {}: it is not where it was written", entry.number),
                ),
            }
            (number, before) = (entry.number, entry.hash.clone());
            chain.entries.push(entry);
        }
        chain
    }

    fn broken(&mut self, index: usize, what: &str) {
        self.breaks.push(Break {
            line: index + 1,
            what: what.to_owned(),
        });
    }

    /// The last entry, whose hash stands for all before it.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.entries.last().map(|entry| Head {
            number: entry.number,
            hash: entry.hash.clone(),
        })
    }
}

fn read(line: &str) -> Option<(&str, Entry)> {
    let (content, _) = parts(line)?;
    Some((content, serde_json::from_str(line).ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::Deed;
    use super::*;
    use crate::host::Home;

    fn removed(machine: &str) -> Deed {
        Deed::MachineRemoved {
            machine: machine.to_owned(),
        }
    }

    /// A log with five entries, and its lines.
    fn five() -> (tempfile::TempDir, AuditLog, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        let log = AuditLog::of(&Home::at(directory.path()));
        for machine in ["a", "b", "c", "d", "e"] {
            assert_eq!(log.append(&removed(machine)).unwrap(), None);
        }
        let text = fs::read_to_string(&log.path).unwrap();
        let lines = text.lines().map(str::to_owned).collect();
        (directory, log, lines)
    }

    fn broken_lines(lines: &[String]) -> Vec<usize> {
        let chain = Chain::of((lines.join("\n") + "\n").as_bytes());
        chain.breaks.iter().map(|one| one.line).collect()
    }

    #[test]
    fn each_entry_follows_the_one_before() {
        let (_directory, log, lines) = five();
        let chain = log.read().unwrap();
        assert_eq!((chain.entries.len(), chain.breaks.len()), (5, 0));
        assert_eq!(chain.entries[4].about["machine"], "e");
        assert_eq!(chain.head().unwrap().number, 5);
        assert!(broken_lines(&lines).is_empty());
        assert!(
            AuditLog::of(&Home::at("/nowhere"))
                .read()
                .unwrap()
                .head()
                .is_none()
        );
    }

    #[test]
    fn what_somebody_did_to_a_line_is_found() {
        let (_directory, _, lines) = five();
        let with = |change: &dyn Fn(&mut Vec<String>)| {
            let mut lines = lines.clone();
            change(&mut lines);
            broken_lines(&lines)
        };
        assert_eq!(
            with(&|lines| lines[2] = lines[2].replace("\"c\"", "\"x\"")),
            [3]
        );
        assert_eq!(
            with(&|lines| lines[4] = lines[4].replace("\"e\"", "\"x\"")),
            [5]
        );
        assert_eq!(with(&|lines| lines[2] = "garbage".to_owned()), [3, 4]);
        assert_eq!(with(&|lines| drop(lines.remove(2))), [3]);
        assert_eq!(with(&|lines| drop(lines.drain(..2))), [1]);
        assert_eq!(with(&|lines| lines.swap(2, 3)), [3, 4, 5]);
        assert_eq!(with(&|lines| lines.push(lines[1].clone())), [6]);
        // With a hash made anew, the next line shows it.
        let replace = |lines: &mut Vec<String>| {
            let changed = lines[2].replace("\"c\"", "\"x\"");
            let (content, hash) = parts(&changed).unwrap();
            lines[2] = changed.replace(hash, &hash_of(content));
        };
        assert_eq!(with(&replace), [4]);
        // The end alone cannot show that something followed.
        assert!(with(&|lines| lines.truncate(3)).is_empty());
    }

    #[test]
    fn a_torn_line_is_removed_and_that_is_recorded() {
        let (_directory, log, lines) = five();
        let cut = &lines[4][..lines[4].len() / 2];
        let mut torn = lines[..4].join("\n");
        torn += "\n";
        torn += cut;
        fs::write(&log.path, &torn).unwrap();
        let chain = log.read().unwrap();
        assert_eq!((chain.entries.len(), chain.torn), (4, cut.len()));
        assert!(chain.breaks.is_empty());
        assert_eq!(log.append(&removed("f")).unwrap(), Some(cut.len() as u64));
        let chain = log.read().unwrap();
        assert_eq!((chain.entries.len(), chain.torn), (6, 0));
        assert!(chain.breaks.is_empty(), "{:?}", chain.breaks);
        assert_eq!(chain.entries[4].deed, "log-repaired");
        assert_eq!(chain.entries[4].about["bytes"], cut.len());
        // A file of nothing but a torn line.
        fs::write(&log.path, cut).unwrap();
        log.append(&removed("g")).unwrap();
        assert!(log.read().unwrap().breaks.is_empty());
    }

    #[test]
    fn the_log_goes_on_behind_what_somebody_changed() {
        let (_directory, log, _) = five();
        let mut file = fs::OpenOptions::new().append(true).open(&log.path).unwrap();
        file.write_all(b"{\"number\":6}\n").unwrap();
        log.append(&removed("f")).unwrap();
        let chain = log.read().unwrap();
        assert_eq!(chain.breaks.len(), 1, "{:?}", chain.breaks);
        assert_eq!(chain.breaks[0].line, 6);
        assert_eq!(chain.head().unwrap().number, 7);
        // With the highest number, too.
        let highest = format!("{{\"number\":{}}}\n", u64::MAX);
        file.write_all(highest.as_bytes()).unwrap();
        // An entry that is longer than what is read of the end.
        log.append(&removed(&"x".repeat(50_000))).unwrap();
        log.append(&removed("g")).unwrap();
        let breaks = log.read().unwrap().breaks;
        let lines: Vec<_> = breaks.iter().map(|found| found.line).collect();
        assert_eq!(lines, [6, 8], "{breaks:?}");
    }

    #[test]
    fn passwords_of_addresses_are_not_recorded() {
        let (_directory, log, _) = five();
        log.append(&Deed::SignatureMissing {
            what: "https://anna:secret@git.example/x".to_owned(),
            reason: "none".to_owned(),
        })
        .unwrap();
        let last = log.read().unwrap().entries.pop().unwrap();
        assert_eq!(last.about["what"], "https://git.example/x");
    }

    #[test]
    fn many_writers_make_one_chain() {
        let directory = tempfile::tempdir().unwrap();
        let log = AuditLog::of(&Home::at(directory.path()));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        log.append(&removed("m")).unwrap();
                    }
                });
            }
        });
        let chain = log.read().unwrap();
        assert_eq!((chain.entries.len(), chain.breaks.len()), (100, 0));
    }
}

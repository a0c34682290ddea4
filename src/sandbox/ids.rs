//! Which users and groups the files of a tree can have: those that the sandbox's user namespace
//! maps.
//!
//! As root of the host these are all; as root of a container those that the container has. A user
//! has its own id, which is root in the sandbox, and the subordinate ids of `/etc/subuid` and
//! `/etc/subgid`, which follow from 1 on, all ranges one after the other.

use std::fmt::{self, Write as _};
use std::io;

use rustix::process::{getgid, getuid};

/// A user needs this many: Debian's `nobody` is 65534.
pub(super) const NEEDED: u32 = 65_536;

/// A range of ids: those from `inside` on in the sandbox are those from `outside` on here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) inside: u32,
    pub(super) outside: u32,
    pub(super) count: u32,
}

/// The ids of one kind that there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map(pub(super) Vec<Range>);

/// The users and groups that a tree can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    pub(super) users: Map,
    pub(super) groups: Map,
}

/// Ids of users, or of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    User,
    Group,
}

/// Why a build cannot have the ids that it needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct IdsError {
    pub message: String,
    /// What to do next.
    pub help: String,
}

impl Ids {
    /// Those of sandboxes that this process starts.
    ///
    /// # Errors
    /// They are too few, or the files that say which there are cannot be read.
    pub fn of_sandboxes() -> Result<Self, IdsError> {
        if getuid().is_root() {
            return Self::of_this_process().map_err(|error| IdsError {
                message: format!("the user ids of this process cannot be read: {error}"),
                help: "mount /proc".to_owned(),
            });
        }
        Ok(Self {
            users: Kind::User.subordinate()?,
            groups: Kind::Group.subordinate()?,
        })
    }

    /// Those of this process's own namespace, as themselves.
    pub(super) fn of_this_process() -> io::Result<Self> {
        let map = |file| {
            let text = std::fs::read_to_string(file)?;
            Map::own(&text).ok_or_else(|| io::Error::other(format!("{file} says {text:?}")))
        };
        Ok(Self {
            users: map("/proc/self/uid_map")?,
            groups: map("/proc/self/gid_map")?,
        })
    }

    /// Whether files can belong to a user and a group.
    ///
    /// # Errors
    /// One of them cannot.
    pub fn check(&self, user: Option<u64>, group: Option<u64>) -> Result<(), IdsError> {
        let kinds = [
            ("user", user, &self.users, "subuid"),
            ("group", group, &self.groups, "subgid"),
        ];
        for (kind, id, map, file) in kinds {
            let Some(id) = id.filter(|&id| !map.holds(id)) else {
                continue;
            };
            return Err(IdsError {
                message: format!(
                    "{kind} id {id} does not exist in this build: it has the ids {map}"
                ),
                help: format!(
                    "build as root of the host, or get more ids: /etc/{file} says which ones a user has"
                ),
            });
        }
        Ok(())
    }
}

impl Kind {
    /// The subordinate ids of the user of this process, behind its own id. Several ranges count
    /// together.
    ///
    /// # Errors
    /// They are too few for the files of an image, or cannot be read: the help is the command that
    /// gives more.
    pub fn subordinate(self) -> Result<Map, IdsError> {
        let uid = getuid().as_raw();
        let (file, own) = match self {
            Self::User => ("/etc/subuid", uid),
            Self::Group => ("/etc/subgid", getgid().as_raw()),
        };
        let text = match std::fs::read_to_string(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(IdsError {
                    message: format!("{file} cannot be read: {error}"),
                    help: format!("make it readable for everybody: sudo chmod a+r {file}"),
                });
            }
            text => text.unwrap_or_default(),
        };
        let name = user_name(uid);
        let map = Map::subordinate(&text, &name, uid, own);
        match self.lacking(&map, &text, file, &name) {
            Some(error) => Err(error),
            None => Ok(map),
        }
    }

    /// What is wrong when a file gives a user too few.
    fn lacking(self, map: &Map, text: &str, file: &str, user: &str) -> Option<IdsError> {
        let needed = u64::from(NEEDED) - 1;
        let count = map.count() - 1;
        if count >= needed {
            return None;
        }
        let (first, last) = free_range(text, needed);
        let option = match self {
            Self::User => "--add-subuids",
            Self::Group => "--add-subgids",
        };
        Some(IdsError {
            message: format!(
                "{file} gives user \"{user}\" too few subordinate ids: {count}, and {needed} are needed"
            ),
            help: format!("sudo usermod {option} {first}-{last} {user}"),
        })
    }
}

/// A range that nobody has: behind all others of a file like `/etc/subuid`.
fn free_range(text: &str, least: u64) -> (u64, u64) {
    const FIRST: u64 = 100_000;
    let ends = text.lines().filter_map(|line| {
        let mut numbers = line.trim().split(':').skip(1).map(str::parse::<u64>);
        Some(numbers.next()?.ok()? + numbers.next()?.ok()?)
    });
    let first = ends.max().unwrap_or(FIRST).max(FIRST);
    (first, first + least.next_power_of_two() - 1)
}

/// Why a file of the tree could not get its owner: names the id when this namespace does not have
/// it.
pub(super) fn not_owned(error: io::Error, user: u64, group: u64) -> io::Error {
    match Ids::of_this_process().map(|ids| ids.check(Some(user), Some(group))) {
        Ok(Err(lacking)) => io::Error::new(io::ErrorKind::Unsupported, lacking),
        _ => error,
    }
}

impl Map {
    /// From `uid_map` or `gid_map` of a process. Format: first id inside, first id outside, count
    /// (user_namespaces(7)).
    fn own(text: &str) -> Option<Self> {
        let ranges = text.lines().map(|line| {
            let mut fields = line.split_whitespace();
            let inside = fields.next()?.parse().ok()?;
            let count = fields.nth(1)?.parse().ok()?;
            Some(Range {
                inside,
                outside: inside,
                count,
            })
        });
        ranges.collect::<Option<_>>().map(Self)
    }

    /// Root is `own`, then come the ranges of a file like `/etc/subuid`. Format:
    /// `name-or-uid:first:count`, one range a line (subuid(5)).
    fn subordinate(text: &str, name: &str, uid: u32, own: u32) -> Self {
        let mut ranges = vec![Range {
            inside: 0,
            outside: own,
            count: 1,
        }];
        let mut inside = 1_u32;
        for line in text.lines() {
            let mut fields = line.trim().split(':');
            let owner = fields.next().unwrap_or_default();
            let mut number = || fields.next()?.parse::<u32>().ok();
            let (Some(outside), Some(count)) = (number(), number()) else {
                continue;
            };
            // The largest number is no id.
            let count = count.min(u32::MAX - inside);
            if (owner == name || owner.parse() == Ok(uid)) && count > 0 {
                ranges.push(Range {
                    inside,
                    outside,
                    count,
                });
                inside += count;
            }
        }
        Self(ranges)
    }

    /// How many ids there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|range| u64::from(range.count)).sum()
    }

    fn holds(&self, id: u64) -> bool {
        self.0.iter().any(|range| {
            let first = u64::from(range.inside);
            (first..first + u64::from(range.count)).contains(&id)
        })
    }
}

/// `0 to 65535, 70000`
impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut spans: Vec<(u64, u64)> = Vec::new();
        for range in &self.0 {
            let first = u64::from(range.inside);
            let end = first + u64::from(range.count);
            match spans.last_mut() {
                Some(last) if last.1 == first => last.1 = end,
                _ => spans.push((first, end)),
            }
        }
        let mut text = String::new();
        for (first, end) in spans {
            let separator = if text.is_empty() { "" } else { ", " };
            match end - 1 {
                last if last == first => write!(text, "{separator}{first}")?,
                last => write!(text, "{separator}{first} to {last}")?,
            }
        }
        f.write_str(&text)
    }
}

fn user_name(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entry = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    entry
        .or_else(|| std::env::var("USER").ok())
        .unwrap_or_else(|| uid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ranges_of_a_user_follow_each_other() {
        let text = "other:100000:65536\nme:165536:10\nme:231072:65536\n1001:300000:65535\n# x\n";
        let of = |name, uid| Map::subordinate(text, name, uid, uid);
        let outside: Vec<_> = of("me", 5)
            .0
            .iter()
            .map(|r| (r.inside, r.outside))
            .collect();
        assert_eq!(outside, [(0, 5), (1, 165_536), (11, 231_072)]);
        assert_eq!(of("me", 5).to_string(), "0 to 65546");
        assert_eq!(of("nobody", 1001).count(), 65_536);
        assert_eq!(of("nobody", 5).to_string(), "0");
        let endless = Map::subordinate("me:1:4294967295\nme:1:4294967295", "me", 0, 0);
        assert_eq!(endless.count(), u64::from(u32::MAX));
    }

    #[test]
    fn who_has_too_few_is_told_the_command_that_gives_more() {
        let lacking = |text: &str| {
            let map = Map::subordinate(text, "me", 5, 5);
            Kind::Group.lacking(&map, text, "/etc/subgid", "me")
        };
        assert_eq!(lacking("me:100000:65535"), None);
        assert_eq!(
            lacking("me:100000:65000\nyou:165536:65536\nme:300000:535"),
            None
        );
        let error = lacking("me:100000:65000\nyou:165536:65536\nme:300000:534").unwrap();
        assert_eq!(
            error.message,
            "/etc/subgid gives user \"me\" too few subordinate ids: 65534, and 65535 are needed"
        );
        assert_eq!(error.help, "sudo usermod --add-subgids 300534-366069 me");
        assert_eq!(
            lacking("").unwrap().help,
            "sudo usermod --add-subgids 100000-165535 me"
        );
    }

    #[test]
    fn a_namespace_keeps_its_ids() {
        let host = Map::own("         0          0 4294967295\n").unwrap();
        assert!(host.holds(1_885_580_785) && !host.holds(u64::from(u32::MAX)));
        let container = Map::own("0 1000 1\n1 100000 65536\n").unwrap();
        assert_eq!(container.to_string(), "0 to 65536");
        assert_eq!(container.0[1].outside, 1);
        assert_eq!(Map::own("broken"), None);
    }

    #[test]
    fn an_id_that_cannot_be_held_is_named() {
        let map = || Map::own("0 0 65536").unwrap();
        let ids = Ids {
            users: map(),
            groups: map(),
        };
        assert_eq!(ids.check(Some(65_535), None), Ok(()));
        let error = ids.check(Some(0), Some(1_000_660_000)).unwrap_err();
        assert_eq!(
            error.message,
            "group id 1000660000 does not exist in this build: it has the ids 0 to 65535"
        );
    }
}

//! Command lines for a guest's shell. Pure.

/// Runs a command; see the file.
const RUN: &str = include_str!("run.sh");
const START: &str = include_str!("start.sh");
/// Ends the command that runs.
pub(super) const STOP: &str = include_str!("stop.sh");
/// Writes a file: path, mode, owner, time.
pub(super) const WRITE: &str = include_str!("write.sh");
/// Sets a line of a file: path, how the line begins, the line.
pub(super) const SET_LINE: &str = include_str!("line.sh");
/// Says which directories are there, and the accounts.
pub(super) const LOOK: &str = include_str!("look.sh");
/// Takes away what is of the machine: the list of what its identity is.
pub const CLEAN: &str = include_str!("clean.sh");

/// The longest command line: Linux takes no longer argument (`MAX_ARG_STRLEN`, 128 KiB with its
/// end), and the remote shell gets all of it as one.
const LONGEST: usize = (128 << 10) - 1;

/// How commands become root's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Root {
    /// The account is root.
    Is,
    /// By a program that asks for no password.
    By(&'static str),
}

impl Root {
    /// What is tried, in order. Each is right when its `test -r` says so.
    pub(super) const WAYS: [Self; 3] = [Self::Is, Self::By("sudo"), Self::By("doas")];

    /// A command line that runs a script as root, with arguments.
    pub(super) fn script(self, script: &str, arguments: &[&str]) -> String {
        let mut words = match self {
            Self::Is => Vec::new(),
            Self::By(program) => vec![program, "-n"],
        };
        words.extend(["sh", "-c", script, "vmfab"]);
        words.extend(arguments);
        let quoted: Vec<String> = words.into_iter().map(quoted).collect();
        format!("exec {}", quoted.join(" "))
    }

    /// A command line that runs a command as a step; nothing when it is too long for Linux.
    pub(super) fn step(self, directory: &str, command: &[String]) -> Option<String> {
        let mut arguments = vec![START, directory];
        arguments.extend(command.iter().map(String::as_str));
        Some(self.script(RUN, &arguments)).filter(|line| line.len() < LONGEST)
    }
}

/// A command line that runs a script as root, by whichever way there is.
#[must_use]
pub fn as_root(script: &str) -> String {
    let way = |root: Root| root.script(script, &[]);
    let [is, sudo, doas] = Root::WAYS.map(way);
    format!(
        "if [ \"$(id -u)\" = 0 ]; then {is}; fi; if sudo -n true 2>/dev/null; then {sudo}; fi; {doas}"
    )
}

/// A word as a POSIX shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines() {
        let line = Root::By("sudo").script("echo \"$1\"", &["it's", "", "a=b"]);
        assert_eq!(
            line,
            r#"exec sudo -n sh -c 'echo "$1"' vmfab 'it'\''s' '' a=b"#
        );
        assert!(Root::Is.step("/", &["x".repeat(LONGEST)]).is_none());
    }

    #[test]
    fn all_scripts_are_scripts() {
        for script in [
            RUN,
            START,
            STOP,
            WRITE,
            SET_LINE,
            LOOK,
            crate::machine::FREEZE,
            CLEAN,
        ] {
            for shell in ["sh", "bash"] {
                let checked = Command::new(shell).args(["-n", "-c", script]).output();
                let checked = checked.unwrap();
                assert!(checked.status.success(), "{checked:?}\n{script}");
            }
        }
    }

    #[test]
    fn what_goes_from_trees_goes_from_disks() {
        for pattern in crate::sandbox::REMOVED {
            let fixed = pattern.split('*').next().unwrap_or_default();
            let path = match fixed.strip_prefix("root/") {
                Some(name) => format!("\"$home/{name}\""),
                None => format!("/{fixed}"),
            };
            assert!(CLEAN.contains(&path), "{pattern}");
        }
        for path in crate::sandbox::EMPTIED {
            // All files there are emptied.
            let all = path.starts_with("var/log/") && CLEAN.contains("find /var/log ");
            assert!(all || CLEAN.contains(&format!(" : >/{path};")), "{path}");
        }
    }

    #[test]
    fn a_file_is_written_in_place_of_another() {
        use std::io::Write;
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let directory = tempfile::tempdir().unwrap();
        let meta = directory.path().metadata().unwrap();
        let owner = format!("{}:{}", meta.uid(), meta.gid());
        let write = |name: &str, mode: &str| {
            let path = directory.path().join(name);
            let path = path.to_str().unwrap();
            let mut child = Command::new("sh")
                .args(["-c", WRITE, "vmfab", path, mode, &owner, "1500000000"])
                .stdin(std::process::Stdio::piped())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap();
            // One that fails may be gone before it reads.
            let sent = child.stdin.take().unwrap().write_all(b"content");
            child.wait().unwrap().success() && sent.is_ok()
        };
        let path = directory.path().join("a b/c");
        for mode in ["0640", "0755"] {
            assert!(write("a b/c", mode));
            assert_eq!(std::fs::read(&path).unwrap(), b"content");
            let meta = path.metadata().unwrap();
            let found = meta.permissions().mode() & 0o7777;
            assert_eq!(format!("0{found:o}"), mode);
            assert_eq!(meta.mtime(), 1_500_000_000);
        }
        std::os::unix::fs::symlink("..", directory.path().join("link")).unwrap();
        assert!(write("link", "0644"));
        assert!(
            directory
                .path()
                .join("link")
                .symlink_metadata()
                .unwrap()
                .is_file()
        );
        assert!(!write("a b", "0644"));
        assert_eq!(
            std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1
        );
    }

    #[test]
    fn a_line_is_set_or_added() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("etc/hosts");
        let path = path.to_str().unwrap();
        for (line, expected) in [
            ("127.0.1.1 a", "127.0.1.1 a\n"),
            ("127.0.1.1 b", "127.0.1.1 b\n"),
            ("::1 c", "127.0.1.1 b\n::1 c\n"),
            ("A a\\tb", "127.0.1.1 b\n::1 c\nA a\\tb\n"),
        ] {
            let prefix = line.split(' ').next().unwrap();
            // Only root may give files away.
            let script = format!("chown() {{ :; }}\n{SET_LINE}");
            let status = std::process::Command::new("sh")
                .args(["-c", &script, "line", path, prefix, line])
                .status();
            assert!(status.unwrap().success());
            assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn words_are_read_back(words in prop::collection::vec("[^\\x00]{0,12}", 1..5)) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let line = Root::Is.script("printf '%s\\0' \"$@\"", &words);
            let output = Command::new("sh").args(["-c", &line]).output().unwrap();
            let expected: String = words.iter().map(|word| format!("{word}\0")).collect();
            prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
        }
    }
}

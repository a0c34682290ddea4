//! What this host has and lacks.

mod home;
mod machines;
mod sandbox;

pub use home::{Finding, FindingKind, HomeReport, NeededImage, fix, look};

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::host::{Home, Program, bare_command, free_space, is_full};
use crate::sandbox::Kind;

/// Free space below which a build is likely to fail, in bytes.
const LITTLE_SPACE: u64 = 5 << 30;

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name, for programs and people.
    pub name: String,
    /// What was found.
    pub state: State,
    /// What it is needed for.
    pub purpose: String,
    /// Path and version, or what is wrong.
    pub detail: String,
    /// The Debian package that would help.
    pub package: Option<String>,
    /// What to do, when that is not installing the package.
    pub help: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// All is well.
    Ok,
    /// Not needed by all; something is slower or not possible without it.
    Optional,
    /// Needed and not there.
    Missing,
}

/// All that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether nothing that is needed is missing.
    pub ok: bool,
    /// In the order in which they are shown.
    pub checks: Vec<Check>,
    /// The packages that bring all that is missing, sorted.
    pub packages: Vec<String>,
}

/// Looks at everything. Takes as long as the slowest program takes to tell its version.
#[must_use]
pub fn examine(home: &Home) -> Report {
    let root = rustix::process::geteuid().is_root();
    let mut checks = programs();
    let namespaces = sandbox::user_namespaces();
    let has_namespaces = namespaces.state == State::Ok;
    checks.push(namespaces);
    checks.extend(
        [("subuid", Kind::User), ("subgid", Kind::Group)]
            .map(|(name, ids)| sandbox::subordinate_ids(name, ids, root)),
    );
    if has_namespaces {
        checks.extend(sandbox::confinement(home));
    }
    checks.extend([machines::kvm(home), machines::uefi(), space(home)]);
    let mut packages: Vec<String> = checks
        .iter()
        .filter(|check| check.state == State::Missing)
        .filter_map(|check| check.package.clone())
        .collect();
    packages.sort();
    packages.dedup();
    Report {
        ok: checks.iter().all(|check| check.state != State::Missing),
        checks,
        packages,
    }
}

/// The programs that vmfab calls, with their versions.
#[must_use]
pub fn programs() -> Vec<Check> {
    let root = rustix::process::geteuid().is_root();
    std::thread::scope(|scope| {
        let threads = Program::ALL.map(|program| scope.spawn(move || self::program(program, root)));
        let programs = threads.into_iter().filter_map(|thread| thread.join().ok());
        programs.collect()
    })
}

impl Check {
    fn new(name: &str, purpose: &str, state: State, detail: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            state,
            purpose: purpose.to_owned(),
            detail: detail.into(),
            package: None,
            help: None,
        }
    }

    fn package(mut self, package: &str) -> Self {
        self.package = Some(package.to_owned());
        self
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

fn program(program: Program, root: bool) -> Check {
    let check = |state, detail| {
        Check::new(program.file_name(), program.purpose(), state, detail).package(program.package())
    };
    let optional = match program {
        Program::Newuidmap | Program::Newgidmap => root,
        Program::Swtpm | Program::Virtiofsd => true,
        _ => false,
    };
    match program.find() {
        Some(path) => {
            let version =
                version(program, &path).map_or_else(String::new, |text| format!(" ({text})"));
            check(State::Ok, format!("{}{version}", path.display()))
        }
        None if optional => check(State::Optional, "not installed".to_owned()),
        None => check(State::Missing, "not installed".to_owned()),
    }
}

/// The version that a program tells, when it does.
fn version(program: Program, path: &Path) -> Option<String> {
    let option = match program {
        Program::Mke2fs | Program::Ssh => "-V",
        // They have no such option.
        Program::Newuidmap | Program::Newgidmap => return None,
        _ => "--version",
    };
    let output = bare_command(path).arg(option).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    first_version(&String::from_utf8_lossy(&text))
}

/// The first word that looks like a version: `10.0.2`, `9.2p1`.
fn first_version(text: &str) -> Option<String> {
    text.split(|c: char| c.is_whitespace() || "_,()".contains(c))
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
        .map(str::to_owned)
}

fn space(home: &Home) -> Check {
    let root = home.root();
    let check = |state, detail| Check::new("free space", "the store", state, detail);
    let free = match free_space(root) {
        Ok(free) => free,
        Err(error) => return check(State::Optional, format!("{}: {error}", root.display())),
    };
    let gib = free as f64 / f64::from(1 << 30);
    let detail = format!("{gib:.1} GiB for {}", root.display());
    if is_full(root) {
        check(State::Missing, detail).help(format!(
            "no space left on {}: `vmfab store gc` removes what no image needs; or free some space, or set \
             VMFAB_HOME to a directory with more",
            root.display()
        ))
    } else if free < LITTLE_SPACE {
        check(State::Optional, detail)
            .help("an image takes 1 to 5 GiB: free some space, or set VMFAB_HOME elsewhere")
    } else {
        check(State::Ok, detail)
    }
}

/// The nearest directory that exists.
fn existing(path: &Path) -> PathBuf {
    path.ancestors()
        .find(|ancestor| ancestor.is_dir())
        .unwrap_or(Path::new("/"))
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        let texts = [
            ("mmdebstrap 1.3.1", "1.3.1"),
            ("qemu-img version 10.0.2 (Debian 1:10.0.2)", "10.0.2"),
            ("OpenSSH_9.2p1 Debian-2+deb12u3, OpenSSL 3.0.15", "9.2p1"),
            ("mke2fs 1.47.0 (5-Feb-2023)", "1.47.0"),
        ];
        for (text, version) in texts {
            assert_eq!(first_version(text).as_deref(), Some(version));
        }
        assert_eq!(first_version("usage: newuidmap PID"), None);
    }
}

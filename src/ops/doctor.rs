//! What this host has and lacks.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use crate::host::{Home, Program, find_program};
use crate::qemu::{FirmwareMissing, find_firmware};

/// Free space below which a build is likely to fail, in bytes.
const LITTLE_SPACE: u64 = 5 << 30;
/// Subordinate ids that a user needs to own every file of an image.
const IDS: u64 = 65_536;

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
    let mut checks: Vec<Check> = std::thread::scope(|scope| {
        let threads = Program::ALL.map(|program| scope.spawn(move || self::program(program, root)));
        let programs = threads.into_iter().filter_map(|thread| thread.join().ok());
        programs.collect()
    });
    checks.push(user_namespaces());
    checks.extend(
        [("subuid", "/etc/subuid"), ("subgid", "/etc/subgid")]
            .map(|(name, file)| subordinate_ids(name, Path::new(file), root)),
    );
    checks.extend([overlay(home), kvm(), uefi(), space(home)]);
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
    let only_without_root = matches!(program, Program::Newuidmap | Program::Newgidmap);
    match find_program(program.file_name()) {
        Some(path) => {
            let version =
                version(program, &path).map_or_else(String::new, |text| format!(" ({text})"));
            check(State::Ok, format!("{}{version}", path.display()))
        }
        None if only_without_root && root => check(State::Optional, "not installed".to_owned()),
        None => check(State::Missing, "not installed".to_owned()),
    }
}

/// The version that a program tells, when it does.
fn version(program: Program, path: &Path) -> Option<String> {
    let option = match program {
        Program::Mke2fs | Program::Ssh => "-V",
        // They have no such option.
        Program::Newuidmap | Program::Newgidmap | Program::SshKeygen => return None,
        _ => "--version",
    };
    let output = Command::new(path).arg(option).output().ok()?;
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

/// Tries what every step needs, as root, too: a user namespace with mounts of its own.
fn user_namespaces() -> Check {
    let check = |state, detail: String| {
        Check::new(
            "user namespaces",
            "the sandbox of build steps",
            state,
            detail,
        )
    };
    let failure = match in_namespace(&["true".as_ref()]) {
        Ok(()) => return check(State::Ok, "allowed".to_owned()),
        Err(failure) => failure,
    };
    let switches = [
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("user.max_user_namespaces", "0", "15000"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ];
    let blocking = switches.iter().find(|(key, bad, _)| {
        let file = format!("/proc/sys/{}", key.replace('.', "/"));
        std::fs::read_to_string(file).is_ok_and(|text| text.trim() == *bad)
    });
    match (failure, blocking) {
        (failure @ Failure::NoUnshare, _) => failure.check(&check),
        (_, Some((key, bad, good))) => check(State::Missing, format!("forbidden by {key}={bad}"))
            .help(format!("sudo sysctl -w {key}={good}")),
        (failure, None) => failure
            .check(&check)
            .help("in a container: run it privileged, or let it make user namespaces"),
    }
}

/// Why a try in a namespace failed.
enum Failure {
    NoUnshare,
    Failed(String),
}

impl Failure {
    fn check(self, check: &dyn Fn(State, String) -> Check) -> Check {
        match self {
            Self::NoUnshare => {
                check(State::Missing, "unshare is not installed".to_owned()).package("util-linux")
            }
            Self::Failed(why) => check(State::Missing, why),
        }
    }
}

/// Runs a command in a user namespace and a mount namespace of its own.
fn in_namespace(command: &[&OsStr]) -> Result<(), Failure> {
    let unshare = find_program("unshare").ok_or(Failure::NoUnshare)?;
    let output = Command::new(unshare)
        .args(["--map-root-user", "--mount"])
        .args(command)
        .output()
        .map_err(|error| Failure::Failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().next().unwrap_or("it failed without a word");
    Err(Failure::Failed(line.trim().to_owned()))
}

fn subordinate_ids(name: &str, file: &Path, root: bool) -> Check {
    let check = |state, detail: String| Check::new(name, "building without root", state, detail);
    if root {
        return check(State::Ok, "not needed as root".to_owned());
    }
    let uid = rustix::process::getuid().as_raw();
    let user = user_name(uid).unwrap_or_else(|| uid.to_string());
    let text = std::fs::read_to_string(file).unwrap_or_default();
    match subordinate_range(&text, &user, uid) {
        Some((first, count)) if count >= IDS => {
            check(State::Ok, format!("{count} ids from {first}"))
        }
        found => {
            let count = found.map_or(0, |(_, count)| count);
            let first = free_range(&text);
            let option = name.replace("sub", "--add-sub") + "s";
            check(
                State::Missing,
                format!(
                    "{} gives {user} {count} ids, {IDS} are needed",
                    file.display()
                ),
            )
            .help(format!(
                "sudo usermod {option} {first}-{} {user}",
                first + IDS - 1
            ))
        }
    }
}

/// Where a new range can begin: behind all others of a subuid(5) file.
fn free_range(text: &str) -> u64 {
    let ends = text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':').skip(1);
        Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
    });
    ends.max().unwrap_or(0).max(100_000)
}

/// The largest range that a subuid(5) file gives a user, by name or number.
fn subordinate_range(text: &str, user: &str, uid: u32) -> Option<(u64, u64)> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            (owner == user || owner == uid.to_string()).then_some(range)
        })
        .max_by_key(|(_, count)| *count)
}

fn user_name(uid: u32) -> Option<String> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    text.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        (fields.get(2)?.parse() == Ok(uid)).then(|| fields[0].to_owned())
    })
}

/// Tries to mount an overlay where steps will, with the options that they use: some file systems
/// cannot carry one.
fn overlay(home: &Home) -> Check {
    let check = |state, detail: String| {
        Check::new("overlayfs", "the sandbox of build steps", state, detail)
    };
    let place = existing(home.root());
    let scratch = match tempfile::Builder::new()
        .prefix(".doctor-")
        .tempdir_in(&place)
    {
        Ok(scratch) => scratch,
        Err(error) => {
            return check(
                State::Missing,
                format!("write {}: {error}", place.display()),
            )
            .help("set VMFAB_HOME to a directory that you can write to");
        }
    };
    let directory = |name: &str| scratch.path().join(name);
    for name in ["lower", "upper", "work", "merged"] {
        if let Err(error) = std::fs::create_dir(directory(name)) {
            let detail = format!("create a directory in {}: {error}", place.display());
            return check(State::Missing, detail);
        }
    }
    let mut options = OsString::from("userxattr,volatile");
    for name in ["lower", "upper", "work"] {
        options.push(format!(",{name}dir="));
        options.push(directory(name));
    }
    let target = directory("merged");
    let mount = ["mount", "-t", "overlay", "overlay", "-o"].map(OsStr::new);
    let command = [&mount[..], &[options.as_os_str(), target.as_os_str()]].concat();
    match in_namespace(&command) {
        Ok(()) => check(State::Ok, format!("works in {}", place.display())),
        Err(failure @ Failure::NoUnshare) => failure.check(&check),
        Err(failure) => failure
            .check(&check)
            .help("sudo modprobe overlay, or set VMFAB_HOME to a directory on ext4, xfs or btrfs"),
    }
}

fn kvm() -> Check {
    let check = |state, detail: String| {
        Check::new(
            "kvm",
            "fast machines (without it they run 10 to 20 times slower)",
            state,
            detail,
        )
    };
    let device = Path::new("/dev/kvm");
    let opened = std::fs::File::options().read(true).write(true).open(device);
    match opened {
        Ok(_) => check(State::Ok, "/dev/kvm can be opened".to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => check(
            State::Optional,
            "there is no /dev/kvm".to_owned(),
        )
        .help(
            "switch on virtualisation in the firmware, or nested virtualisation when this is a VM",
        ),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            check(State::Optional, "you may not open /dev/kvm".to_owned())
                .help("sudo usermod -aG kvm $USER, then log in again")
        }
        Err(error) => check(State::Optional, format!("open /dev/kvm: {error}")),
    }
}

fn uefi() -> Check {
    let check = |state, detail: String| {
        Check::new("uefi firmware", "booting with UEFI", state, detail)
            .package(FirmwareMissing::PACKAGE)
    };
    match find_firmware(Path::new("/")) {
        Ok(firmware) => check(State::Ok, firmware.code.display().to_string()),
        Err(_) => check(State::Optional, "not installed".to_owned()),
    }
}

fn space(home: &Home) -> Check {
    let place = existing(home.root());
    let check = |state, detail| Check::new("free space", "the store", state, detail);
    match rustix::fs::statvfs(&place) {
        Ok(stat) => {
            let free = stat.f_bavail * stat.f_frsize;
            let detail = format!(
                "{:.1} GiB for {}",
                free as f64 / f64::from(1 << 30),
                home.root().display()
            );
            if free < LITTLE_SPACE {
                check(State::Optional, detail)
                    .help("an image takes 1 to 5 GiB: free some space, or set VMFAB_HOME elsewhere")
            } else {
                check(State::Ok, detail)
            }
        }
        Err(error) => check(State::Optional, format!("{}: {error}", place.display())),
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

    #[test]
    fn subordinate_ids_belong_to_a_name_or_a_number() {
        let text = "root:1:9\nanna:100000:65536\nanna:300000:10\n1001:200000:65536\nbroken\n";
        assert_eq!(
            subordinate_range(text, "anna", 1000),
            Some((100_000, 65_536))
        );
        assert_eq!(
            subordinate_range(text, "ben", 1001),
            Some((200_000, 65_536))
        );
        assert_eq!(subordinate_range(text, "eve", 1002), None);
        assert_eq!(free_range(text), 300_010);
        assert_eq!(free_range(""), 100_000);
    }
}

//! The programs of the host that vmfab calls, and the Debian packages that have them.

use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The file of this vmfab, which runs as a helper, too.
///
/// # Errors
/// It was replaced or removed.
pub fn this_program() -> Result<PathBuf, Failure> {
    let path = std::env::current_exe().ok().filter(|path| path.exists());
    path.ok_or_else(|| {
        Failure::missing("the file of the running vmfab is gone")
            .with_help("something replaced vmfab while it ran: run the command again")
    })
}

/// A program that vmfab calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// Makes Debian and Ubuntu root filesystems.
    Mmdebstrap,
    Bwrap,
    /// Maps subordinate user ids.
    Newuidmap,
    /// Maps subordinate group ids.
    Newgidmap,
    /// Makes ext4 file systems.
    Mke2fs,
    /// Converts disk images.
    QemuImg,
    /// Runs machines.
    QemuSystem,
    /// Opens sessions in machines.
    Ssh,
    /// Signs with keys in agents and tokens.
    SshKeygen,
    /// Verifies OpenPGP signatures.
    Gpgv,
    /// Emulates a TPM.
    Swtpm,
    /// Serves shared directories, the one in Rust.
    Virtiofsd,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Mmdebstrap,
        Self::Bwrap,
        Self::Newuidmap,
        Self::Newgidmap,
        Self::Mke2fs,
        Self::QemuImg,
        Self::QemuSystem,
        Self::Ssh,
        Self::SshKeygen,
        Self::Gpgv,
        Self::Swtpm,
        Self::Virtiofsd,
    ];

    /// The file name to look for.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Mmdebstrap => "mmdebstrap",
            Self::Bwrap => "bwrap",
            Self::Newuidmap => "newuidmap",
            Self::Newgidmap => "newgidmap",
            Self::Mke2fs => "mke2fs",
            Self::QemuImg => "qemu-img",
            #[cfg(target_arch = "x86_64")]
            Self::QemuSystem => "qemu-system-x86_64",
            #[cfg(not(target_arch = "x86_64"))]
            Self::QemuSystem => "qemu-system-aarch64",
            Self::Ssh => "ssh",
            Self::SshKeygen => "ssh-keygen",
            Self::Gpgv => "gpgv",
            Self::Swtpm => "swtpm",
            Self::Virtiofsd => "virtiofsd",
        }
    }

    /// Where distributions put it besides the directories of programs.
    const fn places(self) -> &'static [&'static str] {
        match self {
            // `/usr/lib/qemu` has an old one in C, which needs root.
            Self::Virtiofsd => &[
                "/usr/libexec/virtiofsd",
                "/usr/lib/virtiofsd",
                "/usr/lib/virtiofsd/virtiofsd",
            ],
            _ => &[],
        }
    }

    /// Its path, when it is installed.
    #[must_use]
    pub fn find(self) -> Option<PathBuf> {
        let mut places = self.places().iter().map(PathBuf::from);
        find_program(self.file_name()).or_else(|| places.find(|path| is_executable(path)))
    }

    /// The Debian package that has it.
    #[must_use]
    pub const fn package(self) -> &'static str {
        match self {
            Self::Mmdebstrap => "mmdebstrap",
            Self::Bwrap => "bubblewrap",
            Self::Newuidmap | Self::Newgidmap => "uidmap",
            Self::Mke2fs => "e2fsprogs",
            Self::QemuImg => "qemu-utils",
            #[cfg(target_arch = "x86_64")]
            Self::QemuSystem => "qemu-system-x86",
            #[cfg(not(target_arch = "x86_64"))]
            Self::QemuSystem => "qemu-system-arm",
            Self::Ssh | Self::SshKeygen => "openssh-client",
            Self::Gpgv => "gpgv",
            Self::Swtpm => "swtpm",
            Self::Virtiofsd => "virtiofsd",
        }
    }

    /// What vmfab needs it for, a phrase.
    #[must_use]
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::Mmdebstrap => "bootstrap steps",
            Self::Bwrap => "the sandbox of build steps",
            Self::Newuidmap | Self::Newgidmap => "building without root",
            Self::Mke2fs => "making disks",
            Self::QemuImg => "reading and writing qcow2, vmdk, vhd and vhdx files",
            Self::QemuSystem => "running machines",
            Self::Ssh => "entering machines",
            Self::SshKeygen => "signing with keys in agents and tokens",
            Self::Gpgv => "signatures of checksum lists",
            Self::Swtpm => "machines with a TPM",
            Self::Virtiofsd => "shared directories of guests without 9p",
        }
    }
}

/// A program that is needed and not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not installed (needed for {})", .0.file_name(), .0.purpose())]
pub struct MissingProgram(pub Program);

impl From<MissingProgram> for Failure {
    fn from(missing: MissingProgram) -> Self {
        missing_programs(&[missing])
    }
}

/// The failure of what needs these programs; there is at least one.
#[must_use]
pub fn missing_programs(missing: &[MissingProgram]) -> Failure {
    let message = match missing {
        [one] => one.to_string(),
        several => {
            let names: Vec<_> = several.iter().map(|one| one.0.file_name()).collect();
            format!("{} are not installed", names.join(", "))
        }
    };
    let packages = missing.iter().map(|one| one.0.package());
    Failure::missing(message).with_help(format!("install what is missing: {}", apt_get(packages)))
}

/// The command that installs Debian packages; duplicates are dropped.
pub fn apt_get<'a>(packages: impl Iterator<Item = &'a str>) -> String {
    let packages: std::collections::BTreeSet<_> = packages.collect();
    let list: Vec<_> = packages.into_iter().collect();
    format!("sudo apt-get install {}", list.join(" "))
}

/// The path of a program, from `PATH` and the directories that administrators' programs are in.
///
/// # Errors
/// It is in none of them.
pub fn require(program: Program) -> Result<PathBuf, MissingProgram> {
    program.find().ok_or(MissingProgram(program))
}

/// Looks for an executable file by name in `PATH`, `/usr/sbin` and `/sbin`.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

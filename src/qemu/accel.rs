//! Which acceleration runs a machine, and what trying it has shown.
//!
//! Whether hardware acceleration works is only known by trying: `/dev/kvm` may open and QMP's
//! `query-kvm` say "present" on hosts where every guest dies. So `auto` tries the fast way first,
//! and what a try has shown is remembered for this host kernel and this QEMU.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accel {
    /// The processor, through Linux.
    Kvm,
    /// The processor, through macOS.
    Hvf,
    /// QEMU's own translator: works everywhere, and is slow.
    Tcg,
}

impl Accel {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Hvf => "hvf",
            Self::Tcg => "tcg",
        }
    }

    /// The processor that the guest sees: the host's, or all that TCG can do but five-level paging,
    /// which makes each miss of the translation cache dearer and gains nothing.
    pub(super) const fn cpu_model(self) -> &'static str {
        match self {
            Self::Kvm | Self::Hvf => "host",
            Self::Tcg => "max,la57=off",
        }
    }

    /// The kernel command line of a guest. On a busy host a guest under TCG gets its first timer
    /// interrupts late; Linux takes the timer for broken then, and panics. Under KVM it knows
    /// better. Source: `timer_irq_works` in `arch/x86/kernel/apic/io_apic.c`.
    pub(super) fn kernel_arguments(self, given: &str) -> String {
        match self {
            Self::Tcg if cfg!(target_arch = "x86_64") => format!("{given} no_timer_check"),
            _ => given.to_owned(),
        }
    }
}

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccelChoice {
    /// The fastest one that works.
    #[default]
    Auto,
    /// KVM or an error.
    Kvm,
    /// HVF or an error.
    Hvf,
    Tcg,
}

impl AccelChoice {
    /// As options and files say it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Kvm => "kvm",
            Self::Hvf => "hvf",
            Self::Tcg => "tcg",
        }
    }

    /// What to try first. `known_bad` says that an earlier try of hardware acceleration failed.
    ///
    /// # Errors
    /// What was asked for by name cannot even be opened.
    pub fn first(self, known_bad: bool) -> Result<Accel, Failure> {
        match self {
            Self::Tcg => Ok(Accel::Tcg),
            Self::Kvm => open_kvm().map(|()| Accel::Kvm).map_err(|error| {
                Failure::missing(format!("cannot use KVM: open /dev/kvm: {error}")).with_help(
                    "your user needs read and write access to /dev/kvm (sudo adduser $USER kvm, \
                     and log in again); --accel tcg does without, and is slower",
                )
            }),
            Self::Hvf if cfg!(target_os = "macos") => Ok(Accel::Hvf),
            Self::Hvf => Err(Failure::missing("cannot use HVF: it exists only on macOS")
                .with_help("leave out --accel: vmfab then uses the fastest that works")),
            Self::Auto if known_bad => Ok(Accel::Tcg),
            Self::Auto if cfg!(target_os = "macos") => Ok(Accel::Hvf),
            Self::Auto => Ok(open_kvm().map_or(Accel::Tcg, |()| Accel::Kvm)),
        }
    }
}

fn open_kvm() -> io::Result<()> {
    fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .map(drop)
}

/// Whether what QEMU printed says that KVM failed: "KVM internal error" of a dying guest, "failed
/// to set MSR" and the like at the start.
#[must_use]
pub fn kvm_failed(stderr: &str) -> bool {
    let text = stderr.to_ascii_lowercase();
    text.contains("kvm") || text.contains("failed to set msr")
}

/// A file that says, by being there, that hardware acceleration was tried and failed here.
///
/// Its name has the kernel's release and the QEMU binary's size and time of change, not its
/// version, because asking for the version costs a run of QEMU. So it is tried again after an
/// upgrade of either.
#[derive(Debug, Clone)]
pub struct ProbeFile(PathBuf);

impl ProbeFile {
    /// The file for this host and the QEMU at `program`, in the directory `probes`.
    ///
    /// # Errors
    /// `program` is not there.
    pub fn new(probes: &Path, program: &Path) -> io::Result<Self> {
        let meta = fs::metadata(program)?;
        let release = rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned();
        Ok(Self(probes.join(format!(
            "accel-failed-{release}-{}-{}",
            meta.size(),
            meta.mtime()
        ))))
    }

    /// Whether a try failed.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.0.exists()
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Remembers that a try failed, and why.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn remember(&self, why: &str) -> io::Result<()> {
        if let Some(parent) = self.0.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&self.0, format!("{why}\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_comes_first() {
        assert_eq!(AccelChoice::Tcg.first(false).unwrap(), Accel::Tcg);
        assert_eq!(AccelChoice::Auto.first(true).unwrap(), Accel::Tcg);
        if cfg!(target_os = "linux") {
            let error = AccelChoice::Hvf.first(false).unwrap_err();
            assert_eq!(error.to_string(), "cannot use HVF: it exists only on macOS");
        }
    }

    #[test]
    fn failures_of_kvm_are_recognised() {
        assert!(kvm_failed(
            "KVM internal error. Suberror: 1\nemulation failure"
        ));
        assert!(kvm_failed(
            "qemu-system-x86_64: error: failed to set MSR 0x10a to 0xc000069"
        ));
        assert!(!kvm_failed(
            "qemu-system-x86_64: -netdev user: Could not set up host forwarding rule"
        ));
    }

    #[test]
    fn another_qemu_is_another_probe() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("qemu");
        fs::write(&program, "1").unwrap();
        let probes = directory.path().join("probes");
        let first = ProbeFile::new(&probes, &program).unwrap();
        assert!(!first.failed());
        first.remember("it died").unwrap();
        assert!(ProbeFile::new(&probes, &program).unwrap().failed());
        fs::write(&program, "12").unwrap();
        assert!(!ProbeFile::new(&probes, &program).unwrap().failed());
    }
}

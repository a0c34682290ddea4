//! What machines run with.

use std::path::Path;

use super::{Check, State};
use crate::host::{Home, Program, find_program};
use crate::qemu::{FirmwareMissing, ProbeFile, find_firmware};

/// Whether KVM can be opened, and did not fail when it was tried.
pub(super) fn kvm(home: &Home) -> Check {
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
        Ok(_) => match tried(home).filter(ProbeFile::failed) {
            Some(probe) => check(
                State::Optional,
                "guests died under KVM on this host".to_owned(),
            )
            .help(format!("to try again: rm {}", probe.path().display())),
            None => check(State::Ok, "/dev/kvm can be opened".to_owned()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            check(State::Optional, "/dev/kvm does not exist".to_owned()).help(
                "enable virtualisation in the firmware, or nested virtualisation if this is a VM",
            )
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            check(State::Optional, "you may not open /dev/kvm".to_owned())
                .help("sudo usermod -aG kvm $USER, then log in again")
        }
        Err(error) => check(State::Optional, format!("open /dev/kvm: {error}")),
    }
}

/// Firmware for machines that boot with UEFI.
pub(super) fn uefi() -> Check {
    let check = |state, detail: String| {
        Check::new("uefi firmware", "booting with UEFI", state, detail)
            .package(FirmwareMissing::PACKAGE)
    };
    match find_firmware(Path::new("/")) {
        Ok(firmware) => check(State::Ok, firmware.code.display().to_string()),
        Err(_) => check(State::Optional, "not installed".to_owned()),
    }
}

/// What is remembered of earlier tries.
fn tried(home: &Home) -> Option<ProbeFile> {
    let program = find_program(Program::QemuSystem.file_name())?;
    ProbeFile::new(&home.probes(), &program).ok()
}

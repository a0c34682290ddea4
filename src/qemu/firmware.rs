//! UEFI firmware for machines: the files of OVMF.

use std::path::{Path, PathBuf};

/// The two halves of a UEFI firmware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    /// Its code, shared by all machines.
    pub code: PathBuf,
    /// Its empty variables, of which each machine gets a copy.
    pub vars: PathBuf,
}

/// No firmware is installed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no UEFI firmware (OVMF) is installed; machines with UEFI need it")]
pub struct FirmwareMissing;

impl FirmwareMissing {
    /// The Debian package that has it.
    pub const PACKAGE: &'static str = "ovmf";
}

/// Where distributions put the code and the variables that belong to it: Debian and Ubuntu, Fedora,
/// Arch, openSUSE, Homebrew. The variants without secure boot, the 4 MiB ones first.
const PLACES: [(&str, &str); 7] = [
    (
        "usr/share/OVMF/OVMF_CODE_4M.fd",
        "usr/share/OVMF/OVMF_VARS_4M.fd",
    ),
    ("usr/share/OVMF/OVMF_CODE.fd", "usr/share/OVMF/OVMF_VARS.fd"),
    (
        "usr/share/edk2/ovmf/OVMF_CODE.fd",
        "usr/share/edk2/ovmf/OVMF_VARS.fd",
    ),
    (
        "usr/share/edk2/x64/OVMF_CODE.4m.fd",
        "usr/share/edk2/x64/OVMF_VARS.4m.fd",
    ),
    (
        "usr/share/qemu/ovmf-x86_64-code.bin",
        "usr/share/qemu/ovmf-x86_64-vars.bin",
    ),
    (
        "opt/homebrew/share/qemu/edk2-x86_64-code.fd",
        "opt/homebrew/share/qemu/edk2-i386-vars.fd",
    ),
    (
        "usr/local/share/qemu/edk2-x86_64-code.fd",
        "usr/local/share/qemu/edk2-i386-vars.fd",
    ),
];

/// Finds a firmware below `root`, which is `/` but in tests.
///
/// # Errors
/// None is installed.
pub fn find_firmware(root: &Path) -> Result<Firmware, FirmwareMissing> {
    PLACES
        .iter()
        .map(|(code, vars)| Firmware {
            code: root.join(code),
            vars: root.join(vars),
        })
        .find(|firmware| firmware.code.is_file() && firmware.vars.is_file())
        .ok_or(FirmwareMissing)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn code_needs_its_variables() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(find_firmware(root.path()), Err(FirmwareMissing));
        let put = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        put("usr/share/OVMF/OVMF_CODE_4M.fd");
        assert_eq!(find_firmware(root.path()), Err(FirmwareMissing));
        put("usr/share/edk2/ovmf/OVMF_CODE.fd");
        put("usr/share/edk2/ovmf/OVMF_VARS.fd");
        let found = find_firmware(root.path()).unwrap();
        assert_eq!(
            found.code,
            root.path().join("usr/share/edk2/ovmf/OVMF_CODE.fd")
        );
    }
}

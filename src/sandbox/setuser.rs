//! The smallest program that becomes a user: bubblewrap starts it, and it starts the process.
//!
//! bubblewrap switches users only in a namespace in which nobody else exists, and a tree need not
//! have a program that does it (setpriv, su). So this one comes along, as a file in memory. It
//! closes that file, sets supplementary groups, group and user, and executes its first argument
//! with the others. If it cannot, it ends with code 126.
//!
//! It is an ELF file of one segment: headers, code, and four bytes each for descriptor, number of
//! supplementary groups, group, user, supplementary groups.

use std::os::fd::RawFd;

use serde::{Deserialize, Serialize};

/// Who a process becomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Supplementary groups.
    pub(super) groups: Vec<u32>,
}

/// Where the segment is in memory.
const BASE: u64 = 0x40_0000;
/// Sizes of the ELF header and of the only program header.
const HEADERS: u64 = 64 + 56;

/// ```text
/// mov  edi, [data]        mov eax, 3 (close)       syscall
/// lea  rsi, [data+16]     mov edi, [data+4]        mov eax, 116 (setgroups)  syscall
/// test eax, eax           jnz fail
/// mov  edi, [data+8]      mov eax, 106 (setgid)    syscall
/// test eax, eax           jnz fail
/// mov  edi, [data+12]     mov eax, 105 (setuid)    syscall
/// test eax, eax           jnz fail
/// mov  rcx, [rsp]         mov rdi, [rsp+16]        lea rsi, [rsp+24]
/// lea  rdx, [rsp+8*rcx+16]                         mov eax, 59 (execve)      syscall
/// fail: mov edi, 126      mov eax, 60 (exit)       syscall
/// data:
/// ```
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const CODE: &[u8] = &[
    0x8b, 0x3d, 0x67, 0, 0, 0, 0xb8, 3, 0, 0, 0, 0x0f, 0x05,
    0x48, 0x8d, 0x35, 0x69, 0, 0, 0, 0x8b, 0x3d, 0x57, 0, 0, 0, 0xb8, 116, 0, 0, 0, 0x0f, 0x05,
    0x85, 0xc0, 0x75, 0x3c,
    0x8b, 0x3d, 0x4a, 0, 0, 0, 0xb8, 106, 0, 0, 0, 0x0f, 0x05, 0x85, 0xc0, 0x75, 0x2b,
    0x8b, 0x3d, 0x3d, 0, 0, 0, 0xb8, 105, 0, 0, 0, 0x0f, 0x05, 0x85, 0xc0, 0x75, 0x1a,
    0x48, 0x8b, 0x0c, 0x24, 0x48, 0x8b, 0x7c, 0x24, 0x10, 0x48, 0x8d, 0x74, 0x24, 0x18,
    0x48, 0x8d, 0x54, 0xcc, 0x10, 0xb8, 59, 0, 0, 0, 0x0f, 0x05,
    0xbf, 126, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05,
];
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;

/// ```text
/// adr x9, data            ldr w0, [x9]             mov x8, 57 (close)   svc 0
/// ldr w0, [x9, 4]         add x1, x9, 16           mov x8, 159 (setgroups)
/// svc 0                   cbnz x0, fail
/// ldr w0, [x9, 8]         mov x8, 144 (setgid)     svc 0   cbnz x0, fail
/// ldr w0, [x9, 12]        mov x8, 146 (setuid)     svc 0   cbnz x0, fail
/// ldr x3, [sp]            ldr x0, [sp, 16]         add x1, sp, 24
/// add x2, sp, 16          add x2, x2, x3, lsl 3    mov x8, 221 (execve)  svc 0
/// fail: mov x0, 126       mov x8, 93 (exit)        svc 0
/// data:
/// ```
#[cfg(target_arch = "aarch64")]
#[rustfmt::skip]
const CODE: &[u8] = &[
    0x69, 0x03, 0x00, 0x10, 0x20, 0x01, 0x40, 0xb9, 0x28, 0x07, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4,
    0x20, 0x05, 0x40, 0xb9, 0x21, 0x41, 0x00, 0x91, 0xe8, 0x13, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4,
    0x00, 0x02, 0x00, 0xb5, 0x20, 0x09, 0x40, 0xb9, 0x08, 0x12, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4,
    0x80, 0x01, 0x00, 0xb5, 0x20, 0x0d, 0x40, 0xb9, 0x48, 0x12, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4,
    0x00, 0x01, 0x00, 0xb5, 0xe3, 0x03, 0x40, 0xf9, 0xe0, 0x0b, 0x40, 0xf9, 0xe1, 0x63, 0x00, 0x91,
    0xe2, 0x43, 0x00, 0x91, 0x42, 0x0c, 0x03, 0x8b, 0xa8, 0x1b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4,
    0xc0, 0x0f, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4,
];
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

/// The program, as the file that is open as `descriptor`. Source of the format: elf(5).
pub(super) fn program(identity: &Identity, descriptor: RawFd) -> Vec<u8> {
    let groups = u32::try_from(identity.groups.len()).unwrap_or(u32::MAX);
    let ids = [
        descriptor.cast_unsigned(),
        groups,
        identity.gid,
        identity.uid,
    ];
    let ids = ids.iter().chain(&identity.groups);
    let data: Vec<u8> = ids.flat_map(|id| id.to_le_bytes()).collect();
    let size = HEADERS + (CODE.len() + data.len()) as u64;
    // 64 bits, little endian, version 1; an executable file.
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0".to_vec();
    file.extend(MACHINE.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    // Where it begins, where program headers are, where section headers.
    for word in [BASE + HEADERS, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    // Sizes and numbers of headers: ELF; program; section.
    for half in [64_u16, 56, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    // To be loaded, read and executed.
    for word in [1_u32, 5] {
        file.extend(word.to_le_bytes());
    }
    // Offset, two addresses, two sizes, alignment.
    for word in [0, BASE, BASE, size, size, 0x1_0000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(CODE);
    file.extend(data);
    file
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn it_becomes_somebody_and_executes_its_arguments() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("setuser");
        let root = rustix::process::getuid().is_root();
        let identity = Identity {
            uid: 1234,
            gid: 5678,
            groups: vec![7, 70_000],
        };
        std::fs::write(&path, program(&identity, -1)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let run = |arguments: &[&str]| {
            let mut command = Command::new(&path);
            command.args(arguments).env("A", "b").output().unwrap()
        };
        let script = "echo $0 $1 $A $(id -u) $(id -g) $(id -G)";
        let output = run(&["/bin/sh", "name", "-c", script, "x", "y"]);
        if root {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(said, "x y b 1234 5678 5678 7 70000\n");
        } else {
            // Only root sets groups.
            assert_eq!(output.status.code(), Some(126));
        }
        assert_eq!(run(&["/nowhere", "x"]).status.code(), Some(126));
    }
}

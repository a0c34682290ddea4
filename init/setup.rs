//! What is set up before the process runs.

use crate::sys::sys;
use crate::{group, network, say, wait, write_file};

/// Directories and links that processes expect.
pub fn mounts() {
    const NOSUID: usize = 2;
    const NODEV: usize = 4;
    const NOEXEC: usize = 8;
    const REMOUNT: usize = 32;
    const SAFE: usize = NOSUID | NODEV | NOEXEC;
    sys!(MOUNT, 0, c"/".as_ptr(), 0, REMOUNT, 0);
    for (path, kind, flags, options) in [
        (c"/proc", c"proc", SAFE, c""),
        (c"/sys", c"sysfs", SAFE, c""),
        (c"/sys/fs/cgroup", c"cgroup2", SAFE, c""),
        (c"/dev", c"devtmpfs", NOSUID, c"mode=0755"),
        (
            c"/dev/pts",
            c"devpts",
            NOSUID | NOEXEC,
            c"mode=0620,ptmxmode=0666",
        ),
        (c"/dev/shm", c"tmpfs", NOSUID | NODEV, c"mode=1777"),
        (c"/run", c"tmpfs", NOSUID | NODEV, c"mode=0755"),
    ] {
        sys!(MKDIRAT, -100isize, path.as_ptr(), 0o755);
        // An initrd may have mounted it.
        sys!(
            MOUNT,
            kind.as_ptr(),
            path.as_ptr(),
            kind.as_ptr(),
            flags,
            options.as_ptr()
        );
    }
    sys!(MKDIRAT, -100isize, c"/tmp".as_ptr(), 0o1777);
    for (target, path) in [
        (c"/proc/self/fd", c"/dev/fd"),
        (c"/proc/self/fd/0", c"/dev/stdin"),
        (c"/proc/self/fd/1", c"/dev/stdout"),
        (c"/proc/self/fd/2", c"/dev/stderr"),
    ] {
        sys!(SYMLINKAT, target.as_ptr(), -100isize, path.as_ptr());
    }
    // Only what is worse than a warning: lines on the console stay whole.
    write_file(b"/proc/sys/kernel/printk\0", &[b"4 4 1 7"]);
    // As in a container, everybody may listen on all ports.
    write_file(b"/proc/sys/net/ipv4/ip_unprivileged_port_start\0", &[b"0"]);
}

pub fn console() {
    let console = sys!(OPENAT, -100isize, c"/dev/console".as_ptr(), 0o402, 0);
    for file in 0..3 {
        sys!(DUP3, console, file, 0);
    }
}

/// A whole file, in memory, with a NUL behind its end.
pub fn map(path: &[u8]) -> Option<&'static [u8]> {
    const MOST: usize = 1 << 20;
    // Readable and writable; private, of no file.
    let memory = sys!(MMAP, 0, MOST, 3, 0x22, -1isize, 0);
    let file = sys!(OPENAT, -100isize, path.as_ptr(), 0o2000000, 0);
    if memory < 0 || file < 0 {
        return None;
    }
    let mut length = 0;
    while length + 1 < MOST {
        let count = sys!(READ, file, memory as usize + length, MOST - 1 - length);
        match usize::try_from(count) {
            Ok(count) if count > 0 => length += count,
            _ => break,
        }
    }
    sys!(CLOSE, file);
    // SAFETY: so much of it was read, and nobody changes it.
    Some(unsafe { core::slice::from_raw_parts(memory as *const u8, length) })
}

/// Where `text` is in `bytes`.
fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}

/// Room for a text, which the kernel only provides where it is written to.
pub fn room() -> &'static mut [u8] {
    const MOST: usize = 1 << 20;
    let memory = sys!(MMAP, 0, MOST, 3, 0x22, -1isize, 0);
    if memory < 0 {
        return &mut [];
    }
    // SAFETY: nobody else has it.
    unsafe { core::slice::from_raw_parts_mut(memory as *mut u8, MOST) }
}

/// Puts what vmfab tells by SMBIOS under a name into `place`; gives its length.
pub fn told(name: &[u8], place: &mut [u8]) -> Option<usize> {
    let table = map(b"/sys/firmware/dmi/tables/DMI\0")?;
    let at = find(table, name)?;
    Some(group::decode(&table[at + name.len()..], place))
}

/// Gives the machine the name that vmfab tells, else that of the image, and leaves it as the
/// variable `HOSTNAME`.
pub fn hostname(variable: &mut [u8; 96]) {
    const VARIABLE: &[u8] = b"HOSTNAME=";
    variable[..VARIABLE.len()].copy_from_slice(VARIABLE);
    let place = &mut variable[VARIABLE.len()..];
    let room = place.len() - 1;
    let name = b"io.systemd.credential.binary:system.hostname=";
    let length = told(name, &mut place[..room]).unwrap_or_else(|| {
        let text = map(b"/etc/hostname\0").unwrap_or_default();
        let name = text.iter().take_while(|byte| **byte > b' ');
        let mut length = 0;
        for (place, &byte) in place[..room].iter_mut().zip(name) {
            *place = byte;
            length += 1;
        }
        length
    });
    sys!(SETHOSTNAME, place.as_ptr(), length);
}

/// Writes the names of the machines of the private network to `/etc/hosts`; gives this machine's card
/// in it. One that is in none has no such names any more.
fn private_network() -> Option<group::Card> {
    let table = room();
    let length = told(b"io.systemd.credential.binary:vmfab.network=", table);
    let table = &table[..length.unwrap_or(0)];
    let old = map(b"/etc/hosts\0").unwrap_or_default();
    let new = room();
    let length = group::hosts(old, table, new);
    if new[..length] != *old {
        write_file(b"/etc/hosts\0", &[&new[..length]]);
    }
    group::card(table)
}

/// Loads the modules of network card and power button, where they are no part of the kernel and the
/// initrd has not loaded them.
pub fn modules() {
    // `struct utsname`: six texts of 65 bytes, of which the third is the version.
    let mut names = [0u8; 390];
    sys!(UNAME, &raw mut names);
    let version = names[130..195]
        .split(|&byte| byte == 0)
        .next()
        .unwrap_or_default();
    for name in [
        &b"net/core/failover"[..],
        b"drivers/net/net_failover",
        b"drivers/net/virtio_net",
        b"drivers/input/evdev",
        b"drivers/acpi/button",
    ] {
        for ending in [&b".ko"[..], b".ko.xz", b".ko.zst", b".ko.gz"] {
            let mut path = [0u8; 256];
            let mut at = 0;
            for part in [b"/lib/modules/", version, b"/kernel/", name, ending] {
                path[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            }
            let file = sys!(OPENAT, -100isize, path.as_ptr(), 0o2000000, 0);
            if file >= 0 {
                // `MODULE_INIT_COMPRESSED_FILE`
                let compressed = if ending.len() > 3 { 4 } else { 0 };
                sys!(FINIT_MODULE, file, c"".as_ptr(), compressed);
                sys!(CLOSE, file);
            }
        }
    }
}

/// Sets up the network. A card may come a moment later.
pub fn network() {
    let private = private_network();
    for _ in 0..20 {
        if network::set_up(private) {
            return;
        }
        wait(&[], 100);
    }
    say(&[b"no network card found"]);
}

/// Opens the devices that may be a power button.
pub fn buttons(files: &mut [isize]) {
    let mut path = *b"/dev/input/event00\0";
    for (index, file) in files.iter_mut().enumerate() {
        match index {
            0..10 => path[16..].copy_from_slice(&[b'0' + index as u8, 0, 0]),
            _ => path[16..].copy_from_slice(&[b'1', b'0' + index as u8 % 10, 0]),
        }
        // Not waiting, closed on execution.
        *file = sys!(OPENAT, -100isize, path.as_ptr(), 0o2004000, 0);
    }
}

/// Whether the power button was pressed. Source: `linux/input-event-codes.h`.
pub fn pressed(file: isize) -> bool {
    let mut events = [0u8; 24 * 64];
    let count = sys!(READ, file, &raw mut events, events.len());
    let count = usize::try_from(count).unwrap_or_default();
    events[..count].chunks_exact(24).any(|event| {
        // Its time, EV_KEY, KEY_POWER, and 1 for pressed.
        event[16..] == [1, 0, 116, 0, 1, 0, 0, 0]
    })
}

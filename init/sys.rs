//! System calls of Linux, by their numbers: there is no libc. Source of the numbers:
//! `asm/unistd_64.h` and `asm-generic/unistd.h` of Linux.

use core::arch::asm;

#[cfg(target_arch = "x86_64")]
pub mod number {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const MMAP: usize = 9;
    pub const SIGPROCMASK: usize = 14;
    pub const PREAD64: usize = 17;
    pub const IOCTL: usize = 16;
    pub const SOCKET: usize = 41;
    pub const CONNECT: usize = 42;
    pub const SENDTO: usize = 44;
    pub const BIND: usize = 49;
    pub const SETSOCKOPT: usize = 54;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const UNAME: usize = 63;
    pub const CHDIR: usize = 80;
    pub const FCHOWN: usize = 93;
    pub const SETUID: usize = 105;
    pub const SETGID: usize = 106;
    pub const SETSID: usize = 112;
    pub const SETGROUPS: usize = 116;
    pub const SYNC: usize = 162;
    pub const MOUNT: usize = 165;
    pub const REBOOT: usize = 169;
    pub const SETHOSTNAME: usize = 170;
    pub const CLOCK_GETTIME: usize = 228;
    pub const EXIT_GROUP: usize = 231;
    pub const OPENAT: usize = 257;
    pub const MKDIRAT: usize = 258;
    pub const FCHOWNAT: usize = 260;
    pub const UNLINKAT: usize = 263;
    pub const SYMLINKAT: usize = 266;
    pub const FCHMODAT: usize = 268;
    pub const PPOLL: usize = 271;
    pub const SIGNALFD4: usize = 289;
    pub const DUP3: usize = 292;
    pub const PIPE2: usize = 293;
    pub const FINIT_MODULE: usize = 313;
    pub const STATX: usize = 332;
}

#[cfg(target_arch = "aarch64")]
pub mod number {
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const CLOSE: usize = 57;
    pub const MMAP: usize = 222;
    pub const SIGPROCMASK: usize = 135;
    pub const PREAD64: usize = 67;
    pub const IOCTL: usize = 29;
    pub const SOCKET: usize = 198;
    pub const CONNECT: usize = 203;
    pub const SENDTO: usize = 206;
    pub const BIND: usize = 200;
    pub const SETSOCKOPT: usize = 208;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const WAIT4: usize = 260;
    pub const KILL: usize = 129;
    pub const UNAME: usize = 160;
    pub const CHDIR: usize = 49;
    pub const FCHOWN: usize = 55;
    pub const SETUID: usize = 146;
    pub const SETGID: usize = 144;
    pub const SETSID: usize = 157;
    pub const SETGROUPS: usize = 159;
    pub const SYNC: usize = 81;
    pub const MOUNT: usize = 40;
    pub const REBOOT: usize = 142;
    pub const SETHOSTNAME: usize = 161;
    pub const CLOCK_GETTIME: usize = 113;
    pub const EXIT_GROUP: usize = 94;
    pub const OPENAT: usize = 56;
    pub const MKDIRAT: usize = 34;
    pub const UNLINKAT: usize = 35;
    pub const FCHMODAT: usize = 53;
    pub const FCHOWNAT: usize = 54;
    pub const SYMLINKAT: usize = 36;
    pub const PPOLL: usize = 73;
    pub const SIGNALFD4: usize = 74;
    pub const DUP3: usize = 24;
    pub const PIPE2: usize = 59;
    pub const FINIT_MODULE: usize = 273;
    pub const STATX: usize = 291;
}

/// Makes a system call; a negative result is an error.
///
/// # Safety
/// The arguments are what the call takes.
pub unsafe fn call(number: usize, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let result;
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c,
            in("r10") d, in("r8") e, in("r9") f, lateout("rcx") _, lateout("r11") _);
    }
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c,
            in("x3") d, in("x4") e, in("x5") f);
    }
    result
}

/// A system call with up to six arguments.
macro_rules! sys {
    ($name:ident $(, $argument:expr)*) => {{
        let given: &[usize] = &[$($argument as usize),*];
        let mut arguments = [0usize; 6];
        arguments[..given.len()].copy_from_slice(given);
        // SAFETY: pointers among the arguments are of live values.
        unsafe { crate::sys::call(crate::sys::number::$name, arguments) }
    }};
}
pub(crate) use sys;

// The beginning of the program.
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".globl _start",
    "_start: xor %ebp, %ebp",
    "and $-16, %rsp",
    "call main",
    options(att_syntax)
);
#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(".globl _start", "_start: mov x29, xzr", "bl main");

// What the compiler calls: there is no library that has it.

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    for at in 0..count {
        unsafe { *to.add(at) = *from.add(at) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if (to as usize) < from as usize {
        return unsafe { memcpy(to, from, count) };
    }
    for at in (0..count).rev() {
        unsafe { *to.add(at) = *from.add(at) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    for at in 0..count {
        unsafe { *to.add(at) = byte as u8 };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, count: usize) -> i32 {
    for at in 0..count {
        let (one, other) = unsafe { (*one.add(at), *other.add(at)) };
        if one != other {
            return i32::from(one) - i32::from(other);
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, count: usize) -> i32 {
    unsafe { memcmp(one, other, count) }
}

#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() {}

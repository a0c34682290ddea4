//! A guest of a few hundred bytes, which is up as soon as the firmware is.

/// A Linux kernel as far as QEMU can tell, that says "tiny: up" on the serial port and then answers
/// there: `P` makes it say that it panicked, `Q` makes it switch itself off, `W` makes it write a
/// sector to each 64 KiB of its disk in turn and say "tiny: written", `V` the same with its second
/// disk, and everything else comes back. When the power button is pressed it switches itself off, unless `D` (for deaf) was sent
/// before.
///
/// It is the real-mode part of a bzImage (Linux, `Documentation/arch/x86/boot.rst`): QEMU jumps to
/// its byte 0x200. Ports: 0x3f8 is the serial port, 0x600 the power management of q35 (ICH9, set up
/// by SeaBIOS): +0 events, +2 events that are enabled, +4 control.
pub(super) fn tiny_kernel() -> Vec<u8> {
    // Two sectors of real-mode code, and as much of "protected-mode kernel", which never runs.
    let mut image = vec![0; 2048];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]); // setup_sects
    put(0x1fe, &[0x55, 0xaa]); // boot_flag
    put(0x200, &[0xeb, 0x6e]); // jmp 0x270
    put(0x202, b"HdrS");
    put(0x206, &0x0203_u16.to_le_bytes()); // protocol
    put(0x211, &[1]); // loadflags: LOADED_HIGH
    put_code(&mut image[0x200..]);
    image
}

/// A disk of 1 MiB with the same guest in its boot sector, which a BIOS loads to 0x7c00 and starts.
pub(crate) fn tiny_disk() -> Vec<u8> {
    let mut disk = vec![0; 1 << 20];
    disk[..5].copy_from_slice(&[0xea, 0x70, 0x00, 0xc0, 0x07]); // jmp 0x07c0:0x0070
    put_code(&mut disk[..510]);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

/// Puts the guest into the segment that it runs in.
fn put_code(segment: &mut [u8]) {
    const UP: &[u8] = b"tiny: up\r\n\0";
    const PANIC: &[u8] = b"Kernel panic - not syncing: tiny: as you wish\r\n\0";
    #[rustfmt::skip]
    const CODE: &[u8] = &[
        /* 70 */ 0x0e, 0x1f,             // push cs; pop ds
        /* 72 */ 0xba, 0x02, 0x06,       // mov dx, 0x602
        /* 75 */ 0xb8, 0x00, 0x01,       // mov ax, 0x100: the power button
        /* 78 */ 0xef,                   // out dx, ax
        /* 79 */ 0xbe, 0x00, 0x01,       // mov si, 0x100: UP
        /* 7c */ 0xe8, 0x3f, 0x00,       // call print
        // next:
        /* 7f */ 0xfb, 0xf4,             // sti; hlt: until the next tick of the clock
        /* 81 */ 0xba, 0x00, 0x06,       // mov dx, 0x600
        /* 84 */ 0xed,                   // in ax, dx
        /* 85 */ 0xf6, 0xc4, 0x01,       // test ah, 1
        /* 88 */ 0x75, 0x2b,             // jnz off
        /* 8a */ 0xba, 0xfd, 0x03,       // mov dx, 0x3fd
        /* 8d */ 0xec,                   // in al, dx
        /* 8e */ 0xa8, 0x01,             // test al, 1: something was sent
        /* 90 */ 0x74, 0xed,             // jz next
        /* 92 */ 0xba, 0xf8, 0x03,       // mov dx, 0x3f8
        /* 95 */ 0xec,                   // in al, dx
        /* 96 */ 0x3c, b'Q', 0x74, 0x1b, // cmp al, 'Q'; je off
        /* 9a */ 0x3c, b'P', 0x74, 0x07, // cmp al, 'P'; je panic
        /* 9e */ 0x3c, b'D', 0x74, 0x0b, // cmp al, 'D'; je deaf
        /* a2 */ 0xe9, 0x9b, 0x00,       // jmp more
        // panic:
        /* a5 */ 0xbe, 0x0b, 0x01,       // mov si, 0x10b: PANIC
        /* a8 */ 0xe8, 0x13, 0x00,       // call print
        /* ab */ 0xeb, 0xd2,             // jmp next
        // deaf:
        /* ad */ 0xba, 0x02, 0x06,       // mov dx, 0x602
        /* b0 */ 0x31, 0xc0,             // xor ax, ax
        /* b2 */ 0xef,                   // out dx, ax
        /* b3 */ 0xeb, 0xca,             // jmp next
        // off:
        /* b5 */ 0xba, 0x04, 0x06,       // mov dx, 0x604
        /* b8 */ 0xb8, 0x00, 0x20,       // mov ax, 0x2000: to sleep, type 0, which is S5
        /* bb */ 0xef,                   // out dx, ax
        /* bc */ 0xeb, 0xfe,             // jmp here
        // print:
        /* be */ 0xac,                   // lodsb
        /* bf */ 0x84, 0xc0, 0x74, 0x11, // test al, al; jz return
        /* c3 */ 0x88, 0xc4,             // mov ah, al
        // full:
        /* c5 */ 0xba, 0xfd, 0x03,       // mov dx, 0x3fd
        /* c8 */ 0xec,                   // in al, dx
        /* c9 */ 0xa8, 0x20, 0x74, 0xf8, // test al, 0x20; jz full
        /* cd */ 0x88, 0xe0,             // mov al, ah
        /* cf */ 0xb2, 0xf8,             // mov dl, 0xf8
        /* d1 */ 0xee,                   // out dx, al
        /* d2 */ 0xeb, 0xea,             // jmp print
        // return:
        /* d4 */ 0xc3,                   // ret
    ];
    #[rustfmt::skip]
    const MORE: &[u8] = &[
        // more:
        /* 140 */ 0x3c, b'W', 0x74, 0x0f,             // cmp al, 'W'; je write
        /* 144 */ 0x3c, b'V', 0x74, 0x04,             // cmp al, 'V'; je volume
        /* 148 */ 0xee,                               // out dx, al
        /* 149 */ 0xe9, 0x33, 0xff,                   // jmp next
        // volume:
        /* 14c */ 0xbe, 0xa0, 0x01,                   // mov si, 0x1a0: the second WRITE
        /* 14f */ 0xb2, 0x81,                         // mov dl, 0x81: the second disk
        /* 151 */ 0xeb, 0x05,                         // jmp both
        // write:
        /* 153 */ 0xbe, 0x90, 0x01,                   // mov si, 0x190: WRITE
        /* 156 */ 0xb2, 0x80,                         // mov dl, 0x80: the first disk
        // both:
        /* 158 */ 0x8c, 0x4c, 0x06,                   // mov [si+6], cs: the segment
        /* 15b */ 0x56,                               // push si
        /* 15c */ 0xb8, 0x00, 0x43,                   // mov ax, 0x4300
        /* 15f */ 0xcd, 0x13,                         // int 0x13: extended write
        /* 161 */ 0x5e,                               // pop si
        /* 162 */ 0x81, 0x44, 0x08, 0x80, 0x00,       // add word [si+8], 128: the next 64 KiB
        /* 167 */ 0xbe, 0x80, 0x01,                   // mov si, 0x180: WRITTEN
        /* 16a */ 0xe8, 0x51, 0xff,                   // call print
        /* 16d */ 0xe9, 0x0f, 0xff,                   // jmp next
    ];
    // Its size, one sector, from offset 0 of a segment, to sector 0.
    const WRITE: &[u8] = &[0x10, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const WRITTEN: &[u8] = b"tiny: written\r\n\0";
    let mut put = |at: usize, bytes: &[u8]| segment[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x70, CODE);
    put(0x100, UP);
    put(0x100 + UP.len(), PANIC);
    put(0x140, MORE);
    put(0x180, WRITTEN);
    put(0x190, WRITE);
    put(0x1a0, WRITE);
}

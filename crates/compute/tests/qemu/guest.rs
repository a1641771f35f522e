//! The guest of the tests: a boot sector that counts its boots on its own disk and talks on the serial port.
//!
//! It reads one sector, adds one to its first byte, writes it back and prints `boot N`. Then it does what its mode
//! says. Printing `disk error` is its only other answer.

/// What the guest does after it has printed `boot N`.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    /// Waits for the power button, prints `bye` and powers off.
    Obedient = 0,
    /// Stops its only processor with interrupts off.
    Deaf = 1,
    /// Prints `bye` and powers off at once.
    Brief = 2,
}

/// Size of the guest's disk.
pub(crate) const DISK_BYTES: u64 = 2 << 20;
/// The sector that the guest counts in, unless told otherwise.
pub(crate) const COUNTER_SECTOR: u64 = 1;

const MODE_AT: usize = 0x02;
const SECTOR_AT: usize = 0x0c;

/// Returns the guest's disk. The counter starts at '0', so that the first boot prints `boot 1`.
pub(crate) fn disk(mode: Mode, counter_sector: u64) -> Vec<u8> {
    let mut disk = vec![0; DISK_BYTES as usize];
    disk[..CODE.len()].copy_from_slice(CODE);
    disk[MODE_AT] = mode as u8;
    disk[SECTOR_AT..SECTOR_AT + 8].copy_from_slice(&counter_sector.to_le_bytes());
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk[counter_sector as usize * 512] = b'0';
    disk
}

/// 16-bit x86 machine code for address 0x7c00, assembled by hand.
///
/// The power button and the power switch are those of ICH9: PM1_STS, PM1_EN and PM1_CNT at 0x600, 0x602 and 0x604.
#[rustfmt::skip]
const CODE: &[u8] = &[
    0xeb, 0x12,                   // 7c00  jmp 0x7c14
    0x00,                         // 7c02  mode
    0x00,                         // 7c03  fill
    0x10, 0x00, 0x01, 0x00,       // 7c04  disk address packet: 16 bytes, one sector
    0x00, 0x80, 0x00, 0x00,       // 7c08  to and from 0000:8000
    0x01, 0, 0, 0, 0, 0, 0, 0,    // 7c0c  sector number
    0xfa,                         // 7c14  cli
    0x31, 0xc0,                   // 7c15  xor ax, ax
    0x8e, 0xd8,                   // 7c17  mov ds, ax
    0x8e, 0xd0,                   // 7c19  mov ss, ax
    0xbc, 0x00, 0x7c,             // 7c1b  mov sp, 0x7c00
    0xfb,                         // 7c1e  sti
    0xbe, 0x04, 0x7c,             // 7c1f  mov si, 0x7c04
    0xb4, 0x42,                   // 7c22  mov ah, 0x42           read (DL is the boot disk)
    0xcd, 0x13,                   // 7c24  int 0x13
    0x72, 0x4a,                   // 7c26  jc 0x7c72
    0xfe, 0x06, 0x00, 0x80,       // 7c28  inc byte [0x8000]
    0xbe, 0x04, 0x7c,             // 7c2c  mov si, 0x7c04
    0xb8, 0x00, 0x43,             // 7c2f  mov ax, 0x4300         write
    0xcd, 0x13,                   // 7c32  int 0x13
    0x72, 0x3c,                   // 7c34  jc 0x7c72
    0xbe, 0x93, 0x7c,             // 7c36  mov si, 0x7c93
    0xe8, 0x3e, 0x00,             // 7c39  call 0x7c7a            "boot "
    0xa0, 0x00, 0x80,             // 7c3c  mov al, [0x8000]
    0xe8, 0x42, 0x00,             // 7c3f  call 0x7c84
    0xb0, 0x0a,                   // 7c42  mov al, '\n'
    0xe8, 0x3d, 0x00,             // 7c44  call 0x7c84
    0x80, 0x3e, 0x02, 0x7c, 0x01, // 7c47  cmp byte [0x7c02], 1
    0x74, 0x20,                   // 7c4c  je 0x7c6e              deaf
    0x77, 0x11,                   // 7c4e  ja 0x7c61              brief
    0xba, 0x02, 0x06,             // 7c50  mov dx, 0x602
    0xb8, 0x00, 0x01,             // 7c53  mov ax, 0x100          PWRBTN_EN
    0xef,                         // 7c56  out dx, ax
    0xba, 0x00, 0x06,             // 7c57  mov dx, 0x600
    0xf4,                         // 7c5a  hlt                    until the next timer tick
    0xed,                         // 7c5b  in ax, dx
    0xf6, 0xc4, 0x01,             // 7c5c  test ah, 1             PWRBTN_STS
    0x74, 0xf9,                   // 7c5f  jz 0x7c5a
    0xbe, 0x99, 0x7c,             // 7c61  mov si, 0x7c99
    0xe8, 0x13, 0x00,             // 7c64  call 0x7c7a            "bye"
    0xba, 0x04, 0x06,             // 7c67  mov dx, 0x604
    0xb8, 0x00, 0x20,             // 7c6a  mov ax, 0x2000         SLP_EN, S5
    0xef,                         // 7c6d  out dx, ax
    0xfa,                         // 7c6e  cli
    0xf4,                         // 7c6f  hlt
    0xeb, 0xfc,                   // 7c70  jmp 0x7c6e
    0xbe, 0x9e, 0x7c,             // 7c72  mov si, 0x7c9e
    0xe8, 0x02, 0x00,             // 7c75  call 0x7c7a            "disk error"
    0xeb, 0xf4,                   // 7c78  jmp 0x7c6e
    0xac,                         // 7c7a  lodsb                  print the text at SI
    0x84, 0xc0,                   // 7c7b  test al, al
    0x74, 0x13,                   // 7c7d  jz 0x7c92
    0xe8, 0x02, 0x00,             // 7c7f  call 0x7c84
    0xeb, 0xf6,                   // 7c82  jmp 0x7c7a
    0x50,                         // 7c84  push ax                print AL
    0xba, 0xfd, 0x03,             // 7c85  mov dx, 0x3fd
    0xec,                         // 7c88  in al, dx
    0xa8, 0x20,                   // 7c89  test al, 0x20          transmitter empty
    0x74, 0xfb,                   // 7c8b  jz 0x7c88
    0x58,                         // 7c8d  pop ax
    0xba, 0xf8, 0x03,             // 7c8e  mov dx, 0x3f8          COM1
    0xee,                         // 7c91  out dx, al
    0xc3,                         // 7c92  ret
    b'b', b'o', b'o', b't', b' ', 0,                                  // 7c93
    b'b', b'y', b'e', b'\n', 0,                                       // 7c99
    b'd', b'i', b's', b'k', b' ', b'e', b'r', b'r', b'o', b'r', b'\n', 0, // 7c9e
];

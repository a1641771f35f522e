//! Registry hives of Windows: read, and changed with the smallest difference.
//!
//! A hive is a base block of 4 KiB and bins of cells; keys, values and lists are cells that name each other by offset.
//! Layout: "Windows registry file format specification" by Maxim Suhanov. Invariants: whatever a hive says, a look-up
//! costs at most as many steps as the hive has cells, nothing recurses, and a change is refused unless all bins and
//! cells are sound. Not here: what the keys mean, and replaying logs.

mod base;
mod change;
mod editor;
mod hive;
mod log;
mod names;
mod sharing;
mod space;
mod subkeys;
mod value;

pub(crate) use change::hive_name;
pub use change::{ValueChange, ValueData};
pub use editor::{Changed, Editor};
pub use hive::{Hive, Key};
pub use log::is_log_newer;
pub(crate) use log::{LOG_MAX, LOGS, is_pending};
pub use value::{Value, ValueKind};

/// Bytes before the first bin, from where cells are counted.
const BASE: usize = 4096;
/// What stands for no cell.
const NOTHING: u32 = u32::MAX;
/// Data over this length is cut into segments, since version 1.4.
const SEGMENT: usize = 16344;

/// Fields of a key (`nk`), from the signature on.
mod key_field {
    pub(super) const FLAGS: usize = 2;
    pub(super) const TIME: usize = 4;
    pub(super) const PARENT: usize = 16;
    pub(super) const SUBKEYS: usize = 20;
    pub(super) const SUBKEY_LIST: usize = 28;
    pub(super) const VOLATILE_LIST: usize = 32;
    pub(super) const VALUES: usize = 36;
    pub(super) const VALUE_LIST: usize = 40;
    pub(super) const SECURITY: usize = 44;
    pub(super) const CLASS: usize = 48;
    pub(super) const SUBKEY_NAME_MAX: usize = 52;
    pub(super) const VALUE_NAME_MAX: usize = 60;
    pub(super) const DATA_MAX: usize = 64;
    pub(super) const NAME_LENGTH: usize = 72;
    pub(super) const CLASS_LENGTH: usize = 74;
    pub(super) const NAME: usize = 76;
    /// Flag: the name has one byte for each letter.
    pub(super) const NARROW: u16 = 0x20;
}

/// Fields of a value (`vk`), from the signature on.
mod value_field {
    pub(super) const NAME_LENGTH: usize = 2;
    pub(super) const SIZE: usize = 4;
    pub(super) const DATA: usize = 8;
    pub(super) const KIND: usize = 12;
    pub(super) const FLAGS: usize = 16;
    pub(super) const NAME: usize = 20;
    /// Flag: the name has one byte for each letter.
    pub(super) const NARROW: u16 = 1;
    /// Bit of the size: the data, of at most four bytes, stands in the field for its place.
    pub(super) const INLINE: u32 = 1 << 31;
}

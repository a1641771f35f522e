//! Bad input and bad luck: each has a clear answer, and nothing is left behind.

mod access;
mod full_disk;
mod images;
mod keys;
mod requests;

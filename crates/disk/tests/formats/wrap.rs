//! Files that are compressed as a whole.

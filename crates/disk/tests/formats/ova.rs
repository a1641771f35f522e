//! OVA: archives of disks with a description.

//! The command line, from outside: the main job, every other command, exit codes, files of the first start.

mod bundles;
mod chunks;
mod disk_files;
mod files;
mod main_job;
mod once;
mod overlays;
mod remote_disks;
mod resuming;
mod transfers;
mod verbs;
mod without_a_server;

//! `molde-agent`: the only program in the micro-VM of prepare, which the kernel starts as its first process.
//!
//! It does the job that lies beside it, answers on the second serial port, and ends the machine. The file systems are an
//! attacker's: no link is followed, nothing is opened but regular files and folders, nothing of theirs is run but what the job
//! names, by this program started again as the cage.
#![forbid(unsafe_code)]

mod apply;
mod cage;
mod machine;
mod ntfs;
mod root;
mod visit;

use std::fs;
use std::io::Write;

use agent::{Answer, JOB, Job, NTFS, Touched};

use apply::Rights;

/// Why something was not done: a sentence without its full stop.
type Outcome<T> = Result<T, String>;

fn main() {
    // As a program among others it would change the machine of whoever starts it.
    if std::process::id() != 1 {
        cage::enter();
        return;
    }
    let answer = match run() {
        Ok(touched) => Answer::Done(touched),
        Err(why) => Answer::Failed(why),
    };
    if let Ok(mut port) = fs::OpenOptions::new().write(true).open("/dev/ttyS1") {
        // Who does not hear it takes the job for failed.
        let _ = port.write_all(answer.to_text().as_bytes());
    }
    // The port was closed, which waits until all of it was sent.
    machine::end();
}

fn run() -> Outcome<Touched> {
    machine::start()?;
    let file = format!("/{JOB}");
    let job = fs::read(&file).map_err(|error| format!("the job cannot be read: {error}"))?;
    // The memory is the machine's, and small.
    let _ = fs::remove_file(&file);
    let job = Job::parse(&job).ok_or("the job is of another version")?;
    machine::set_clock(job.now)?;
    machine::load_modules(job.modules)?;
    let touched = job.visit.map_or_else(|| Ok(Touched::default()), visit::run)?;
    for mount in &job.mounts {
        let device = machine::drive(mount.drive)?;
        if mount.kind == NTFS {
            let driver = ntfs::mount(&device, &mount.options)?;
            apply::apply(machine::FOLDER, &mount.operations, Rights::Inherited)?;
            machine::unmount()?;
            driver.finish()?;
        } else {
            machine::mount(&device, mount)?;
            apply::apply(machine::FOLDER, &mount.operations, Rights::OfLinux)?;
            machine::unmount()?;
        }
    }
    Ok(touched)
}

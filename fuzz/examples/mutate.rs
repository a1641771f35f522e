//! Inputs by chance, without coverage: a multiple of what libFuzzer tries in a time.
//!
//! `mutate TARGET RUNS SECONDS FOUND CORPUS...`: each input is made of the number of its run alone and of the files in CORPUS, so that
//! the same command does the same. What makes the target panic, or takes longer than SECONDS, is written to FOUND.

use std::error::Error;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::exit;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Longest input that is made.
const LENGTH_MAX: usize = 4096;
/// Most changes of one input.
const CHANGES_MAX: u64 = 8;
/// After so many runs it is told how far it is: what ends the process lies behind that.
const TOLD: u64 = 10_000;
const PAUSE: Duration = Duration::from_millis(200);

type Now = Arc<Mutex<(Instant, Vec<u8>)>>;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [name, runs, seconds, found, folders @ ..] = &words[..] else {
        return Err("usage: mutate TARGET RUNS SECONDS FOUND CORPUS...".into());
    };
    let target = fuzz::targets::find(name).ok_or("there is no such target")?;
    let (runs, limit): (u64, _) = (runs.parse()?, Duration::from_secs(seconds.parse()?));
    let mut corpus = Vec::new();
    for folder in folders {
        let mut files: Vec<PathBuf> =
            fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        files.sort();
        for file in files {
            corpus.push(fs::read(file)?);
        }
    }
    let now: Now = Arc::new(Mutex::new((Instant::now(), Vec::new())));
    watch(&now, limit, Path::new(found));
    let mut longest = Duration::ZERO;
    for run in 0..runs {
        let input = input(run, &corpus);
        let start = Instant::now();
        *now.lock().unwrap_or_else(PoisonError::into_inner) = (start, input.clone());
        if panic::catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
            keep(Path::new(found), "panic", &input);
            exit(1);
        }
        longest = longest.max(start.elapsed());
        if run % TOLD == 0 {
            eprintln!("{name}: run {run}");
        }
    }
    println!("{name}: {runs} inputs by chance, {} ms the longest, no fault", longest.as_millis());
    Ok(())
}

/// Ends the process when an input takes too long.
fn watch(now: &Now, limit: Duration, found: &Path) {
    let (now, found) = (Arc::clone(now), found.to_owned());
    thread::spawn(move || {
        loop {
            thread::sleep(PAUSE);
            let now = now.lock().unwrap_or_else(PoisonError::into_inner);
            if now.0.elapsed() > limit && !now.1.is_empty() {
                keep(&found, "timeout", &now.1);
                exit(2);
            }
        }
    });
}

fn keep(found: &Path, what: &str, input: &[u8]) {
    let sum = input
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    let path = found.join(format!("{what}-{sum:016x}"));
    match fs::write(&path, input) {
        Ok(()) => eprintln!("{what}: the input is in {}", path.display()),
        Err(error) => eprintln!("{what}: the input cannot be written ({error}): {input:?}"),
    }
}

/// Makes the input of one run: of nothing, or of one in the corpus, of which some bytes become others.
fn input(run: u64, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut chance = Chance(run.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d);
    let mut input = match chance.of(4) {
        0 if !corpus.is_empty() => Vec::new(),
        _ if corpus.is_empty() => Vec::new(),
        _ => corpus[chance.of(corpus.len() as u64) as usize].clone(),
    };
    if input.is_empty() {
        let length = 1 + chance.of(120);
        input.extend((0..length).map(|_| chance.byte()));
    }
    for _ in 0..=chance.of(CHANGES_MAX) {
        let at = chance.of(input.len() as u64 + 1) as usize;
        match chance.of(6) {
            0 if at < input.len() => input[at] ^= 1 << chance.of(8),
            1 if at < input.len() => input[at] = chance.byte(),
            2 => {
                let bytes = chance.number();
                let end = (at + bytes.len()).min(input.len());
                input[at..end].copy_from_slice(&bytes[..end - at]);
            }
            3 => {
                let bytes: Vec<u8> = (0..=chance.of(16)).map(|_| chance.byte()).collect();
                input.splice(at..at, bytes);
            }
            4 => {
                let end = (at + 1 + chance.of(16) as usize).min(input.len());
                input.drain(at..end);
            }
            _ if !corpus.is_empty() => {
                let other = &corpus[chance.of(corpus.len() as u64) as usize];
                let from = chance.of(other.len() as u64 + 1) as usize;
                let end = (from + 1 + chance.of(64) as usize).min(other.len());
                input.splice(at..at, other[from..end].iter().copied());
            }
            _ => {}
        }
    }
    // What was long before may stay so.
    input.truncate(LENGTH_MAX.max(corpus.iter().map(Vec::len).max().unwrap_or(0)));
    input
}

/// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled").
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `most`, or 0.
    fn of(&mut self, most: u64) -> u64 {
        (self.next() >> 32) % most.max(1)
    }

    fn byte(&mut self) -> u8 {
        (self.next() >> 56) as u8
    }

    /// One, two, four or eight bytes that are a border for somebody.
    fn number(&mut self) -> Vec<u8> {
        const BORDERS: [u64; 10] = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];
        let number = BORDERS[self.of(BORDERS.len() as u64) as usize];
        let length = 1 << self.of(4);
        if self.of(2) == 0 {
            number.to_le_bytes()[..length].to_vec()
        } else {
            number.to_be_bytes()[8 - length..].to_vec()
        }
    }
}

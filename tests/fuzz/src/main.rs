//! Fuzzes what strangers write: `ficus-fuzz SECONDS [TARGET]`, the time for all targets together.
//!
//! Runs on stable Rust. Inputs come from seeds by small changes; one that is taken in a new way joins the seeds of its run.
//! Each target runs in a process of its own, which notes every input before it tries it: whatever ends the process, a
//! panic, an overflow of the stack or a hang, leaves the input that did it. It is kept under `regressions/`, which
//! `cargo test` replays from then on.

#![allow(clippy::disallowed_methods, reason = "its own clock: the program is told how long to run")]

mod mutator;
mod targets;

use std::collections::HashSet;
use std::error::Error;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mutator::Mutator;
use targets::{ALL, Target};

const HERE: &str = env!("CARGO_MANIFEST_DIR");
/// A single input must be read in this time, however slow the machine.
const HANGS: Duration = Duration::from_secs(20);

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--one", target, millis, seed, note] => {
            let target = ALL.iter().find(|known| known.name == *target).ok_or("no such target")?;
            fuzz(target, Duration::from_millis(millis.parse()?), seed.parse()?, Path::new(note))?;
            Ok(ExitCode::SUCCESS)
        }
        [seconds] => all(Duration::from_secs(seconds.parse()?), |_| true),
        [seconds, only] => all(Duration::from_secs(seconds.parse()?), |target| target.name == *only),
        _ => Err("usage: ficus-fuzz SECONDS [TARGET]".into()),
    }
}

fn all(time: Duration, wanted: impl Fn(&Target) -> bool) -> Result<ExitCode, Box<dyn Error>> {
    let targets: Vec<_> = ALL.iter().filter(|target| wanted(target)).collect();
    let each = time / u32::try_from(targets.len())?.max(1);
    let mut code = ExitCode::SUCCESS;
    for target in targets {
        if let Some(kept) = watch(target, each)? {
            eprintln!("{}: FAILED on {}", target.name, kept.display());
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// Runs one target in a process of its own; gives where its last input is kept if it did not end well.
fn watch(target: &Target, time: Duration) -> Result<Option<PathBuf>, Box<dyn Error>> {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
    let note = std::env::temp_dir().join(format!("ficus-fuzz-{}-{}", target.name, std::process::id()));
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--one", target.name, &time.as_millis().to_string(), &seed.to_string()])
        .arg(&note)
        .spawn()?;
    let deadline = Instant::now() + time + HANGS;
    let ended = loop {
        match child.try_wait()? {
            Some(status) => break status.success(),
            None if Instant::now() > deadline => {
                child.kill()?;
                child.wait()?;
                break false;
            }
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    let noted = fs::read(&note)?;
    fs::remove_file(&note)?;
    if ended {
        return Ok(None);
    }
    let (length, input) = noted.split_at_checked(8).ok_or("it failed before its first input")?;
    let input = &input[..usize::try_from(u64::from_le_bytes(length.try_into()?))?];
    let folder = Path::new(HERE).join("regressions").join(target.name);
    fs::create_dir_all(&folder)?;
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let kept = folder.join(format!("{:016x}", hasher.finish()));
    fs::write(&kept, input)?;
    Ok(Some(kept))
}

fn fuzz(target: &Target, time: Duration, seed: u64, note: &Path) -> Result<(), Box<dyn Error>> {
    let note = File::create(note)?;
    let mut pool = Vec::new();
    for entry in fs::read_dir(Path::new(HERE).join("seeds").join(target.name))? {
        pool.push(fs::read(entry?.path())?);
    }
    // As few runs as may be differ: files come in any order.
    pool.sort();
    let mut kinds = HashSet::new();
    let run = |input: &[u8]| -> Result<String, std::io::Error> {
        note.write_all_at(&[&(input.len() as u64).to_le_bytes(), input].concat(), 0)?;
        Ok((target.run)(input))
    };
    for input in &pool {
        kinds.insert(run(input)?);
    }
    let (seeds, until) = (pool.len(), Instant::now() + time);
    let mut mutator = Mutator::new(seed, target.words, target.name == "assertion");
    let mut count = 0_u64;
    while Instant::now() < until {
        let input = mutator.next(&pool);
        count += 1;
        if kinds.insert(run(&input)?) && pool.len() < 4096 {
            pool.push(input);
        }
    }
    println!("{}: {count} inputs, {} kinds, {} seeds, seed {seed}", target.name, kinds.len(), seeds);
    Ok(())
}

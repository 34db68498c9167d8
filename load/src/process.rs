//! Other processes: started so that none outlives us, ended in order, and measured.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use ficus::clock::Stopwatch;
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid as NixPid;
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};

use crate::Failure;

/// The command that starts another program under [`guard`].
pub(crate) const GUARD: &str = "guard";

/// How long a child may take to end in order.
const PATIENCE: Duration = Duration::from_secs(15);

/// A child that ends when this is dropped, and when we are killed.
pub(crate) struct Guarded(Child);

impl Guarded {
    /// Starts the program. To be called on the main thread: the kernel watches the thread, not the process.
    pub(crate) fn start(program: &Path, prepare: impl FnOnce(&mut Command)) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(GUARD).arg(std::process::id().to_string()).arg(program);
        prepare(&mut command);
        Ok(Self(command.spawn().map_err(|error| format!("{}: {error}", program.display()))?))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// What it writes, when `prepare` asked for a pipe.
    pub(crate) fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.0.stdout.take()
    }

    /// The error when it has ended by itself.
    pub(crate) fn alive(&mut self) -> Result<(), Failure> {
        match self.0.try_wait()? {
            Some(status) => Err(format!("the process ended by itself: {status}").into()),
            None => Ok(()),
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let since = Stopwatch::start();
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            // Until it is waited for, the id is the child's.
            let _ = kill_process(pid, Signal::TERM);
        }
        while since.elapsed() < PATIENCE {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Becomes the program, which the kernel ends once our parent is gone.
pub(crate) fn guard(parent: u32, program: &[String]) -> Result<ExitCode, Failure> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    // The parent may have ended before the kernel was asked.
    let is_there =
        getppid().is_some_and(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok() == Some(parent));
    let [program, arguments @ ..] = program else { return Err("guard: no program".into()) };
    if !is_there {
        return Err("guard: the parent is gone".into());
    }
    Err(Command::new(program).args(arguments).exec().into())
}

/// Processor time, of all threads that are and were, and memory.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    clock: ClockId,
    pid: u32,
}

impl Meter {
    pub(crate) fn of(pid: u32) -> Result<Self, Failure> {
        let id = i32::try_from(pid).map_err(|_| "no such process")?;
        Ok(Self { clock: clock_getcpuclockid(NixPid::from_raw(id))?, pid })
    }

    /// Zero once the process has ended.
    pub(crate) fn cpu(&self) -> Duration {
        self.clock.now().map_or(Duration::ZERO, Duration::from)
    }

    /// Resident bytes; zero once the process has ended.
    pub(crate) fn memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.pid)).unwrap_or_default();
        let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
        pages.unwrap_or(0) * rustix::param::page_size() as u64
    }

    /// Times that its threads gave up the processor because they had to wait; threads that ended are left out.
    pub(crate) fn waits(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten();
        let count = |task: io::Result<std::fs::DirEntry>| {
            let status = std::fs::read_to_string(task.ok()?.path().join("status")).ok()?;
            status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse::<u64>().ok())
        };
        tasks.filter_map(count).sum()
    }
}

/// Processor time of the calling thread.
pub(crate) fn thread_cpu() -> Duration {
    ClockId::CLOCK_THREAD_CPUTIME_ID.now().map_or(Duration::ZERO, Duration::from)
}

/// Processor time of the whole machine since it started, in everything but idling and waiting for disks.
pub(crate) fn machine_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guests are within user.
    let busy: u64 =
        ticks.iter().enumerate().filter(|(n, _)| !matches!(n, 3 | 4) && *n < 8).map(|(_, t)| t).sum();
    Duration::from_millis(busy * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_uses_processor_and_memory() {
        let meter = Meter::of(std::process::id()).unwrap();
        let (before, thread) = (meter.cpu(), thread_cpu());
        while thread_cpu() == thread {
            std::hint::black_box(machine_cpu());
        }
        assert!(meter.cpu() > before);
        assert!(meter.memory() > 1 << 20);
        assert!(Meter::of(u32::MAX).is_err());
    }

    #[test]
    fn a_guard_without_its_parent_starts_nothing() {
        let error = guard(std::process::id(), &["/bin/true".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("the parent is gone"), "{error}");
    }
}

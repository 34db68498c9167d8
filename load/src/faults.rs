//! What goes wrong on purpose while a phase runs.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ficus::clock::Stopwatch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;

use crate::Failure;
use crate::broker;
use crate::client::{Ask, Dialer};
use crate::engine::Course;
use crate::issuer::Issuer;
use crate::scenario::{Act, Fault};
use crate::world::World;

/// The pause between two questions to the operations listener.
const PROBE: Duration = Duration::from_millis(100);

/// What a question without an answer counts for, in milliseconds.
const NO_ANSWER: f64 = 60_000.0;

/// What faults happen to.
#[derive(Clone)]
pub(crate) struct Victims {
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) world: Arc<World>,
    pub(crate) course: Arc<Course>,
    /// The broker's program.
    pub(crate) program: Option<PathBuf>,
}

/// Seconds since the phase began, and what happened.
type Marks = Arc<Mutex<Vec<(f64, String)>>>;

/// The faults of one phase, which end with it.
pub(crate) struct Underway {
    victims: Victims,
    marks: Marks,
    tasks: JoinSet<Result<(), Failure>>,
}

impl Underway {
    pub(crate) fn start<'a>(victims: &Victims, faults: impl Iterator<Item = &'a Fault>) -> Self {
        let (marks, mut tasks, since) = (Marks::default(), JoinSet::new(), Stopwatch::start());
        for fault in faults {
            tasks.spawn(happen(victims.clone(), fault.clone(), marks.clone(), since));
        }
        Self { victims: victims.clone(), marks, tasks }
    }

    /// Ends what lasts, and tells what happened.
    pub(crate) async fn end(mut self) -> Result<Vec<(f64, String)>, Failure> {
        while let Some(ended) = self.tasks.try_join_next() {
            ended??;
        }
        self.tasks.shutdown().await;
        self.victims.issuer.set_down(false);
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        marks.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(marks)
    }
}

async fn happen(victims: Victims, fault: Fault, marks: Marks, since: Stopwatch) -> Result<(), Failure> {
    let mark = |what: &str| {
        let at = since.elapsed().as_secs_f64();
        marks.lock().unwrap_or_else(PoisonError::into_inner).push((at, what.to_owned()));
    };
    sleep(Duration::from_secs_f64(fault.at)).await;
    let end = fault.lasts.map(|lasts| fault.at + lasts);
    match fault.act {
        Act::Reload => {
            mark("reloads");
            loop {
                victims.world.change()?;
                let Some(every) = fault.every else { return Ok(()) };
                sleep(Duration::from_secs_f64(every)).await;
                if end.is_some_and(|end| since.elapsed().as_secs_f64() >= end) {
                    return Ok(());
                }
            }
        }
        Act::RotateSigningKeys => {
            let (program, world) =
                (victims.program.ok_or("signing keys rotate only in a broker of ours")?, victims.world);
            mark("signing keys rotate");
            spawn_blocking(move || broker::keys(&program, &world, &["rotate", "--now"])).await?
        }
        Act::RotateIssuer => {
            mark("issuer rotates");
            victims.issuer.rotate();
            victims.course.stock.next_edition();
            Ok(())
        }
        Act::IssuerDown => {
            mark("issuer down");
            victims.issuer.set_down(true);
            let Some(lasts) = fault.lasts else { return Ok(()) };
            sleep(Duration::from_secs_f64(lasts)).await;
            victims.issuer.set_down(false);
            mark("issuer back");
            Ok(())
        }
    }
}

/// Asks the operations listener again and again, for its slowest answer in milliseconds.
pub(crate) struct Probe(tokio::task::JoinHandle<()>, Arc<Mutex<f64>>);

impl Probe {
    pub(crate) fn start(ops: &str) -> Result<Self, Failure> {
        let (url, slowest) = (format!("{ops}/readyz"), Arc::new(Mutex::new(0.0_f64)));
        let (dialer, ask, noted) = (Dialer::new(&url, None, 1)?, Ask::get(&url, 1)?, slowest.clone());
        let task = tokio::spawn(async move {
            loop {
                let since = Stopwatch::start();
                let answer = match dialer.dial().await {
                    Ok(mut wire) => wire.ask(&ask, Bytes::new()).await.ok(),
                    Err(_) => None,
                };
                // Not ready, or no answer, is as bad as can be.
                let took = since.elapsed().as_secs_f64() * 1e3;
                let took = if answer.is_some_and(|answer| answer.status == 200) { took } else { NO_ANSWER };
                note_slowest(&noted, took);
                sleep(PROBE).await;
            }
        });
        Ok(Self(task, slowest))
    }

    pub(crate) fn end(self) -> f64 {
        self.0.abort();
        *self.1.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note_slowest(slowest: &Mutex<f64>, took: f64) {
    let mut slowest = slowest.lock().unwrap_or_else(PoisonError::into_inner);
    *slowest = slowest.max(took);
}

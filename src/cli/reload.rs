//! Follows the files while the broker runs: what is valid goes live as one snapshot, what is not leaves all as it was.

mod restless;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::clock::{Clock, EARLIEST, Stopwatch, UnixTime};
use crate::config::moment::{self, Moment, Reading, Readings};
use crate::config::{Config, Look, Text, Watch};
use crate::directory::files::{self, Tree};
use crate::document::{Problem, Problems};
use crate::domain::directory::Directory;
use crate::exchange::Snapshot;
use crate::files::Stamp;
use crate::net::{Certificate, TlsSettings};
use crate::server::{Changes, Pending, Public, Refused};
use crate::trust::Overrides;
use restless::Movement;

/// After this long a refused change is tried again.
const RETRY: Duration = Duration::from_secs(5);
const MONTH: UnixTime = 30 * 24 * 3600;

/// What follows the files.
pub(super) struct Reload {
    pub(super) public: Arc<Public>,
    pub(super) changes: Arc<Changes>,
    pub(super) config: Config,
    /// As it was read last.
    pub(super) tree: Tree,
    pub(super) overrides: Overrides,
    pub(super) certificate: Option<Arc<Certificate>>,
    pub(super) clock: Clock,
}

/// The thread that follows. It ends when this is dropped.
pub(super) struct Following {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Following {
    /// Ends the thread and waits for it.
    pub(super) fn end(self) {
        drop(self.stop);
        let _ = self.thread.join();
    }
}

impl Reload {
    /// Starts a thread of its own: reading and compiling must not hold up requests.
    pub(super) fn follow(self) -> std::io::Result<Following> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new().name("reload".to_owned());
        Ok(Following { stop, thread: thread.spawn(move || Follower::new(self).run(&stopped))? })
    }
}

struct Follower {
    reload: Reload,
    /// The files of the configuration that was read last, also of one that is refused: what is wrong may be in them.
    files: Vec<PathBuf>,
    records: Watch,
    /// The configuration file as it was read last, also where that was refused.
    text: Option<Text>,
    /// The last look, where some file has not rested for long.
    moment: Option<Moment>,
    movement: Movement,
    /// Since when a change is refused, or since it was tried again.
    refused: Option<Stopwatch>,
    pair: Watch,
    /// Since when no self-made certificate could be made anew.
    unrenewed: Option<Stopwatch>,
    /// Snapshots that a request may still use. The last owner frees a snapshot, and freeing a large one takes a worker
    /// longer than an exchange.
    retired: Vec<Arc<Snapshot>>,
}

impl Follower {
    fn new(reload: Reload) -> Self {
        let files = reload.config.watched_files();
        let records = Watch::after(reload.tree.stamps().collect());
        let text = reload.config.file().map(|(_, text)| Ok(text.to_owned()));
        let (moment, movement, refused, pair, unrenewed, retired) = Default::default();
        Self { reload, files, records, text, moment, movement, refused, pair, unrenewed, retired }
    }

    /// The first round looks at everything once more: what changed between the start's reading and now is found, too.
    fn run(mut self, stopped: &Receiver<()>) {
        // Not the audit log's thread, which grants wait for.
        self.reload.public.exchange.snapshot.load_full().directory.prepare();
        let mut pause = Duration::ZERO;
        while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            self.retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
            // Nobody else would notice that the files are not followed any more.
            pause = catch_unwind(AssertUnwindSafe(|| self.look())).unwrap_or_else(|_| {
                let problems = Problems::default();
                problems.file("the reload", "panicked", "this is a fault of ficus: please report it");
                self.refuse(problems.into_vec());
                Watch::pause(false, Duration::ZERO)
            });
        }
    }

    /// Looks at all files, and reads those that have come to rest; the pause until the next look.
    fn look(&mut self) -> Duration {
        let watch = Stopwatch::start();
        // What could not be read may be readable now, and nothing in its stamp would tell.
        if self.refused.is_some_and(|since| since.elapsed() >= RETRY) {
            self.records.read_once_more();
            self.refused = Some(watch);
        }
        let now = self.records_look();
        let took = watch.elapsed();
        self.movement.see(self.records.seen(), &now, self.reload.clock.now());
        let moment = self.moment.take();
        if self.records.is_due(&now) {
            let before = self.records.clone();
            self.records.settle(now.clone());
            if !self.change(&now) {
                self.records = before;
            }
        } else if self.records.is_overdue() {
            self.follow_restless(moment, now);
        }
        self.tell_restless();
        let now = self.pair_look();
        if self.pair.is_due(&now) {
            self.pair.settle(now);
            self.change_certificate();
        }
        self.renew();
        Watch::pause(self.records.is_restless() || self.pair.is_restless(), took)
    }

    fn records_look(&self) -> Look {
        let named = self.files.iter().cloned().map(stamped);
        named.chain(files::stamps(&self.reload.config.directory)).collect()
    }

    /// A self-made certificate has no files to follow.
    fn pair_look(&self) -> Look {
        match &self.reload.config.listen.tls {
            TlsSettings::Files { cert, key } => [cert, key].map(|path| stamped(path.clone())).into(),
            TlsSettings::SelfMade { .. } | TlsSettings::Off => Look::new(),
        }
    }

    /// Reads what has changed, and takes it over whole or not at all; `false` when it went on changing.
    fn change(&mut self, look: &Look) -> bool {
        let (problems, mut tree) = (Problems::default(), self.reload.tree.clone());
        let text = self.reload.config.read_text();
        let read = text.clone().and_then(|text| self.reload.config.again(text, &problems));
        let read = read.map(|(config, restart)| {
            let directory = config.load_directory(&mut tree, &problems);
            (config, restart, directory)
        });
        // A file that changed while others were read: what was read never was the state of the files.
        if self.records_look() != *look {
            return false;
        }
        (self.text, self.reload.tree) = (text, tree);
        self.conclude(read, problems);
        true
    }

    /// Some file does not rest, and the others have waited for it long enough: reads what the files were at the last look.
    fn follow_restless(&mut self, moment: Option<Moment>, now: Look) {
        let readings = moment.and_then(|moment| moment.readings(self.records.read(), &now));
        self.movement.judge(readings.as_ref());
        if let Some(readings) = readings {
            let read = moment::look_of(&readings);
            if self.records.is_once_more() || self.records.read() != Some(&read) {
                self.records.settle_partly(read);
                self.change_partly(&readings);
            }
        }
        self.moment = Moment::take(now, self.records.read(), || self.records_look());
    }

    /// Takes over what the files were at one moment, whole or not at all.
    fn change_partly(&mut self, readings: &Readings) {
        let Reload { config, tree, .. } = &mut self.reload;
        let Some((file, _)) = config.file() else { return };
        if let Some(Reading::New(_, text) | Reading::Replaced(_, text)) = readings.get(file) {
            self.text = Some(match text {
                Ok(text) => Ok(text.clone()),
                Err(error) => Err(error.to_string()),
            });
        }
        let problems = Problems::default();
        let read = self.text.clone().and_then(|text| config.again(text, &problems));
        let read = read.map(|(config, restart)| {
            let directory = config.take_directory(tree, readings, &self.files, &problems);
            (config, restart, directory)
        });
        self.conclude(read, problems);
    }

    fn tell_restless(&mut self) {
        let Some(restless) = self.movement.news(self.records.is_overdue()) else { return };
        let held = restless.iter().filter(|file| file.held).count();
        self.reload.public.exchange.metrics.directory.restless(held, restless.len() - held);
        self.note(|pending| pending.restless = restless);
    }

    fn conclude(&mut self, read: Option<(Config, Vec<String>, Directory)>, problems: Problems) {
        // With other files the next look differs, so that those are read once more, now that they are watched.
        if let Some((config, ..)) = &read {
            self.files = config.watched_files();
        }
        let failed = problems.any_error();
        let problems = problems.into_vec();
        let Some((config, restart, directory)) = read.filter(|_| !failed) else {
            return self.refuse(problems);
        };
        self.refused = None;
        self.apply(config, directory, &problems);
        if !restart.is_empty() && self.reload.changes.load().restart != restart {
            tracing::warn!(keys = restart.join(", "), "changed settings wait for a restart");
        }
        self.note(|pending| (pending.refused, pending.restart) = (None, restart));
    }

    fn apply(&mut self, config: Config, directory: Directory, warnings: &[Problem]) {
        let Reload { public, overrides, clock, .. } = &self.reload;
        let exchange = &public.exchange;
        let current = exchange.snapshot.load_full();
        let before = &self.reload.config;
        let same_sources = before.trust == config.trust && before.issuers == config.issuers;
        if same_sources && current.directory.digest() == directory.digest() {
            self.reload.config = config;
            return;
        }
        let named = directory.named_issuers().into_iter();
        let issuers = current.issuers.renewed(named, &config.issuers, &config.trust, overrides);
        issuers.restore(Some(&current.issuers));
        let snapshot = Arc::new(Snapshot {
            issuers,
            pace: current.pace.renewed(&directory),
            directory: Arc::new(directory.succeeding(&current.directory, clock.now())),
            generation: current.generation + 1,
            since: clock.now(),
        });
        let metrics = &exchange.metrics.directory;
        exchange.snapshot.store(Arc::clone(&snapshot));
        // It decides already: what is taken away must not wait for this.
        snapshot.directory.prepare();
        metrics.applied.inc();
        metrics.show(&snapshot.directory, snapshot.generation);
        tracing::info!(
            generation = snapshot.generation,
            digest = snapshot.directory.digest(),
            "a change is live"
        );
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        self.retired.push(current);
        self.reload.config = config;
    }

    /// Keeps the last good state. The same problems are told once, however often the files are written.
    fn refuse(&mut self, problems: Vec<Problem>) {
        self.refused = Some(Stopwatch::start());
        let told = self.reload.changes.load();
        if told.refused.as_ref().is_some_and(|refused| refused.problems == problems) {
            return;
        }
        self.reload.public.exchange.metrics.directory.refused.inc();
        tracing::error!(problems = problems.len(), "a change is refused; the state before it serves");
        for problem in &problems {
            tracing::error!("{problem}");
        }
        let at = self.reload.clock.now();
        self.note(|pending| pending.refused = Some(Refused { at, problems }));
    }

    /// A self-made certificate is made anew a month before it ends, or when the clock has been set to a time outside it.
    fn renew(&mut self) {
        let Reload { config, certificate: Some(certificate), clock, .. } = &self.reload else { return };
        let now = clock.now();
        let lasts = certificate
            .validity()
            .is_some_and(|valid| valid.contains(&now) && valid.contains(&(now + MONTH)));
        let tried = self.unrenewed.is_some_and(|since| since.elapsed() < RETRY);
        if lasts || tried || now < EARLIEST || !matches!(config.listen.tls, TlsSettings::SelfMade { .. }) {
            return;
        }
        self.unrenewed = (!self.change_certificate()).then(Stopwatch::start);
    }

    /// The pair is a change of its own: a certificate that is not renewed in order must not hold back what is taken away.
    fn change_certificate(&self) -> bool {
        let Reload { config, certificate, clock, .. } = &self.reload;
        let Some(certificate) = certificate else { return true };
        let refused = match config.listen.tls.load(&config.public_host(), clock.now()) {
            Ok(Some(key)) => {
                certificate.replace(key);
                None
            }
            Ok(None) => None,
            Err(error) => {
                tracing::error!(%error, "a change of the TLS certificate is refused; the one before serves");
                let problems = Problems::default();
                problems.file(&error.place, error.message, error.hint);
                Some(Refused { at: clock.now(), problems: problems.into_vec() })
            }
        };
        let changed = refused.is_none();
        self.note(|pending| pending.certificate = refused);
        changed
    }

    fn note(&self, change: impl FnOnce(&mut Pending)) {
        let mut pending = Pending::clone(&self.reload.changes.load());
        change(&mut pending);
        self.reload.changes.store(Arc::new(pending));
    }
}

fn stamped(path: PathBuf) -> (PathBuf, Option<Stamp>) {
    let stamp = Stamp::of(&path).ok();
    (path, stamp)
}

//! The composition root: everything is put together here and nowhere else.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::reload::{Following, Reload};
use crate::audit::{Audit, AuditError};
use crate::clock::Clock;
use crate::config::{Config, ListenSettings};
use crate::directory::files::Tree;
use crate::domain::directory::Directory;
use crate::exchange::{Exchange, Pace, Remembered, Snapshot, Used};
use crate::metrics::Metrics;
use crate::net::{
    Addresses, Bodies, Certificate, Gauges, Limits, Listener, Setup, TlsError, TlsSettings,
    room_for_connections,
};
use crate::server::{Operations, Public, Turns, serve_operations};
use crate::signing::{self, FolderError, Keys};
use crate::trust::{Issuers, Overrides};
use crate::wire::Wire;

/// How often it is looked which issuers' keys are due.
const TENDING: Duration = Duration::from_secs(1);
/// How often kept key sets that nobody needs are removed.
const SWEEPING: Duration = Duration::from_secs(3600);

/// What a broker is made of.
pub struct Parts {
    /// Checked configuration.
    pub config: Config,
    /// The directory's files as they were read; empty for records that are compiled in.
    pub tree: Tree,
    /// Checked directory.
    pub directory: Directory,
    /// Issuers that are fetched from somewhere else, in memory only.
    pub overrides: Overrides,
    /// Time.
    pub clock: Clock,
}

/// Sockets that are bound before anything else, so that a port in use is found out first, and port 0 has its number.
pub struct Listeners {
    public: Listener,
    operations: Listener,
}

impl Listeners {
    /// Binds both addresses.
    ///
    /// # Errors
    /// When a port is in use or may not be bound.
    pub fn bind(settings: &ListenSettings) -> std::io::Result<Self> {
        Ok(Self {
            public: Listener::bind(settings.address)?,
            operations: Listener::bind(settings.ops_address)?,
        })
    }

    /// The public listener's address.
    pub fn public_address(&self) -> SocketAddr {
        self.public.local_addr()
    }
}

/// Why a broker does not start. Each is one readable line with a hint.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each is the error of the room it names")]
pub enum StartError {
    #[error(transparent)]
    Keys(#[from] FolderError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

/// A running broker.
pub struct Broker {
    public: Arc<Public>,
    public_address: SocketAddr,
    ops_address: SocketAddr,
    ca_file: Option<PathBuf>,
    /// Ends with the broker.
    _following_keys: signing::Following,
    tending: Option<AbortHandle>,
    stop_public: oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
    stop_operations: oneshot::Sender<()>,
    operations: JoinHandle<()>,
    following: Option<Following>,
}

impl Broker {
    /// Starts serving. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// When the keys, the certificate or the audit log can't be used.
    pub fn start(listeners: Listeners, parts: Parts) -> Result<Self, StartError> {
        let Parts { config, tree, directory, overrides, clock } = parts;
        let keys = Keys::open(&config.keys, clock.now())?;
        let following_keys = keys.follow(&config.keys, clock.clone());
        let certificate = config.listen.tls.load(&config.public_host(), clock.now())?;
        let certificate = certificate.map(Certificate::new);
        let tls = certificate.as_ref().map(Certificate::server_config);
        let named = directory.named_issuers().into_iter();
        let issuers = Issuers::new(named, &config.issuers, &config.trust, &overrides);
        issuers.restore(None);
        let snapshot = Snapshot {
            issuers,
            pace: Pace::new(config.limits.per_identity, &directory),
            directory: Arc::new(directory),
            generation: 1,
            since: clock.now(),
        };
        let exchange = Exchange {
            keys,
            audit: Audit::open(&config.audit, clock.clone())?,
            metrics: {
                let metrics = Metrics::new()?;
                metrics.directory.show(&snapshot.directory, snapshot.generation);
                Arc::new(metrics)
            },
            snapshot: ArcSwap::from_pointee(snapshot),
            clock: clock.clone(),
            used: Used::new(config.limits.one_time_entries),
            remembered: Remembered::new(config.tokens),
            assertion_limit: config.limits.assertion,
        };
        let wire = Wire {
            is_local: config.is_local(),
            public_url: config.public_url.clone(),
            clock: clock.clone(),
            jwks_max_age: config.keys.jwks_max_age.as_secs(),
        };
        let public = Arc::new(Public {
            exchange,
            wire,
            addresses: config.limits.per_address.map(Addresses::new),
            bodies: Bodies::new(config.limits.bodies),
            turns: Turns::new(config.limits.queue_time),
            limits: config.limits.clone(),
        });
        let gauges = Arc::new(Gauges::default());
        let limits = within_descriptors(config.limits.clone());
        let setup = Setup { tls, limits, gauges, ..Setup::default() };
        let changes = Arc::default();
        let reload = Reload { public, changes, config, tree, overrides, certificate, clock };
        Self::serve(listeners, setup, reload, following_keys)
    }

    fn serve(
        listeners: Listeners,
        setup: Setup,
        reload: Reload,
        following_keys: signing::Following,
    ) -> Result<Self, StartError> {
        let (public_address, ops_address) =
            (listeners.public.local_addr(), listeners.operations.local_addr());
        let (public, changes) = (reload.public.clone(), reload.changes.clone());
        let (gauges, certificate) = (setup.gauges.clone(), reload.certificate.clone());
        let operations = Operations { public: public.clone(), gauges, certificate, changes };
        let (stop_operations, stopped) = oneshot::channel();
        let operations = serve_operations(listeners.operations, operations, stopped)?;
        let (stop_public, stopped) = oneshot::channel();
        let service = {
            let public = public.clone();
            move |request, peer| public.clone().answer(request, peer)
        };
        let serving = tokio::spawn(listeners.public.serve(setup, service, stopped));
        tracing::info!(
            url = public.wire.public_url,
            address = %public_address,
            operations = %ops_address,
            directory = public.exchange.snapshot.load().directory.digest(),
            "ready"
        );
        let ca_file = ca_file(&reload.config.listen.tls);
        // Records that are compiled in can't change.
        let following = if reload.config.has_file() { Some(reload.follow()?) } else { None };
        Ok(Self {
            public,
            following,
            public_address,
            ops_address,
            ca_file,
            _following_keys: following_keys,
            tending: None,
            stop_public,
            serving,
            stop_operations,
            operations,
        })
    }

    /// Where the public listener is.
    pub fn public_address(&self) -> SocketAddr {
        self.public_address
    }

    /// Where the operations listener is.
    pub fn ops_address(&self) -> SocketAddr {
        self.ops_address
    }

    /// The authority.
    pub fn public_url(&self) -> &str {
        &self.public.wire.public_url
    }

    /// The directory that decides now.
    pub fn directory(&self) -> Arc<Directory> {
        self.public.exchange.snapshot.load().directory.clone()
    }

    /// Counts what has decided so far: each change that goes live is one more.
    pub fn generation(&self) -> u64 {
        self.public.exchange.snapshot.load().generation
    }

    /// The CA that clients must trust, when it is of our own making.
    pub fn ca_file(&self) -> Option<&PathBuf> {
        self.ca_file.as_ref()
    }

    /// Fetches every issuer's keys once, also of those that a change adds, from then on refreshes those in use, and removes
    /// kept ones that nobody needs, until the broker stops. Nobody waits for it, and everything works without it: requests
    /// then fetch what they need.
    pub fn tend_issuers(&mut self) {
        let public = self.public.clone();
        let tending = tokio::spawn(async move {
            let exchange = &public.exchange;
            let (mut ticks, mut sweeps) = (tokio::time::interval(TENDING), tokio::time::interval(SWEEPING));
            let mut prefetched = None;
            loop {
                tokio::select! {
                    _ = ticks.tick() => {
                        let snapshot = exchange.snapshot.load();
                        if prefetched.replace(snapshot.generation) != Some(snapshot.generation) {
                            snapshot.issuers.prefetch(exchange.clock.clone());
                        }
                        snapshot.issuers.tend(exchange.clock.now());
                    }
                    _ = sweeps.tick() => {
                        let (snapshot, now) = (exchange.snapshot.load_full(), exchange.clock.now());
                        tokio::task::spawn_blocking(move || snapshot.issuers.sweep(now));
                    }
                }
            }
        });
        self.tending = Some(tending.abort_handle());
    }

    /// Stops accepting, finishes requests in flight, writes what the audit log still waits for.
    pub async fn stop(self) {
        let _ = self.stop_public.send(());
        if let Some(tending) = self.tending {
            tending.abort();
        }
        if let Ok(Err(error)) = self.serving.await {
            tracing::error!(%error, "the public listener ended");
        }
        let _ = self.stop_operations.send(());
        let (public, operations, following) = (self.public, self.operations, self.following);
        // All wait for threads, which must not hold up the runtime.
        let _ = tokio::task::spawn_blocking(move || {
            if let Some(following) = following {
                following.end();
            }
            public.exchange.audit.close();
            let _ = operations.join();
        })
        .await;
    }
}

/// The limit of connections, lowered where the process may not open as many files.
fn within_descriptors(limits: Limits) -> Limits {
    let room = room_for_connections();
    if limits.connections > room {
        let wanted = limits.connections;
        tracing::warn!(
            wanted,
            room,
            "fewer connections than limits.connections: raise the limit of open files (ulimit -n)"
        );
    }
    Limits { connections: limits.connections.min(room), ..limits }
}

fn ca_file(tls: &TlsSettings) -> Option<PathBuf> {
    match tls {
        TlsSettings::SelfMade { folder } => Some(folder.join("ca.pem")),
        TlsSettings::Files { .. } | TlsSettings::Off => None,
    }
}

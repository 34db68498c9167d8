//! `ficus serve`.

use clap::Args;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::broker::{Broker, Listeners, Parts};
use super::{ConfigArgs, Failure, load, run_server, settle};
use crate::clock::Clock;
use crate::directory::files::Tree;
use crate::document::Problems;
use crate::net::TlsSettings;
use crate::trust::Overrides;

#[derive(Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// With tls = "off", listen on an address that other machines reach: only behind a proxy that does TLS.
    #[arg(long)]
    allow_remote: bool,
}

pub(super) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let (config, problems) = load(&args.config, Problems::default())?;
    let mut tree = Tree::default();
    let directory = config.load_directory(&mut tree, &problems);
    settle(problems)?;
    if matches!(config.listen.tls, TlsSettings::Off) && config.listen.is_remote() && !args.allow_remote {
        return Err(Failure::Line(format!(
            "listen.address {} can be reached from other machines and tls is \"off\": tokens would cross the network in \
             the clear (hint: --allow-remote if a proxy in front does TLS)",
            config.listen.address
        )));
    }
    hide_memory();
    run_server(async {
        let mut stop = Stop::listen()?;
        let listeners = Listeners::bind(&config.listen)?;
        let parts = Parts { config, tree, directory, overrides: Overrides::new(), clock: Clock::system() };
        let mut broker = Broker::start(listeners, parts)?;
        broker.tend_issuers();
        stop.requested().await;
        tracing::info!("stopping: requests in flight are finished first");
        broker.stop().await;
        Ok(())
    })
}

/// A core dump of the broker would hold its signing keys and the tokens that pass through: it leaves none, and other processes
/// of its user may not look into it.
fn hide_memory() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "core dumps can't be turned off, and would hold keys");
    }
}

/// SIGTERM and Ctrl-C, caught from the moment this is made: one that comes during the start ends it in order, too.
///
/// SIGXFSZ is caught with them and means nothing: writing past the limit on the size of files (`ulimit -f`) is then an error as
/// on a disk that is full, where it would else end the process.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    pub(super) fn listen() -> std::io::Result<Self> {
        drop(signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Resolves once either has come.
    pub(super) async fn requested(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

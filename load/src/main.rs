//! `ficus-load`: see README.md of this folder.

mod args;
mod asserts;
mod broker;
mod check;
mod client;
mod echo;
mod engine;
mod faults;
mod growth;
mod issuer;
mod limits;
mod process;
mod recorder;
mod report;
mod run;
mod sampler;
mod scenario;
mod shape;
mod show;
mod signer;
mod stock;
mod tokens;
mod world;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use args::{Cli, Command, RunArgs};
use issuer::Issuer;
use scenario::{KNOWN, Scenario};
use world::World;

/// The broker's, so that both sides of the comparison have the same.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What ends a run early, in one line.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// As a shell reports a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;
/// How long `prepare` serves.
const PREPARED: Duration = Duration::from_secs(3600);

fn main() -> ExitCode {
    let cli = Cli::parse();
    command(&cli).unwrap_or_else(|failure| {
        show::note(&format!("ficus-load: {failure}"));
        ExitCode::FAILURE
    })
}

fn command(cli: &Cli) -> Result<ExitCode, Failure> {
    match &cli.command {
        Some(Command::Guard { parent, program }) => process::guard(*parent, program),
        Some(Command::Echo) => echo::serve().map(|()| ExitCode::SUCCESS),
        Some(Command::Compare { first, second }) => {
            show::line(report::compare(first, second)?.trim_end());
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Growth(args)) => {
            until_interrupted(async { growth::run(args).await.map(|()| ExitCode::SUCCESS) })
        }
        Some(Command::Prepare { folder, scenario }) => until_interrupted(prepare(folder, scenario)),
        None if cli.run.list => {
            for (name, text) in KNOWN {
                show::line(&format!("{name:20} {}", Scenario::parse(name, text)?.about));
            }
            Ok(ExitCode::SUCCESS)
        }
        None => until_interrupted(runs(&cli.run)),
    }
}

/// On this thread: children end with the thread that started them. On Ctrl-C or SIGTERM everything is dropped, and
/// children with it.
fn until_interrupted(work: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    // Each connection is an open file, here as there.
    ficus::net::room_for_connections();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            done = work => return done,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        show::note("interrupted: nothing is left running");
        Ok(ExitCode::from(INTERRUPTED))
    });
    // Signing that goes on is nobody's any more.
    runtime.shutdown_background();
    done
}

async fn runs(args: &RunArgs) -> Result<ExitCode, Failure> {
    let mut all_hold = true;
    for name in scenario::named(&args.scenarios) {
        let mut scenario = Scenario::find(name)?;
        scenario.change(args)?;
        let report = run::run(args, &scenario).await?;
        let folder = args.common.out.join(&report.scenario);
        report.write(&folder)?;
        show::line(&show::table(&report));
        show::line(&format!("  {}", folder.join("report.html").display()));
        all_hold &= report.holds();
    }
    Ok(if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn prepare(folder: &Path, scenario: &str) -> Result<ExitCode, Failure> {
    let scenario = Scenario::find(scenario)?;
    let issuer = Issuer::start(&folder.join("issuer"), scenario.directory.issuers)?;
    let world = World::write(folder, &scenario.directory, &issuer)?;
    let (file, public, ops) = (world.config_file(), &world.public_url, &world.ops_url);
    let (file, shown) = (file.display(), folder.display());
    show::line(&format!(
        "issuer {}, vouched for by {shown}/issuer.pem, keys also in {shown}/issuer/jwks.json\n\
         a broker:  ficus keys init --config {file}; ficus serve --config {file}\n\
         its load:  ficus-load --scenario {} --folder {shown} --target {public} --ops {ops} --audit {}",
        issuer.url(0),
        scenario.name,
        world.audit_file().display(),
    ));
    tokio::time::sleep(PREPARED).await;
    Ok(ExitCode::SUCCESS)
}

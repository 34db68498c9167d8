//! The command line: arguments, exit codes, one file a command.
//!
//! Exit codes: 0 done (also after SIGTERM), 1 refused, invalid or port in use, 2 usage, 69 upstream unavailable.

mod audit;
pub mod broker;
mod check;
mod dev;
mod emulate;
mod explain;
mod health;
mod keys;
mod output;
mod proposal;
mod records;
mod reload;
mod samples;
mod serve;
mod token;
mod wait;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::config::Config;
use crate::document::{Problem, Problems};

/// A federated token exchange broker: exchanges the OIDC token that a CI job or pod already has for a short-lived,
/// Entra-shaped access token. Without a command, runs `ficus dev`.
#[derive(Parser)]
#[command(name = "ficus", version, propagate_version = true)]
struct Cli {
    /// Log filter in the form of tracing's directives, such as "info" or "ficus=debug". Logs go to stderr.
    #[arg(long, global = true, env = "FICUS_LOG", default_value = "info", value_name = "FILTER")]
    log: String,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Start a broker with a sample directory and emulated GitHub, GitLab, GKE and AKS, show an exchange of each and one
    /// refusal, and stay up.
    Dev(dev::DevArgs),
    /// Emulate the token issuers of GitHub, GitLab, GKE and AKS alone, until SIGTERM or Ctrl-C; or, with `vault`, an API
    /// that accepts the broker's tokens.
    Emulate(emulate::EmulateArgs),
    /// Run the broker until SIGTERM or Ctrl-C.
    Serve(serve::ServeArgs),
    /// Check the configuration and the directory; prints every problem with file, key and hint, and exits 1 if there are any.
    Check(check::CheckArgs),
    /// Tell why a token is accepted or refused, credential by credential. Exits 0 when it would be granted, 1 when refused,
    /// 69 when its issuer's keys can't be had. Shows claims, never the token.
    Explain(explain::ExplainArgs),
    /// Ask the record of decisions who got what, and who was refused and why. Exits 0 also when nothing fits.
    ///
    /// Shows the records that fit all that is asked for. What names a value may be given several times, then any of them fits; in
    /// texts, * stands for any characters. The last column of the table is the correlation id, or its beginning, as
    /// --correlation-id takes it with a * behind, here and in `ficus explain`.
    Audit(Box<audit::AuditArgs>),
    /// Ask a running broker whether it is ready; exits 0 when it is, else 1. For health checks of containers.
    Health(health::HealthArgs),
    /// Look after our signing keys.
    Keys(keys::KeysArgs),
    /// For CI jobs and pods: exchange the platform's OIDC token at a broker, and hand the token over. Exits 1 when it is
    /// refused, 69 when broker or platform can't be had. Needs no file.
    Token(token::TokenArgs),
    /// Wait until every replica serves a directory. Exits 0 when all do, 1 when the time is over and a replica has refused the
    /// change or still serves another, 69 when one can't be reached. Says which, and how long it took.
    Wait(wait::WaitArgs),
}

/// Names the configuration file.
#[derive(Args)]
struct ConfigArgs {
    /// The configuration file.
    #[arg(long, env = "FICUS_CONFIG", default_value = "config/ficus.toml", value_name = "FILE")]
    config: PathBuf,
}

/// EX_UNAVAILABLE of sysexits.h: what we need of somebody else can't be had.
const UNAVAILABLE: u8 = 69;

/// What clap exits with, too.
const USAGE: u8 = 2;

/// What ends a command early: one readable line, or the problems of files.
enum Failure {
    Line(String),
    Problems(Vec<Problem>),
    /// What was asked contradicts itself.
    Usage(String),
    /// Everything has been said; only the exit code is left.
    Code(u8),
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Line(error.to_string())
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(failure) = start_log(&cli.log).and_then(|()| run(cli.command)) {
        match failure {
            Failure::Line(line) => output::error(&line),
            Failure::Problems(problems) => output::problems(&problems),
            Failure::Usage(line) => {
                output::error(&line);
                return ExitCode::from(USAGE);
            }
            Failure::Code(code) => return ExitCode::from(code),
        }
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run(command: Option<Command>) -> Result<(), Failure> {
    match command.unwrap_or_else(|| Command::Dev(dev::DevArgs::default())) {
        Command::Dev(args) => dev::run(&args),
        Command::Emulate(args) => emulate::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Keys(args) => keys::run(&args),
        Command::Token(args) => token::run(&args),
        Command::Wait(args) => wait::run(&args),
    }
}

fn start_log(filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::Line(format!("--log {filter:?}: {error} (hint: for example info or ficus=debug)"))
    })?;
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal);
    // A terminal gets lines for people, anything else lines for machines.
    if terminal {
        log.init()
    } else {
        log.json().flatten_event(true).init()
    }
    Ok(())
}

/// Loads the configuration; warnings are printed, errors end the command.
fn load(args: &ConfigArgs, problems: Problems) -> Result<(Config, Problems), Failure> {
    match Config::load(&args.config, variables(), &problems) {
        Some(config) => Ok((config, problems)),
        None => Err(Failure::Problems(problems.into_vec())),
    }
}

/// The environment. Variables that are not UTF-8 can't name or set a key.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Ends the command when there are errors; prints warnings otherwise.
fn settle(problems: Problems) -> Result<(), Failure> {
    let failed = problems.any_error();
    let problems = problems.into_vec();
    if failed {
        return Err(Failure::Problems(problems));
    }
    output::problems(&problems);
    Ok(())
}

/// Runs what serves until it is told to stop. Then all that matters is done: a worker that a hanging disk keeps is not waited for.
fn run_server(server: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = runtime()?;
    let result = runtime.block_on(server);
    runtime.shutdown_background();
    result
}

/// The runtime that serves requests: a worker for each core.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// The path from the root, as far as it can be told.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The same as one word of a shell.
fn shell_quoted(path: &Path) -> String {
    format!("'{}'", absolute(path).display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_worker_that_is_kept_does_not_keep_a_server_from_ending() {
        let (may_go, kept) = mpsc::channel::<()>();
        let (came, has_come) = tokio::sync::oneshot::channel();
        let (ended, has_ended) = mpsc::channel();
        let server = async move {
            tokio::spawn(async move {
                let _ = came.send(());
                // As a write does on a disk that hangs.
                let _ = kept.recv();
            });
            let _ = has_come.await;
            Ok(())
        };
        thread::spawn(move || ended.send(run_server(server).is_ok()));
        assert_eq!(has_ended.recv_timeout(Duration::from_secs(20)), Ok(true));
        drop(may_go);
    }
}

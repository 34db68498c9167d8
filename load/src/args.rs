//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::asserts::Assert;
use crate::growth::Grows;
use crate::scenario::DEFAULT;
use crate::stock::Dialect;

/// Puts a ficus broker under load, and holds what it costs against what this machine allows. Without arguments: builds and
/// starts a broker and an issuer, runs the scenario fresh-rs256, prints a table, writes report.json and report.html.
///
/// Exit codes: 0 everything held, 1 an assertion or a cross-check is broken or the run failed, 2 usage, 130 Ctrl-C.
#[derive(Parser)]
#[command(name = "ficus-load", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Print the ratios of two reports' figures, the second by the first.
    Compare {
        /// A report.json.
        first: PathBuf,
        /// Another.
        second: PathBuf,
    },
    /// Run a series: a broker for each size of identities, credentials, issuers, roles and connections, and what an exchange costs
    /// there. Prints a table and one in Markdown; growth.json, growth.md and growth.svg go to the folder growth of --out.
    Growth(GrowthArgs),
    /// Write configuration, directory, keys and CA for a broker or peer that is started by hand, and serve the issuer's
    /// documents until Ctrl-C, for an hour at most.
    Prepare {
        /// Where to; runs name it with --folder.
        folder: PathBuf,
        /// Whose directory.
        #[arg(long, default_value = DEFAULT)]
        scenario: String,
    },
    /// Become another program, which ends with us.
    #[command(hide = true)]
    Guard {
        parent: u32,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        program: Vec<String>,
    },
    /// Answer with so many bytes.
    #[command(hide = true)]
    Echo,
}

#[derive(Default, Args)]
pub(crate) struct RunArgs {
    /// A known scenario, a file that ends in .toml, or "all" (but soak and smoke); may be repeated.
    #[arg(long = "scenario", short, default_value = DEFAULT, value_name = "NAME")]
    pub(crate) scenarios: Vec<String>,
    /// Show the known scenarios.
    #[arg(long)]
    pub(crate) list: bool,
    #[command(flatten)]
    pub(crate) common: Common,
    /// Connections, instead of the scenario's.
    #[arg(long, value_name = "N")]
    pub(crate) connections: Option<usize>,
    /// The version of HTTP, 1 or 2, instead of the scenario's.
    #[arg(long, value_name = "VERSION")]
    pub(crate) http: Option<usize>,
    /// Requests at a time on each connection, with HTTP/2.
    #[arg(long, value_name = "N")]
    pub(crate) streams: Option<usize>,
    /// Keep everything that is generated here; else it is gone with the run.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) elsewhere: Elsewhere,
}

/// What one run and a series of them are told alike.
#[derive(Clone, Default, Args)]
pub(crate) struct Common {
    /// What must hold, as in p99<20ms, errors==0, cpu_ratio<1.2, open.p50<2ms; any figure of report.json. May be repeated.
    #[arg(long = "assert", value_name = "CONDITION")]
    pub(crate) asserts: Vec<Assert>,
    /// Where reports go: report.json and report.html, in a folder of the scenario's name.
    #[arg(long, default_value = "data/load", value_name = "FOLDER")]
    pub(crate) out: PathBuf,
    /// The broker's program, instead of building it.
    #[arg(long, value_name = "FILE")]
    pub(crate) broker: Option<PathBuf>,
    /// Don't measure what the machine allows: no ratios.
    #[arg(long)]
    pub(crate) no_limits: bool,
    /// Seconds of the last phase, instead of the scenario's.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) seconds: Option<f64>,
    /// Different assertions, instead of the scenario's.
    #[arg(long, value_name = "N")]
    pub(crate) pool: Option<usize>,
}

#[derive(Args)]
pub(crate) struct GrowthArgs {
    /// What grows, instead of everything in turn; may be repeated.
    #[arg(long = "axis", value_enum, value_name = "NAME")]
    pub(crate) axes: Vec<Grows>,
    /// Another series than the one that is compiled in.
    #[arg(long, value_name = "FILE")]
    pub(crate) series: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// What runs already.
#[derive(Default, Args)]
pub(crate) struct Elsewhere {
    /// A broker that runs already on this machine, with the configuration of `prepare FOLDER`.
    #[arg(long, value_name = "URL", requires = "folder", conflicts_with = "peer_url")]
    pub(crate) target: Option<String>,
    /// The target's operations listener, for the cross-checks.
    #[arg(long, value_name = "URL", requires = "target")]
    pub(crate) ops: Option<String>,
    /// The target's audit log, for the cross-checks.
    #[arg(long, value_name = "FILE", requires = "target")]
    pub(crate) audit: Option<PathBuf>,
    /// A token endpoint of any server on this machine that trusts the issuer of `prepare FOLDER`.
    #[arg(long, value_name = "URL", requires = "folder")]
    pub(crate) peer_url: Option<String>,
    /// How the peer wants assertions to be presented.
    #[arg(long, value_enum, default_value = "rfc8693", requires = "peer_url")]
    pub(crate) peer_dialect: Dialect,
    /// A parameter of each request, such as client_id=x or scope=y, more or in place of the dialect's; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair, requires = "peer_url")]
    pub(crate) peer_param: Vec<(String, String)>,
    /// The assertions' issuer for the peer, ours by default; as a client's own assertion it is the client_id (RFC 7523).
    #[arg(long, value_name = "ISSUER", requires = "peer_url")]
    pub(crate) peer_issuer: Option<String>,
    /// The assertions' subject for the peer.
    #[arg(long, default_value = "load", requires = "peer_url")]
    pub(crate) peer_subject: String,
    /// The assertions' audience for the peer.
    #[arg(long, default_value = "load", requires = "peer_url")]
    pub(crate) peer_audience: String,
    /// The peer's key set, which verifies a sample of its tokens.
    #[arg(long, value_name = "URL", requires = "peer_url")]
    pub(crate) peer_keys: Option<String>,
    /// The certificate authority of a target or peer; a target's own by default.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Processes of a target or peer, for their processor time and memory; may be repeated.
    #[arg(long, value_name = "PID")]
    pub(crate) pid: Vec<u32>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        let cli = Cli::try_parse_from(["x", "--assert", "p99<20ms", "--assert", "errors==0"]).unwrap();
        assert_eq!(
            (cli.run.common.asserts.len(), cli.run.scenarios.as_slice()),
            (2, &[DEFAULT.to_owned()][..])
        );
        for wrong in [&["--assert", "p99"][..], &["--peer-param", "x"], &["--target", "https://localhost:1"]]
        {
            assert!(Cli::try_parse_from([&["x"], wrong].concat()).is_err(), "{wrong:?}");
        }
        let asked = ["x", "growth", "--axis", "roles", "--axis", "issuers", "--seconds", "1"];
        let Some(Command::Growth(growth)) = Cli::try_parse_from(asked).unwrap().command else { panic!() };
        assert_eq!((growth.axes, growth.common.seconds), (vec![Grows::Roles, Grows::Issuers], Some(1.0)));
        assert!(Cli::try_parse_from(["x", "growth", "--axis", "height"]).is_err());
    }
}

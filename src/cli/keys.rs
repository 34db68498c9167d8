//! `ficus keys`.

use std::time::{Duration, UNIX_EPOCH};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{ConfigArgs, Failure, load, output, settle};
use crate::clock::{Clock, UnixTime};
use crate::document::Problems;
use crate::signing::{self, ListedKey, Pace, Rotated, Settings};

#[derive(Args)]
pub(super) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Make the first signing keys, one RS256 and one ES256, in the folder that the configuration names.
    Init(ConfigArgs),
    /// Show the keys that are published: which sign, since when, and when the others leave the JWKS.
    List(ListArgs),
    /// Announce new keys, which sign after keys.announce_for. A running broker follows the folder.
    Rotate(RotateArgs),
    /// Take a key out of JWKS and signing at once; if it was signing, a new one signs from now on.
    Revoke(RevokeArgs),
}

#[derive(Args)]
struct ListArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON, with times in seconds since 1970.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct RotateArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Sign with the new keys in 5 seconds: resources that cache the JWKS must read it anew.
    #[arg(long)]
    now: bool,
}

#[derive(Args)]
struct RevokeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The key's id, as `ficus keys list` shows it.
    // One in 64 begins with a hyphen.
    #[arg(value_name = "KID", allow_hyphen_values = true)]
    kid: String,
}

pub(super) fn run(args: &KeysArgs) -> Result<(), Failure> {
    match &args.command {
        KeysCommand::Init(config) => init(&settings(config)?),
        KeysCommand::List(args) => list(&settings(&args.config)?, args.json),
        KeysCommand::Rotate(args) => rotate(&settings(&args.config)?, args.now),
        KeysCommand::Revoke(args) => revoke(&settings(&args.config)?, &args.kid),
    }
}

fn settings(config: &ConfigArgs) -> Result<Settings, Failure> {
    let (config, problems) = load(config, Problems::default())?;
    settle(problems)?;
    Ok(config.keys)
}

fn init(settings: &Settings) -> Result<(), Failure> {
    let kids = signing::create(&settings.path, Clock::system().now())?;
    output::print(&format!("made {} keys in {}\n{}", kids.len(), settings.path.display(), lines(&kids)));
    Ok(())
}

fn list(settings: &Settings, as_json: bool) -> Result<(), Failure> {
    let keys = signing::list(&settings.path, Clock::system().now())?;
    if as_json {
        output::print(&format!("{:#}\n", json!({ "keys": keys })));
        return Ok(());
    }
    output::print(&row(["KID", "ALG", "STATE", "CREATED", "SIGNS FROM", "LEAVES JWKS AT"]));
    for ListedKey { kid, alg, state, created, signs_from, leaves } in keys {
        let leaves = leaves.map_or_else(|| "-".to_owned(), moment);
        output::print(&row([&kid, alg, state, &moment(created), &moment(signs_from), &leaves]));
    }
    Ok(())
}

fn rotate(settings: &Settings, now: bool) -> Result<(), Failure> {
    let seconds = i64::try_from(settings.announce_for.as_secs()).unwrap_or(i64::MAX);
    let pace = if now { Pace::Now } else { Pace::Announced(seconds) };
    output::print(&match signing::rotate(&settings.path, pace, &Clock::system())? {
        Rotated::Made { kids, signs_from } => {
            format!("made {} keys; they sign from {}\n{}", kids.len(), moment(signs_from), lines(&kids))
        }
        Rotated::AlreadyAnnounced { signs_from } => format!(
            "nothing to do: new keys are announced already and sign from {} (--now makes others that sign at once)\n",
            moment(signs_from)
        ),
    });
    Ok(())
}

fn revoke(settings: &Settings, kid: &str) -> Result<(), Failure> {
    let replacement = signing::revoke(&settings.path, kid, &Clock::system())?;
    let signs = replacement.map(|new| format!("it was signing; now {new} signs\n")).unwrap_or_default();
    output::print(&format!("revoked {kid}: it is out of the JWKS\n{signs}"));
    Ok(())
}

fn lines(kids: &[String]) -> String {
    kids.iter().map(|kid| format!("  {kid}\n")).collect()
}

/// Columns as wide as the longest key id and a moment.
fn row([kid, alg, state, created, signs_from, leaves]: [&str; 6]) -> String {
    format!("{kid:<43}  {alg:<5}  {state:<9}  {created:<20}  {signs_from:<20}  {leaves}\n")
}

fn moment(at: UnixTime) -> String {
    let since = Duration::from_secs(u64::try_from(at).unwrap_or_default());
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}

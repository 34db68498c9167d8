//! `ficus keys`.

use clap::{Args, Subcommand};

use super::{ConfigArgs, Failure, load, output, settle};
use crate::clock::Clock;
use crate::document::Problems;
use crate::signing;

#[derive(Args)]
pub(super) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Make the first signing keys, one RS256 and one ES256, in the folder that the configuration names.
    Init(ConfigArgs),
}

pub(super) fn run(args: &KeysArgs) -> Result<(), Failure> {
    let KeysCommand::Init(config) = &args.command;
    let (config, problems) = load(config, Problems::default())?;
    settle(problems)?;
    let ids = signing::create(&config.keys.path, Clock::system().now())?;
    output::print(&format!("made {} keys in {}\n", ids.len(), config.keys.path.display()));
    for id in ids {
        output::print(&format!("  {id}\n"));
    }
    Ok(())
}

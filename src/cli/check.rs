//! `ficus check`.

use clap::Args;

use super::{ConfigArgs, Failure, load, output, settle};
use crate::clock::Clock;
use crate::directory::files::Tree;
use crate::document::Problems;
use crate::net::TlsSettings;

#[derive(Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print the configuration that is in force, with defaults and variables, as TOML. Files are named, never shown.
    #[arg(long)]
    print: bool,
}

pub(super) fn run(args: &CheckArgs) -> Result<(), Failure> {
    let problems = if args.print { Problems::with_values() } else { Problems::default() };
    let (config, problems) = load(&args.config, problems)?;
    // Before the directory is read, whose records are values, too.
    let effective = problems.effective();
    let directory = config.load_directory(&mut Tree::default(), &problems);
    // A certificate of one's own can be read without making anything; a self-made one is made at the start.
    if matches!(config.listen.tls, TlsSettings::Files { .. })
        && let Err(error) = config.listen.tls.load(&config.public_host(), Clock::system().now())
    {
        problems.file(&error.place, error.message, error.hint);
    }
    settle(problems)?;
    if args.print {
        output::print(&effective);
        return Ok(());
    }
    let count = |n: usize, noun: &str| format!("{n} {noun}{}", if n == 1 { "" } else { "s" });
    let identities: Vec<_> = directory.tenants().flat_map(|tenant| tenant.identities()).collect();
    output::print(&format!(
        "ok: {}, {}, {}, {}, {}\ndigest {}\n",
        count(directory.tenants().count(), "tenant"),
        match identities.len() {
            1 => "1 identity".to_owned(),
            n => format!("{n} identities"),
        },
        count(identities.iter().map(|identity| identity.credentials.len()).sum(), "credential"),
        count(directory.tenants().map(|tenant| tenant.resources().len()).sum(), "resource"),
        count(directory.tenants().map(|tenant| tenant.assignments().count()).sum(), "role assignment"),
        directory.digest()
    ));
    Ok(())
}

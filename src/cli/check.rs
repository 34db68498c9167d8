//! `ficus check`.

mod against;
mod flips;
mod records;
mod report;
mod uses;

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use against::Comparison;
use report::Report;

use super::audit::{Moment, moment};
use super::{ConfigArgs, Failure, load, output, settle};
use crate::clock::Clock;
use crate::directory::files::Tree;
use crate::document::Problems;
use crate::domain::credential::CredentialState;
use crate::domain::directory::Directory;
use crate::domain::expectation::{Expectation, Judge};
use crate::domain::ids::Guid;
use crate::net::TlsSettings;

#[derive(Args)]
#[command(group = ArgGroup::new("told").args(["print", "against", "report"]))]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print the configuration that is in force, with defaults and variables, as TOML. Files are named, never shown.
    #[arg(long)]
    print: bool,
    /// Compare with another directory, such as the deployed one: records that are added, removed or changed, and tokens that
    /// would now be granted, or no longer. It is read under the same configuration file.
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,
    /// With --against, exit 1 where a token would now be granted, or no longer.
    #[arg(long, requires = "against")]
    exit_code: bool,
    /// Report what is sound and worth a look: identities near their limit, credentials and roles that overlap or reach far,
    /// records that nobody uses or owns, and by the audit log credentials that no grant names.
    #[arg(long)]
    report: bool,
    /// The log that uses are looked for in, with the files that were set aside of it; - reads the standard input. Without it,
    /// what [audit] path of the configuration names.
    #[arg(long, value_name = "FILE", requires = "report")]
    audit_log: Vec<PathBuf>,
    /// Uses from this time on: 2026-11-22T09:00:00Z, 2026-11-22 (midnight UTC), or a span that ends now, such as 30d [default:
    /// the whole log].
    #[arg(long, value_name = "TIME", value_parser = moment, requires = "report")]
    since: Option<Moment>,
    /// Print JSON, with --against or --report.
    #[arg(long, requires = "told", conflicts_with = "print")]
    json: bool,
}

pub(super) fn run(args: &CheckArgs) -> Result<(), Failure> {
    let problems = if args.print { Problems::with_values() } else { Problems::default() };
    let (config, problems) = load(&args.config, problems)?;
    // Before the directory is read, whose records are values, too.
    let effective = problems.effective();
    let mut tree = Tree::default();
    let directory = config.load_directory(&mut tree, &problems);
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
    if let Some(other) = &args.against {
        let found = Comparison::with(other, &config, (&tree, &directory))?;
        output::print(&if args.json { format!("{:#}\n", found.json()) } else { found.text() });
        return if args.exit_code && found.flips() { Err(Failure::Code(1)) } else { Ok(()) };
    }
    if args.report {
        let since = args.since.map(|since| since.resolve(Clock::system().now()));
        let found = Report::of(&directory, uses::read(&args.audit_log, since, (&config, &directory))?);
        output::print(&if args.json { format!("{:#}\n", found.json()) } else { found.text() });
        return Ok(());
    }
    output::print(&summary(&directory, &config.expectations(tree.contents())));
    Ok(())
}

fn summary(directory: &Directory, expectations: &[(Guid, &Expectation)]) -> String {
    let found = directory.inventory();
    let judge = Judge::new(directory);
    let holds = |(tenant, expectation): &&(Guid, &Expectation)| {
        let tenant = directory.tenant(&tenant.to_string());
        tenant.is_ok_and(|tenant| judge.check(tenant, expectation).is_ok())
    };
    let held = expectations.iter().filter(holds).count();
    format!(
        "ok: {}, {}, {}, {}, {}\ndigest {}\n{}{}{}",
        count(found.tenants, "tenant"),
        match found.identities {
            1 => "1 identity".to_owned(),
            n => format!("{n} identities"),
        },
        count(found.credentials, "credential"),
        count(found.resources, "resource"),
        count(found.role_assignments, "role assignment"),
        directory.digest(),
        match held {
            0 => String::new(),
            1 => "1 expectation holds\n".to_owned(),
            n => format!("{n} expectations hold\n"),
        },
        // All others have broken the command.
        match expectations.len() - held {
            0 => String::new(),
            1 => "1 expectation is suspended\n".to_owned(),
            n => format!("{n} expectations are suspended\n"),
        },
        observed(directory),
    )
}

fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// Credentials in observe mode, which somebody may have forgotten.
fn observed(directory: &Directory) -> String {
    let identities = directory.tenants().flat_map(|tenant| tenant.identities());
    let mut names: Vec<_> = identities
        .flat_map(|identity| identity.credentials.iter().map(move |credential| (&identity.name, credential)))
        .filter(|(_, credential)| credential.state == CredentialState::Observed)
        .map(|(identity, credential)| format!("  {identity}/{}\n", credential.name))
        .collect();
    if names.is_empty() {
        return String::new();
    }
    names.sort_unstable();
    format!("{} in observe mode, granting nothing:\n{}", count(names.len(), "credential"), names.concat())
}

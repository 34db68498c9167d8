//! `ficus token`: the job's side. Finds the platform's token, exchanges it and hands over what came of it.

mod az;
mod hand_over;
mod rehearsal;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use zeroize::Zeroizing;

use self::hand_over::Output;
use super::{Failure, UNAVAILABLE, output};
use crate::client::assertion::Assertion;
use crate::client::exchange::{Endpoint, Granted, NoToken, Refusal, exchange};
use crate::client::hint::{self, Clocks};
use crate::client::http::Http;
use crate::client::patience::Patience;
use crate::client::source::{Asked, Source};
use crate::client::{Fault, plain};
use crate::clock::Clock;
use crate::domain::assertion::Hearsay;
use crate::domain::refusal::Reason;
use crate::wire::advice;

/// EX_USAGE would be 64; clap says 2, and so do we.
const USAGE: u8 = 2;
/// The time that may be given: GitHub's own tokens live for five minutes.
const TIMES: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);

#[derive(Args)]
pub(super) struct TokenArgs {
    /// Where the platform's token is: github, gitlab, gitlab:NAME (a variable of `id_tokens:`), kubernetes (the file of
    /// AZURE_FEDERATED_TOKEN_FILE), kubernetes:PATH, env:NAME, file:PATH, stdin, exec:COMMAND (what it prints, by sh -c).
    /// Without it, the platform is told by its variables.
    #[arg(long, value_name = "SOURCE")]
    from: Option<Source>,
    /// The broker's public URL.
    #[arg(long, env = "AZURE_AUTHORITY_HOST", value_name = "URL")]
    authority: Option<String>,
    /// The tenant, by id or domain.
    #[arg(long, env = "AZURE_TENANT_ID", value_name = "TENANT")]
    tenant: Option<String>,
    /// The identity that is asked for.
    #[arg(long, env = "AZURE_CLIENT_ID", value_name = "GUID")]
    client_id: Option<String>,
    /// The API that the token is for, by an identifier URI or client id, such as https://vault.azure.net
    #[arg(long, conflicts_with = "scope", value_name = "URI")]
    resource: Option<String>,
    /// The same, as clients write it: https://vault.azure.net/.default
    #[arg(long)]
    scope: Option<String>,
    /// The audience that the platform is asked for, where a job may choose it (GitHub).
    #[arg(long, default_value = hint::AUDIENCE, value_name = "AUDIENCE")]
    audience: String,
    /// CAs to trust beside the system's, in PEM: the broker's own, where its certificate is self-made.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The time for everything, tries and pauses included: 1s to 10m. What may pass is tried again: 429, 5xx, failed
    /// connections, and for 35 s a signing key that the broker doesn't know yet.
    #[arg(long, default_value = "60s", value_name = "DURATION")]
    timeout: humantime::Duration,
    /// Where the token goes: token (on stdout), json, env or env:NAME (lines for eval), github (a masked output of the
    /// step, access_token), file:PATH (mode 0600, whole or not at all), az (registers the broker's cloud and logs az in).
    #[arg(long, default_value = "token", value_name = "OUTPUT")]
    output: Output,
    /// Exchange nothing: print what the platform's token says of this workload, never the token, and the credential
    /// that would accept it.
    #[arg(long, conflicts_with = "output")]
    dry_run: bool,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(line) => Self::Line(line),
            Fault::Unavailable(line) => {
                output::error(&line);
                Self::Code(UNAVAILABLE)
            }
        }
    }
}

pub(super) fn run(args: &TokenArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work(args))
}

async fn work(args: &TokenArgs) -> Result<(), Failure> {
    let timeout: Duration = args.timeout.into();
    if !TIMES.contains(&timeout) {
        return Err(usage("--timeout is between 1s and 10m"));
    }
    // Everything that can be wrong with the call is told before anybody is asked for anything.
    let order = if args.dry_run { None } else { Some(Order::of(args)?) };
    args.output.check(&variable)?;
    let authorities = authorities(args)?;
    let http = Http::new(authorities.as_deref().map(Vec::as_slice)).map_err(|why| of_ca_file(args, &why))?;
    let mut patience = Patience::new(timeout);
    let source = args.from.clone().or_else(|| Source::detect(&variable)).ok_or_else(no_platform)?;
    let asked = Asked { variable: &variable, audience: &args.audience, http: &http };
    let assertion = source.fetch(&asked, &mut patience).await?;
    let Some(order) = order else {
        output::print(&rehearsal::text(&assertion));
        return Ok(());
    };
    let granted = exchange(&http, &order.endpoint, &assertion, &order.scope, &mut patience).await;
    let granted = granted.map_err(|none| failure(none, assertion.said()))?;
    hand_over(args, &order, &assertion, &granted).await
}

async fn hand_over(
    args: &TokenArgs,
    order: &Order,
    assertion: &Assertion,
    granted: &Granted,
) -> Result<(), Failure> {
    if args.output != Output::Az {
        return args.output.write(granted, Clock::system().now(), &variable);
    }
    let login = az::Login {
        authority: order.endpoint.authority(),
        tenant: &order.tenant,
        client_id: &order.client_id,
        ca_file: args.ca_file.as_deref(),
    };
    login.run(assertion.token(), &variable).await
}

/// What is asked of which broker.
struct Order {
    endpoint: Endpoint,
    tenant: String,
    client_id: String,
    scope: String,
}

impl Order {
    fn of(args: &TokenArgs) -> Result<Self, Failure> {
        let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        let settings = [
            (given(&args.authority), "--authority (or AZURE_AUTHORITY_HOST)"),
            (given(&args.tenant), "--tenant (or AZURE_TENANT_ID)"),
            (given(&args.client_id), "--client-id (or AZURE_CLIENT_ID)"),
            (scope(args), "--resource or --scope"),
        ];
        let absent: Vec<&str> =
            settings.iter().filter_map(|(value, name)| value.is_none().then_some(*name)).collect();
        let [(Some(authority), _), (Some(tenant), _), (Some(client_id), _), (Some(scope), _)] = settings
        else {
            let hint = "hint: the broker's operator knows them; --dry-run needs none";
            return Err(usage(&format!("missing: {} ({hint})", absent.join(", "))));
        };
        let endpoint = Endpoint::new(&authority, &tenant, &client_id).map_err(|why| usage(&why))?;
        Ok(Self { endpoint, tenant, client_id, scope })
    }
}

/// A resource that ends in a slash has two then, as Azure's clients write it.
fn scope(args: &TokenArgs) -> Option<String> {
    let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    let manager = || (args.output == Output::Az).then(|| az::MANAGER.to_owned());
    given(&args.scope).or_else(|| Some(format!("{}/.default", given(&args.resource).or_else(manager)?)))
}

/// A variable; an empty one is as good as absent.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn usage(line: &str) -> Failure {
    output::error(line);
    Failure::Code(USAGE)
}

fn no_platform() -> Failure {
    usage(
        "no platform is known by its variables here (hint: say where its token is, with --from github, gitlab, \
         kubernetes, env:NAME, file:PATH, stdin or exec:COMMAND)",
    )
}

fn authorities(args: &TokenArgs) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    let read = args.ca_file.as_ref().map(std::fs::read).transpose();
    read.map(|bytes| bytes.map(Zeroizing::new))
        .map_err(|error| of_ca_file(args, &format!("can't be read: {error}")))
}

fn of_ca_file(args: &TokenArgs, why: &str) -> Failure {
    match &args.ca_file {
        Some(file) => Failure::Line(format!("--ca-file {}: {why}", file.display())),
        None => Failure::Line(why.to_owned()),
    }
}

fn failure(none: NoToken, said: &Hearsay) -> Failure {
    let refusal = match none {
        NoToken::Fault(fault) => return fault.into(),
        NoToken::Refused(refusal) => refusal,
    };
    output::error(&explained(&refusal, said));
    Failure::Code(if refusal.passing { UNAVAILABLE } else { 1 })
}

/// What a broker said, what was presented, and what is probably the matter: all of it may be shown to the caller.
fn explained(refusal: &Refusal, said: &Hearsay) -> String {
    let Refusal { code, text, correlation_id, told_at, passing } = refusal;
    let verdict = if *passing { "gives no token now" } else { "refuses" };
    let mut told = format!("the broker {verdict}: AADSTS{code}: {text}\n");
    let claim = |value: &Option<String>| plain(value.as_deref().unwrap_or("-"));
    let presented = [
        ("issuer", claim(&said.issuer)),
        ("subject", claim(&said.subject)),
        ("audience", plain(&said.audiences.join(", "))),
    ];
    for (name, value) in presented {
        told.push_str(&format!("  presented {name:<9} {value}\n"));
    }
    told.push_str(&format!("  correlation id      {correlation_id}\n"));
    let clocks = Clocks { here: Clock::system().now(), there: *told_at };
    if let Some(hint) = hint::hint(*code, said, clocks).or_else(|| general(*code)) {
        told.push_str(&format!("  hint: {hint}\n"));
    }
    told.trim_end().to_owned()
}

/// What the broker's own page says of the code, where that has one meaning.
fn general(code: u32) -> Option<String> {
    let mut reasons = Reason::ALL.into_iter().filter(|reason| reason.code() == code);
    let (only, more) = (reasons.next()?, reasons.next());
    more.is_none().then(|| format!("check {}", advice(only).1.trim_end_matches('.')))
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, detail) = text.split_once(':').map_or((text, None), |(kind, detail)| (kind, Some(detail)));
        match (kind, detail) {
            ("token", None) => Ok(Self::Token),
            ("json", None) => Ok(Self::Json),
            ("env", None) => Ok(Self::Env("ACCESS_TOKEN".to_owned())),
            ("env", Some(name)) if hand_over::is_variable(name) => Ok(Self::Env(name.to_owned())),
            ("github", None) => Ok(Self::GitHub),
            ("file", Some(path)) if !path.is_empty() => Ok(Self::File(path.into())),
            ("az", None) => Ok(Self::Az),
            ("env", Some(_)) => Err("a variable's name has letters, digits and underscores".to_owned()),
            _ => Err("it is one of token, json, env, env:NAME, github, file:PATH, az".to_owned()),
        }
    }
}

//! `ficus explain`: why a token is accepted or refused. Runs the checks that serving runs, in the same order.

mod near;
mod observed;
mod recorded;
mod show;
mod token;

use std::path::{Path, PathBuf};

use clap::Args;

use super::{ConfigArgs, Failure, UNAVAILABLE, load, output, runtime, settle};
use crate::clock::{Clock, UnixTime};
use crate::config::Config;
use crate::directory::files::Tree;
use crate::document::Problems;
use crate::domain::assertion::{Compact, Hearsay, UnverifiedAssertion};
use crate::domain::authorize::authorize;
use crate::domain::credential::{Comparison, Credential, Identity, Presented};
use crate::domain::directory::Directory;
use crate::domain::matching;
use crate::domain::nearmiss::{self, Case, NearMiss, Said};
use crate::domain::onetime;
use crate::domain::policy::IssuerPolicy;
use crate::domain::refusal::Refusal;
use crate::domain::resource::Target;
use crate::domain::tenant::Tenant;
use crate::domain::verify::Claimed;
use crate::trust::{Held, Issuers, Overrides, TrustSettings, Unavailable};

#[derive(Args)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The tenant, by id or domain. May be left out while there is one.
    #[arg(long)]
    tenant: Option<String>,
    /// The identity that is asked for.
    #[arg(long, value_name = "GUID", required_unless_present = "correlation_id")]
    client_id: Option<String>,
    /// The file with the token; - reads it from the standard input.
    #[arg(long, value_name = "FILE", required_unless_present = "correlation_id")]
    token_file: Option<PathBuf>,
    /// In place of a token: the newest refusal of the audit log with this id, which the error message tells, or the newest
    /// grant. It is held against the directory of today. The beginning of an id with * behind will do.
    #[arg(long, value_name = "ID", conflicts_with_all = ["tenant", "client_id", "token_file", "resource", "scope", "offline"])]
    correlation_id: Option<String>,
    /// The log that the id is looked for in, with the files that were set aside of it; - reads the standard input. Without it,
    /// what [audit] path of the configuration names.
    #[arg(long, value_name = "FILE", requires = "correlation_id")]
    audit_log: Vec<PathBuf>,
    /// The API that a token is asked for, by an identifier URI or client id: checks roles, too.
    #[arg(long, conflicts_with = "scope")]
    resource: Option<String>,
    /// The same, as clients write it: https://vault.azure.net/.default
    #[arg(long)]
    scope: Option<String>,
    /// Don't fetch the issuer's keys: the signature is not checked then, everything else is.
    #[arg(long)]
    offline: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What is asked.
struct Question<'a> {
    config: &'a Config,
    directory: &'a Directory,
    tenant: String,
    client: &'a str,
    target: Option<Target>,
    offline: bool,
    now: UnixTime,
}

/// What is between audiences where there are several. It may be within one, too.
const SEVERAL: &str = ", ";

/// What came out, filled as far as the checks got.
#[derive(Default)]
struct Findings<'d> {
    /// The step that is being done, or refused.
    step: &'static str,
    passed: Vec<&'static str>,
    unchecked: Vec<&'static str>,
    identity: Option<(&'d Tenant, &'d Identity)>,
    policy: Option<&'d IssuerPolicy>,
    said: Option<Hearsay>,
    /// Whether it is known from an unverified record alone, so that anybody may have made it up.
    hearsay: bool,
    /// Whether the audience is known as a text alone that matches as one or as several, and nobody can tell which it was.
    doubtful: bool,
    /// Why the issuer's keys could not be had.
    cause: Option<String>,
    /// Whether they could not be had because the issuer's document speaks for another issuer.
    other_document: bool,
    /// Why it was refused, as the record has it.
    near: Option<NearMiss<'d>>,
    matched: Option<&'d Credential>,
    /// What is in observe mode and fits.
    observed: Option<observed::WouldMatch<'d>>,
    /// Whether the token is good for one exchange only: a running broker knows whether it has been used.
    one_time: bool,
    roles: Option<Vec<String>>,
}

pub(super) fn run(args: &ExplainArgs) -> Result<(), Failure> {
    match (&args.correlation_id, &args.client_id, &args.token_file) {
        (Some(id), ..) => recorded::run(args, id),
        (None, Some(client), Some(file)) => presented(args, client, file),
        _ => Err(Failure::Usage("--client-id and --token-file, or --correlation-id, are needed".to_owned())),
    }
}

/// A token that is at hand.
fn presented(args: &ExplainArgs, client: &str, file: &Path) -> Result<(), Failure> {
    let text = token::read(file)?;
    let compact = token::check(&text).map_err(|why| Failure::Line(format!("{}: {why}", file.display())))?;
    let (config, problems) = load(&args.config, Problems::default())?;
    let directory = config.load_directory(&mut Tree::default(), &problems);
    settle(problems)?;
    let question = Question {
        config: &config,
        directory: &directory,
        tenant: tenant(args, &directory)?,
        client,
        target: target(args)?,
        offline: args.offline,
        now: Clock::system().now(),
    };
    let mut findings = Findings::default();
    let verdict = runtime()?.block_on(question.decide(compact, &mut findings));
    if let Err(refusal) = &verdict {
        question.look_into(refusal, compact, &mut findings);
    }
    let report = show::Report {
        findings: &findings,
        refusal: verdict.as_ref().err(),
        offline: args.offline,
        colours: output::takes_colours(),
    };
    output::print(&if args.json { report.json() } else { report.text() });
    match verdict {
        Ok(()) => Ok(()),
        Err(Refusal::IssuerUnavailable { .. }) => Err(Failure::Code(UNAVAILABLE)),
        Err(_) => Err(Failure::Code(1)),
    }
}

fn tenant(args: &ExplainArgs, directory: &Directory) -> Result<String, Failure> {
    let mut tenants = directory.tenants();
    match (&args.tenant, tenants.next(), tenants.next()) {
        (Some(tenant), ..) => Ok(tenant.clone()),
        (None, Some(only), None) => Ok(only.id.to_string()),
        _ => Err(Failure::Line("there are several tenants (hint: name one with --tenant)".to_owned())),
    }
}

fn target(args: &ExplainArgs) -> Result<Option<Target>, Failure> {
    let resource = args.resource.as_ref().map(|resource| format!("{resource}/.default"));
    let Some(scope) = args.scope.clone().or(resource) else { return Ok(None) };
    let hint = "(hint: --scope is one resource with /.default behind it, --resource the same without)";
    let target = Target::from_scope(&scope);
    target.map(Some).ok_or_else(|| Failure::Line(format!("{scope:?} names no resource {hint}")))
}

impl<'d> Findings<'d> {
    fn begin(&mut self, step: &'static str) {
        self.passed.extend(Some(self.step).filter(|step| !step.is_empty()));
        self.step = step;
    }

    fn without_keys(&mut self, policy: &IssuerPolicy, unavailable: &Unavailable) -> Refusal {
        self.cause = Some(unavailable.fault.to_string());
        self.other_document = unavailable.is_of_another_issuer();
        let (issuer, retry_after) = (policy.issuer.to_string(), unavailable.retry_after);
        Refusal::IssuerUnavailable { issuer, retry_after }
    }

    /// What the credential that fits demands beside the issuer's policy.
    fn credential(&mut self, credential: &'d Credential, claims: &Claimed<'_>) -> Result<(), Refusal> {
        self.matched = Some(credential);
        self.one_time = onetime::is_demanded(claims.policy(), credential);
        self.unchecked.extend(self.one_time.then_some("one-time use"));
        if credential.max_token_lifetime.is_some() {
            self.begin("lifetime for the credential");
        }
        credential.check_lifetime(claims)
    }

    /// Whether nobody can tell if the audience is this credential's.
    fn doubts(&self, credential: &Credential) -> bool {
        let audiences = self.said.as_ref().map(|said| said.audiences.as_slice()).unwrap_or_default();
        let is_theirs =
            audiences.contains(&credential.audience) || audiences.join(SEVERAL) == credential.audience;
        self.doubtful && is_theirs
    }

    /// Every credential of the identity against what the token says, whether or not the checks got that far; nearest first,
    /// where that is known.
    fn comparisons(&self) -> Vec<(&'d Credential, Comparison)> {
        let (Some((_, identity)), Some(said)) = (self.identity, &self.said) else { return Vec::new() };
        let issuer = said.issuer.as_deref().unwrap_or_default();
        // An issuer that nobody names has no policy of its own.
        let standard = IssuerPolicy::standard(issuer);
        let presented = Presented {
            issuer,
            subject: said.subject.as_deref().unwrap_or_default(),
            audiences: self.policy.unwrap_or(&standard).matchable(&said.audiences),
        };
        let mut found: Vec<_> = matching::explain(identity, presented).collect();
        found.iter_mut().for_each(|(_, held)| held.audience &= !self.doubtful);
        let ranked = self.near.as_ref().map(|near| near.ranked.as_slice()).unwrap_or_default();
        let rank = |credential: &Credential| ranked.iter().position(|one| one.credential == credential);
        found.sort_by_key(|(credential, _)| rank(credential));
        found
    }
}

impl<'a> Question<'a> {
    /// What a broker keeps on disk is the broker's: explaining fetches anew and leaves nothing behind.
    fn trust(&self) -> TrustSettings {
        TrustSettings { state_path: None, ..self.config.trust.clone() }
    }

    async fn keys(&self, policy: &IssuerPolicy) -> Result<Held, Unavailable> {
        let named = [&*policy.issuer].into_iter();
        let issuers = Issuers::new(named, &self.config.issuers, &self.trust(), &Overrides::new());
        issuers.keys(&policy.issuer, self.now).await
    }

    /// Why it was refused. What the token says is worth showing even if the checks did not get that far.
    fn look_into(&self, refusal: &Refusal, compact: &str, seen: &mut Findings<'a>) {
        if seen.said.is_none() {
            let text = Compact::new(compact, self.config.limits.assertion);
            seen.said = text.and_then(UnverifiedAssertion::parse).map(|assertion| assertion.hearsay()).ok();
        }
        let mut said = seen.said.clone().map(Said::from).unwrap_or_default();
        said.other_document = seen.other_document;
        let (directory, client, now) = (self.directory, self.client, self.now);
        let tenant = directory.tenant(&self.tenant).ok();
        let identity = tenant.and_then(|tenant| tenant.named(client));
        let case = Case { directory, tenant, identity, client, said: &said, reason: refusal.reason(), now };
        seen.near = nearmiss::investigate(&case);
    }

    /// The sequence of `Exchange::decide`, short of the mint.
    async fn decide(&self, compact: &str, seen: &mut Findings<'a>) -> Result<(), Refusal> {
        seen.begin("tenant and identity");
        let tenant = self.directory.tenant(&self.tenant)?;
        let identity = tenant.identity(self.client, &self.tenant)?;
        seen.identity = Some((tenant, identity));

        seen.begin("form of the token");
        let assertion = UnverifiedAssertion::parse(Compact::new(compact, self.config.limits.assertion)?)?;
        seen.said = Some(assertion.hearsay());

        seen.begin("issuer");
        let policy = match self.directory.trusted((identity, self.client), assertion.unverified_issuer()?) {
            Ok(policy) => policy,
            Err(refusal) => {
                self.look_out((tenant, identity), assertion, seen).await;
                return Err(refusal);
            }
        };
        seen.policy = Some(policy);

        seen.begin("algorithm and key id");
        let candidate = assertion.admit(policy)?;

        if self.offline {
            seen.unchecked.push("issuer's keys and signature");
            seen.begin("times and lifetime");
            let claims = candidate.without_signature(self.now)?;
            seen.begin("subject and audience");
            let credential = matching::fitting(identity, &claims)
                .inspect_err(|_| self.note_observed((tenant, identity), &claims, seen))?;
            seen.credential(credential, &claims)?;
            seen.unchecked.extend(self.target.as_ref().map(|_| "resource and roles"));
            seen.begin("");
            return Ok(());
        }

        seen.begin("issuer's keys");
        let held = self.keys(policy).await.map_err(|unavailable| seen.without_keys(policy, &unavailable))?;

        seen.begin("signature, times and lifetime");
        let verified = candidate.verify(&held.keys, None, self.now)?;

        seen.begin("subject and audience");
        let matched = matching::find(tenant, identity, &verified)
            .inspect_err(|_| self.note_observed((tenant, identity), verified.claims(), seen))?;
        seen.credential(matched.credential(), matched.claims())?;

        if let Some(target) = &self.target {
            seen.begin("resource and roles");
            let grant = authorize(&matched, target, &self.tenant)?;
            seen.roles = Some(grant.roles().iter().map(ToString::to_string).collect());
        }
        seen.begin("");
        Ok(())
    }
}

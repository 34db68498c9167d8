//! A decision of the record, explained: what was decided, on what was presented, and what the directory of today says to it.

use std::ops::ControlFlow;

use serde_json::{Value, json};

use super::super::records;
use super::near::{self, plain};
use super::show::Report;
use super::{ExplainArgs, Failure, Findings, SEVERAL, Tree, output, settle};
use crate::audit::reading::{Entry, Field, Filter, Fit, Line, Pattern, Reading};
use crate::document::Problems;
use crate::domain::assertion::Hearsay;
use crate::domain::credential::{Credential, Presented};
use crate::domain::directory::Directory;
use crate::domain::matching;
use crate::domain::nearmiss::{self, Case, Cause, Said};
use crate::domain::refusal::{Reason, Refusal};
use crate::wire::advice;

/// What was found under an id.
#[derive(Default)]
struct Found {
    /// The newest refusal, else the newest grant, with its line.
    entry: Option<(String, Entry)>,
    /// How many records have the id.
    records: u64,
    /// Refusals that have no line of their own, and so no id.
    summed: u64,
}

pub(super) fn run(args: &ExplainArgs, id: &str) -> Result<(), Failure> {
    let config = records::configuration(&args.config)?;
    let mut sources = records::sources(&args.audit_log, Some(&config))?;
    sources.iter().try_for_each(records::Source::demanded)?;
    let names: Vec<_> = sources.iter().flat_map(records::Source::names).collect();
    let found = find(&mut sources, id)?;
    let Some((line, entry)) = &found.entry else { return Err(absent(id, &names, found.summed)) };
    let problems = Problems::default();
    let directory = config.load_directory(&mut Tree::default(), &problems);
    settle(problems)?;
    let mut findings = Findings { said: Some(said(entry)), hearsay: !entry.verified, ..Findings::default() };
    let today = today(&directory, entry, &mut findings);
    if let Err(refusal) = &today
        && !findings.doubtful
    {
        look_into(&directory, entry, refusal, &mut findings);
    }
    let colours = output::takes_colours();
    let report = Report { findings: &findings, refusal: None, offline: true, colours };
    let told = Told { entry, line, records: found.records, directory: &directory, today: &today, report };
    output::print(&if args.json { told.json() } else { told.text() });
    if entry.granted() { Ok(()) } else { Err(Failure::Code(1)) }
}

fn find(sources: &mut [records::Source], id: &str) -> Result<Found, Failure> {
    let mut filter = Filter::default();
    filter.one_of(Field::Correlation, &[Pattern::from(id)]);
    let mut found = Found::default();
    let mut visit = |line: &Line<'_>| {
        match filter.fit(&line.entry) {
            Fit::No => {}
            Fit::Unknown => found.summed = found.summed.saturating_add(line.entry.decisions()),
            Fit::Yes => {
                found.records += 1;
                let refused = found.entry.as_ref().is_some_and(|(_, before)| !before.granted());
                if !(line.entry.granted() && refused) {
                    found.entry = Some((line.text.to_owned(), line.entry.clone()));
                }
            }
        }
        ControlFlow::Continue(())
    };
    let mut reading = Reading::new(&mut visit);
    for source in sources {
        let _ = source.read(&mut reading)?;
        let _ = reading.end();
    }
    records::tell_broken(&reading);
    Ok(found)
}

fn absent(id: &str, names: &[String], summed: u64) -> Failure {
    let sums = match summed {
        0 => String::new(),
        count => format!(
            "; {count} refusals in there were only counted, since there were more than 100 a second of a kind, and have no id"
        ),
    };
    Failure::Line(format!(
        "no record has the correlation id {id:?}; read: {}{sums} (hint: was it another replica? --audit-log names its log)",
        names.join(", ")
    ))
}

/// What was presented, as far as it was recorded: algorithm and times were not.
fn said(entry: &Entry) -> Hearsay {
    let assertion = &entry.assertion;
    let audiences = assertion.audience.iter().flat_map(|audience| audience.split(SEVERAL));
    Hearsay {
        issuer: assertion.issuer.clone(),
        subject: assertion.subject.clone(),
        audiences: audiences.map(str::to_owned).collect(),
        jwt_id: assertion.jwt_id.clone(),
        key_id: assertion.key_id.clone(),
        ..Hearsay::default()
    }
}

/// The part of the sequence of `Exchange::decide` that compares texts, under the directory of today.
fn today<'d>(
    directory: &'d Directory,
    entry: &Entry,
    seen: &mut Findings<'d>,
) -> Result<&'d Credential, Refusal> {
    let [tenant_name, client] =
        [&entry.tenant_id, &entry.app_id].map(|text| text.as_deref().unwrap_or_default());
    let tenant = directory.tenant(tenant_name)?;
    seen.identity = tenant.named(client).map(|identity| (tenant, identity));
    let identity = match seen.identity {
        Some((_, identity)) => identity.in_use(client)?,
        None => tenant.identity(client, tenant_name)?,
    };
    let said = seen.said.clone().unwrap_or_default();
    let issuer = said.issuer.as_deref().ok_or(Refusal::ClaimAbsent("iss"))?;
    let policy = directory.trusted((identity, client), issuer)?;
    seen.policy = Some(policy);
    let subject = said.subject.as_deref().ok_or(Refusal::SubjectAbsent)?;
    let fitting = |audiences: &[String]| {
        let presented = Presented { issuer, subject, audiences: policy.matchable(audiences) };
        matching::fitting_presented(identity, presented, audiences)
    };
    let several = fitting(&said.audiences);
    seen.doubtful =
        said.audiences.len() > 1 && (several.is_ok() || fitting(&[said.audiences.join(SEVERAL)]).is_ok());
    several
}

/// Why today's directory refuses. The same directory as then knew more, such as the workflow: its word counts.
fn look_into<'d>(directory: &'d Directory, entry: &Entry, refusal: &Refusal, seen: &mut Findings<'d>) {
    let said = seen.said.clone().map(Said::from).unwrap_or_default();
    let tenant = entry.tenant_id.as_deref().and_then(|tenant| directory.tenant(tenant).ok());
    let identity = seen.identity.map(|(_, identity)| identity);
    let client = entry.app_id.as_deref().unwrap_or_default();
    let case =
        Case { directory, tenant, identity, client, said: &said, reason: refusal.reason(), now: entry.at() };
    seen.near = nearmiss::investigate(&case);
    let then = Cause::ALL.into_iter().find(|cause| Some(cause.id()) == entry.near_miss.cause.as_deref());
    if let (Some(near), Some(then)) = (&mut seen.near, then)
        && entry.directory_digest.as_deref() == Some(directory.digest())
        && near.cause != then
    {
        (near.cause, near.part) = (then, None);
    }
}

/// What is told of it.
struct Told<'a> {
    entry: &'a Entry,
    line: &'a str,
    records: u64,
    directory: &'a Directory,
    today: &'a Result<&'a Credential, Refusal>,
    report: Report<'a>,
}

const UNVERIFIED: &str = "nobody checked the signature of this token before it was refused, so anybody can have made up \
    what it says: a record is proposed only where the spelling of the issuer alone differs";
const VERIFIED: &str = "its signature held, as that of any job on its platform does: make sure that the subject is one of \
    yours before you let it in";

const DOUBTFUL: &str = "can't be told: the audience was recorded as a text with a comma, and whether it was one audience \
    or several decides";

impl Told<'_> {
    fn reason(&self) -> Option<Reason> {
        let label = self.entry.status.reason.as_deref()?;
        Reason::ALL.into_iter().find(|reason| reason.label() == label)
    }

    fn changed(&self) -> bool {
        self.entry.directory_digest.as_deref().is_some_and(|then| then != self.directory.digest())
    }

    /// The cause that was recorded, unless it is what is found today.
    fn cause_then(&self) -> Option<&str> {
        let today = self.report.findings.near.as_ref().map(|near| near.cause.id());
        self.entry.near_miss.cause.as_deref().filter(|then| Some(*then) != today)
    }

    fn text(&self) -> String {
        let entry = self.entry;
        let mut text = self.head();
        if !entry.granted() {
            text.push_str(&self.refusal());
        }
        let asserted = entry.assertion.issuer.is_some() || entry.assertion.subject.is_some();
        if asserted {
            text.push('\n');
            text.push_str(&self.report.claims_text());
        } else if !entry.granted() {
            text.push_str("\nwhat the token says was not recorded: it was not read so far\n");
        }
        if !entry.granted() {
            text.push_str(&self.directory());
            if asserted {
                text.push_str(&self.report.credentials_text());
                text.push_str(&near::text(self.report.findings));
            }
        }
        text.push_str(&format!("\nverdict: {}\n", self.verdict()));
        text
    }

    fn head(&self) -> String {
        let entry = self.entry;
        let several = match self.records {
            1 => String::new(),
            count => format!(" (the newest of {count} records with this id, refusals first)"),
        };
        let mut text = format!("the record of {}{several}:\n", plain(&entry.created));
        let roles = (!entry.roles.is_empty()).then(|| entry.roles.join(", "));
        for (name, value) in [
            ("tenant", &entry.tenant_id),
            ("identity", &entry.identity_name),
            ("client id", &entry.app_id),
            ("resource", &entry.resource),
            ("credential", &entry.federated_credential_name),
            ("roles", &roles),
            ("uti", &entry.unique_token_identifier),
            ("run", &entry.assertion.run_id),
            ("job", &entry.assertion.job_id),
            ("client", &entry.ip_address),
            ("correlation", &entry.correlation_id),
            ("trace", &entry.trace_id),
        ] {
            if let Some(value) = value {
                text.push_str(&format!("  {name:<12}{}\n", plain(value)));
            }
        }
        text
    }

    /// Which step refused and why, as it was recorded.
    fn refusal(&self) -> String {
        let status = &self.entry.status;
        let word = status.reason.as_deref().map(plain).unwrap_or_default();
        let step = self.reason().map(|reason| format!("{}: ", step(reason))).unwrap_or_default();
        let mut text = format!("\nrefused at {step}AADSTS{} {word}\n", status.error_code);
        if let Some((meaning, check)) = self.reason().map(advice) {
            text.push_str(&format!("  {meaning}\n  Check: {check}\n"));
        }
        if let Some(details) = &status.additional_details {
            text.push_str(&format!("  Cause: {}\n", plain(details)));
        }
        if let Some(cause) = self.cause_then() {
            let hint = self.entry.near_miss.hint.as_deref().map(plain).unwrap_or_default();
            text.push_str(&format!("  cause then: {}\n    {hint}\n", plain(cause)));
        }
        let caution = if self.entry.verified { VERIFIED } else { UNVERIFIED };
        if self.entry.assertion.issuer.is_some() {
            text.push_str(&format!("  {caution}\n"));
        }
        text
    }

    /// What the directory of today says.
    fn directory(&self) -> String {
        let mut text = match &self.entry.directory_digest {
            Some(then) if self.changed() => format!(
                "\nthe directory has changed since: it was {}, now it is {}\n",
                plain(then),
                self.directory.digest()
            ),
            Some(_) => "\nthe directory is the one that decided\n".to_owned(),
            None => "\nwhich directory decided was not recorded\n".to_owned(),
        };
        match self.today {
            _ if self.report.findings.doubtful => text.push_str(&format!("today: {DOUBTFUL}\n")),
            Ok(credential) => text.push_str(&format!(
                "today credential {} fits issuer, subject and audience; signature, times, resource and roles are not \
                 checked\n",
                credential.name
            )),
            Err(refusal) if Some(refusal.reason()) != self.reason() => {
                let reason = refusal.reason();
                text.push_str(&format!("today it would be AADSTS{} {}\n", reason.code(), reason.label()));
            }
            Err(_) => {}
        }
        text
    }

    fn verdict(&self) -> String {
        let entry = self.entry;
        if !entry.granted() {
            return "refused".to_owned();
        }
        let name = |name: &Option<String>| name.as_deref().map(plain).unwrap_or_default();
        format!(
            "granted, by credential {}; uti {}",
            name(&entry.federated_credential_name),
            name(&entry.unique_token_identifier)
        )
    }

    fn json(&self) -> String {
        let (entry, findings) = (self.entry, self.report.findings);
        let refusal = (!entry.granted()).then(|| {
            let texts = self.reason().map(advice);
            json!({
                "step": self.reason().map(step), "code": entry.status.error_code, "reason": entry.status.reason,
                "meaning": texts.map(|(meaning, _)| meaning), "check": texts.map(|(_, check)| check),
                "cause": entry.status.additional_details,
            })
        });
        let today = match self.today {
            _ if findings.doubtful => json!({ "matched": null, "refusal": null, "undecided": DOUBTFUL }),
            Ok(credential) => json!({ "matched": credential.name, "refusal": null }),
            Err(refusal) => {
                let reason = refusal.reason();
                json!({ "matched": null, "refusal": { "code": reason.code(), "reason": reason.label() } })
            }
        };
        let report = json!({
            "verdict": if entry.granted() { "granted" } else { "refused" },
            "granted": entry.granted(),
            "verified": entry.verified,
            "refusal": refusal,
            "matched": entry.federated_credential_name,
            "uti": entry.unique_token_identifier,
            "roles": entry.roles,
            "records": self.records,
            "record": serde_json::from_str::<Value>(self.line).unwrap_or_default(),
            "directory": {
                "then": entry.directory_digest, "today": self.directory.digest(), "changed": self.changed(),
            },
            "today": today,
            "near_miss": near::json(findings),
            "credentials": self.report.credentials_json(),
        });
        output::as_it_is(&format!("{report:#}\n"))
    }
}

/// The step that refuses for this reason.
fn step(reason: Reason) -> &'static str {
    match reason {
        Reason::Method
        | Reason::Path
        | Reason::BodyTooLarge
        | Reason::BodyTooSlow
        | Reason::Malformed
        | Reason::MissingParameter
        | Reason::GrantType
        | Reason::Scope
        | Reason::ResourceForm
        | Reason::AssertionAbsent
        | Reason::InstanceUnknown => "form of the request",
        Reason::TenantAbsent
        | Reason::TenantNil
        | Reason::TenantForm
        | Reason::TenantUnknown
        | Reason::ClientNil
        | Reason::ClientUnknown
        | Reason::ClientDisabled => "tenant and identity",
        Reason::AssertionMalformed | Reason::AssertionKind | Reason::ClaimAbsent => "form of the token",
        Reason::OwnIssuer | Reason::NoCredential | Reason::IssuerUnnamed => "issuer",
        Reason::AlgorithmRefused | Reason::KeyIdAbsent => "algorithm and key id",
        Reason::IssuerUnavailable => "issuer's keys",
        Reason::KeyUnknown | Reason::Signature | Reason::Time | Reason::Lifetime | Reason::SubjectAbsent => {
            "signature, times and lifetime"
        }
        Reason::SubjectUnmatched | Reason::AudienceUnmatched => "subject and audience",
        Reason::ResourceUnknown | Reason::NotAssigned => "resource and roles",
        Reason::Replayed | Reason::OneTimeFull => "one-time use",
        Reason::AddressRate | Reason::IdentityRate | Reason::Overloaded => "rates and places",
        Reason::AuditUnavailable | Reason::SigningUnavailable | Reason::ClockUnset | Reason::Internal => {
            "the broker itself"
        }
    }
}

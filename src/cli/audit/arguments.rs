//! What is asked of the record.

use std::net::IpAddr;

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, Time};

use super::super::Failure;
use crate::audit::reading::{Field, Filter, Pattern};
use crate::clock::UnixTime;
use crate::config::Config;

/// What must fit.
#[derive(Args)]
#[command(next_help_heading = "Which records")]
pub(super) struct FilterArgs {
    /// From this time on: 2026-11-22T09:00:00Z, 2026-11-22 (midnight UTC), or a span that ends now, such as 2h or 7d.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Moment>,
    /// Before this time.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Moment>,
    /// The tenant, by id or domain.
    #[arg(long)]
    tenant: Vec<String>,
    /// The identity, by name, client id or principal id.
    #[arg(long, value_name = "NAME|GUID")]
    identity: Vec<String>,
    /// The API, as it was asked for.
    #[arg(long)]
    resource: Vec<String>,
    /// The credential that matched.
    #[arg(long, value_name = "NAME")]
    credential: Vec<String>,
    /// `iss` of the platform's token.
    #[arg(long, value_name = "URL")]
    issuer: Vec<String>,
    /// `sub` of the platform's token.
    #[arg(long)]
    subject: Vec<String>,
    /// GitHub's OWNER/NAME or the path of a GitLab project, as the subject has it. A subject that is made of something
    /// else is found with --subject alone.
    #[arg(long, value_name = "PATH")]
    repository: Vec<String>,
    /// The platform's number of the run, or of the job in it: GitHub's run_id and check_run_id, GitLab's pipeline_id and
    /// job_id. Recorded once the signature holds.
    #[arg(long, value_name = "NUMBER")]
    run: Vec<String>,
    /// `jti` of the platform's token.
    #[arg(long)]
    jti: Vec<String>,
    /// SHA-256 of the platform's token, in hex: what has been done with that very token.
    #[arg(long, value_name = "HEX")]
    digest: Vec<String>,
    /// Grants alone, or refusals alone.
    #[arg(long, value_enum)]
    outcome: Option<Outcome>,
    /// Only where the signature held: what anybody could have made up is left out.
    #[arg(long)]
    verified: bool,
    /// The number after AADSTS.
    #[arg(long, value_name = "NUMBER", value_parser = code)]
    code: Vec<String>,
    /// The word for it, such as subject_unmatched.
    #[arg(long, value_name = "WORD")]
    reason: Vec<String>,
    /// The cause that was found, such as S-GH-BRANCH or S-GH-*.
    #[arg(long)]
    cause: Vec<String>,
    /// `uti` of the token that was minted.
    #[arg(long)]
    uti: Vec<String>,
    /// The id that the error message of a refusal tells. The callers choose it, so several records may have it.
    #[arg(long, value_name = "ID")]
    correlation_id: Vec<String>,
    /// Our own id of the request.
    #[arg(long, value_name = "ID")]
    trace_id: Vec<String>,
    /// The client's address, or a network such as 192.0.2.0/24.
    #[arg(long, value_name = "ADDRESS", value_parser = network)]
    client: Vec<IpNet>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Outcome {
    Grant,
    Refusal,
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum TopField {
    Tenants,
    Identities,
    Resources,
    Credentials,
    Issuers,
    Subjects,
    Repositories,
    Runs,
    Codes,
    Reasons,
    Causes,
    Clients,
}

impl From<TopField> for Field {
    fn from(field: TopField) -> Self {
        match field {
            TopField::Tenants => Self::Tenant,
            TopField::Identities => Self::Identity,
            TopField::Resources => Self::Resource,
            TopField::Credentials => Self::Credential,
            TopField::Issuers => Self::Issuer,
            TopField::Subjects => Self::Subject,
            TopField::Repositories => Self::Repository,
            TopField::Runs => Self::Run,
            TopField::Codes => Self::Code,
            TopField::Reasons => Self::Reason,
            TopField::Causes => Self::Cause,
            TopField::Clients => Self::Client,
        }
    }
}

/// A point in time, or how far it is from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Moment {
    At(UnixTime),
    Ago(u64),
}

impl Moment {
    pub(in crate::cli) fn resolve(self, now: UnixTime) -> UnixTime {
        match self {
            Self::At(time) => time,
            Self::Ago(seconds) => now.saturating_sub(i64::try_from(seconds).unwrap_or(i64::MAX)),
        }
    }
}

pub(in crate::cli) fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(Moment::At(time.unix_timestamp()));
    }
    if let Ok(day) = Date::parse(text, format_description!("[year]-[month]-[day]")) {
        return Ok(Moment::At(day.with_time(Time::MIDNIGHT).assume_utc().unix_timestamp()));
    }
    match humantime::parse_duration(text) {
        Ok(span) => Ok(Moment::Ago(span.as_secs())),
        Err(_) => {
            Err("expected a time such as 2026-11-22T09:00:00Z or 2026-11-22, or a span such as 2h or 7d"
                .to_owned())
        }
    }
}

fn code(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix("AADSTS").unwrap_or(text);
    match digits.parse::<u32>() {
        Ok(number) => Ok(number.to_string()),
        Err(_) => Err("expected a number such as 700213".to_owned()),
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address
        .or_else(|_| text.parse())
        .map_err(|_| "expected an address such as 192.0.2.7, or a network such as 192.0.2.0/24".to_owned())
}

impl FilterArgs {
    /// Whether only the configuration can tell what is meant.
    pub(super) fn names_a_domain(&self) -> bool {
        self.tenant.iter().any(|tenant| tenant.contains('.'))
    }

    /// The filter at this time.
    pub(super) fn filter(&self, config: Option<&Config>, now: UnixTime) -> Result<Filter, Failure> {
        let [since, until] = [self.since, self.until].map(|time| time.map(|time| time.resolve(now)));
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            return Err(Failure::Usage("--since is not before --until, so nothing can fit".to_owned()));
        }
        let granted = self.outcome.map(|outcome| outcome == Outcome::Grant);
        let mut filter = Filter::default();
        (filter.since, filter.until, filter.granted, filter.verified) =
            (since, until, granted, self.verified);
        let texts = [
            (Field::Identity, &self.identity),
            (Field::Resource, &self.resource),
            (Field::Credential, &self.credential),
            (Field::Issuer, &self.issuer),
            (Field::Subject, &self.subject),
            (Field::Repository, &self.repository),
            (Field::Run, &self.run),
            (Field::TokenId, &self.jti),
            (Field::Digest, &self.digest),
            (Field::Code, &self.code),
            (Field::Reason, &self.reason),
            (Field::Cause, &self.cause),
            (Field::Uti, &self.uti),
            (Field::Correlation, &self.correlation_id),
            (Field::Trace, &self.trace_id),
        ];
        for (field, values) in texts {
            let patterns: Vec<_> = values.iter().map(|value| Pattern::from(value.as_str())).collect();
            filter.one_of(field, &patterns);
        }
        filter.one_of(Field::Tenant, &tenants(&self.tenant, config));
        filter.clients(&self.client);
        Ok(filter)
    }
}

/// As they were given, and of domains the ids besides: the record has the id as soon as the tenant is found.
fn tenants(named: &[String], config: Option<&Config>) -> Vec<Pattern> {
    let known = config.map(|config| config.tenants.as_slice()).unwrap_or_default();
    let is_called = |domain: &Option<String>, name: &str| {
        domain.as_ref().is_some_and(|domain| domain.eq_ignore_ascii_case(name))
    };
    let id_of =
        |name: &String| known.iter().find(|tenant| is_called(&tenant.domain, name)).map(|tenant| tenant.id);
    let ids = named.iter().filter_map(id_of).map(|id| Pattern::from(&*id.to_string()));
    named.iter().map(|name| Pattern::from(name.as_str())).chain(ids).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_points_days_or_spans() {
        assert_eq!(moment("2026-09-21T14:13:20Z"), Ok(Moment::At(1_790_000_000)));
        assert_eq!(moment("2026-09-21T16:13:20.5+02:00"), Ok(Moment::At(1_790_000_000)));
        assert_eq!(moment("2026-09-21"), Ok(Moment::At(1_789_948_800)));
        for (span, seconds) in [("2h", 7200), ("7d", 604_800), ("1h 30m", 5400), ("90s", 90)] {
            assert_eq!(moment(span), Ok(Moment::Ago(seconds)), "{span}");
        }
        assert_eq!(Moment::Ago(60).resolve(1_790_000_000), 1_789_999_940);
        assert_eq!(Moment::Ago(u64::MAX).resolve(0), -i64::MAX);
        for wrong in ["", "yesterday", "2026-09-31", "2026-09-21T25:00:00Z", "2026-09-21 14:13", "-2h", "5"] {
            assert!(moment(wrong).unwrap_err().contains("2h or 7d"), "{wrong}");
        }
    }

    #[test]
    fn codes_and_networks_are_read_as_people_write_them() {
        assert_eq!(
            (code("AADSTS700213"), code("700213")),
            (Ok("700213".to_owned()), Ok("700213".to_owned()))
        );
        assert!(code("S-CASE").is_err() && code("-1").is_err() && code("").is_err());
        let shown = |text: &str| network(text).map(|network| network.to_string());
        assert_eq!(shown("192.0.2.7"), Ok("192.0.2.7/32".to_owned()));
        assert_eq!(shown("2001:db8::/48"), Ok("2001:db8::/48".to_owned()));
        assert!(network("example.org").is_err() && network("192.0.2.0/33").is_err());
    }
}

//! One line of the record as a reader sees it. The names are those of `record.rs`; a test there-and-back keeps them so.

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock::UnixTime;
use crate::domain::nearmiss;

/// One line. What other versions of the record leave out is absent, what they add is not read. All texts may be strangers'.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "named and explained as the fields of Record")]
pub struct Entry {
    #[serde(rename = "createdDateTime")]
    pub created: String,
    #[serde(skip)]
    at: UnixTime,
    pub correlation_id: Option<String>,
    pub trace_id: Option<String>,
    pub tenant_id: Option<String>,
    pub identity_name: Option<String>,
    pub app_id: Option<String>,
    pub service_principal_id: Option<String>,
    pub resource: Option<String>,
    pub federated_credential_name: Option<String>,
    #[serde(default)]
    pub observed: Would,
    pub status: Answer,
    pub outcome: String,
    #[serde(default)]
    pub verified: bool,
    #[serde(default)]
    pub assertion: Asserted,
    #[serde(default)]
    pub roles: Vec<String>,
    pub unique_token_identifier: Option<String>,
    pub ip_address: Option<String>,
    pub duration_micros: Option<u64>,
    pub directory_digest: Option<String>,
    pub dialect: Option<String>,
    #[serde(default)]
    pub near_miss: Near,
    pub count: Option<u64>,
}

/// What a credential in observe mode would have done.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Would {
    pub federated_credential_name: Option<String>,
    pub outcome: Option<String>,
    pub reason: Option<String>,
}

/// Code and reason.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "named and explained as the fields of Status")]
pub struct Answer {
    pub error_code: u32,
    pub reason: Option<String>,
    pub additional_details: Option<String>,
}

/// What the assertion said.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "named and explained as the fields of Assertion")]
pub struct Asserted {
    pub issuer: Option<String>,
    pub subject: Option<String>,
    pub audience: Option<String>,
    pub jwt_id: Option<String>,
    pub key_id: Option<String>,
    pub run_id: Option<String>,
    pub job_id: Option<String>,
    pub digest: Option<String>,
}

/// Why it was refused.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "named and explained as the fields of NearMiss")]
pub struct Near {
    pub cause: Option<String>,
    pub part: Option<String>,
    pub hint: Option<String>,
    pub credential: Option<String>,
    pub issuer: Option<String>,
    pub subject: Option<String>,
    pub audience: Option<String>,
    pub configured_issuer: Option<String>,
    pub configured_subject: Option<String>,
    pub configured_audience: Option<String>,
    pub other_identity: Option<String>,
}

impl Entry {
    /// `None` for what is no line of the record: half of one, or of another log.
    pub fn parse(line: &str) -> Option<Self> {
        let entry: Self = serde_json::from_str(line).ok()?;
        let at = OffsetDateTime::parse(&entry.created, &Rfc3339).ok()?.unix_timestamp();
        matches!(&*entry.outcome, "granted" | "refused").then_some(Self { at, ..entry })
    }

    /// When it was decided.
    pub fn at(&self) -> UnixTime {
        self.at
    }

    /// Whether a token was minted.
    pub fn granted(&self) -> bool {
        self.outcome == "granted"
    }

    /// For how many decisions it stands.
    pub fn decisions(&self) -> u64 {
        self.count.unwrap_or(1)
    }

    /// Whether it is a sum of refusals, of which code, reason and identity are all that is known.
    pub fn is_sum(&self) -> bool {
        self.count.is_some()
    }

    /// The repository that the subject names.
    pub fn repository(&self) -> Option<String> {
        self.assertion.subject.as_deref().and_then(nearmiss::repository)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use serde_json::Value;

    use super::super::super::record::{Assertion, NearMiss, Outcome, Record, Status, Text, WouldMatch};
    use super::*;

    /// A record with everything in it, each value told from every other.
    pub(in super::super) fn whole() -> Record {
        let text = |text: &str| Some(Text::from(text));
        let name = |text: &str| Some(text.to_owned());
        // No `..` anywhere: a new field has to be thought of here.
        Record {
            created: 1_790_000_000,
            correlation_id: text("correlation"),
            trace_id: text("trace"),
            tenant_id: text("tenant"),
            identity_name: name("identity"),
            app_id: text("client"),
            service_principal_id: name("principal"),
            resource: text("resource"),
            federated_credential_name: name("credential"),
            observed: Some(WouldMatch {
                federated_credential_name: "watched".to_owned(),
                outcome: Outcome::Refused,
                reason: Some("other reason"),
            }),
            status: Status {
                error_code: 700_213,
                reason: Some("reason"),
                additional_details: text("details"),
            },
            outcome: Outcome::Refused,
            verified: true,
            assertion: Some(Assertion {
                issuer: text("iss"),
                subject: text("repo:octo/app:pull_request"),
                audience: text("aud"),
                jwt_id: text("jti"),
                key_id: text("kid"),
                run_id: Some(10_203_040_506),
                job_id: Some(30_201_000),
                digest: name("digest"),
            }),
            roles: vec!["role".to_owned()],
            unique_token_identifier: name("uti"),
            ip_address: Some(IpAddr::from([192, 0, 2, 7])),
            duration_micros: Some(987),
            directory_digest: name("directory"),
            dialect: Some("dialect"),
            near_miss: Some(Arc::new(NearMiss {
                cause: "CAUSE",
                part: Some("part"),
                hint: "hint",
                credential: text("nearest"),
                issuer: Some("ISSUER"),
                subject: Some("SUBJECT"),
                audience: Some("AUDIENCE"),
                configured_issuer: text("their iss"),
                configured_subject: text("their sub"),
                configured_audience: text("their aud"),
                other_identity: text("other"),
            })),
            inquiry: None,
            count: Some(654),
        }
    }

    fn leaves(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => members.values().for_each(|value| leaves(value, found)),
            Value::Array(elements) => elements.iter().for_each(|value| leaves(value, found)),
            Value::String(text) => found.push(format!("{text:?}")),
            other => found.push(other.to_string()),
        }
    }

    #[test]
    fn everything_that_is_written_is_read_back() {
        let written = serde_json::to_value(whole()).unwrap();
        let read = format!("{:?}", Entry::parse(&written.to_string()).unwrap());
        let mut values = Vec::new();
        leaves(&written, &mut values);
        assert_eq!(values.len(), 43);
        for value in values {
            assert!(read.contains(&value), "{value} is lost in {read}");
        }
    }

    #[test]
    fn the_least_and_the_unknown_are_read_and_what_is_no_record_is_not() {
        let least =
            r#"{"createdDateTime":"2026-09-21T14:13:20Z","status":{"errorCode":0},"outcome":"granted"}"#;
        let entry = Entry::parse(least).unwrap();
        assert_eq!((entry.at(), entry.granted(), entry.decisions()), (1_790_000_000, true, 1));
        let more = least.replacen('{', r#"{"new":{"a":[1]},"#, 1);
        assert!(Entry::parse(&more).is_some());
        for wrong in [
            "",
            "{}",
            &least[..least.len() - 1],
            &format!("{least}}}"),
            &least.replace("granted", "perhaps"),
            &least.replace("2026-", "26-"),
            r#"{"level":"INFO","message":"ready"}"#,
        ] {
            assert!(Entry::parse(wrong).is_none(), "{wrong}");
        }
    }
}

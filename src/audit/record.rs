//! What one line says. Names follow Entra's service-principal sign-in log.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock::UnixTime;
use crate::domain::ids::Guid;
use crate::domain::nearmiss::{self, Class, Inquiry};
use crate::secret::before_token;

/// A text that a stranger may have chosen: at most 600 characters, the longest that a credential can name, and without
/// the token that was sent in place of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Text(Box<str>);

const LONGEST: usize = 600;

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        let is_short = text.len() <= LONGEST;
        let kept = if is_short { None } else { text.char_indices().nth(LONGEST) };
        let kept = kept.map_or(text, |(end, _)| &text[..end]);
        if let Some(before) = before_token(kept) {
            return Self::from(format!("{before}…").as_str());
        }
        // Nearly all are plain ASCII, which is seen at a glance.
        if text.bytes().any(|byte| byte >= 0x7f) && text.contains(drives_terminals) {
            return Self::from(text.replace(drives_terminals, "\u{fffd}").as_str());
        }
        if kept.len() == text.len() {
            return Self(text.into());
        }
        // The mark keeps a cut text from passing for a configured one.
        Self(text.chars().take(LONGEST - 1).chain("…".chars()).collect())
    }
}

impl From<Guid> for Text {
    fn from(id: Guid) -> Self {
        Self(id.to_string().into())
    }
}

/// Characters that JSON lets stand and that end lines or drive terminals and bidirectional text: C1 controls, the line
/// separators of Unicode, directional marks.
pub fn drives_terminals(c: char) -> bool {
    matches!(c, '\u{7f}'..='\u{9f}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// How a decision ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// A token was minted.
    Granted,
    /// No token.
    #[default]
    Refused,
}

/// What a credential in observe mode would have done.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WouldMatch {
    /// Its name.
    pub federated_credential_name: String,
    /// Granted, or refused for another reason: what is asked for, or its own limit of lifetimes.
    pub outcome: Outcome,
    /// That reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

/// The result in the words of Entra.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The number after `AADSTS`; 0 for a grant.
    pub error_code: u32,
    /// A word from a closed set: aggregates are kept by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// What the caller may not learn: what is configured, and how it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub additional_details: Option<Text>,
}

/// What the assertion said, as far as it was read.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Assertion {
    /// `iss`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Text>,
    /// `sub`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Text>,
    /// `aud`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<Text>,
    /// `jti`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt_id: Option<Text>,
    /// `kid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<Text>,
    /// The platform's number of the run that the token is of; once the signature holds.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "digits")]
    pub run_id: Option<u64>,
    /// The platform's number of the job in that run; once the signature holds.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "digits")]
    pub job_id: Option<u64>,
    /// SHA-256 of the compact form, in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// Why it was refused, as far as that can be told: for operators alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NearMiss {
    /// From a closed set, such as `S-GH-ENV`.
    pub cause: &'static str,
    /// The part that differs, such as `branch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<&'static str>,
    /// What it means and what to do.
    pub hint: &'static str,
    /// The nearest credential of the identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<Text>,
    /// How near its issuer is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<&'static str>,
    /// How near its subject is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<&'static str>,
    /// How near its audience is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<&'static str>,
    /// Its issuer, where that is not equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configured_issuer: Option<Text>,
    /// Its subject, where that is not equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configured_subject: Option<Text>,
    /// Its audience, where that is not equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configured_audience: Option<Text>,
    /// Another identity of the tenant, which the token fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_identity: Option<Text>,
}

impl NearMiss {
    pub(super) fn of(found: &nearmiss::NearMiss<'_>) -> Self {
        let nearest = found.ranked.first();
        let class = |of: fn(&nearmiss::Compared<'_>) -> Class| nearest.map(|nearest| of(nearest).label());
        let unequal = |class: Class, text: &str| (class != Class::Equal).then(|| Text::from(text));
        Self {
            cause: found.cause.id(),
            part: found.part,
            hint: found.cause.hint(),
            credential: nearest.map(|nearest| nearest.credential.name.as_str().into()),
            issuer: class(|nearest| nearest.issuer.class),
            subject: class(|nearest| nearest.subject.class),
            audience: class(|nearest| nearest.audience.class),
            configured_issuer: nearest.and_then(|one| unequal(one.issuer.class, &one.credential.issuer)),
            configured_subject: nearest.and_then(|one| unequal(one.subject.class, &one.credential.subject)),
            configured_audience: nearest
                .and_then(|one| unequal(one.audience.class, &one.credential.audience)),
            other_identity: found.elsewhere.map(|identity| identity.name.as_str().into()),
        }
    }
}

/// One decision. It has no place for a token or a signature.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// When it was decided.
    #[serde(rename = "createdDateTime", serialize_with = "rfc3339")]
    pub created: UnixTime,
    /// The caller's own id for the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Text>,
    /// Our id of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<Text>,
    /// The tenant, as asked for until it is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<Text>,
    /// The identity's name; only when it is one of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_name: Option<String>,
    /// The identity's client id, as asked for until it is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_id: Option<Text>,
    /// The identity's principal id; only when it is one of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_principal_id: Option<String>,
    /// The resource in the form in which it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<Text>,
    /// The credential that matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub federated_credential_name: Option<String>,
    /// The credential in observe mode that fits, of a refusal; it granted nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<WouldMatch>,
    /// Code and reason.
    pub status: Status,
    /// Granted or refused.
    pub outcome: Outcome,
    /// Whether the signature held; before it does, everything the assertion says is hearsay.
    pub verified: bool,
    /// What the assertion said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assertion: Option<Assertion>,
    /// The roles in the token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// `uti` of the minted token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique_token_identifier: Option<String>,
    /// The client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<IpAddr>,
    /// How long the decision took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_micros: Option<u64>,
    /// The digest of the directory that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory_digest: Option<String>,
    /// The dialect of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dialect: Option<&'static str>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub near_miss: Option<Arc<NearMiss>>,
    /// What the writer looks into, to find that out.
    #[serde(skip)]
    pub inquiry: Option<Box<Inquiry>>,
    /// For how many decisions the line stands, when it is not one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// A time outside the years that RFC 3339 can write is a fault of the machine's clock; the line is still worth having.
fn rfc3339<S: Serializer>(seconds: &UnixTime, serializer: S) -> Result<S::Ok, S::Error> {
    let time = OffsetDateTime::from_unix_timestamp(*seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    serializer.serialize_str(&time.format(&Rfc3339).unwrap_or_default())
}

/// As a text, as platforms write them: JSON's numbers lose digits in many hands.
fn digits<S: Serializer>(number: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&number.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_reads_like_a_sign_in() {
        let record = Record {
            created: 1_790_000_000,
            correlation_id: Some("c\n1".into()),
            identity_name: Some("id-payments-prod".into()),
            outcome: Outcome::Granted,
            verified: true,
            assertion: Some(Assertion { jwt_id: Some("j".into()), ..Assertion::default() }),
            roles: vec!["Reader".into()],
            ip_address: Some(IpAddr::from([127, 0, 0, 1])),
            dialect: Some("entra"),
            ..Record::default()
        };
        assert_eq!(
            serde_json::to_string(&record).unwrap(),
            concat!(
                r#"{"createdDateTime":"2026-09-21T14:13:20Z","correlationId":"c\n1","#,
                r#""identityName":"id-payments-prod","status":{"errorCode":0},"outcome":"granted","#,
                r#""verified":true,"assertion":{"jwtId":"j"},"roles":["Reader"],"ipAddress":"127.0.0.1","#,
                r#""dialect":"entra"}"#
            )
        );
    }

    #[test]
    fn a_token_in_place_of_a_text_is_left_out() {
        assert_eq!(Text::from("api://eyJhbGci.eyJzdWIi.c2ln/x"), Text("api://…".into()));
        for kept in ["repo:a/b:ref:refs/heads/eyJ.x", "https://a.b.c", "eyJ"] {
            assert_eq!(Text::from(kept), Text(kept.into()));
        }
        let long = format!("eyJhbGci.{}.sig", "x".repeat(700));
        assert_eq!(Text::from(&*long), Text("…".into()));
    }

    #[test]
    fn nothing_ends_a_line_or_drives_a_terminal() {
        assert_eq!(
            Text::from("a\u{9b}b\u{85}c\u{2028}d\u{202e}e"),
            Text("a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}e".into())
        );
    }

    #[test]
    fn long_texts_are_cut_by_characters_and_marked() {
        let fits = "é".repeat(600);
        assert_eq!(Text::from(&*fits), Text(fits.into()));
        let Text(cut) = Text::from(&*"é".repeat(601));
        assert_eq!(cut.chars().count(), 600);
        assert!(cut.ends_with("é…"));
    }
}

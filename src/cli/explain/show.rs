//! What `ficus explain` prints: claims, never the token or its signature.

use serde_json::{Value, json};

use super::super::output::as_it_is;
use super::Findings;
use super::near::{self, plain};
use super::observed::WouldMatch;
use crate::domain::assertion::Hearsay;
use crate::domain::credential::{Comparison, Credential, CredentialState};
use crate::domain::refusal::Refusal;
use crate::wire::advice;

pub(super) struct Report<'a> {
    pub(super) findings: &'a Findings<'a>,
    pub(super) refusal: Option<&'a Refusal>,
    pub(super) offline: bool,
    pub(super) colours: bool,
}

/// Name, presented and configured value, and whether they are equal, of the three fields that are compared.
fn fields(
    said: &Hearsay,
    credential: &Credential,
    held: Comparison,
) -> [(&'static str, String, String, bool); 3] {
    let text = |claim: &Option<String>| claim.clone().unwrap_or_default();
    [
        ("issuer", text(&said.issuer), credential.issuer.to_string(), held.issuer),
        ("subject", text(&said.subject), credential.subject.clone(), held.subject),
        ("audience", said.audiences.join(", "), credential.audience.clone(), held.audience),
    ]
}

fn state(credential: &Credential) -> &'static str {
    match credential.state {
        CredentialState::Enabled => "enabled",
        CredentialState::Observed => "observe mode",
        CredentialState::Disabled => "disabled",
        CredentialState::IssuerDisabled => "issuer disabled",
    }
}

impl Report<'_> {
    fn verdict(&self) -> &'static str {
        match (self.refusal, self.offline) {
            (None, false) if self.findings.one_time => "granted, if it has not been used",
            (None, true) if self.findings.one_time => {
                "granted, if the signature holds and it has not been used"
            }
            (None, false) => "granted",
            (None, true) => "granted, if the signature holds",
            (Some(Refusal::IssuerUnavailable { .. }), _) => "undecided: the issuer's keys can't be had",
            (Some(_), _) => "refused",
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = self.claims_text();
        text.push_str(&self.credentials_text());
        text.push_str("\nchecks:\n");
        for step in &self.findings.passed {
            text.push_str(&format!("  ok           {step}\n"));
        }
        for step in &self.findings.unchecked {
            text.push_str(&format!("  not checked  {step}\n"));
        }
        if let Some(refusal) = self.refusal {
            let (reason, (meaning, check)) = (refusal.reason(), advice(refusal.reason()));
            let step = self.findings.step;
            text.push_str(&format!("  refused      {step}: AADSTS{} {}\n", reason.code(), reason.label()));
            text.push_str(&format!("               {meaning}\n               Check: {check}\n"));
            if let Some(cause) = &self.findings.cause {
                text.push_str(&format!("               Cause: {cause}\n"));
            }
        }
        text.push_str(&near::text(self.findings));
        if let Some(observed) = &self.findings.observed {
            text.push_str(&observed.text());
        }
        text.push_str(&format!("\nverdict: {}", self.verdict()));
        if let (None, Some(credential)) = (self.refusal, self.findings.matched) {
            text.push_str(&format!(", by credential {}", credential.name));
        }
        match &self.findings.roles {
            Some(roles) if roles.is_empty() => text.push_str("; no roles"),
            Some(roles) => text.push_str(&format!("; roles: {}", roles.join(", "))),
            None => {}
        }
        text.push('\n');
        text
    }

    pub(super) fn claims_text(&self) -> String {
        let Some(said) = &self.findings.said else { return String::new() };
        let date = |seconds: Option<i64>| seconds.map(|seconds| format!("{seconds}  {}", utc(seconds)));
        let rows = [
            ("alg", Some(said.algorithm.clone()).filter(|name| !name.is_empty())),
            ("kid", said.key_id.clone()),
            ("iss", said.issuer.clone()),
            ("sub", said.subject.clone()),
            ("aud", Some(said.audiences.join(", "))),
            ("iat", date(said.issued_at)),
            ("nbf", date(said.not_before)),
            ("exp", date(said.expires)),
            ("jti", said.jwt_id.clone()),
        ];
        let lines =
            rows.iter().filter_map(|(name, value)| Some(format!("  {name:<5}{}\n", plain(value.as_ref()?))));
        format!("the token says:\n{}", lines.collect::<String>())
    }

    pub(super) fn credentials_text(&self) -> String {
        let (Some((_, identity)), Some(said)) = (self.findings.identity, &self.findings.said) else {
            return String::new();
        };
        let mut text = format!("\ncredentials of {}:\n", identity.name);
        for (credential, held) in self.findings.comparisons() {
            let mark = if held.matches() { "matches".to_owned() } else { state(credential).to_owned() };
            text.push_str(&format!("  {} ({mark})\n", credential.name));
            let found = near::fields(self.findings, credential);
            for ((name, presented, configured, equal), finding) in
                fields(said, credential, held).into_iter().zip(found)
            {
                if equal {
                    text.push_str(&format!("    {name:<9}equal\n"));
                } else {
                    text.push_str(&format!("    {name:<9}{}\n", near::relation(finding)));
                    text.push_str(&near::sides((&presented, &configured), finding, self.colours));
                }
            }
            if self.findings.doubts(credential) {
                text.push_str("      whether it was one audience or several was not recorded\n");
            } else if !held.audience
                && said.audiences.len() > 1
                && said.audiences.contains(&credential.audience)
            {
                text.push_str(
                    "      one of several matches only where the issuer's entry sets multiple_audiences\n",
                );
            }
        }
        text
    }

    pub(super) fn json(&self) -> String {
        let findings = self.findings;
        let refusal = self.refusal.map(|refusal| {
            let (reason, (meaning, check)) = (refusal.reason(), advice(refusal.reason()));
            json!({
                "step": findings.step, "code": reason.code(), "reason": reason.label(),
                "meaning": meaning, "check": check, "cause": findings.cause,
            })
        });
        let claims = findings.said.as_ref().map(|said| {
            json!({
                "alg": said.algorithm, "kid": said.key_id, "iss": said.issuer, "sub": said.subject,
                "aud": said.audiences, "iat": said.issued_at, "nbf": said.not_before, "exp": said.expires,
                "jti": said.jwt_id,
            })
        });
        let report = json!({
            "verdict": self.verdict(),
            "granted": self.refusal.is_none(),
            "refusal": refusal,
            "tenant": findings.identity.map(|(tenant, _)| tenant.id.to_string()),
            "identity": findings.identity.map(|(_, identity)| identity.name.clone()),
            "passed": findings.passed,
            "not_checked": findings.unchecked,
            "claims": claims,
            "near_miss": near::json(findings),
            "credentials": self.credentials_json(),
            "observed": findings.observed.as_ref().map(WouldMatch::json),
            "matched": self.findings.matched.map(|credential| credential.name.clone()),
            "roles": findings.roles,
        });
        as_it_is(&format!("{report:#}\n"))
    }

    pub(super) fn credentials_json(&self) -> Vec<Value> {
        let Some(said) = &self.findings.said else { return Vec::new() };
        let compared = self.findings.comparisons().into_iter();
        compared
            .map(|(credential, held)| {
                let mut entry =
                    json!({ "name": credential.name, "state": state(credential), "matches": held.matches() });
                let found = near::fields(self.findings, credential);
                for ((name, presented, configured, equal), finding) in
                    fields(said, credential, held).into_iter().zip(found)
                {
                    entry[name] = json!({ "equal": equal, "presented": presented, "configured": configured });
                    if let Some(finding) = finding {
                        entry[name]["class"] = finding.class.label().into();
                    }
                }
                if self.findings.doubts(credential) {
                    (entry["matches"], entry["audience"]["equal"]) = (Value::Null, Value::Null);
                }
                entry
            })
            .collect()
    }
}

fn utc(seconds: i64) -> String {
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    let at = time::OffsetDateTime::from_unix_timestamp(seconds).ok();
    at.and_then(|at| at.format(format).ok()).unwrap_or_default()
}

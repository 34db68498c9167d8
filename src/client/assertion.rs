//! The platform's token: what it says of itself, and the usual mistakes on the way from the platform to us.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::domain::assertion::{Compact, Hearsay, UnverifiedAssertion};
use crate::domain::json::Members;
use crate::domain::refusal::Refusal;
use crate::secret::Secret;

/// Above every broker's default; what is longer is no token.
pub const LARGEST: usize = 64 << 10;

/// Claims that tell which workload this is and no secret, beside the registered ones: of GitHub, GitLab and others.
const SAFE: [&str; 19] = [
    "repository",
    "repository_id",
    "repository_owner_id",
    "repository_visibility",
    "event_name",
    "environment",
    "ref",
    "ref_type",
    "ref_protected",
    "workflow_ref",
    "job_workflow_ref",
    "runner_environment",
    "project_path",
    "project_id",
    "namespace_path",
    "pipeline_source",
    "ci_config_ref_uri",
    "environment_protected",
    "deployment_tier",
];

/// A compact JWS that a platform gave us.
pub struct Assertion {
    token: Secret<String>,
    said: Hearsay,
}

impl Assertion {
    /// Takes a token over, with the white space around it taken off as brokers do it.
    ///
    /// # Errors
    /// What is wrong with it and probably how that came, never the text itself.
    pub fn new(token: &Secret<String>) -> Result<Self, String> {
        let text = check(token.as_str())?;
        let parsed = Compact::new(text, LARGEST).and_then(UnverifiedAssertion::parse);
        let said = parsed.map_err(|refusal| match refusal {
            Refusal::AssertionMalformed(why) => format!("is not a JWT: {why}"),
            Refusal::AssertionKind(kind) => {
                format!("is not an OIDC token but a JWT of type {}", super::plain(&kind))
            }
            _ => "is not a JWT".to_owned(),
        })?;
        let said = said.hearsay();
        match is_request_token(&said) {
            true => Err(format!(
                "is not a job's OIDC token but the token to ask for one, {} (hint: ask with it, and take the member \
                 `value` of the answer; --from github does both)",
                super::github::TOKEN
            )),
            false => Ok(Self { token: Secret::from(text.to_owned()), said }),
        }
    }

    /// The token.
    pub fn token(&self) -> &Secret<String> {
        &self.token
    }

    /// What it says of itself; nothing of that has been verified.
    pub fn said(&self) -> &Hearsay {
        &self.said
    }

    /// Further claims that may be shown to anybody, as text, in a fixed order.
    pub fn safe_claims(&self) -> Vec<(&'static str, String)> {
        let claims = self.token.as_str().split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let claims = Zeroizing::new(claims.unwrap_or_default());
        let Ok(members) = Members::read(&claims) else { return Vec::new() };
        let text = |name| members.text(name).ok().flatten().filter(|text| !text.is_empty());
        SAFE.iter().filter_map(|name| Some((*name, text(name)?))).collect()
    }
}

/// GitHub's runner is itself known by a JWT, which is good for nothing but to ask for others.
fn is_request_token(said: &Hearsay) -> bool {
    let issuer = said.issuer.as_deref().unwrap_or_default();
    issuer == "https://vstoken.actions.githubusercontent.com" || issuer.ends_with("/_services/vstoken")
}

/// The compact form, with the white space around it taken off as the broker does. An error never holds the text itself.
pub fn check(text: &str) -> Result<&str, String> {
    let token = text.trim_matches([' ', '\t', '\r', '\n']);
    let parts = token.split('.').count();
    let lower = token.get(..7).unwrap_or_default().to_ascii_lowercase();
    let mistake = match token.chars().next() {
        None => "is empty (hint: did the command that fetched the token fail?)".to_owned(),
        Some('\u{feff}') => "begins with a byte order mark (hint: save it as UTF-8 without one)".to_owned(),
        Some('"' | '\'') => "has quotes around the token (hint: jq -r prints none)".to_owned(),
        Some('{' | '[') => {
            "holds JSON, not a token (hint: take its member with the token out, for example with \
                            jq -r .value or jq -r .status.token)"
                .to_owned()
        }
        Some('$') => {
            "begins with a dollar sign: a variable's name, not its value (hint: was it in single quotes, or \
                      is the variable not defined there?)"
                .to_owned()
        }
        _ if token == "null" => {
            "holds `null` (hint: jq prints that when the member is not there; look at the whole answer)"
                .to_owned()
        }
        _ if lower == "bearer " => "begins with `Bearer ` (hint: leave that out)".to_owned(),
        _ if parts == 5 => {
            "holds an encrypted token (JWE); only signed ones (JWS) can be exchanged".to_owned()
        }
        _ if parts != 3 => {
            format!(
                "is not a JWT: it has {parts} part{} between dots, not 3 (hint: is it whole, and the right one?)",
                if parts == 1 { "" } else { "s" }
            )
        }
        _ if token.contains(char::is_whitespace) => {
            "has white space within the token (hint: was it wrapped into lines?)".to_owned()
        }
        _ => return Ok(token),
    };
    Err(mistake)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn compact(claims: &Value) -> Secret<String> {
        let parts = [json!({ "alg": "RS256", "kid": "k" }), claims.clone()];
        let [header, claims] = parts.map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        Secret::from(format!("{header}.{claims}.c2ln\n"))
    }

    #[test]
    fn each_mistake_is_told_in_a_line_without_the_token() {
        assert_eq!(check(" e30.e30.c2ln\r\n"), Ok("e30.e30.c2ln"));
        for (text, word) in [
            ("", "empty"),
            (" \n", "empty"),
            ("\"e30.e30.c2ln\"", "quotes"),
            ("'e30.e30.c2ln'", "quotes"),
            ("{\"value\":\"e30.e30.c2ln\"}", "JSON"),
            ("Bearer e30.e30.c2ln", "Bearer"),
            ("bearer e30.e30.c2ln", "Bearer"),
            ("\u{feff}e30.e30.c2ln", "byte order mark"),
            ("$FICUS_ID_TOKEN", "dollar"),
            ("null\n", "null"),
            ("e30.e30", "not a JWT"),
            ("e30.a.b.c.c2ln", "encrypted"),
            ("e30.e\n30.c2ln", "white space"),
            ("ghs_secret", "not a JWT"),
        ] {
            let why = check(text).unwrap_err();
            assert!(why.contains(word) && !why.contains('\n'), "{text:?}: {why}");
            assert!(!why.contains("c2ln") && !why.contains("ghs_"), "{why}");
        }
    }

    #[test]
    fn what_a_job_says_of_itself_is_read_and_what_is_private_stays() {
        let claims = json!({
            "iss": "https://gitlab.com", "sub": "s", "aud": "a", "exp": 2, "iat": 1, "project_path": "g/p",
            "user_email": "sam@example.com", "user_login": "sam", "environment": "", "ref": 7,
        });
        let assertion = Assertion::new(&compact(&claims)).unwrap_or_else(|why| panic!("{why}"));
        assert!(!assertion.token().as_str().ends_with('\n'));
        assert_eq!(assertion.said().subject.as_deref(), Some("s"));
        assert_eq!(assertion.safe_claims(), [("project_path", "g/p".to_owned())]);
    }

    #[test]
    fn the_token_to_ask_for_tokens_is_told_from_a_jobs_own() {
        let of = |issuer: &str| Assertion::new(&compact(&json!({ "iss": issuer, "sub": "s", "aud": "a" })));
        for wrong in
            ["https://vstoken.actions.githubusercontent.com", "https://ghe.example/_services/vstoken"]
        {
            let why = of(wrong).map(|_| ()).unwrap_err();
            assert!(why.contains("`value`"), "{why}");
        }
        for right in ["https://token.actions.githubusercontent.com", "https://ghe.example/_services/token"] {
            assert!(of(right).is_ok(), "{right}");
        }
    }
}

//! The inbound JWT before its signature has been checked.
//!
//! Of an [`UnverifiedAssertion`] only the issuer can be had, and only to find out whether a credential names it.
//! Everything else comes out of [`super::verify`].

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use memchr::memchr_iter;
use serde_json::value::RawValue;

use super::algorithm::Algorithm;
use super::base64url;
use super::json::{Fault, Members, Mistyped, text};
use super::policy::IssuerPolicy;
use super::refusal::Refusal;

/// Longest key id that is looked up, in bytes.
pub const MAX_KEY_ID: usize = 256;
/// Most audiences of one token.
const MAX_AUDIENCES: usize = 32;
/// Largest NumericDate: 2^53, up to which a JSON number is exact.
const MAX_DATE: f64 = 9_007_199_254_740_992.0;

/// A compact JWS as it was presented, and what it is known by. It has no `Debug`, so that no log can show it.
#[derive(Clone, Copy)]
pub struct Compact<'a> {
    text: &'a str,
    digest: [u8; 32],
}

impl<'a> Compact<'a> {
    /// A text of at most `limit` bytes: what is longer is not even looked at.
    pub fn new(text: &'a str, limit: usize) -> Result<Self, Refusal> {
        if text.len() > limit {
            return Err(Refusal::AssertionMalformed("it is larger than accepted"));
        }
        let mut known_by = [0; 32];
        known_by.iter_mut().zip(digest(&SHA256, text.as_bytes()).as_ref()).for_each(|(to, from)| *to = *from);
        Ok(Self { text, digest: known_by })
    }

    /// SHA-256 of the whole text. Without the signature in it, a forged one would be known by the same.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

/// A compact JWS whose form is right; nothing it says has been proven. It has no `Debug`, so that no log can show it.
pub struct UnverifiedAssertion<'a> {
    pub(super) compact: Compact<'a>,
    pub(super) parts: Arc<Parts>,
}

/// What an assertion is made of, decoded. Shared with the proof that its verification leaves.
pub(super) struct Parts {
    pub(super) header: Header,
    pub(super) claims: Claims,
    pub(super) signature: Vec<u8>,
}

/// The header members that decide anything. `jwk`, `jku`, `x5u` and `x5c` are never a source of keys, so they are not read.
pub(super) struct Header {
    pub(super) algorithm: String,
    pub(super) key_id: Option<String>,
    pub(super) kind: Option<String>,
}

/// The registered claims, typed. Absent is `None` or empty; of a wrong type never gets here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) issuer: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) audiences: Vec<String>,
    pub(super) expires: Option<i64>,
    pub(super) not_before: Option<i64>,
    pub(super) issued_at: Option<i64>,
    pub(super) jwt_id: Option<String>,
    pub(super) run: Run,
    /// GitHub's `job_workflow_ref`, unless it is longer than any sensible one. It explains refusals and decides nothing.
    pub(super) workflow: Option<String>,
}

/// Which run of its platform a token belongs to, as GitHub and GitLab number them. For the record alone: nothing decides by
/// it, and what is no number of theirs is as good as absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Run {
    /// `run_id` of a workflow, `pipeline_id` of a pipeline.
    pub id: Option<u64>,
    /// The job in it: `check_run_id`, `job_id`.
    pub job: Option<u64>,
}

/// What the assertion says of itself, for the audit record, which marks it as unverified, and for explanations.
#[derive(Debug, Default, Clone)]
#[expect(missing_docs, reason = "named as the claims and header members of RFC 7519")]
pub struct Hearsay {
    pub issuer: Option<String>,
    pub subject: Option<String>,
    pub audiences: Vec<String>,
    pub issued_at: Option<i64>,
    pub not_before: Option<i64>,
    pub expires: Option<i64>,
    pub jwt_id: Option<String>,
    pub algorithm: String,
    pub key_id: Option<String>,
    pub run: Run,
    pub workflow: Option<String>,
}

/// What an assertion tells of itself, for who may read it later: the record, and explanations.
pub struct Told(Arc<Parts>);

#[expect(missing_docs, reason = "named as the claims and header members of RFC 7519")]
impl Told {
    pub fn issuer(&self) -> Option<&str> {
        self.0.claims.issuer.as_deref()
    }

    pub fn subject(&self) -> Option<&str> {
        self.0.claims.subject.as_deref()
    }

    pub fn audiences(&self) -> &[String] {
        &self.0.claims.audiences
    }

    pub fn jwt_id(&self) -> Option<&str> {
        self.0.claims.jwt_id.as_deref()
    }

    pub fn key_id(&self) -> Option<&str> {
        self.0.header.key_id.as_deref()
    }

    pub fn run(&self) -> Run {
        self.0.claims.run
    }
}

impl From<&Told> for Hearsay {
    fn from(Told(parts): &Told) -> Self {
        let Parts { header, claims, .. } = &**parts;
        Self {
            issuer: claims.issuer.clone(),
            subject: claims.subject.clone(),
            audiences: claims.audiences.clone(),
            issued_at: claims.issued_at,
            not_before: claims.not_before,
            expires: claims.expires,
            jwt_id: claims.jwt_id.clone(),
            algorithm: header.algorithm.clone(),
            key_id: header.key_id.clone(),
            run: claims.run,
            workflow: claims.workflow.clone(),
        }
    }
}

impl<'a> UnverifiedAssertion<'a> {
    /// Reads a compact JWS: three parts, strict base64url, strict JSON, no `crit`, no `b64`, `typ` absent or `JWT`, and every
    /// registered claim of its type.
    pub fn parse(compact: Compact<'a>) -> Result<Self, Refusal> {
        let mut dots = memchr_iter(b'.', compact.text.as_bytes());
        let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
            return Err(NOT_COMPACT);
        };
        let (header, claims) = (&compact.text[..first], &compact.text[first + 1..second]);
        let parts = Parts {
            header: Header::read(&decode(header)?)?,
            claims: Claims::read(&decode(claims)?)?,
            signature: decode(&compact.text[second + 1..])?,
        };
        // Last: a kind is worth telling only of what is a JWT.
        match &parts.header.kind {
            Some(kind) if !kind.eq_ignore_ascii_case("JWT") => Err(Refusal::AssertionKind(kind.clone())),
            _ => Ok(Self { compact, parts: Arc::new(parts) }),
        }
    }

    /// The text as it was presented, and what it is known by.
    pub fn compact(&self) -> &Compact<'a> {
        &self.compact
    }

    /// Header and claims as they were signed.
    pub(super) fn signing_input(&self) -> &'a str {
        let text = self.compact.text;
        text.rsplit_once('.').map_or(text, |(signing_input, _)| signing_input)
    }

    /// The claimed issuer, the only claim that may be used before the signature holds.
    pub fn unverified_issuer(&self) -> Result<&str, Refusal> {
        self.parts.claims.issuer.as_deref().ok_or(Refusal::ClaimAbsent("iss"))
    }

    /// What the token says of itself.
    pub fn told(&self) -> Told {
        Told(Arc::clone(&self.parts))
    }

    /// The same, to be kept.
    pub fn hearsay(&self) -> Hearsay {
        Hearsay::from(&self.told())
    }

    /// Checks what the issuer's policy says of the header, so that no key is fetched for a token that none could save.
    pub fn admit(self, policy: &'a IssuerPolicy) -> Result<Candidate<'a>, Refusal> {
        let algorithm = Algorithm::from_name(&self.parts.header.algorithm)
            .filter(|algorithm| policy.algorithms.contains(algorithm))
            .ok_or_else(|| Refusal::AlgorithmRefused(self.parts.header.algorithm.clone()))?;
        if self.parts.header.key_id.is_none() && policy.require_kid {
            return Err(Refusal::KeyIdAbsent);
        }
        Ok(Candidate { assertion: self, algorithm, policy })
    }
}

/// An assertion from an issuer that a credential names, with an algorithm that its policy accepts.
pub struct Candidate<'a> {
    pub(super) assertion: UnverifiedAssertion<'a>,
    pub(super) algorithm: Algorithm,
    pub(super) policy: &'a IssuerPolicy,
}

impl<'a> Candidate<'a> {
    /// What is demanded of its issuer's assertions.
    pub fn policy(&self) -> &'a IssuerPolicy {
        self.policy
    }
}

const NOT_COMPACT: Refusal = Refusal::AssertionMalformed("it does not have the three parts of a compact JWS");

fn decode(part: &str) -> Result<Vec<u8>, Refusal> {
    base64url::decode(part).ok_or(Refusal::AssertionMalformed("a part is not base64url"))
}

impl Parts {
    /// The memory that they take, in bytes, roughly.
    pub(super) fn size(&self) -> usize {
        let Self { header, claims, signature } = self;
        let texts =
            [&header.key_id, &header.kind, &claims.issuer, &claims.subject, &claims.jwt_id, &claims.workflow];
        let texts = texts.into_iter().flatten().chain([&header.algorithm]).chain(&claims.audiences);
        size_of::<Self>()
            + signature.len()
            + texts.map(|text| size_of::<String>() + text.len()).sum::<usize>()
    }
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        let members = Members::read(bytes)?;
        // We implement no extension, so one that must be understood can't be; b64 would change what is signed (RFC 7797).
        if members.get("crit").is_some() || members.get("b64").is_some() {
            return Err(Refusal::AssertionMalformed("its header demands an extension (crit, b64)"));
        }
        let key_id = members.text("kid")?.filter(|kid| !kid.is_empty());
        if key_id.as_ref().is_some_and(|kid| kid.len() > MAX_KEY_ID) {
            return Err(Refusal::AssertionMalformed("its key id is longer than 256 bytes"));
        }
        Ok(Self { algorithm: members.text("alg")?.unwrap_or_default(), key_id, kind: members.text("typ")? })
    }
}

impl Claims {
    fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        let members = Members::read(bytes)?;
        Ok(Self {
            issuer: members.text("iss")?.filter(|issuer| !issuer.is_empty()),
            subject: members.text("sub")?.filter(|subject| !subject.is_empty()),
            audiences: members.get("aud").map(audiences).transpose()?.unwrap_or_default(),
            expires: date(&members, "exp")?,
            not_before: date(&members, "nbf")?,
            issued_at: date(&members, "iat")?,
            jwt_id: members.text("jti")?,
            run: Run::read(&members),
            workflow: members
                .text("job_workflow_ref")
                .ok()
                .flatten()
                .filter(|workflow| workflow.len() <= 600),
        })
    }
}

impl Run {
    fn read(members: &Members<'_>) -> Self {
        let number = |name: &str| {
            let text = members.text(name).ok().flatten()?;
            text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
        };
        Self {
            id: number("run_id").or_else(|| number("pipeline_id")),
            job: number("check_run_id").or_else(|| number("job_id")),
        }
    }
}

/// `aud` is a string or a list of strings (RFC 7519 section 4.1.3). A list with an empty string in it is as good as none.
fn audiences(value: &RawValue) -> Result<Vec<String>, Refusal> {
    let list = match text(value) {
        Ok(single) => vec![single],
        Err(Mistyped) => serde_json::from_str::<Vec<String>>(value.get()).map_err(|_| Mistyped)?,
    };
    if list.len() > MAX_AUDIENCES {
        return Err(Refusal::AssertionMalformed("it has more than 32 audiences"));
    }
    Ok(if list.iter().any(String::is_empty) { Vec::new() } else { list })
}

/// A NumericDate, integer or decimal, in whole seconds: a fraction of a second never makes a token live longer.
fn date(members: &Members<'_>, name: &str) -> Result<Option<i64>, Refusal> {
    let Some(value) = members.typed::<f64>(name)? else { return Ok(None) };
    if !(0.0..=MAX_DATE).contains(&value) {
        return Err(Mistyped.into());
    }
    #[expect(clippy::cast_possible_truncation, reason = "at most 2^53")]
    Ok(Some(value as i64))
}

impl From<Mistyped> for Refusal {
    fn from(_: Mistyped) -> Self {
        Self::AssertionMalformed("a member of its header or claims has the wrong type")
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::AssertionMalformed(match fault {
            Fault::Utf8 => "its header or claims are not UTF-8",
            Fault::Syntax => "its header or claims are not a JSON object",
            Fault::Depth => "its header or claims are nested too deep",
            Fault::Duplicate => "a member of its header or claims occurs twice",
        })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    use super::*;

    const HEADER: &str = r#"{"alg":"RS256","kid":"k","typ":"JWT"}"#;
    const CLAIMS: &str = r#"{"iss":"https://i","sub":"s","aud":"a","exp":20,"iat":10}"#;

    fn compact(header: &str, claims: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    }

    fn parse(header: &str, claims: &str) -> Result<(Header, Claims), Refusal> {
        read(&compact(header, claims)).map(|parts| (parts.header, parts.claims))
    }

    fn read(text: &str) -> Result<Parts, Refusal> {
        let read = UnverifiedAssertion::parse(Compact::new(text, 16 << 10)?)?;
        Ok(Arc::into_inner(read.parts).unwrap())
    }

    fn malformed(result: Result<(Header, Claims), Refusal>) -> bool {
        matches!(result, Err(Refusal::AssertionMalformed(_)))
    }

    #[test]
    fn the_workflow_is_kept_where_it_is_one() {
        let workflow = |value: &str| {
            let claims = format!(r#"{{"iss":"https://i","job_workflow_ref":{value}}}"#);
            parse(HEADER, &claims).unwrap().1.workflow
        };
        assert_eq!(workflow(r#""o/w/f.yml@main""#).as_deref(), Some("o/w/f.yml@main"));
        for none in ["7".to_owned(), "null".to_owned(), format!("\"{}\"", "x".repeat(601))] {
            assert_eq!(workflow(&none), None);
        }
    }

    #[test]
    fn an_honest_assertion_is_read() {
        let (header, claims) = parse(HEADER, CLAIMS).unwrap();
        assert_eq!((header.algorithm.as_str(), header.key_id.as_deref()), ("RS256", Some("k")));
        assert_eq!(
            (claims.issuer.as_deref(), claims.expires, claims.not_before),
            (Some("https://i"), Some(20), None)
        );
    }

    #[test]
    fn shapes_that_are_no_compact_jws_are_refused() {
        let good = compact(HEADER, CLAIMS);
        let (head, sig) = good.rsplit_once('.').unwrap();
        for wrong in [
            String::new(),
            "..".into(),
            ".".repeat(100_000),
            head.to_owned(),
            format!("{good}.x"),
            format!("{good}="),
            format!("{head}.{sig}="),
            format!(" {good}"),
            format!("Bearer {good}"),
            format!("\"{good}\""),
            format!("{head}.c2lh+/"),
            format!("{head}.c2l"),
            format!("{head}.c 2ln"),
            format!("\u{feff}{good}"),
            format!("{head}.c2lnA"),
            good.replacen('.', "=.", 1),
        ] {
            let refusal = read(&wrong).map(|_| ()).unwrap_err();
            assert!(matches!(refusal, Refusal::AssertionMalformed(_)), "{wrong:.80}");
        }
        assert!(Compact::new(&good, good.len()).and_then(UnverifiedAssertion::parse).is_ok());
        assert!(Compact::new(&good, good.len() - 1).is_err());
    }

    #[test]
    fn mistyped_members_are_refused_not_taken_as_absent() {
        for (member, values) in [
            ("iss", &["null", "0", "{}", "[\"https://i\"]", "true"][..]),
            ("sub", &["null", "0", "{}", "[\"s\"]"]),
            ("aud", &["null", "0", "{}", "[1]", "[\"a\",1]", "[[\"a\"]]"]),
            (
                "exp",
                &["null", "\"20\"", "true", "[20]", "-1", "1e400", "18446744073709551616", "\"2030-01-01\""],
            ),
            ("nbf", &["null", "\"20\"", "true", "[20]", "{}", "1e400"]),
            ("iat", &["null", "\"10\"", "true", "1e400"]),
            ("jti", &["null", "7"]),
        ] {
            for value in values {
                let mut claims: Vec<String> = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"]
                    .iter()
                    .filter(|name| **name != member)
                    .map(|name| {
                        format!(
                            "{name:?}:{}",
                            if name.len() == 3 && "exp nbf iat".contains(name) { "1" } else { "\"x\"" }
                        )
                    })
                    .collect();
                assert!(parse(HEADER, &format!("{{{}}}", claims.join(","))).is_ok());
                claims.push(format!("{member:?}:{value}"));
                assert!(malformed(parse(HEADER, &format!("{{{}}}", claims.join(",")))), "{member} {value}");
            }
        }
        for header in [
            r#"{"alg":1}"#,
            r#"{"alg":null}"#,
            r#"{"alg":"RS256","kid":7}"#,
            r#"{"alg":"RS256","kid":null}"#,
            r#"{"alg":"RS256","typ":1}"#,
        ] {
            assert!(malformed(parse(header, CLAIMS)), "{header}");
        }
    }

    #[test]
    fn extensions_and_other_kinds_are_refused() {
        for member in
            [r#""crit":["exp"]"#, r#""crit":[]"#, r#""crit":"x""#, r#""b64":false"#, r#""b64":true"#]
        {
            assert!(malformed(parse(&format!(r#"{{"alg":"RS256",{member}}}"#), CLAIMS)), "{member}");
        }
        for kind in ["at+jwt", "dpop+jwt", "logout+jwt", "", "JWT "] {
            let header = format!(r#"{{"alg":"RS256","typ":"{kind}"}}"#);
            assert_eq!(parse(&header, CLAIMS).err(), Some(Refusal::AssertionKind(kind.to_owned())));
        }
        // Of what is no JWT at all the kind is not worth telling.
        assert!(malformed(parse(r#"{"alg":"RS256","typ":"at+jwt","kid":7}"#, CLAIMS)));
        assert!(malformed(parse(r#"{"alg":"RS256","typ":"at+jwt"}"#, "not JSON")));
        assert!(parse(r#"{"alg":"RS256","typ":"jwt"}"#, CLAIMS).is_ok());
        assert!(parse(r#"{"alg":"RS256"}"#, CLAIMS).is_ok());
        assert!(malformed(parse(&format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(257)), CLAIMS)));
    }

    #[test]
    fn dates_may_be_decimal_and_audiences_a_list() {
        let (_, claims) = parse(HEADER, r#"{"exp":1.79e9,"iat":10.9,"nbf":0,"aud":["a","b"]}"#).unwrap();
        assert_eq!(
            (claims.expires, claims.issued_at, claims.not_before),
            (Some(1_790_000_000), Some(10), Some(0))
        );
        assert_eq!(claims.audiences, ["a", "b"]);
        let many = vec!["a"; 33];
        assert!(malformed(parse(HEADER, &serde_json::json!({ "aud": many }).to_string())));
        for empty in [r#"{"aud":""}"#, r#"{"aud":[]}"#, r#"{"aud":["a",""]}"#, r#"{"iss":"","sub":""}"#] {
            let (_, claims) = parse(HEADER, empty).unwrap();
            assert!(claims.audiences.is_empty() && claims.issuer.is_none() && claims.subject.is_none());
        }
    }

    #[test]
    fn runs_are_numbers_of_github_or_gitlab_and_anything_else_refuses_nothing() {
        for (claims, id, job) in [
            (r#"{"run_id":"10203040506","check_run_id":"7"}"#, Some(10_203_040_506), Some(7)),
            (r#"{"pipeline_id":"42","job_id":"43"}"#, Some(42), Some(43)),
            (r#"{"run_id":7,"job_id":null}"#, None, None),
            (r#"{"run_id":"","job_id":"+7"}"#, None, None),
            (r#"{"run_id":"18446744073709551616","job_id":"3a8e"}"#, None, None),
            (CLAIMS, None, None),
        ] {
            let (_, read) = parse(HEADER, claims).unwrap();
            assert_eq!(read.run, Run { id, job }, "{claims}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[A-Za-z0-9_.=-]{0,80}", raw in any::<Vec<u8>>()) {
            let _ = Compact::new(&text, 64).and_then(UnverifiedAssertion::parse);
            let _ = Claims::read(&raw);
            let _ = Header::read(&raw);
        }
    }
}

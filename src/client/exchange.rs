//! The exchange: an assertion for a token, asked for until a broker says yes, says no, or the time is over.

use std::time::Duration;

use serde::Deserialize;
use time::{Date, Month, PrimitiveDateTime, Time};
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::assertion::Assertion;
use super::http::{Http, Reply, is_passing, is_safe};
use super::patience::Patience;
use super::{Fault, plain};
use crate::clock::{Stopwatch, UnixTime};
use crate::secret::Secret;

/// The signing key isn't known to the broker. It looks for new keys every 20 s when one is asked for in vain, so one that
/// its issuer has just begun to use is known after this time at the latest; else it is no key of that issuer.
const KEY_UNKNOWN: u32 = 7_000_272;
const KEY_KNOWN_WITHIN: Duration = Duration::from_secs(35);

/// Where to ask, and for whom.
#[derive(Debug, Clone)]
pub struct Endpoint {
    url: Url,
    client_id: String,
}

impl Endpoint {
    /// From the authority as Azure's SDKs write it (the scheme may be left out, a slash may follow), tenant and client.
    ///
    /// # Errors
    /// What is wrong with the authority or the tenant.
    pub fn new(authority: &str, tenant: &str, client_id: &str) -> Result<Self, String> {
        let https = if authority.contains("://") { "" } else { "https://" };
        let mut url = Url::parse(&format!("{https}{authority}"))
            .map_err(|error| format!("the authority {} is no URL: {error}", plain(authority)))?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !bare || !url.username().is_empty() || url.password().is_some() {
            return Err(format!(
                "the authority {} is more than scheme, host and port (hint: the tenant is a setting of its own)",
                plain(&url.origin().ascii_serialization())
            ));
        }
        if !is_safe(&url) {
            return Err(format!(
                "the authority {} is not https: a token would cross the network in the clear",
                plain(authority)
            ));
        }
        if tenant.contains(['/', '?', '#', '\\', '%']) {
            return Err(format!("the tenant {} is neither a GUID nor a domain", plain(tenant)));
        }
        url.set_path(&format!("/{tenant}/oauth2/v2.0/token"));
        Ok(Self { url, client_id: client_id.to_owned() })
    }

    /// The authority, without a slash at its end.
    pub fn authority(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

/// A token, and the seconds for which it is good.
pub struct Granted {
    /// The token.
    pub token: Secret<String>,
    /// Seconds from now.
    pub expires_in: i64,
}

/// A broker's "no" in its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The number of the AADSTS code.
    pub code: u32,
    /// The description, without its code and the ids behind it.
    pub text: String,
    /// What the operator finds the record by.
    pub correlation_id: String,
    /// What the broker's clock showed.
    pub told_at: Option<UnixTime>,
    /// Whether it said no more than "not now", until the time was over.
    pub passing: bool,
}

/// Why there is no token.
#[derive(Debug)]
pub enum NoToken {
    /// A broker said so.
    Refused(Box<Refusal>),
    /// There is no broker there, or it can't be reached.
    Fault(Fault),
}

/// Asks for a token of this scope.
pub async fn exchange(
    http: &Http,
    endpoint: &Endpoint,
    assertion: &Assertion,
    scope: &str,
    patience: &mut Patience,
) -> Result<Granted, NoToken> {
    let form = form(endpoint, assertion, scope);
    let mut key_unknown: Option<Stopwatch> = None;
    patience.settle();
    loop {
        let request = http.post(&endpoint.url, &form);
        let (why, asked, until) = match http.send(request, &endpoint.url, patience.left()).await {
            Err(none) if none.passing => (NoToken::Fault(none.fault()), None, None),
            Err(none) => return Err(NoToken::Fault(none.fault())),
            Ok(reply) => match read(&reply, endpoint) {
                Ok(granted) => return Ok(granted),
                Err(why) if is_passing(reply.status) => (why, reply.retry_after, None),
                Err(NoToken::Refused(refusal)) if refusal.code == KEY_UNKNOWN => {
                    let since = *key_unknown.get_or_insert_with(Stopwatch::start);
                    let until = KEY_KNOWN_WITHIN.saturating_sub(since.elapsed());
                    (NoToken::Refused(refusal), reply.retry_after, Some(until))
                }
                Err(why) => return Err(why),
            },
        };
        tracing::debug!(left = ?patience.left(), "another try");
        if !patience.pause(asked, until).await {
            return Err(why);
        }
    }
}

fn form(endpoint: &Endpoint, assertion: &Assertion, scope: &str) -> Zeroizing<String> {
    // Room from the start, so that no copies are left behind by growing.
    let room = assertion.token().as_str().len() + scope.len() * 3 + 512;
    let mut form = form_urlencoded::Serializer::new(String::with_capacity(room));
    form.append_pair("grant_type", "client_credentials")
        .append_pair("client_id", &endpoint.client_id)
        .append_pair("scope", scope)
        .append_pair("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
        .append_pair("client_assertion", assertion.token().as_str());
    Zeroizing::new(form.finish())
}

#[derive(Deserialize)]
struct Yes {
    access_token: String,
    expires_in: i64,
}

#[derive(Deserialize)]
struct No {
    error_description: String,
    error_codes: Vec<u32>,
    correlation_id: String,
    timestamp: Option<String>,
}

fn read(reply: &Reply, endpoint: &Endpoint) -> Result<Granted, NoToken> {
    let status = reply.status.as_u16();
    if let (200, Ok(yes)) = (status, serde_json::from_slice::<Yes>(&reply.body)) {
        return Ok(Granted { token: Secret::from(yes.access_token), expires_in: yes.expires_in });
    }
    if let (400.., Ok(no)) = (status, serde_json::from_slice::<No>(&reply.body)) {
        return Err(NoToken::Refused(Box::new(Refusal {
            code: no.error_codes.first().copied().unwrap_or_default(),
            text: description(&no.error_description),
            correlation_id: plain(&no.correlation_id),
            told_at: no.timestamp.as_deref().and_then(time),
            passing: is_passing(reply.status),
        })));
    }
    let authority = endpoint.authority();
    Err(NoToken::Fault(match &reply.location {
        _ if is_passing(reply.status) => Fault::Unavailable(format!("{authority}: it answers {status}")),
        Some(location) => Fault::Refused(format!(
            "{authority}: it wants to send us to {} (hint: tokens follow no redirects; is the authority right?)",
            plain(location)
        )),
        None => Fault::Refused(format!(
            "{authority}: it answers {status}, and not as a broker does (hint: the authority is a broker's public_url)"
        )),
    }))
}

/// The text alone: the code in front of it and the ids behind it are members of their own.
fn description(text: &str) -> String {
    let text = text.split_once(" Trace ID: ").map_or(text, |(text, _)| text);
    let behind = text.strip_prefix("AADSTS").and_then(|rest| rest.split_once(": "));
    plain(behind.map_or(text, |(_, text)| text))
}

/// Entra's form of a time: `2026-11-22 07:12:21Z`.
fn time(text: &str) -> Option<UnixTime> {
    let (date, time) = text.strip_suffix('Z')?.split_once(' ')?;
    let date: Vec<&str> = date.split('-').collect();
    let time: Vec<&str> = time.split(':').collect();
    let ([year, month, day], [hour, minute, second]) = (date.as_slice(), time.as_slice()) else {
        return None;
    };
    let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
    let date = Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()?;
    let time = Time::from_hms(hour.parse().ok()?, minute.parse().ok()?, second.parse().ok()?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_is_what_azures_sdks_take() {
        for text in ["https://sts.example", "https://sts.example/", "sts.example", "sts.example:443"] {
            let endpoint = Endpoint::new(text, "t", "c").unwrap();
            assert_eq!(endpoint.url.as_str(), "https://sts.example/t/oauth2/v2.0/token", "{text}");
        }
        assert!(Endpoint::new("http://localhost:1", "t", "c").is_ok());
        for wrong in [
            "http://sts.example",
            "https://sts.example/t",
            "https://sts.example/?a",
            "https://u:p@sts.example",
            "https://",
            "file:///etc",
        ] {
            let why = Endpoint::new(wrong, "t", "c").unwrap_err();
            assert!(!why.contains("u:p"), "{why}");
        }
        for wrong in ["a/b", "a?b", "..%2f", "a#b"] {
            assert!(Endpoint::new("https://sts.example", wrong, "c").is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_description_is_its_text_alone() {
        let text = "AADSTS700213: No match for 'a'. Trace ID: 1 Correlation ID: 2 Timestamp: 3";
        assert_eq!(description(text), "No match for 'a'.");
        assert_eq!(description("other\u{1b}[31m"), "other\\u{1b}[31m");
    }

    #[test]
    fn a_brokers_clock_is_read() {
        assert_eq!(time("2026-11-22 07:12:21Z"), Some(1_795_331_541));
        for wrong in ["", "2026-11-22T07:12:21Z", "2026-13-22 07:12:21Z", "2026-11-22 07:12:21"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }
}

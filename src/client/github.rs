//! GitHub Actions: a job asks for its token at an address of its own, with a token of its own.

use serde::Deserialize;
use url::{Url, form_urlencoded};

use super::Fault;
use super::http::{Http, Reply, is_passing, is_safe};
use super::patience::Patience;
use crate::secret::Secret;

pub(super) const URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
pub(super) const TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";

const PERMISSION: &str = "(hint: add to the job or to the workflow, and run it anew:\n\n\
    permissions:\n  id-token: write\n  contents: read\n\n\
    A caller of a reusable workflow must grant it too, and runs of pull requests from forks never have it)";

/// The two variables that a job has which may ask.
pub(super) struct Request {
    url: Url,
    token: Secret<String>,
}

impl Request {
    pub(super) fn of(variable: &dyn Fn(&str) -> Option<String>, audience: &str) -> Result<Self, Fault> {
        let absent = |name| {
            Fault::Refused(format!("this job may not ask GitHub for a token: {name} is not set {PERMISSION}"))
        };
        let url = variable(URL).ok_or_else(|| absent(URL))?;
        let token = Secret::from(variable(TOKEN).ok_or_else(|| absent(TOKEN))?);
        let url = Url::parse(&url).ok().filter(is_safe);
        let mut url = url.ok_or_else(|| Fault::Refused(format!("{URL} is not an https URL")))?;
        url.set_query(Some(&query(url.query(), audience)));
        Ok(Self { url, token })
    }

    /// Asks until there is a token or the time is over.
    pub(super) async fn send(&self, http: &Http, patience: &mut Patience) -> Result<Secret<String>, Fault> {
        patience.settle();
        loop {
            let request = http.get(&self.url, &self.token)?;
            let (fault, asked) = match http.send(request, &self.url, patience.left()).await {
                Ok(reply) if !is_passing(reply.status) => return token(&reply),
                Ok(reply) => {
                    let status = reply.status.as_u16();
                    (
                        Fault::Unavailable(format!("GitHub gives no token: it answers {status}")),
                        reply.retry_after,
                    )
                }
                Err(none) if none.passing => {
                    (Fault::Unavailable(format!("GitHub gives no token: {}", none.why)), None)
                }
                Err(none) => return Err(none.fault()),
            };
            tracing::debug!(%fault, "another try");
            if !patience.pause(asked, None).await {
                return Err(fault);
            }
        }
    }
}

/// The address has a query already; on a server of one's own it may not.
fn query(before: Option<&str>, audience: &str) -> String {
    // Percent-encoded throughout, as the platform's own toolkit does it; no plus for a space.
    let audience: String = form_urlencoded::byte_serialize(audience.as_bytes()).collect();
    let audience = audience.replace('+', "%20");
    match before.filter(|before| !before.is_empty()) {
        Some(before) => format!("{before}&audience={audience}"),
        None => format!("audience={audience}"),
    }
}

fn token(reply: &Reply) -> Result<Secret<String>, Fault> {
    #[derive(Deserialize)]
    struct Answer {
        value: String,
    }
    let status = reply.status.as_u16();
    if status == 401 || status == 403 {
        return Err(Fault::Refused(format!(
            "GitHub refuses to give a token: it answers {status} (hint: {TOKEN} is good for one job and as long as that \
             runs; was it handed on?)"
        )));
    }
    if status != 200 {
        return Err(Fault::Refused(format!(
            "GitHub gives no token: it answers {status} (hint: is {URL} right?)"
        )));
    }
    let answer: Answer = serde_json::from_slice(&reply.body)
        .map_err(|_| Fault::Refused(format!("what answers at {URL} gives no JSON with a `value`")))?;
    Ok(Secret::from(answer.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audience_is_appended_with_the_right_separator_and_encoded() {
        for (before, audience, query_after) in [
            (Some("api-version=2.0"), "api://x", "api-version=2.0&audience=api%3A%2F%2Fx"),
            (None, "api://x", "audience=api%3A%2F%2Fx"),
            (Some(""), "a b&c=d+e", "audience=a%20b%26c%3Dd%2Be"),
        ] {
            assert_eq!(query(before, audience), query_after);
        }
    }

    #[test]
    fn a_job_without_permission_is_told_the_lines_to_add() {
        let with = |names: &'static [&str]| {
            Request::of(&|name| names.contains(&name).then(|| "https://x/?a=1".to_owned()), "a").map(|_| ())
        };
        assert!(with(&[URL, TOKEN]).is_ok());
        for names in [&[URL][..], &[TOKEN], &[]] {
            let fault = with(names).unwrap_err().to_string();
            assert!(fault.contains("permissions:\n  id-token: write\n"), "{fault}");
        }
    }
}

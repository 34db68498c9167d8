//! HTTP as a job does it: the system's roots and the ones named besides, the environment's proxies, no redirects, and
//! failures in one clear line.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, StatusCode, redirect};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use url::{Host, Url};
use zeroize::Zeroizing;

use super::Fault;
use super::proxy::Proxies;
use crate::secret::Secret;

/// Time for a connection, and for one answer: a broker may wait three seconds for an issuer, and two for its record.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(15);
/// Largest answer; a token is a few KiB.
const BODY: usize = 1 << 20;

/// Asks others.
pub struct Http {
    client: Client,
    proxies: Proxies,
}

/// An answer, whatever its status.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    /// Where a redirect would lead.
    pub(super) location: Option<String>,
    /// It may hold a token.
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// Why there is no answer.
pub(super) struct NoReply {
    pub(super) why: String,
    /// Whether it may be otherwise in a moment. A certificate that isn't trusted stays so.
    pub(super) passing: bool,
}

impl NoReply {
    /// The end of it.
    pub(super) fn fault(self) -> Fault {
        if self.passing { Fault::Unavailable(self.why) } else { Fault::Refused(self.why) }
    }
}

impl Http {
    /// Trusts the system's roots and these PEM certificates. A system without roots is no error as long as there are any.
    ///
    /// # Errors
    /// What is wrong with the certificates.
    pub fn new(beside: Option<&[u8]>) -> Result<Self, String> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls(beside)?)
            // A token follows nobody to another place.
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .http1_only()
            .user_agent(concat!("ficus/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { client, proxies: Proxies::of_environment() })
    }

    pub(super) fn get(&self, url: &Url, bearer: &Secret<String>) -> Result<RequestBuilder, Fault> {
        let value = Zeroizing::new(format!("Bearer {}", bearer.as_str()));
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| Fault::Refused("the request token is not fit for a header".to_owned()))?;
        value.set_sensitive(true);
        Ok(self.client.get(url.clone()).header(AUTHORIZATION, value))
    }

    /// The form is taken over: it holds an assertion.
    pub(super) fn post(&self, url: &Url, form: &Zeroizing<String>) -> RequestBuilder {
        self.client
            .post(url.clone())
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .body(form.as_bytes().to_vec())
    }

    /// Sends a request to this URL, and takes no longer than the limit.
    pub(super) async fn send(
        &self,
        request: RequestBuilder,
        url: &Url,
        limit: Duration,
    ) -> Result<Reply, NoReply> {
        let limit = limit.min(ANSWER);
        let answered = tokio::time::timeout(limit, answer(request)).await;
        let (why, passing) = match answered {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(error)) => told(&error),
            Err(_) => (format!("no answer within {} s", limit.as_secs().max(1)), true),
        };
        let way = self.proxies.on_the_way_to(url);
        Err(NoReply { why: format!("{}: {why}{way}", url.origin().ascii_serialization()), passing })
    }
}

/// Whether tokens may go there: encrypted, or not leaving this machine.
pub(super) fn is_safe(url: &Url) -> bool {
    let local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && local)
}

/// Whether an answer says no more than "not now".
pub(super) fn is_passing(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

/// Trusts the system's roots and these PEM certificates.
pub(super) fn tls(beside: Option<&[u8]>) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots(beside)?)
        .with_no_client_auth())
}

fn roots(beside: Option<&[u8]>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(beside.unwrap_or_default()) {
        let certificate = certificate.map_err(|_| "it holds something that is no PEM".to_owned())?;
        roots.add(certificate).map_err(|_| "a certificate in it can't be read".to_owned())?;
    }
    if beside.is_some() && roots.len() == before {
        return Err(
            "there is no certificate in it (hint: a PEM file begins with -----BEGIN CERTIFICATE-----)"
                .to_owned(),
        );
    }
    Ok(roots)
}

async fn answer(request: RequestBuilder) -> Result<Reply, reqwest::Error> {
    let mut response = request.send().await?;
    let (status, headers) = (response.status(), response.headers());
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let location = text(http::header::LOCATION).map(str::to_owned);
    let retry_after = retry_after(headers);
    let mut body = Zeroizing::new(Vec::with_capacity(16 << 10));
    while let Some(chunk) = response.chunk().await? {
        // What is too long is cut, and then no JSON.
        if body.len() + chunk.len() > BODY {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Reply { status, retry_after, location, body })
}

/// In seconds; as a date it is passed over, since clocks differ.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// What happened, and whether it may pass.
pub(super) fn told(error: &reqwest::Error) -> (String, bool) {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    let mut last = String::new();
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return of_tls(tls);
        }
        last = error.to_string();
        // The source of an `io::Error` is the source of what it wraps: what it wraps would be left out.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    if error.is_timeout() {
        return (format!("no connection within {} s", CONNECT.as_secs()), true);
    }
    (super::plain(&last), true)
}

fn of_tls(error: &rustls::Error) -> (String, bool) {
    let rustls::Error::InvalidCertificate(reason) = error else {
        // A proxy or a server without TLS answers in plain text.
        return (format!("the TLS handshake failed: {error} (hint: does it speak TLS there?)"), false);
    };
    let text = match reason {
        // A CA of the right name with another key doesn't fit either.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is signed by no authority that is trusted here (hint: --ca-file FILE with the CA; a broker \
             that makes its own keeps it in data/tls/ca.pem)"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name (hint: use the name that the broker's public_url has)"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired (hint: or is this machine's clock ahead?)"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet (hint: is this machine's clock behind?)"
        }
        _ => "its certificate is not valid",
    };
    (text.to_owned(), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_leave_the_machine_encrypted_or_not_at_all() {
        for (url, safe) in [
            ("https://sts.example", true),
            ("http://localhost:8443", true),
            ("http://127.0.0.1:1", true),
            ("http://[::1]:1", true),
            ("http://sts.example", false),
            ("http://localhost.example", false),
            ("http://127.0.0.1.example", false),
            ("ftp://localhost", false),
        ] {
            assert_eq!(is_safe(&Url::parse(url).unwrap()), safe, "{url}");
        }
    }

    #[test]
    fn files_without_certificates_are_told() {
        for wrong in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(roots(Some(wrong.as_bytes())).is_err(), "{wrong}");
        }
        assert!(roots(None).is_ok());
    }

    #[test]
    fn retry_after_counts_in_whole_seconds_only() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            retry_after(&headers).map(|pause| pause.as_secs())
        };
        assert_eq!(
            [of("7"), of(" 0 "), of("-1"), of("Wed, 21 Oct 2026 07:28:00 GMT")],
            [Some(7), Some(0), None, None]
        );
    }
}

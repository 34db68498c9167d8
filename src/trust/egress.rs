//! The only way out: https GETs of documents, to addresses that may be connected to.
//!
//! Two guards, since neither sees everything: [`check_url`] sees IP literals (a resolver is never asked for those) after
//! the URL parser has normalised every odd spelling; the resolver sees what names resolve to. Redirects, proxies of the
//! environment, cookies, retries and decompression are all off: each would be a second way out, or a second size.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::HeaderValue;
use reqwest::{Client, Response, StatusCode, header};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;
use url::{Host, Url};

use super::bearer::Bearer;
use super::fault::Cause;
use super::freshness;
use super::resolver::{GuardedResolver, Lookup, Route};
use crate::domain::rules::Broken;

/// Hosts and ports that an entry opens although they are inside a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrivateHosts(Vec<(Host, u16)>);

impl PrivateHosts {
    /// Adds `host:port`; the port must be written, IPv6 addresses stand in brackets.
    pub fn add(&mut self, text: &str) -> Result<(), Broken> {
        let parsed = text.rsplit_once(':').and_then(|(host, port)| {
            let parsed = Host::parse(host).ok()?;
            // A spelling that the parser changes would name one host and open another.
            let port = port.parse().ok().filter(|port| *port > 0)?;
            (parsed.to_string() == host).then_some((parsed, port))
        });
        let Some(place) = parsed else {
            let hint = "write \"host:port\" with the port that is connected to, in lower case";
            return Err(Broken { message: format!("{text:?} is not a host and port"), hint });
        };
        self.0.push(place);
        Ok(())
    }

    /// Adds the host and port of a URL.
    pub(super) fn add_url(&mut self, url: &Url) {
        self.0.extend(place(url));
    }

    fn contains(&self, url: &Url) -> bool {
        place(url).is_some_and(|place| self.0.contains(&place))
    }

    /// Whether nothing is opened.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn place(url: &Url) -> Option<(Host, u16)> {
    Some((url.host()?.to_owned(), url.port_or_known_default()?))
}

/// Decides whether a URL may be fetched, and by which client.
pub(super) fn check_url(text: &str, private: &PrivateHosts) -> Result<(Url, Route), Cause> {
    let url = Url::parse(text).map_err(|_| Cause::Url("is not an absolute URL"))?;
    if url.scheme() != "https" {
        return Err(Cause::Url("is not an https URL"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Cause::Url("holds user information"));
    }
    let route = if private.contains(&url) { Route::Private } else { Route::Open };
    let literal = match url.host() {
        Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
        _ => None,
    };
    if literal.is_some_and(|ip| !route.permits(ip)) {
        return Err(Cause::Address);
    }
    Ok((url, route))
}

/// The certificates that servers are checked against.
#[derive(Debug, Default)]
pub(super) struct Roots(OnceCell<Arc<RootCertStore>>);

impl Roots {
    /// An issuer's own, in place of the public ones.
    pub(super) fn own(certificates: &[CertificateDer<'static>]) -> Self {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(certificates.iter().cloned());
        Self(OnceCell::new_with(Some(Arc::new(store))))
    }

    /// The store; the system's roots are read when first needed, so that a system without any can serve issuers with
    /// a CA of their own. A failure is not kept: roots may be put in place while we run.
    async fn store(&self) -> Result<Arc<RootCertStore>, Cause> {
        let load = || async {
            let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(found.map_err(|_| Cause::Roots)?.certs);
            some_roots(Arc::new(store))
        };
        some_roots(Arc::clone(self.0.get_or_try_init(load).await?))
    }
}

fn some_roots(store: Arc<RootCertStore>) -> Result<Arc<RootCertStore>, Cause> {
    if store.is_empty() { Err(Cause::Roots) } else { Ok(store) }
}

/// A document as its server gives it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Document {
    /// `None`: the one that the validators stand for is still the current one.
    pub(super) body: Option<Bytes>,
    /// The lifetime that the server advises.
    pub(super) advised: Option<Duration>,
    pub(super) validators: Validators,
}

/// What a server calls the version of a document, to be asked for changes alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Validators {
    tag: Option<HeaderValue>,
    modified: Option<HeaderValue>,
}

impl Validators {
    fn of(response: &Response) -> Self {
        let header = |name| response.headers().get(name).cloned();
        Self { tag: header(header::ETAG), modified: header(header::LAST_MODIFIED) }
    }

    /// The condition of a request; the tag is the stronger one (RFC 9110 section 13.1.3).
    fn condition(&self) -> Option<(header::HeaderName, HeaderValue)> {
        let tag = self.tag.clone().map(|tag| (header::IF_NONE_MATCH, tag));
        tag.or_else(|| Some((header::IF_MODIFIED_SINCE, self.modified.clone()?)))
    }
}

fn advised(response: &Response) -> Option<Duration> {
    let texts = |name| {
        let values = response.headers().get_all(name).into_iter();
        values.filter_map(|value| value.to_str().ok())
    };
    freshness::advised(texts(header::CACHE_CONTROL), texts(header::AGE).next())
}

/// Fetches documents under one egress policy.
///
/// One client for each route: connections are pooled by host and port, and one that was opened to an inner address must
/// never serve a URL that is not allowed there.
pub(super) struct Egress<L> {
    roots: Arc<Roots>,
    private_hosts: PrivateHosts,
    connect_timeout: Duration,
    lookup: Arc<L>,
    bearer: Option<Bearer>,
    open: OnceCell<Client>,
    private: OnceCell<Client>,
}

impl<L: Lookup> Egress<L> {
    pub(super) fn new(
        roots: Arc<Roots>,
        private_hosts: PrivateHosts,
        connect_timeout: Duration,
        lookup: Arc<L>,
    ) -> Self {
        let (open, private) = (OnceCell::new(), OnceCell::new());
        Self { roots, private_hosts, connect_timeout, lookup, bearer: None, open, private }
    }

    /// Shows a token to the servers that it is for.
    pub(super) fn with_bearer(self, bearer: Option<Bearer>) -> Self {
        Self { bearer, ..self }
    }

    /// Gets one document of at most `cap` bytes, unless it is still the one that `known` stands for. Only status 200 counts,
    /// and 304 where that was asked for; the content type does not, since issuers behind object stores send any. The
    /// caller sets the deadline.
    pub(super) async fn get(
        &self,
        url: &str,
        cap: usize,
        known: Option<&Validators>,
    ) -> Result<Document, Cause> {
        let (url, route) = check_url(url, &self.private_hosts)?;
        let client = self.client(route).await?;
        let bearer = self.bearer.clone().filter(|bearer| bearer.is_for(&url));
        let mut request =
            client.get(url).header(header::ACCEPT, "application/json, application/jwk-set+json");
        if let Some(bearer) = bearer {
            request = request.header(header::AUTHORIZATION, read_token(bearer).await?);
        }
        let condition = known.and_then(Validators::condition);
        let conditional = condition.is_some();
        if let Some((name, value)) = condition {
            request = request.header(name, value);
        }
        let mut response = request.send().await.map_err(|error| Cause::of_transport(&error))?;
        let (advised, validators) = (advised(&response), Validators::of(&response));
        let body = match response.status() {
            StatusCode::OK => Some(body(&mut response, cap).await?),
            StatusCode::NOT_MODIFIED if conditional => None,
            status => return Err(Cause::Status(status.as_u16())),
        };
        Ok(Document { body, advised, validators })
    }

    async fn client(&self, route: Route) -> Result<&Client, Cause> {
        let cell = match route {
            Route::Open => &self.open,
            Route::Private => &self.private,
        };
        cell.get_or_try_init(|| async {
            let roots = self.roots.store().await?;
            let resolver = GuardedResolver { lookup: Arc::clone(&self.lookup), route };
            client(roots, resolver, self.connect_timeout)
        })
        .await
    }
}

/// Counted as it comes: the announced length may be absent or a lie.
async fn body(response: &mut Response, cap: usize) -> Result<Bytes, Cause> {
    let announced = response.content_length().is_some_and(|length| length > cap as u64);
    let mut body = BytesMut::new();
    while !announced && body.len() <= cap {
        match response.chunk().await.map_err(|error| Cause::of_transport(&error))? {
            Some(chunk) => body.extend_from_slice(&chunk),
            None => return Ok(body.freeze()),
        }
    }
    Err(Cause::TooLarge(cap))
}

/// On a thread that may wait: the file may be on a network volume.
async fn read_token(bearer: Bearer) -> Result<header::HeaderValue, Cause> {
    let read = tokio::task::spawn_blocking(move || bearer.read()).await;
    read.map_err(|_| Cause::Bearer(io::ErrorKind::Interrupted))?.map_err(|error| Cause::Bearer(error.kind()))
}

fn client<L: Lookup>(
    roots: Arc<RootCertStore>,
    resolver: GuardedResolver<L>,
    connect_timeout: Duration,
) -> Result<Client, Cause> {
    let mut tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| Cause::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Two documents every few minutes gain nothing from HTTP/2, and its code need not face strangers' servers.
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Client::builder()
        .tls_backend_preconfigured(tls)
        .dns_resolver(Arc::new(resolver))
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(connect_timeout)
        // Long enough for the keys to follow the discovery document, too short to outlive a change of address.
        .pool_idle_timeout(Duration::from_secs(10))
        .user_agent(concat!("ficus/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|_| Cause::Tls)
}

#[cfg(test)]
mod tests {
    use super::super::address::tests::{FORBIDDEN, PRIVATE};
    use super::super::testing::{Authority, Reply, Scripted, Server};
    use super::*;

    fn hosts(places: &[&str]) -> PrivateHosts {
        let mut hosts = PrivateHosts::default();
        places.iter().for_each(|place| hosts.add(place).unwrap());
        hosts
    }

    fn route(url: &str, private: &[&str]) -> Result<Route, Cause> {
        check_url(url, &hosts(private)).map(|(_, route)| route)
    }

    #[test]
    fn only_https_without_user_information() {
        assert_eq!(route("https://a.example/x?y#z", &[]), Ok(Route::Open));
        for wrong in [
            "",
            "/keys",
            "keys.json",
            "//a.example/keys",
            "http://a.example",
            "file:///etc/passwd",
            "data:application/json,{}",
            "ftp://a.example",
            "https://u@a.example",
            "https://u:p@a.example",
            "https://:p@a.example",
            "https://",
        ] {
            assert!(matches!(route(wrong, &[]), Err(Cause::Url(_))), "{wrong}");
        }
    }

    #[test]
    fn addresses_are_refused_in_every_spelling() {
        for url in [
            "https://127.0.0.1",
            "https://127.0.0.1.",
            "https://127.1",
            "https://0x7f.1",
            "https://0x7f000001",
            "https://0177.0.0.1",
            "https://2130706433",
            "https://017700000001",
            "https://１２７.０.０.１",
            "https://①②⑦.⓪.⓪.①",
            "https://127。0。0。1",
            "https://%31%32%37.0.0.1",
            "https://0",
            "https://0xa9fea9fe",
            "https://2852039166",
            "https://169.254.43518",
            "https://[::1]",
            "https://[0:0:0:0:0:0:0:1]",
            "https://[::ffff:127.0.0.1]",
            "https://[::ffff:7f00:1]",
            "https://[::127.0.0.1]",
            "https://[64:ff9b::a9fe:a9fe]",
            "https://[fd00:ec2::254]:8443/latest",
        ] {
            assert_eq!(route(url, &[]), Err(Cause::Address), "{url}");
        }
        assert_eq!(route("https://8.8.8.8", &[]), Ok(Route::Open));
    }

    #[test]
    fn private_hosts_open_exactly_their_port_and_never_forbidden_addresses() {
        let open = ["127.0.0.1:8443", "[::1]:443", "gitlab.internal:443"];
        assert_eq!(route("https://127.0.0.1:8443/x", &open), Ok(Route::Private));
        assert_eq!(route("https://127.1:8443/x", &open), Ok(Route::Private));
        assert_eq!(route("https://[::1]/x", &open), Ok(Route::Private));
        assert_eq!(route("https://gitlab.internal/x", &open), Ok(Route::Private));
        assert_eq!(route("https://127.0.0.1/x", &open), Err(Cause::Address));
        assert_eq!(route("https://127.0.0.2:8443/x", &open), Err(Cause::Address));
        assert_eq!(route("https://gitlab.internal:8443/x", &open), Ok(Route::Open));
        assert_eq!(route("https://gitlab.internal./x", &open), Ok(Route::Open));
        let literal = |address: &str| match address.parse().unwrap() {
            IpAddr::V4(ip) => format!("{ip}:443"),
            IpAddr::V6(ip) => format!("[{ip}]:443"),
        };
        for address in PRIVATE {
            let place = literal(address);
            assert_eq!(route(&format!("https://{place}"), &[&place]), Ok(Route::Private), "{address}");
        }
        for address in FORBIDDEN {
            let place = literal(address);
            let text = Url::parse(&format!("https://{place}")).unwrap();
            let mut private = PrivateHosts::default();
            private.add_url(&text);
            assert_eq!(check_url(text.as_str(), &private), Err(Cause::Address), "{address}");
        }
    }

    #[test]
    fn private_hosts_are_written_as_they_are_connected_to() {
        for wrong in
            ["", "a", "a:", ":443", "a:0", "a:65536", "A:443", "127.1:443", "::1:443", "https://a:443"]
        {
            assert!(PrivateHosts::default().add(wrong).is_err(), "{wrong}");
        }
    }

    fn egress(
        authority: &Authority,
        private: &[&str],
        answers: &[&[&str]],
    ) -> (Arc<Scripted>, Egress<Scripted>) {
        let (lookup, roots) = (Arc::new(Scripted::new(answers)), Roots::own(&[authority.certificate()]));
        let timeout = Duration::from_secs(5);
        (Arc::clone(&lookup), Egress::new(Arc::new(roots), hosts(private), timeout, lookup))
    }

    #[tokio::test]
    async fn s_04_names_are_connected_to_where_they_were_checked() {
        let authority = Authority::new();
        let server = Server::start(authority.leaf("issuer.example"), |_| Reply::ok("{}")).await;
        let url = format!("https://issuer.example:{}/x", server.port);
        let place = format!("issuer.example:{}", server.port);

        let (lookup, allowed) = egress(&authority, &[&place], &[&["127.0.0.1"], &["169.254.169.254"]]);
        assert_eq!(
            allowed.get(&url, 10, None).await.map(|document| document.body),
            Ok(Some(Bytes::from_static(b"{}")))
        );
        assert_eq!(lookup.asked(), 1);

        let (_, open) = egress(&authority, &[], &[&["127.0.0.1", "::1"]]);
        assert_eq!(open.get(&url, 10, None).await.map(|document| document.body), Err(Cause::Address));
        let (_, metadata) = egress(&authority, &[&place], &[&["169.254.169.254", "fd00:ec2::254"]]);
        assert_eq!(metadata.get(&url, 10, None).await.map(|document| document.body), Err(Cause::Address));
        assert_eq!(server.requests(), ["/x"]);
    }

    #[tokio::test]
    async fn an_inner_address_is_shut_at_ports_that_are_not_listed() {
        let authority = Authority::new();
        let server = Server::start(authority.leaf("127.0.0.1"), |_| Reply::ok("{}")).await;
        let (_, other) = egress(&authority, &["127.0.0.1:9"], &[]);
        assert_eq!(
            other.get(&server.url("/x"), 10, None).await.map(|document| document.body),
            Err(Cause::Address)
        );
        assert!(server.connections() == 0 && server.requests().is_empty());
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_and_a_port_that_is_shut() {
        let authority = Authority::new();
        let (_, nowhere) = egress(&authority, &[], &[&[]]);
        assert_eq!(
            nowhere.get("https://a.example", 10, None).await.map(|document| document.body),
            Err(Cause::Lookup)
        );
        let shut = Server::shut().await;
        let (_, egress) = egress(&authority, &[&format!("127.0.0.1:{shut}")], &[]);
        let refused =
            egress.get(&format!("https://127.0.0.1:{shut}/"), 10, None).await.map(|document| document.body);
        assert_eq!(refused, Err(Cause::Connection(std::io::ErrorKind::ConnectionRefused)));
    }

    #[tokio::test]
    async fn without_roots_nothing_is_trusted() {
        let lookup = Arc::new(Scripted::new(&[&["8.8.8.8"]]));
        let roots = Arc::new(Roots::own(&[CertificateDer::from(b"no certificate".to_vec())]));
        let egress = Egress::new(roots, PrivateHosts::default(), Duration::from_secs(1), Arc::clone(&lookup));
        assert_eq!(
            egress.get("https://a.example", 10, None).await.map(|document| document.body),
            Err(Cause::Roots)
        );
        assert_eq!(lookup.asked(), 0);
    }
}

//! From an issuer to its keys: the discovery document, then the key set it names.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openidconnect::{IssuerUrl, JsonWebKeySetUrl};
use tokio::time::{Instant, timeout_at};

use super::egress::{Egress, Validators};
use super::fault::{Cause, Fault};
use super::resolver::Lookup;
use crate::domain::json::Members;
use crate::domain::keyset::{KeySet, Unusable};

/// Largest discovery document, in bytes (reference: oidc-issuers.md section 3.2).
const MAX_DISCOVERY: usize = 64 << 10;
/// Largest key set, in bytes: 256 keys with certificates stay below it.
const MAX_KEYS: usize = 512 << 10;

/// What is fetched for one issuer.
#[derive(Debug)]
pub(super) struct Target {
    /// The issuer, which the document must name byte for byte.
    pub(super) issuer: IssuerUrl,
    /// Where to begin.
    pub(super) start: Start,
}

/// The first document to fetch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// The discovery document, which names the key set.
    Discovery(String),
    /// The key set itself.
    Keys(JsonWebKeySetUrl),
}

impl Target {
    /// `None` when a URL is none. Without a `discovery_url` or `jwks_url` the document is where OpenID Connect Discovery 1.0
    /// section 4.1 puts it: `IssuerUrl::join` adds a slash only where none is, which is the same as removing one first.
    pub(super) fn new(issuer: &str, discovery_url: Option<&str>, jwks_url: Option<&str>) -> Option<Self> {
        let issuer = IssuerUrl::new(issuer.to_owned()).ok()?;
        let start = match (jwks_url, discovery_url) {
            (Some(url), _) => Start::Keys(JsonWebKeySetUrl::new(url.to_owned()).ok()?),
            (None, Some(url)) => Start::Discovery(url.to_owned()),
            (None, None) => Start::Discovery(issuer.join(".well-known/openid-configuration").ok()?.into()),
        };
        Some(Self { issuer, start })
    }
}

/// The documents of one issuer as they are now: its keys, and what the next fetch can build on.
#[derive(Debug)]
pub(super) struct Published {
    /// `None` where there is no such document, or it was not kept.
    discovery: Option<Discovery>,
    keys: KeyDocument,
}

#[derive(Debug, Clone)]
struct Discovery {
    jwks_uri: JsonWebKeySetUrl,
    validators: Validators,
}

#[derive(Debug, Clone)]
struct KeyDocument {
    /// Where it was. Validators hold for the URL that gave them and for no other.
    url: Option<JsonWebKeySetUrl>,
    validators: Validators,
    advised: Option<Duration>,
    text: Bytes,
    keys: Arc<KeySet>,
    skipped: usize,
}

impl Published {
    /// A set that was kept as text.
    pub(super) fn kept(text: Bytes, advised: Option<Duration>) -> Result<Self, Unusable> {
        let (keys, skipped) = KeySet::parse(&text)?;
        let (keys, skipped) = (Arc::new(keys), skipped.len());
        let keys = KeyDocument { url: None, validators: Validators::default(), advised, text, keys, skipped };
        Ok(Self { discovery: None, keys })
    }

    /// The same set as before is the same pointer, however often it was fetched.
    pub(super) fn keys(&self) -> &Arc<KeySet> {
        &self.keys.keys
    }

    /// How many keys can't be used.
    pub(super) fn skipped(&self) -> usize {
        self.keys.skipped
    }

    /// The key set as it came.
    pub(super) fn text(&self) -> &Bytes {
        &self.keys.text
    }

    /// How long the issuer says that its keys are good for.
    pub(super) fn advised(&self) -> Option<Duration> {
        self.keys.advised
    }
}

/// Fetches what there is to fetch before one deadline; of what was published before, only changes.
pub(super) async fn fetch<L: Lookup>(
    egress: &Egress<L>,
    target: &Target,
    limit: Duration,
    before: Option<&Published>,
) -> Result<Published, Fault> {
    let deadline = Instant::now() + limit;
    let known = before.and_then(|before| before.discovery.as_ref());
    let (discovery, jwks_uri) = match &target.start {
        Start::Keys(url) => (None, url.clone()),
        Start::Discovery(url) => {
            let discovery = timeout_at(deadline, discover(egress, &target.issuer, url, known))
                .await
                .unwrap_or(Err(Cause::Deadline))
                .map_err(Fault::Discovery)?;
            let jwks_uri = discovery.jwks_uri.clone();
            (Some(discovery), jwks_uri)
        }
    };
    let keys = timeout_at(deadline, keys(egress, target, jwks_uri, before.map(|before| &before.keys)))
        .await
        .unwrap_or(Err(Cause::Deadline))
        .map_err(Fault::Keys)?;
    Ok(Published { discovery, keys })
}

/// Only two members are read: platforms leave out most of what the standard requires (GitHub, Kubernetes, SPIRE).
async fn discover<L: Lookup>(
    egress: &Egress<L>,
    issuer: &IssuerUrl,
    url: &str,
    known: Option<&Discovery>,
) -> Result<Discovery, Cause> {
    let document = egress.get(url, MAX_DISCOVERY, known.map(|known| &known.validators)).await?;
    let text = match (document.body, known) {
        (Some(text), _) => text,
        (None, Some(known)) => return Ok(known.clone()),
        (None, None) => return Err(Cause::Http),
    };
    let members = Members::read(&text)?;
    let required = |name| members.text(name).ok().flatten().ok_or(Cause::Member(name));
    if required("issuer")? != **issuer {
        return Err(Cause::WrongIssuer);
    }
    let jwks_uri = JsonWebKeySetUrl::new(required("jwks_uri")?).map_err(|_| Cause::Member("jwks_uri"))?;
    Ok(Discovery { jwks_uri, validators: document.validators })
}

/// The URL comes from the remote side: `get` checks it like any other.
async fn keys<L: Lookup>(
    egress: &Egress<L>,
    target: &Target,
    url: JsonWebKeySetUrl,
    before: Option<&KeyDocument>,
) -> Result<KeyDocument, Cause> {
    let known = before.filter(|before| before.url.as_ref() == Some(&url));
    let document = egress.get(&url, MAX_KEYS, known.map(|known| &known.validators)).await?;
    let advised = document.advised;
    let text = match (document.body, known) {
        (Some(text), _) => text,
        // What it doesn't say again holds on (RFC 9111 section 3.2).
        (None, Some(known)) => {
            return Ok(KeyDocument { advised: advised.or(known.advised), ..known.clone() });
        }
        (None, None) => return Err(Cause::Http),
    };
    let (url, validators) = (Some(url), document.validators);
    if let Some(same) = before.filter(|before| before.text == text) {
        return Ok(KeyDocument { url, validators, advised, ..same.clone() });
    }
    let (keys, skipped) = KeySet::parse(&text)?;
    for reason in &skipped {
        tracing::debug!(issuer = %target.issuer, %reason, "skipped a key");
    }
    let (keys, skipped) = (Arc::new(keys), skipped.len());
    Ok(KeyDocument { url, validators, advised, text, keys, skipped })
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::testing::{Authority, GOOD_KEYS, Leaf, Reply, Server, World};
    use super::*;
    use crate::domain::json;

    const ISSUER: &str = "https://issuer.example/ci";

    #[test]
    fn the_document_is_below_the_issuer() {
        for (issuer, expected) in [
            ("https://a.example", "https://a.example/.well-known/openid-configuration"),
            ("https://a.example/", "https://a.example/.well-known/openid-configuration"),
            ("https://a.example/b", "https://a.example/b/.well-known/openid-configuration"),
            ("https://a.example/b/", "https://a.example/b/.well-known/openid-configuration"),
            ("https://a.example/b//", "https://a.example/b//.well-known/openid-configuration"),
        ] {
            let start = Start::Discovery(expected.to_owned());
            assert_eq!(Target::new(issuer, None, None).unwrap().start, start);
        }
        let elsewhere = Target::new(ISSUER, Some("https://b.example/d"), None).unwrap();
        assert_eq!(elsewhere.start, Start::Discovery("https://b.example/d".to_owned()));
    }

    fn discovery(issuer: &str, jwks_uri: &str) -> String {
        serde_json::json!({ "issuer": issuer, "jwks_uri": jwks_uri }).to_string()
    }

    /// Serves these two replies and fetches.
    async fn fetch_of(document: Option<Reply>, keys: Reply) -> (Result<(usize, usize), Fault>, Server) {
        let authority = Authority::new();
        let server = Server::start(authority.leaf("127.0.0.1"), move |request| match request.path {
            "/d" => document.clone().unwrap_or_else(|| Reply::ok(&discovery(ISSUER, &request.url("/k")))),
            "/k" => keys.clone(),
            _ => Reply::ok(GOOD_KEYS),
        })
        .await;
        (result(&World::of(&authority, &server), &server).await, server)
    }

    async fn result(world: &World, server: &Server) -> Result<(usize, usize), Fault> {
        let target = Target::new(ISSUER, Some(&server.url("/d")), None).unwrap();
        let fetched = fetch(&world.egress, &target, world.deadline, None).await;
        fetched.map(|published| (published.keys().len(), published.skipped()))
    }

    async fn bad_document(document: Reply) -> Cause {
        let (result, server) = fetch_of(Some(document), Reply::ok(GOOD_KEYS)).await;
        assert_eq!(server.requests(), ["/d"]);
        match result {
            Err(Fault::Discovery(cause)) => cause,
            other => panic!("{other:?}"),
        }
    }

    async fn bad_keys(keys: Reply) -> Cause {
        let (result, server) = fetch_of(None, keys).await;
        assert_eq!(server.requests(), ["/d", "/k"]);
        match result {
            Err(Fault::Keys(cause)) => cause,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn good_documents_of_any_content_type_give_keys() {
        assert_eq!(fetch_of(None, Reply::ok(GOOD_KEYS)).await.0, Ok((1, 0)));
        let odd = Reply::of(&["HTTP/1.1 200 OK", "content-type: text/html"], GOOD_KEYS.as_bytes());
        assert_eq!(fetch_of(None, odd).await.0, Ok((1, 0)));
    }

    #[tokio::test]
    async fn of_what_is_known_only_changes_are_fetched_and_only_where_it_was() {
        let authority = Authority::new();
        let moved = Arc::new(AtomicBool::new(false));
        let elsewhere = Arc::clone(&moved);
        let server = Server::start(authority.leaf("127.0.0.1"), move |request| {
            let moved = elsewhere.load(Ordering::SeqCst);
            let (tag, body) = match request.path {
                "/d" if moved => ("\"d2\"", discovery(ISSUER, &request.url("/moved"))),
                "/d" => ("\"d\"", discovery(ISSUER, &request.url("/k"))),
                "/k" => ("\"k\"", GOOD_KEYS.to_owned()),
                // The tag of another URL must not be shown here.
                _ => ("\"k\"", GOOD_KEYS.replace("\"1\"", "\"2\"")),
            };
            match request.condition {
                Some(known) if known == tag => Reply::of(&["HTTP/1.1 304 Not Modified"], b""),
                _ => Reply::of(&["HTTP/1.1 200 OK", &format!("etag: {tag}")], body.as_bytes()),
            }
        })
        .await;
        let world = World::of(&authority, &server);
        let target = Target::new(ISSUER, Some(&server.url("/d")), None).unwrap();
        let again = async |before: Option<&Published>| {
            fetch(&world.egress, &target, world.deadline, before).await.unwrap()
        };
        let first = again(None).await;
        let second = again(Some(&first)).await;
        assert!(Arc::ptr_eq(first.keys(), second.keys()));
        moved.store(true, Ordering::SeqCst);
        let third = again(Some(&second)).await;
        assert!(!Arc::ptr_eq(second.keys(), third.keys()));
        assert_eq!(server.requests(), ["/d", "/k", "/d", "/k", "/d", "/moved"]);
    }

    #[tokio::test]
    async fn one_bad_key_beside_a_good_one_is_skipped() {
        let keys = GOOD_KEYS.replace("[", r#"[{"kty":"RSA","n":"AQAB"},{"kty":"AKP"},7,"#);
        assert_eq!(fetch_of(None, Reply::ok(&keys)).await.0, Ok((1, 3)));
    }

    #[tokio::test]
    async fn only_status_200_counts() {
        for (line, status) in [
            ("HTTP/1.1 404 Not Found", 404),
            ("HTTP/1.1 500 Internal Server Error", 500),
            ("HTTP/1.1 201 Created", 201),
        ] {
            let valid = Reply::of(&[line], discovery(ISSUER, "https://a.example").as_bytes());
            assert_eq!(bad_document(valid).await, Cause::Status(status));
            assert_eq!(bad_keys(Reply::of(&[line], GOOD_KEYS.as_bytes())).await, Cause::Status(status));
        }
    }

    #[tokio::test]
    async fn no_redirect_is_followed() {
        for code in [301, 302, 303, 307, 308] {
            let moved = Reply::of(&[&format!("HTTP/1.1 {code} Moved"), "location: /elsewhere"], b"");
            assert_eq!(bad_document(moved.clone()).await, Cause::Status(code));
            assert_eq!(bad_keys(moved).await, Cause::Status(code));
        }
    }

    #[tokio::test]
    async fn the_issuer_is_compared_byte_for_byte() {
        for wrong in [
            "https://issuer.example/ci/",
            "https://issuer.example/Ci",
            "https://ISSUER.example/ci",
            "https://issuer.example:443/ci",
            "https://issuer.example/c%69",
            "https://issuer.example",
            "",
        ] {
            let document = Reply::ok(&discovery(wrong, "https://a.example"));
            assert_eq!(bad_document(document).await, Cause::WrongIssuer, "{wrong}");
        }
        for absent in [r#"{"jwks_uri":"https://a.example"}"#, r#"{"issuer":null}"#, r#"{"issuer":["x"]}"#] {
            assert_eq!(bad_document(Reply::ok(absent)).await, Cause::Member("issuer"));
        }
    }

    #[tokio::test]
    async fn jwks_uri_is_an_absolute_https_url() {
        let absent = format!(r#"{{"issuer":"{ISSUER}"}}"#);
        assert_eq!(bad_document(Reply::ok(&absent)).await, Cause::Member("jwks_uri"));
        for relative in ["", "/k", "k"] {
            let document = Reply::ok(&discovery(ISSUER, relative));
            assert_eq!(bad_document(document).await, Cause::Member("jwks_uri"), "{relative}");
        }
        for (wrong, expected) in [
            ("http://127.0.0.1/k", Cause::Url("is not an https URL")),
            ("file:///etc/passwd", Cause::Url("is not an https URL")),
            ("data:application/json,{}", Cause::Url("is not an https URL")),
            ("https://u:p@a.example", Cause::Url("holds user information")),
            ("https://169.254.169.254/k", Cause::Address),
            ("https://127.0.0.1:1/k", Cause::Address),
        ] {
            let document = Reply::ok(&discovery(ISSUER, wrong));
            let (result, server) = fetch_of(Some(document), Reply::ok(GOOD_KEYS)).await;
            assert_eq!(result, Err(Fault::Keys(expected)), "{wrong}");
            assert_eq!(server.connections(), 1);
        }
    }

    #[tokio::test]
    async fn bodies_are_capped_whatever_is_announced() {
        let document = discovery(ISSUER, "https://a.example");
        let large = format!("{}{document}", " ".repeat(MAX_DISCOVERY));
        assert_eq!(bad_document(Reply::ok(&large)).await, Cause::TooLarge(MAX_DISCOVERY));
        let unannounced = Reply::bare(&["HTTP/1.1 200 OK"], large.as_bytes());
        assert_eq!(bad_document(unannounced).await, Cause::TooLarge(MAX_DISCOVERY));
        let keys = format!("{}{GOOD_KEYS}", " ".repeat(MAX_KEYS));
        assert_eq!(bad_keys(Reply::ok(&keys)).await, Cause::TooLarge(MAX_KEYS));
        assert_eq!(
            bad_keys(Reply::bare(&["HTTP/1.1 200 OK"], keys.as_bytes())).await,
            Cause::TooLarge(MAX_KEYS)
        );
        let fits = format!("{}{GOOD_KEYS}", " ".repeat(MAX_KEYS - GOOD_KEYS.len()));
        assert_eq!(fetch_of(None, Reply::ok(&fits)).await.0, Ok((1, 0)));
    }

    #[tokio::test]
    async fn a_body_that_ends_before_its_announced_length_is_refused() {
        let short = Reply::bare(&["HTTP/1.1 200 OK", "content-length: 5000"], GOOD_KEYS.as_bytes());
        assert!(matches!(bad_keys(short).await, Cause::Http | Cause::Connection(ErrorKind::UnexpectedEof)));
    }

    #[tokio::test]
    async fn compressed_bodies_are_not_decoded() {
        let gzip = Reply::of(&["HTTP/1.1 200 OK", "content-encoding: gzip"], &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
        assert_eq!(bad_document(gzip).await, Cause::Json(json::Fault::Utf8));
    }

    #[tokio::test]
    async fn documents_are_json_objects_without_repetition() {
        let twice = format!(r#"{{"issuer":"{ISSUER}","jwks_uri":"https://a","jwks_uri":"https://b"}}"#);
        assert_eq!(bad_document(Reply::ok(&twice)).await, Cause::Json(json::Fault::Duplicate));
        assert_eq!(bad_document(Reply::ok("<html></html>")).await, Cause::Json(json::Fault::Syntax));
        assert_eq!(bad_document(Reply::ok("")).await, Cause::Json(json::Fault::Syntax));
        let deep = "[".repeat(60_000);
        assert_eq!(bad_document(Reply::ok(&deep)).await, Cause::Json(json::Fault::Depth));
        for malformed in ["<html></html>", "[]", "{}", r#"{"keys":null}"#, r#"{"keys":[],"keys":[]}"#] {
            assert_eq!(
                bad_keys(Reply::ok(malformed)).await,
                Cause::Unusable(Unusable::Malformed),
                "{malformed}"
            );
        }
        for empty in [r#"{"keys":[]}"#, r#"{"keys":[{"kty":"AKP"}]}"#] {
            assert_eq!(bad_keys(Reply::ok(empty)).await, Cause::Unusable(Unusable::Empty));
        }
    }

    #[tokio::test]
    async fn one_deadline_holds_for_both_documents_however_slowly_they_drip() {
        let authority = Authority::new();
        // The second leaves time for a first document on a busy machine.
        for (slow, limit, expected) in
            [("/d", 300, Fault::Discovery(Cause::Deadline)), ("/k", 1500, Fault::Keys(Cause::Deadline))]
        {
            let server = Server::start(authority.leaf("127.0.0.1"), move |request| match request.path {
                path if path == slow => Reply::drip(),
                _ => Reply::ok(&discovery(ISSUER, &request.url("/k"))),
            })
            .await;
            let mut world = World::of(&authority, &server);
            world.deadline = Duration::from_millis(limit);
            assert_eq!(result(&world, &server).await, Err(expected));
        }
    }

    async fn handshake(leaf: Leaf, authority: &Authority) -> Cause {
        let server = Server::start(leaf, |_| Reply::ok(GOOD_KEYS)).await;
        let result = result(&World::of(authority, &server), &server).await;
        assert!(server.requests().is_empty());
        match result {
            Err(Fault::Discovery(cause)) => cause,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn servers_must_prove_who_they_are() {
        let authority = Authority::new();
        let stranger = handshake(Authority::named("stranger").leaf("127.0.0.1"), &authority).await;
        assert_eq!(stranger, Cause::Certificate("is not signed by a trusted authority"));
        let namesake = handshake(Authority::new().leaf("127.0.0.1"), &authority).await;
        assert_eq!(namesake, Cause::Certificate("has a bad signature"));
        let misnamed = handshake(authority.leaf("127.0.0.2"), &authority).await;
        assert_eq!(misnamed, Cause::Certificate("is for another name"));
        let expired = handshake(authority.expired_leaf("127.0.0.1"), &authority).await;
        assert_eq!(expired, Cause::Certificate("has expired"));
        assert_eq!(handshake(Leaf::Plain, &authority).await, Cause::Tls);
    }
}

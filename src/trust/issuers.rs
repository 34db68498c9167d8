//! The keys of every issuer that the directory names: one cached set each, one fetch at a time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::documents::{self, Target};
use super::egress::{Egress, Roots};
use super::entry::{IssuerEntry, Source};
use super::fault::{Fault, Unavailable};
use super::resolver::System;
use super::settings::TrustSettings;
use crate::clock::UnixTime;
use crate::domain::keyset::KeySet;
use crate::metrics::IssuerReading;

/// After a failed fetch the issuer is left alone this long; requests get the same failure meanwhile.
const HOLD: Duration = Duration::from_secs(1);

/// Where to fetch from instead, by issuer: routes public issuers to emulators. Made in code, never read from a file, and
/// not held to the rules of entries.
pub type Overrides = HashMap<String, Source>;

/// The issuers whose keys may be fetched.
pub struct Issuers {
    by_url: HashMap<String, Arc<Issuer>>,
    /// Those whose keys were given with the configuration: nothing is ever fetched for them.
    given: HashMap<String, Arc<KeySet>>,
    settings: TrustSettings,
    /// For issuers without roots or private hosts of their own, so that they share the system's roots.
    default: Arc<Egress<System>>,
    public: Arc<Roots>,
}

impl Issuers {
    /// Fetches nothing yet. Of the issuers named by the directory those with a disabled entry are left out; an entry of
    /// an issuer that nobody names has no effect.
    pub fn new<'a>(
        named: impl Iterator<Item = &'a str>,
        entries: &[IssuerEntry],
        settings: TrustSettings,
        overrides: &Overrides,
    ) -> Self {
        let public = Arc::new(Roots::default());
        let default = egress(&Source::default(), &public, settings.connect_timeout);
        let (by_url, given) = (HashMap::new(), HashMap::new());
        let none = Self { by_url, given, settings, default, public };
        none.renewed(named, entries, settings, overrides)
    }

    /// The issuers of a changed directory or configuration. One whose documents come from the same place in the same way
    /// keeps its keys and the fetch that goes on; a changed one starts with nothing, since keys are only good for the
    /// source that they came from.
    #[must_use]
    pub fn renewed<'a>(
        &self,
        named: impl Iterator<Item = &'a str>,
        entries: &[IssuerEntry],
        settings: TrustSettings,
        overrides: &Overrides,
    ) -> Self {
        let entries: HashMap<&str, &IssuerEntry> = entries.iter().map(|entry| (entry.url(), entry)).collect();
        let (public, timeout) = (Arc::clone(&self.public), settings.connect_timeout);
        let default = match timeout == self.settings.connect_timeout {
            true => Arc::clone(&self.default),
            false => egress(&Source::default(), &public, timeout),
        };
        let (mut by_url, mut given) = (HashMap::new(), HashMap::new());
        for url in named {
            let entry = entries.get(url);
            if entry.is_some_and(|entry| !entry.enabled()) {
                continue;
            }
            let source =
                overrides.get(url).or(entry.map(|entry| entry.source())).cloned().unwrap_or_default();
            if let Some(jwks) = &source.jwks {
                // Entries were checked when they were read; one without keys must not be fetched in their place.
                given.extend(KeySet::parse(jwks).ok().map(|(keys, _)| (url.to_owned(), Arc::new(keys))));
                continue;
            }
            let before = self.by_url.get(url).filter(|issuer| issuer.source == source);
            if let Some(same) = before.filter(|issuer| issuer.settings == settings) {
                by_url.insert(url.to_owned(), Arc::clone(same));
                continue;
            }
            let (discovery_url, jwks_url) = (source.discovery_url.as_deref(), source.jwks_url.as_deref());
            // The directory's rules let no issuer in that is no URL.
            let Some(target) = Target::new(url, discovery_url, jwks_url) else { continue };
            let own = source.needs_egress();
            let egress = if own { egress(&source, &public, timeout) } else { Arc::clone(&default) };
            let keys = before.and_then(|issuer| issuer.current.load_full());
            let mut issuer = Issuer::new(target, source, egress, (settings, keys));
            // Another source is still the same issuer to who watches it.
            if let Some(before) = self.by_url.get(url) {
                issuer.fetches = Arc::clone(&before.fetches);
                issuer.requests = Arc::clone(&before.requests);
            }
            by_url.insert(url.to_owned(), Arc::new(issuer));
        }
        Self { by_url, given, settings, default, public }
    }

    /// The issuer's keys: those at hand, or those of a fetch that this request starts or joins.
    pub async fn keys(&self, issuer: &str, now: UnixTime) -> Result<Arc<KeySet>, Unavailable> {
        if let Some(keys) = self.given.get(issuer) {
            return Ok(Arc::clone(keys));
        }
        let issuer = self.by_url.get(issuer).ok_or(Fault::Unknown)?;
        if let Some(keys) = issuer.at_hand(now) {
            issuer.requests.served.fetch_add(1, Ordering::Relaxed);
            return Ok(keys);
        }
        issuer.requests.waited.fetch_add(1, Ordering::Relaxed);
        let _waiter = issuer.wait_with_others().ok_or(Fault::Slow)?;
        let mut flight = issuer.join(now);
        let landed = timeout(self.settings.request_wait, flight.wait_for(Option::is_some)).await;
        let landing = landed.map_err(|_| Fault::Slow)?.map_err(|_| Fault::Interrupted)?;
        match &*landing {
            Some(Ok(keys)) => Ok(Arc::clone(keys)),
            Some(Err((fault, _))) => Err((*fault).into()),
            None => Err(Fault::Interrupted.into()),
        }
    }
}

impl Issuers {
    /// What metrics show of every issuer. Takes the counts of fetches with it: they are counted once.
    pub fn take_readings(&self, now: UnixTime) -> Vec<IssuerReading> {
        let given = self.given.iter().map(|(issuer, keys)| IssuerReading {
            issuer: issuer.clone(),
            keys: keys.len(),
            ..IssuerReading::default()
        });
        given.chain(self.by_url.iter().map(|(url, issuer)| issuer.take_reading(url, now))).collect()
    }
}

/// Most requests that wait for one issuer; the rest are told to come back. An issuer that hangs must not hold all places
/// of requests in flight, of which there are 1,024 by default.
const MAX_WAITERS: usize = 256;

/// One who waits, for as long as this lives.
struct Waiter<'i>(&'i AtomicUsize);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn egress(source: &Source, public: &Arc<Roots>, connect_timeout: Duration) -> Arc<Egress<System>> {
    let roots = match source.roots.is_empty() {
        true => Arc::clone(public),
        false => Arc::new(Roots::own(&source.roots)),
    };
    let egress = Egress::new(roots, source.private_hosts.clone(), connect_timeout, Arc::new(System));
    Arc::new(egress.with_bearer(source.bearer.clone()))
}

/// How a fetch ended, and for a failure when; `None` while it goes on.
type Landing = Option<Result<Arc<KeySet>, (Fault, Instant)>>;

struct Issuer {
    target: Target,
    /// What `target` and `egress` were made of.
    source: Source,
    egress: Arc<Egress<System>>,
    settings: TrustSettings,
    current: ArcSwapOption<Fetched>,
    /// Requests that wait for a fetch.
    waiters: AtomicUsize,
    /// The last fetch, going on or ended. Held only to look and to start, never while one goes on.
    flight: Mutex<Option<watch::Receiver<Landing>>>,
    fetches: Arc<Fetches>,
    requests: Arc<Requests>,
}

/// Requests that needed keys since the last reading.
#[derive(Default)]
struct Requests {
    served: AtomicU64,
    waited: AtomicU64,
}

/// Fetches that have ended since the last reading.
#[derive(Default)]
struct Fetches {
    succeeded: AtomicU64,
    failed: AtomicU64,
}

struct Fetched {
    keys: Arc<KeySet>,
    at: UnixTime,
}

impl Issuer {
    fn new(
        target: Target,
        source: Source,
        egress: Arc<Egress<System>>,
        (settings, keys): (TrustSettings, Option<Arc<Fetched>>),
    ) -> Self {
        let current = ArcSwapOption::new(keys);
        let (waiters, flight) = (AtomicUsize::new(0), Mutex::new(None));
        let (fetches, requests) = Default::default();
        Self { target, source, egress, settings, current, waiters, flight, fetches, requests }
    }

    fn take_reading(&self, url: &str, now: UnixTime) -> IssuerReading {
        let current = self.current.load();
        let fetched = current.as_ref();
        IssuerReading {
            issuer: url.to_owned(),
            keys: fetched.map_or(0, |fetched| fetched.keys.len()),
            age: fetched.map(|fetched| now - fetched.at),
            succeeded: self.fetches.succeeded.swap(0, Ordering::Relaxed),
            failed: self.fetches.failed.swap(0, Ordering::Relaxed),
            hits: self.requests.served.swap(0, Ordering::Relaxed),
            misses: self.requests.waited.swap(0, Ordering::Relaxed),
        }
    }

    /// The set in the cache, unless it is too old. A clock that was set back far counts as old, too.
    fn at_hand(&self, now: UnixTime) -> Option<Arc<KeySet>> {
        let current = self.current.load();
        let fetched = current.as_ref()?;
        let fresh = now.abs_diff(fetched.at) < self.settings.soft_ttl.as_secs();
        fresh.then(|| Arc::clone(&fetched.keys))
    }

    /// A place among those who wait; `None` when all are taken.
    fn wait_with_others(&self) -> Option<Waiter<'_>> {
        let waiter = Waiter(&self.waiters);
        (self.waiters.fetch_add(1, Ordering::Relaxed) < MAX_WAITERS).then_some(waiter)
    }

    /// The fetch that goes on, or the last one while its result holds, or a new one. It runs in a task of its own: a
    /// client that goes away takes nothing from those who wait with it.
    fn join(self: &Arc<Self>, now: UnixTime) -> watch::Receiver<Landing> {
        let mut slot = self.flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = slot.as_ref().filter(|flight| self.holds(flight, now)) {
            return flight.clone();
        }
        let (landing, flight) = watch::channel(None);
        let issuer = Arc::clone(self);
        tokio::spawn(async move { landing.send_replace(Some(issuer.fetch(now).await)) });
        *slot = Some(flight.clone());
        flight
    }

    fn holds(&self, flight: &watch::Receiver<Landing>, now: UnixTime) -> bool {
        match &*flight.borrow() {
            // A task that ended without a result has dropped its end.
            None => flight.has_changed().is_ok(),
            // It may have ended after this request looked into the cache.
            Some(Ok(_)) => self.at_hand(now).is_some(),
            Some(Err((_, at))) => at.elapsed() < HOLD,
        }
    }

    async fn fetch(&self, now: UnixTime) -> Result<Arc<KeySet>, (Fault, Instant)> {
        let issuer = &self.target.issuer;
        match documents::fetch(&*self.egress, &self.target, self.settings.fetch_deadline).await {
            Ok((keys, skipped)) => {
                tracing::info!(%issuer, keys = keys.len(), skipped, "fetched an issuer's keys");
                self.fetches.succeeded.fetch_add(1, Ordering::Relaxed);
                let keys = Arc::new(keys);
                self.current.store(Some(Arc::new(Fetched { keys: Arc::clone(&keys), at: now })));
                Ok(keys)
            }
            Err(fault) => {
                tracing::warn!(%issuer, %fault, "could not fetch an issuer's keys");
                self.fetches.failed.fetch_add(1, Ordering::Relaxed);
                Err((fault, Instant::now()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;
    use tokio::task::JoinSet;

    use super::super::egress::PrivateHosts;
    use super::super::fault::Cause;
    use super::super::testing::{Authority, GOOD_KEYS, Reply, Server, entry};
    use super::*;

    const ISSUER: &str = "https://issuer.example";
    const NOW: UnixTime = 1_800_000_000;

    fn good(path: &str, url: impl Fn(&str) -> String) -> Reply {
        match path {
            "/d" => Reply::ok(&serde_json::json!({ "issuer": ISSUER, "jwks_uri": url("/k") }).to_string()),
            _ => Reply::ok(GOOD_KEYS),
        }
    }

    fn issuers(authority: &Authority, server: &Server, settings: TrustSettings) -> Arc<Issuers> {
        let mut private_hosts = PrivateHosts::default();
        private_hosts.add(&format!("127.0.0.1:{}", server.port)).unwrap();
        let source = Source {
            discovery_url: Some(server.url("/d")),
            roots: vec![authority.certificate()],
            private_hosts,
            ..Source::default()
        };
        let overrides = Overrides::from([(ISSUER.to_owned(), source)]);
        Arc::new(Issuers::new([ISSUER].into_iter(), &[], settings, &overrides))
    }

    fn fault(result: Result<Arc<KeySet>, Unavailable>) -> Fault {
        let unavailable = result.expect_err("must be unavailable");
        assert!((1..=30).contains(&unavailable.retry_after));
        unavailable.fault
    }

    #[tokio::test]
    async fn those_who_wait_for_one_issuer_are_bounded_and_give_their_place_back() {
        let authority = Authority::new();
        let server = Server::start(authority.leaf("127.0.0.1"), |r| good(r.path, |path| r.url(path))).await;
        let issuers = issuers(&authority, &server, TrustSettings::default());
        let issuer = &issuers.by_url[ISSUER];
        let waiting: Vec<_> = (0..MAX_WAITERS).map(|_| issuer.wait_with_others().unwrap()).collect();
        assert_eq!(fault(issuers.keys(ISSUER, NOW).await), Fault::Slow);
        assert_eq!(server.requests().len(), 0);
        drop(waiting);
        assert!(issuers.keys(ISSUER, NOW).await.is_ok());
    }

    #[tokio::test]
    async fn first_requests_share_one_fetch_and_later_ones_its_result() {
        let authority = Authority::new();
        let server = Server::start(authority.leaf("127.0.0.1"), |r| good(r.path, |path| r.url(path))).await;
        let issuers = issuers(&authority, &server, TrustSettings::default());
        let mut first = JoinSet::new();
        for _ in 0..40 {
            let issuers = Arc::clone(&issuers);
            first.spawn(async move { issuers.keys(ISSUER, NOW).await });
        }
        assert!(first.join_all().await.into_iter().all(|keys| keys.unwrap().len() == 1));
        assert_eq!(server.requests(), ["/d", "/k"]);

        let before = issuers.keys(ISSUER, NOW + 599).await.unwrap();
        assert_eq!(server.requests().len(), 2);
        let after = issuers.keys(ISSUER, NOW + 600).await.unwrap();
        assert!(!Arc::ptr_eq(&before, &after));
        assert_eq!(server.requests().len(), 4);
        issuers.keys(ISSUER, NOW - 1).await.unwrap();
        assert_eq!(server.requests().len(), 6);
    }

    #[tokio::test]
    async fn after_a_failure_the_issuer_is_left_alone_for_a_second() {
        let authority = Authority::new();
        let server = Server::start(authority.leaf("127.0.0.1"), |r| match r.count {
            1 => Reply::of(&["HTTP/1.1 503 Busy"], b""),
            _ => good(r.path, |path| r.url(path)),
        })
        .await;
        let issuers = issuers(&authority, &server, TrustSettings::default());
        let failed = Fault::Discovery(Cause::Status(503));
        assert_eq!(fault(issuers.keys(ISSUER, NOW).await), failed);
        assert_eq!(fault(issuers.keys(ISSUER, NOW).await), failed);
        assert_eq!(server.requests(), ["/d"]);
        tokio::time::pause();
        tokio::time::advance(HOLD).await;
        tokio::time::resume();
        assert!(issuers.keys(ISSUER, NOW).await.is_ok());
        assert_eq!(server.requests(), ["/d", "/d", "/k"]);
    }

    #[tokio::test]
    async fn a_request_waits_no_longer_than_it_may_and_the_fetch_goes_on_without_it() {
        let authority = Authority::new();
        let gate = Arc::new(Semaphore::new(0));
        let shut = Arc::clone(&gate);
        let server = Server::start(authority.leaf("127.0.0.1"), move |r| {
            good(r.path, |path| r.url(path)).behind(&shut)
        })
        .await;
        let settings = TrustSettings { request_wait: Duration::from_millis(100), ..TrustSettings::default() };
        let issuers = issuers(&authority, &server, settings);
        assert_eq!(fault(issuers.keys(ISSUER, NOW).await), Fault::Slow);
        assert_eq!(fault(issuers.keys(ISSUER, NOW).await), Fault::Slow);
        gate.add_permits(2);
        let mut flight = issuers.by_url[ISSUER].join(NOW);
        assert!(flight.wait_for(Option::is_some).await.unwrap().as_ref().unwrap().is_ok());
        assert!(issuers.keys(ISSUER, NOW).await.is_ok());
        assert_eq!(server.requests(), ["/d", "/k"]);
    }

    #[tokio::test]
    async fn a_renewal_keeps_the_keys_of_the_same_source_alone() {
        let authority = Authority::new();
        let server = Server::start(authority.leaf("127.0.0.1"), |r| good(r.path, |path| r.url(path))).await;
        let settings = TrustSettings::default();
        let issuers = issuers(&authority, &server, settings);
        let keys = issuers.keys(ISSUER, NOW).await.unwrap();
        let source = issuers.by_url[ISSUER].source.clone();
        let renewed = |source: Source, settings| {
            let overrides = Overrides::from([(ISSUER.to_owned(), source)]);
            issuers.renewed([ISSUER, "https://new.example"].into_iter(), &[], settings, &overrides)
        };
        let same = renewed(source.clone(), settings);
        assert!(Arc::ptr_eq(&same.by_url[ISSUER], &issuers.by_url[ISSUER]));
        assert_eq!(same.by_url.len(), 2);

        let longer = TrustSettings { soft_ttl: Duration::from_secs(3600), ..settings };
        let kept = renewed(source.clone(), longer).keys(ISSUER, NOW + 3599).await.unwrap();
        assert!(Arc::ptr_eq(&kept, &keys));

        let stranger = Authority::new();
        let other = renewed(Source { roots: vec![stranger.certificate()], ..source }, settings);
        assert!(matches!(fault(other.keys(ISSUER, NOW).await), Fault::Discovery(_)));
    }

    #[tokio::test]
    async fn fetches_are_counted_once_and_across_renewals() {
        let authority = Authority::new();
        let server = Server::start(authority.leaf("127.0.0.1"), |r| good(r.path, |path| r.url(path))).await;
        let settings = TrustSettings::default();
        let issuers = issuers(&authority, &server, settings);
        let reading = |issuers: &Issuers, now| {
            let [one] = <[_; 1]>::try_from(issuers.take_readings(now)).unwrap();
            assert_eq!(one.issuer, ISSUER);
            (one.keys, one.age, one.succeeded, one.failed)
        };
        assert_eq!(reading(&issuers, NOW), (0, None, 0, 0));
        for _ in 0..3 {
            issuers.keys(ISSUER, NOW).await.unwrap();
        }
        let stranger =
            Source { roots: vec![Authority::new().certificate()], ..issuers.by_url[ISSUER].source.clone() };
        let overrides = Overrides::from([(ISSUER.to_owned(), stranger)]);
        let renewed = issuers.renewed([ISSUER].into_iter(), &[], settings, &overrides);
        assert!(renewed.keys(ISSUER, NOW).await.is_err());
        assert_eq!(reading(&renewed, NOW), (0, None, 1, 1));
        assert_eq!(reading(&issuers, NOW + 7), (1, Some(7), 0, 0));
        assert!(issuers.renewed([].into_iter(), &[], settings, &overrides).take_readings(NOW).is_empty());
    }

    #[tokio::test]
    async fn only_named_and_enabled_issuers_are_fetched() {
        let entries = [entry("url = \"https://off.example\"\nenabled = false\n")];
        let named = ["https://off.example"].into_iter();
        let issuers = Issuers::new(named, &entries, TrustSettings::default(), &Overrides::new());
        for unknown in ["https://off.example", "https://off.example/", ISSUER, "", "file:///etc/passwd"] {
            assert_eq!(fault(issuers.keys(unknown, NOW).await), Fault::Unknown, "{unknown}");
        }
    }

    #[tokio::test]
    async fn inner_addresses_need_an_entry_and_metadata_has_none() {
        let (inner, metadata) = ("https://127.0.0.1:1", "https://169.254.169.254");
        let named = [inner, metadata].into_iter();
        let issuers = Issuers::new(named, &[], TrustSettings::default(), &Overrides::new());
        for url in [inner, metadata] {
            assert_eq!(fault(issuers.keys(url, NOW).await), Fault::Discovery(Cause::Address), "{url}");
        }
    }

    #[tokio::test]
    async fn an_entry_opens_its_own_port_only() {
        let authority = Authority::new();
        let other = Server::start(authority.leaf("localhost"), |_| Reply::ok(GOOD_KEYS)).await;
        let jwks_uri = format!("https://localhost:{}/k", other.port);
        let server = Server::start(authority.leaf("localhost"), move |r| {
            let issuer = format!("https://localhost:{}", r.port);
            Reply::ok(&serde_json::json!({ "issuer": issuer, "jwks_uri": jwks_uri }).to_string())
        })
        .await;
        let url = format!("https://localhost:{}", server.port);
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, authority.pem()).unwrap();
        let text = format!("url = {url:?}\nca_file = {ca:?}\nallow_private_network = true\n");
        let ask = async |text: &str| {
            let entries = [entry(text)];
            let named = [url.as_str()].into_iter();
            Issuers::new(named, &entries, TrustSettings::default(), &Overrides::new()).keys(&url, NOW).await
        };
        assert_eq!(fault(ask(&text).await), Fault::Keys(Cause::Address));
        assert_eq!(server.requests(), ["/.well-known/openid-configuration"]);
        assert_eq!(other.connections(), 0);
        let listed = format!("{text}private_hosts = [\"localhost:{}\"]\n", other.port);
        assert_eq!(ask(&listed).await.unwrap().len(), 1);
    }

    async fn ask(url: &str, text: &str) -> Result<Arc<KeySet>, Unavailable> {
        let entries = [entry(text)];
        Issuers::new([url].into_iter(), &entries, TrustSettings::default(), &Overrides::new())
            .keys(url, NOW)
            .await
    }

    #[tokio::test]
    async fn a_jwks_url_is_fetched_without_discovery() {
        let authority = Authority::new();
        let server = Server::start(authority.leaf("127.0.0.1"), |_| Reply::ok(GOOD_KEYS)).await;
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, authority.pem()).unwrap();
        let url = server.url("");
        let text = format!(
            "url = {url:?}\nca_file = {ca:?}\nallow_private_network = true\njwks_url = {:?}\n",
            server.url("/k")
        );
        assert_eq!(ask(&url, &text).await.unwrap().len(), 1);
        assert_eq!(server.requests(), ["/k"]);
    }

    #[tokio::test]
    async fn a_jwks_file_needs_no_network() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys.json");
        std::fs::write(&keys, GOOD_KEYS).unwrap();
        let text = format!("url = {ISSUER:?}\njwks_file = {keys:?}\n");
        let entries = [entry(&text)];
        let issuers =
            Issuers::new([ISSUER].into_iter(), &entries, TrustSettings::default(), &Overrides::new());
        assert!(issuers.by_url.is_empty());
        assert_eq!(issuers.keys(ISSUER, NOW).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_bearer_token_goes_to_the_entrys_own_origins_only_and_is_read_anew() {
        let authority = Authority::new();
        let seen = Arc::new(Mutex::new(Vec::<(u16, Option<String>)>::new()));
        let note = |seen: &Arc<Mutex<Vec<_>>>| {
            let seen = Arc::clone(seen);
            move |port: u16, value: Option<&str>| seen.lock().unwrap().push((port, value.map(str::to_owned)))
        };
        let noted = note(&seen);
        let other = Server::start(authority.leaf("127.0.0.1"), move |r| {
            noted(r.port, r.authorization);
            Reply::ok(GOOD_KEYS)
        })
        .await;
        let (noted, elsewhere) = (note(&seen), other.url("/k"));
        let server = Server::start(authority.leaf("127.0.0.1"), move |r| {
            noted(r.port, r.authorization);
            match (r.authorization, r.path) {
                (None, _) => Reply::of(&["HTTP/1.1 403 Forbidden"], b""),
                (_, "/k") => Reply::ok(GOOD_KEYS),
                _ => {
                    Reply::ok(&serde_json::json!({ "issuer": r.url(""), "jwks_uri": elsewhere }).to_string())
                }
            }
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let (ca, token) = (folder.path().join("ca.pem"), folder.path().join("token"));
        std::fs::write(&ca, authority.pem()).unwrap();
        std::fs::write(&token, "one\n").unwrap();
        let url = server.url("");
        let anonymous = format!(
            "url = {url:?}\nca_file = {ca:?}\nallow_private_network = true\nprivate_hosts = [\"127.0.0.1:{}\"]\n",
            other.port
        );
        let text = format!("{anonymous}bearer_token_file = {token:?}\n");
        let bearer = |token: &str| Some(format!("Bearer {token}"));

        let refused = fault(ask(&url, &anonymous).await);
        assert_eq!(refused, Fault::Discovery(Cause::Status(403)));
        assert!(refused.to_string().contains("system:service-account-issuer-discovery"), "{refused}");
        assert_eq!(std::mem::take(&mut *seen.lock().unwrap()), [(server.port, None)]);

        assert!(ask(&url, &text).await.is_ok());
        assert_eq!(
            std::mem::take(&mut *seen.lock().unwrap()),
            [(server.port, bearer("one")), (other.port, None)]
        );

        let direct = format!("{text}jwks_url = {:?}\n", server.url("/k"));
        let entries = [entry(&direct)];
        let issuers =
            Issuers::new([url.as_str()].into_iter(), &entries, TrustSettings::default(), &Overrides::new());
        assert!(issuers.keys(&url, NOW).await.is_ok());
        std::fs::write(&token, " two ").unwrap();
        assert!(issuers.keys(&url, NOW + 3600).await.is_ok());
        assert_eq!(
            std::mem::take(&mut *seen.lock().unwrap()),
            [(server.port, bearer("one")), (server.port, bearer("two"))]
        );
        for unusable in ["", "\n", "a\u{7f}b"] {
            std::fs::write(&token, unusable).unwrap();
            let issuers = Issuers::new(
                [url.as_str()].into_iter(),
                &entries,
                TrustSettings::default(),
                &Overrides::new(),
            );
            let failed = fault(issuers.keys(&url, NOW).await);
            assert_eq!(failed, Fault::Keys(Cause::Bearer(std::io::ErrorKind::Other)));
        }
        assert!(seen.lock().unwrap().is_empty());
    }
}

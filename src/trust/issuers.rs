//! The issuers that the directory names, each with its cached set.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::documents::Target;
use super::egress::{Egress, Roots};
use super::entry::{IssuerEntry, Source};
use super::fault::{Fault, Unavailable};
use super::flight::{Doubt, Held, Issuer};
use super::holdings::Holdings;
use super::resolver::System;
use super::settings::TrustSettings;
use super::state;
use crate::clock::{Clock, UnixTime};
use crate::domain::keyset::KeySet;
use crate::domain::refusal::Refusal;
use crate::metrics::IssuerReading;

/// Most fetches at once that no request waits for: a start with a thousand issuers must not be a thousand connections.
const MAX_BACKGROUND: usize = 16;

/// Where to fetch from instead, by issuer: routes public issuers to emulators. Made in code, never read from a file, and
/// not held to the rules of entries.
pub type Overrides = HashMap<String, Source>;

/// The issuers whose keys may be fetched.
pub struct Issuers {
    by_url: HashMap<String, Arc<Issuer>>,
    /// Those whose keys were given with the configuration: nothing is ever fetched for them.
    given: HashMap<String, Given>,
    settings: Arc<TrustSettings>,
    /// For issuers without roots or private hosts of their own, so that they share the system's roots.
    default: Arc<Egress<System>>,
    public: Arc<Roots>,
    background: Arc<Semaphore>,
}

/// A key set that was given, and what it was parsed from: the same text stays the same set, with all that rests upon it.
struct Given {
    document: Bytes,
    keys: Arc<KeySet>,
}

impl Issuers {
    /// Fetches nothing yet. Of the issuers named by the directory those with a disabled entry are left out; an entry of
    /// an issuer that nobody names has no effect.
    pub fn new<'a>(
        named: impl Iterator<Item = &'a str>,
        entries: &[IssuerEntry],
        settings: &TrustSettings,
        overrides: &Overrides,
    ) -> Self {
        let public = Arc::new(Roots::default());
        let default = egress(&Source::default(), &public, settings.connect_timeout);
        let (by_url, given) = (HashMap::new(), HashMap::new());
        let (settings, background) = (Arc::new(settings.clone()), Arc::new(Semaphore::new(MAX_BACKGROUND)));
        let none = Self { by_url, given, settings: Arc::clone(&settings), default, public, background };
        none.renewed(named, entries, &settings, overrides)
    }

    /// The issuers of a changed directory or configuration. One whose documents come from the same place in the same way
    /// keeps its keys and the fetch that goes on; a changed one starts with nothing, since keys are only good for the
    /// source that they came from.
    #[must_use]
    pub fn renewed<'a>(
        &self,
        named: impl Iterator<Item = &'a str>,
        entries: &[IssuerEntry],
        settings: &TrustSettings,
        overrides: &Overrides,
    ) -> Self {
        let entries: HashMap<&str, &IssuerEntry> = entries.iter().map(|entry| (entry.url(), entry)).collect();
        let mut renewed = self.without_issuers(settings);
        for url in named {
            let entry = entries.get(url);
            if entry.is_some_and(|entry| !entry.enabled()) {
                continue;
            }
            let source =
                overrides.get(url).or(entry.map(|entry| entry.source())).cloned().unwrap_or_default();
            if let Some(jwks) = &source.jwks {
                // Entries were checked when they were read; one without keys must not be fetched in their place.
                renewed.given.extend(self.given(url, jwks).map(|given| (url.to_owned(), given)));
                continue;
            }
            let issuer = renewed.issuer(url, source, self.by_url.get(url));
            renewed.by_url.extend(issuer.map(|issuer| (url.to_owned(), issuer)));
        }
        renewed
    }

    fn without_issuers(&self, settings: &TrustSettings) -> Self {
        let (public, timeout) = (Arc::clone(&self.public), settings.connect_timeout);
        let default = match timeout == self.settings.connect_timeout {
            true => Arc::clone(&self.default),
            false => egress(&Source::default(), &public, timeout),
        };
        let settings = match *settings == *self.settings {
            true => Arc::clone(&self.settings),
            false => Arc::new(settings.clone()),
        };
        let (by_url, given) = (HashMap::new(), HashMap::new());
        Self { by_url, given, settings, default, public, background: Arc::clone(&self.background) }
    }

    fn given(&self, url: &str, document: &Bytes) -> Option<Given> {
        let keys = match self.given.get(url).filter(|before| before.document == *document) {
            Some(same) => Arc::clone(&same.keys),
            None => Arc::new(KeySet::parse(document).ok()?.0),
        };
        Some(Given { document: document.clone(), keys })
    }

    /// One issuer under our settings, with what was had of its source.
    fn issuer(&self, url: &str, source: Source, before: Option<&Arc<Issuer>>) -> Option<Arc<Issuer>> {
        let same = before.filter(|before| before.source == source);
        if let Some(same) = same.filter(|same| same.settings == self.settings) {
            return Some(Arc::clone(same));
        }
        let (discovery_url, jwks_url) = (source.discovery_url.as_deref(), source.jwks_url.as_deref());
        // The directory's rules let no issuer in that is no URL.
        let target = Target::new(url, discovery_url, jwks_url)?;
        let egress = match source.needs_egress() {
            true => egress(&source, &self.public, self.settings.connect_timeout),
            false => Arc::clone(&self.default),
        };
        let holdings = match same {
            Some(same) => Arc::clone(&same.holdings),
            // Another source is still the same issuer to who watches it.
            None => Arc::new(Holdings::after(before.map(|before| &*before.holdings))),
        };
        Some(Arc::new(Issuer { target, source, egress, settings: Arc::clone(&self.settings), holdings }))
    }

    /// The issuer's keys: those at hand, or those of a fetch that this request starts or joins.
    pub async fn keys(&self, issuer: &str, now: UnixTime) -> Result<Held, Unavailable> {
        if let Some(given) = self.given.get(issuer) {
            return Ok(Held::given(&given.keys));
        }
        self.by_url.get(issuer).ok_or(Fault::Unknown)?.keys(now).await
    }

    /// Newer keys than those that led to a refusal, where newer ones may make a difference and are to be had now. A request
    /// that has waited for its keys waits no second time.
    pub async fn newer(
        &self,
        issuer: &str,
        held: &Held,
        refusal: &Refusal,
        now: UnixTime,
    ) -> Option<Arc<KeySet>> {
        let doubt = match refusal {
            Refusal::KeyUnknown { .. } => Doubt::UnknownKey,
            Refusal::Signature => Doubt::Signature,
            _ => return None,
        };
        self.by_url.get(issuer)?.newer(held, doubt, now).await
    }
}

// What goes on beside requests

impl Issuers {
    /// Takes the sets that were kept on disk, where there are any, of issuers that were not there before. Waits for the disk.
    pub fn restore(&self, before: Option<&Self>) {
        let is_new = |url| before.is_none_or(|before| !before.by_url.contains_key(url));
        self.by_url.iter().filter(|(url, _)| is_new(*url)).for_each(|(_, issuer)| issuer.restore());
    }

    /// Fetches the keys of every issuer that has not had its turn, a few at a time, in a task of its own: nobody waits for
    /// it. To be called at the start and after each change.
    pub fn prefetch(&self, clock: Clock) {
        let new = self.by_url.values().filter(|issuer| !issuer.holdings.prefetched.load(Ordering::Relaxed));
        // An issuer that is taken away before its turn is not asked any more.
        let issuers: Vec<Weak<Issuer>> = new.map(Arc::downgrade).collect();
        let background = Arc::clone(&self.background);
        tokio::spawn(async move {
            for issuer in issuers {
                let Ok(permit) = Arc::clone(&background).acquire_owned().await else { return };
                let Some(issuer) = issuer.upgrade() else { continue };
                if !issuer.holdings.prefetched.swap(true, Ordering::Relaxed) {
                    issuer.prefetch(clock.now(), permit);
                }
            }
        });
    }

    /// Removes kept sets that nobody can use any more: of issuers that are not among these, and too old should they come
    /// back. One that is switched off for an hour finds its set again. Waits for the disk.
    pub fn sweep(&self, now: UnixTime) {
        let Some(folder) = &self.settings.state_path else { return };
        let named: HashSet<PathBuf> =
            self.by_url.values().filter_map(|issuer| Some(issuer.place()?.file())).collect();
        let folder_shown = folder.display();
        match state::sweep(folder, &named, self.settings.hard_ttl, now) {
            Ok(0) => {}
            Ok(removed) => {
                tracing::info!(folder = %folder_shown, removed, "removed kept keys of issuers that nobody names");
            }
            Err(error) => {
                tracing::warn!(folder = %folder_shown, %error, "could not look for kept keys that nobody needs");
            }
        }
    }

    /// Starts the refreshes that are due; to be called every second or so. What finds no place waits for the next call.
    pub fn tend(&self, now: UnixTime) {
        for issuer in self.by_url.values().filter(|issuer| issuer.is_due(now)) {
            let Ok(permit) = Arc::clone(&self.background).try_acquire_owned() else { return };
            issuer.tend(now, permit);
        }
    }

    /// What metrics show of every issuer. Takes the counts of fetches with it: they are counted once.
    pub fn take_readings(&self, now: UnixTime) -> Vec<IssuerReading> {
        let given = self.given.iter().map(|(issuer, given)| IssuerReading {
            issuer: issuer.clone(),
            keys: given.keys.len(),
            ..IssuerReading::default()
        });
        given.chain(self.by_url.iter().map(|(url, issuer)| issuer.holdings.take_reading(url, now))).collect()
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::task::JoinSet;

    use super::super::egress::PrivateHosts;
    use super::super::fault::Cause;
    use super::super::holdings::MAX_WAITERS;
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
        Arc::new(Issuers::new([ISSUER].into_iter(), &[], &settings, &overrides))
    }

    fn fault(result: Result<Held, Unavailable>) -> Fault {
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
        let waiting: Vec<_> = (0..MAX_WAITERS).map(|_| issuer.holdings.wait_with_others().unwrap()).collect();
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
        assert!(first.join_all().await.into_iter().all(|keys| keys.unwrap().keys.len() == 1));
        assert_eq!(server.requests(), ["/d", "/k"]);
    }

    #[tokio::test]
    async fn a_renewal_keeps_the_keys_of_the_same_source_alone() {
        let authority = Authority::new();
        let server = Server::start(authority.leaf("127.0.0.1"), |r| good(r.path, |path| r.url(path))).await;
        let settings = TrustSettings::default();
        let issuers = issuers(&authority, &server, settings.clone());
        let keys = issuers.keys(ISSUER, NOW).await.unwrap();
        let source = issuers.by_url[ISSUER].source.clone();
        let renewed = |source: Source, settings| {
            let overrides = Overrides::from([(ISSUER.to_owned(), source)]);
            issuers.renewed([ISSUER, "https://new.example"].into_iter(), &[], &settings, &overrides)
        };
        let same = renewed(source.clone(), settings.clone());
        assert!(Arc::ptr_eq(&same.by_url[ISSUER], &issuers.by_url[ISSUER]));
        assert_eq!(same.by_url.len(), 2);

        let longer = TrustSettings { soft_ttl: Duration::from_secs(3600), ..settings.clone() };
        let kept = renewed(source.clone(), longer).keys(ISSUER, NOW + 3599).await.unwrap();
        assert!(Arc::ptr_eq(&kept.keys, &keys.keys));

        let stranger = Authority::new();
        let other = renewed(Source { roots: vec![stranger.certificate()], ..source }, settings);
        assert!(matches!(fault(other.keys(ISSUER, NOW).await), Fault::Discovery(_)));
    }

    #[tokio::test]
    async fn a_renewal_with_other_settings_keeps_the_fetch_that_goes_on() {
        let authority = Authority::new();
        let gate = Arc::new(Semaphore::new(0));
        let shut = Arc::clone(&gate);
        let server = Server::start(authority.leaf("127.0.0.1"), move |r| {
            good(r.path, |path| r.url(path)).behind(&shut)
        })
        .await;
        let issuers = issuers(&authority, &server, TrustSettings::default());
        let overrides = Overrides::from([(ISSUER.to_owned(), issuers.by_url[ISSUER].source.clone())]);
        let longer = TrustSettings { soft_ttl: Duration::from_secs(3600), ..TrustSettings::default() };
        let renewed = Arc::new(issuers.renewed([ISSUER].into_iter(), &[], &longer, &overrides));
        let mut waiting = JoinSet::new();
        for issuers in [issuers, renewed] {
            waiting.spawn(async move { issuers.keys(ISSUER, NOW).await.unwrap().keys.len() });
        }
        gate.add_permits(2);
        assert_eq!(waiting.join_all().await, [1, 1]);
        assert_eq!(server.requests(), ["/d", "/k"]);
    }

    #[tokio::test]
    async fn prefetches_take_a_few_places_and_give_them_back() {
        let authority = Authority::new();
        let server = Server::start(authority.leaf("127.0.0.1"), |r| good(r.path, |path| r.url(path))).await;
        let issuers = issuers(&authority, &server, TrustSettings::default());
        issuers.prefetch(Clock::fixed(NOW));
        let all = u32::try_from(MAX_BACKGROUND).unwrap();
        while server.requests().len() < 2 {
            tokio::task::yield_now().await;
        }
        drop(issuers.background.acquire_many(all).await.unwrap());
        assert_eq!(issuers.keys(ISSUER, NOW).await.unwrap().keys.len(), 1);
        assert_eq!(server.requests(), ["/d", "/k"]);
    }

    #[tokio::test]
    async fn fetches_are_counted_once_and_across_renewals() {
        let authority = Authority::new();
        let server = Server::start(authority.leaf("127.0.0.1"), |r| good(r.path, |path| r.url(path))).await;
        let settings = TrustSettings::default();
        let issuers = issuers(&authority, &server, settings.clone());
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
        let renewed = issuers.renewed([ISSUER].into_iter(), &[], &settings, &overrides);
        assert!(renewed.keys(ISSUER, NOW).await.is_err());
        assert_eq!(reading(&renewed, NOW), (0, None, 1, 1));
        assert_eq!(reading(&issuers, NOW + 7), (1, Some(7), 0, 0));
        assert!(issuers.renewed([].into_iter(), &[], &settings, &overrides).take_readings(NOW).is_empty());
    }

    #[tokio::test]
    async fn only_named_and_enabled_issuers_are_fetched() {
        let entries = [entry("url = \"https://off.example\"\nenabled = false\n")];
        let named = ["https://off.example"].into_iter();
        let issuers = Issuers::new(named, &entries, &TrustSettings::default(), &Overrides::new());
        for unknown in ["https://off.example", "https://off.example/", ISSUER, "", "file:///etc/passwd"] {
            assert_eq!(fault(issuers.keys(unknown, NOW).await), Fault::Unknown, "{unknown}");
        }
    }

    #[tokio::test]
    async fn inner_addresses_need_an_entry_and_metadata_has_none() {
        let (inner, metadata) = ("https://127.0.0.1:1", "https://169.254.169.254");
        let named = [inner, metadata].into_iter();
        let issuers = Issuers::new(named, &[], &TrustSettings::default(), &Overrides::new());
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
            Issuers::new(named, &entries, &TrustSettings::default(), &Overrides::new()).keys(&url, NOW).await
        };
        assert_eq!(fault(ask(&text).await), Fault::Keys(Cause::Address));
        assert_eq!(server.requests(), ["/.well-known/openid-configuration"]);
        assert_eq!(other.connections(), 0);
        let listed = format!("{text}private_hosts = [\"localhost:{}\"]\n", other.port);
        assert_eq!(ask(&listed).await.unwrap().keys.len(), 1);
    }

    async fn ask(url: &str, text: &str) -> Result<Held, Unavailable> {
        let entries = [entry(text)];
        Issuers::new([url].into_iter(), &entries, &TrustSettings::default(), &Overrides::new())
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
        assert_eq!(ask(&url, &text).await.unwrap().keys.len(), 1);
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
            Issuers::new([ISSUER].into_iter(), &entries, &TrustSettings::default(), &Overrides::new());
        assert!(issuers.by_url.is_empty());
        assert_eq!(issuers.keys(ISSUER, NOW).await.unwrap().keys.len(), 1);
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
            Issuers::new([url.as_str()].into_iter(), &entries, &TrustSettings::default(), &Overrides::new());
        assert!(issuers.keys(&url, NOW).await.is_ok());
        std::fs::write(&token, " two ").unwrap();
        assert!(issuers.keys(&url, NOW + 24 * 3600).await.is_ok());
        assert_eq!(
            std::mem::take(&mut *seen.lock().unwrap()),
            [(server.port, bearer("one")), (server.port, bearer("two"))]
        );
        for unusable in ["", "\n", "a\u{7f}b"] {
            std::fs::write(&token, unusable).unwrap();
            let issuers = Issuers::new(
                [url.as_str()].into_iter(),
                &entries,
                &TrustSettings::default(),
                &Overrides::new(),
            );
            let failed = fault(issuers.keys(&url, NOW).await);
            assert_eq!(failed, Fault::Keys(Cause::Bearer(std::io::ErrorKind::Other)));
        }
        assert!(seen.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn an_issuer_that_is_taken_away_before_its_turn_is_not_asked() {
        let authority = Authority::new();
        let server = Server::start(authority.leaf("127.0.0.1"), |r| good(r.path, |path| r.url(path))).await;
        let settings = TrustSettings::default();
        let issuers = issuers(&authority, &server, settings.clone());
        let places = issuers.background.acquire_many(16).await.unwrap();
        issuers.prefetch(Clock::fixed(NOW));
        let same = Overrides::from([(ISSUER.to_owned(), issuers.by_url[ISSUER].source.clone())]);
        let gone = issuers.renewed(std::iter::empty(), &[], &settings, &same);
        let background = Arc::clone(&issuers.background);
        // It queues for a place.
        tokio::task::yield_now().await;
        drop(places);
        drop(issuers);
        // The queue has been gone through when its places can all be had behind it.
        drop(background.acquire_many(16).await.unwrap());
        assert!(server.connections() == 0 && gone.by_url.is_empty());

        let again = gone.renewed([ISSUER].into_iter(), &[], &settings, &same);
        again.prefetch(Clock::fixed(NOW));
        again.prefetch(Clock::fixed(NOW));
        while again.background.available_permits() < 16 || server.requests().len() < 2 {
            tokio::task::yield_now().await;
        }
        again.prefetch(Clock::fixed(NOW));
        assert_eq!(server.requests(), ["/d", "/k"]);
    }
}

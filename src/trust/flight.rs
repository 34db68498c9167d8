//! One issuer: the set at hand, and the one fetch that goes on.
//!
//! Requests use the set at hand and wait only where there is none, or where it doesn't explain what they present. Whoever
//! needs a fetch joins the one that goes on; nothing is locked while it does.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, timeout};

use super::documents::{self, Target};
use super::egress::Egress;
use super::entry::Source;
use super::fault::{Fault, Unavailable};
use super::freshness::{self, Age, has_passed};
use super::holdings::{Failure, Fetched, FlightLog, Holdings, Landing};
use super::resolver::System;
use super::settings::TrustSettings;
use super::state::Place;
use crate::clock::{UnixTime, random};
use crate::domain::keyset::KeySet;

/// An issuer's keys as a request gets them.
#[derive(Debug)]
pub struct Held {
    /// The keys.
    pub keys: Arc<KeySet>,
    /// Whether the request has waited for the network. It waits once.
    waited: bool,
}

impl Held {
    /// Keys that are as new as they can be.
    pub(super) fn given(keys: &Arc<KeySet>) -> Self {
        Self { keys: Arc::clone(keys), waited: false }
    }
}

/// What the set at hand doesn't explain, so that a newer one may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It doesn't list the key id: the issuer may have added a key.
    UnknownKey,
    /// The key of this id didn't sign: some issuers replace a key under its id.
    Signature,
}

/// Who a fetch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Keys that are asked for, now or a while ago.
    Use,
    /// The first one, before anybody asks: when it fails, nobody has been refused.
    Prefetch,
}

/// One issuer under the settings that hold now.
pub(super) struct Issuer {
    pub(super) target: Target,
    /// What `target` and `egress` were made of.
    pub(super) source: Source,
    pub(super) egress: Arc<Egress<System>>,
    pub(super) settings: Arc<TrustSettings>,
    pub(super) holdings: Arc<Holdings>,
}

// What requests ask

impl Issuer {
    /// The keys at hand, or those of a fetch that this request starts or joins. Past the soft TTL nobody waits: a healthy
    /// issuer gives a newer set soon, and one at fault must not stop what it has signed before the hard TTL.
    pub(super) async fn keys(self: &Arc<Self>, now: UnixTime) -> Result<Held, Unavailable> {
        self.holdings.note_use(now);
        if let Some((keys, age)) = self.at_hand(now) {
            self.holdings.requests.served.fetch_add(1, Ordering::Relaxed);
            if age == Age::Stale {
                self.refresh(now, None);
            }
            return Ok(Held { keys, waited: false });
        }
        self.holdings.requests.waited.fetch_add(1, Ordering::Relaxed);
        let _waiter = self.holdings.wait_with_others().ok_or(Fault::Slow)?;
        let landing = self.wait_for(self.join(now)).await.ok_or(Fault::Slow)?;
        let fetched = landing.ok_or(Fault::Interrupted)?.map_err(|failure| failure.fault)?;
        Ok(Held { keys: Arc::clone(fetched.published.keys()), waited: true })
    }

    /// A newer set than the one that left a doubt. `None` when there is none to be had, or not now: the doubt stands.
    pub(super) async fn newer(
        self: &Arc<Self>,
        held: &Held,
        doubt: Doubt,
        now: UnixTime,
    ) -> Option<Arc<KeySet>> {
        if held.waited {
            return None;
        }
        let replaced = || {
            let (keys, _) = self.at_hand(now)?;
            (!Arc::ptr_eq(&keys, &held.keys)).then_some(keys)
        };
        if let Some(keys) = replaced() {
            return Some(keys);
        }
        let _waiter = self.holdings.wait_with_others()?;
        self.wait_for(self.join_in_doubt(doubt, now)?).await;
        replaced()
    }

    /// `None` when it goes on for longer than a request may wait, the inner one when it ended without a result.
    async fn wait_for(&self, mut flight: watch::Receiver<Landing>) -> Option<Landing> {
        let landed = timeout(self.settings.request_wait, flight.wait_for(Option::is_some)).await.ok()?;
        Some(landed.ok().and_then(|landing| landing.clone()))
    }

    /// The set in the cache and its age, unless it is too old to be used.
    fn at_hand(&self, now: UnixTime) -> Option<(Arc<KeySet>, Age)> {
        let current = self.holdings.current.load();
        let fetched = current.as_ref()?;
        let age = freshness::age(&self.settings, fetched.published.advised(), fetched.at, now);
        (age != Age::Spent).then(|| (Arc::clone(fetched.published.keys()), age))
    }
}

// When a fetch is started

impl Issuer {
    /// The fetch that goes on, or the last one while its result holds, or a new one: a request that has no keys heeds no
    /// backoff.
    fn join(self: &Arc<Self>, now: UnixTime) -> watch::Receiver<Landing> {
        let mut log = self.holdings.log();
        if let Some(flight) = log.last.as_ref().filter(|flight| self.holds(flight, now)) {
            return flight.clone();
        }
        self.start(&mut log, Purpose::Use, None, now)
    }

    /// The same for a request that has keys and a doubt. `None` while its kind has to wait: tokens are cheap to make up,
    /// and must not become requests to the issuer.
    fn join_in_doubt(self: &Arc<Self>, doubt: Doubt, now: UnixTime) -> Option<watch::Receiver<Landing>> {
        let mut log = self.holdings.log();
        if let Some(flight) = log.going_on() {
            return Some(flight);
        }
        if log.failed_just_now() {
            return None;
        }
        let (last, interval) = match doubt {
            Doubt::UnknownKey => (&mut log.unknown_key, self.settings.unknown_kid_interval),
            Doubt::Signature => (&mut log.signature, self.settings.bad_signature_interval),
        };
        if last.is_some_and(|last| !has_passed(interval, last, now)) {
            return None;
        }
        *last = Some(now);
        Some(self.start(&mut log, Purpose::Use, None, now))
    }

    /// Starts a fetch that nobody waits for, unless one goes on or failures ask for a pause. Every request comes by here
    /// while an issuer fails, so that none waits for another: one is enough to look.
    fn refresh(self: &Arc<Self>, now: UnixTime, permit: Option<OwnedSemaphorePermit>) {
        let Some(mut log) = self.holdings.try_log() else { return };
        if log.going_on().is_none() && !log.pauses(now) {
            self.start(&mut log, Purpose::Use, permit, now);
        }
    }

    /// Whether a refresh is due although nobody asks just now.
    pub(super) fn is_due(&self, now: UnixTime) -> bool {
        if !freshness::in_use(self.holdings.used.load(Ordering::Relaxed), now) {
            return false;
        }
        let current = self.holdings.current.load();
        current.as_ref().is_none_or(|fetched| {
            let soft_ttl = freshness::soft_ttl(&self.settings, fetched.published.advised());
            has_passed(freshness::jittered(soft_ttl, fetched.dice), fetched.at, now)
        })
    }

    /// Starts the refresh that is due. The permit is given back when it has ended, or was not needed.
    pub(super) fn tend(self: &Arc<Self>, now: UnixTime, permit: OwnedSemaphorePermit) {
        self.refresh(now, Some(permit));
    }

    /// Fetches before anybody asks, unless a fresh set is at hand.
    pub(super) fn prefetch(self: &Arc<Self>, now: UnixTime, permit: OwnedSemaphorePermit) {
        let mut log = self.holdings.log();
        let fresh = self.at_hand(now).is_some_and(|(_, age)| age == Age::Fresh);
        if !fresh && log.going_on().is_none() {
            self.start(&mut log, Purpose::Prefetch, Some(permit), now);
        }
    }

    fn holds(&self, flight: &watch::Receiver<Landing>, now: UnixTime) -> bool {
        match &*flight.borrow() {
            // A task that ended without a result has dropped its end.
            None => flight.has_changed().is_ok(),
            // It may have ended after this request looked into the cache.
            Some(Ok(_)) => self.at_hand(now).is_some(),
            Some(Err(failure)) => failure.holds(),
        }
    }

    /// In a task of its own: a client that goes away takes nothing from those who wait with it.
    fn start(
        self: &Arc<Self>,
        log: &mut FlightLog,
        purpose: Purpose,
        permit: Option<OwnedSemaphorePermit>,
        now: UnixTime,
    ) -> watch::Receiver<Landing> {
        let (landing, flight) = watch::channel(None);
        let issuer = Arc::clone(self);
        tokio::spawn(async move {
            let landed = issuer.fetch(purpose, now).await;
            let fetched = landed.as_ref().ok().cloned();
            landing.send_replace(Some(landed));
            drop(permit);
            if let Some(fetched) = fetched {
                issuer.save(fetched).await;
            }
        });
        log.last = Some(flight.clone());
        flight
    }
}

// The fetch itself

impl Issuer {
    async fn fetch(&self, purpose: Purpose, now: UnixTime) -> Result<Arc<Fetched>, Failure> {
        let (issuer, holdings, started) = (&self.target.issuer, &self.holdings, Instant::now());
        let before = holdings.current.load_full();
        let before = before.as_ref().map(|before| &before.published);
        match documents::fetch(&*self.egress, &self.target, self.settings.fetch_deadline, before).await {
            Ok(published) => {
                let (keys, skipped) = (published.keys().len(), published.skipped());
                tracing::info!(%issuer, keys, skipped, "fetched an issuer's keys");
                holdings.fetches.succeeded.fetch_add(1, Ordering::Relaxed);
                let [dice] = random();
                let fetched = Arc::new(Fetched { published, at: now, dice });
                // Whole: a key that is not in the new set verifies nothing from here on.
                holdings.current.store(Some(Arc::clone(&fetched)));
                holdings.log().failures = 0;
                Ok(fetched)
            }
            Err(fault) => {
                tracing::warn!(%issuer, %fault, "could not fetch an issuer's keys");
                holdings.fetches.failed.fetch_add(1, Ordering::Relaxed);
                if purpose == Purpose::Prefetch {
                    return Err(Failure { fault, at: None });
                }
                let spent = i64::try_from(started.elapsed().as_secs()).unwrap_or(i64::MAX);
                holdings.log().note_failure(now.saturating_add(spent));
                Err(Failure { fault, at: Some(Instant::now()) })
            }
        }
    }

    pub(super) fn place(&self) -> Option<Place> {
        let folder = self.settings.state_path.as_deref()?;
        Some(Place::new(folder, &self.target.issuer, &self.source))
    }

    /// Keeps the set for a restart. On a thread that may wait, after those who wait have their keys.
    async fn save(self: Arc<Self>, fetched: Arc<Fetched>) {
        let Some(place) = self.place() else { return };
        let written = tokio::task::spawn_blocking(move || {
            let mut saved = self.holdings.saved.lock().unwrap_or_else(PoisonError::into_inner);
            // A thread that comes late must not put an older set in the place of a newer one.
            if *saved > fetched.at {
                return;
            }
            *saved = fetched.at;
            if let Err(error) = place.save(&fetched.published, fetched.at) {
                let (issuer, file) = (&self.target.issuer, place.file());
                tracing::warn!(%issuer, file = %file.display(), %error, "could not keep an issuer's keys for a restart");
            }
        });
        // A thread that broke has said so itself.
        let _ = written.await;
    }

    /// Takes the set that was kept, if it is of this source. How old it may be, its use decides. Waits for the disk.
    pub(super) fn restore(&self) {
        let Some(place) = self.place() else { return };
        let (issuer, file) = (&self.target.issuer, place.file());
        match place.load() {
            Ok(Some((published, at))) => {
                tracing::info!(%issuer, keys = published.keys().len(), "an issuer's keys were kept");
                let [dice] = random();
                self.holdings.current.store(Some(Arc::new(Fetched { published, at, dice })));
            }
            Ok(None) => {}
            Err(error) => {
                let file = file.display();
                tracing::warn!(%issuer, %file, %error, "an issuer's kept keys are damaged and not used");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;
    use std::time::Duration;

    use tokio::sync::Semaphore;
    use tokio::task::JoinSet;

    use super::super::egress::{PrivateHosts, Roots};
    use super::super::fault::Cause;
    use super::super::holdings::HOLD;
    use super::super::testing::{Authority, GOOD_KEYS, Reply, Server};
    use super::*;

    const NOW: UnixTime = 1_800_000_000;
    const HOUR: i64 = 3600;

    /// One issuer whose key set is what the test says, fetched without discovery.
    struct Scene {
        server: Server,
        reply: Arc<Mutex<Reply>>,
        issuer: Arc<Issuer>,
    }

    /// So many keys.
    fn keys(count: usize) -> String {
        let key = GOOD_KEYS.trim_start_matches("{\"keys\":[").trim_end_matches("]}");
        let keys: Vec<_> = (1..=count).map(|id| key.replace("\"1\"", &format!("\"{id}\""))).collect();
        format!("{{\"keys\":[{}]}}", keys.join(","))
    }

    fn failing() -> Reply {
        Reply::of(&["HTTP/1.1 503 Busy"], b"")
    }

    fn with(headers: &[&str]) -> Reply {
        Reply::of(&[&["HTTP/1.1 200 OK"], headers].concat(), keys(1).as_bytes())
    }

    impl Scene {
        async fn new(settings: TrustSettings) -> Self {
            let reply = Arc::new(Mutex::new(Reply::ok(&keys(1))));
            let shown = Arc::clone(&reply);
            Self::answering(settings, reply, move |_| shown.lock().unwrap().clone()).await
        }

        /// Answers 304 to who has `version` already.
        async fn versioned(header: &str, version: &'static str) -> Self {
            let reply = Arc::new(Mutex::new(with(&[header, "cache-control: max-age=1200"])));
            let shown = Arc::clone(&reply);
            Self::answering(TrustSettings::default(), reply, move |condition| match condition {
                Some(known) if known == version => Reply::of(&["HTTP/1.1 304 Not Modified"], b""),
                _ => shown.lock().unwrap().clone(),
            })
            .await
        }

        async fn answering(
            settings: TrustSettings,
            reply: Arc<Mutex<Reply>>,
            answer: impl Fn(Option<&str>) -> Reply + Send + Sync + 'static,
        ) -> Self {
            let authority = Authority::new();
            let server = Server::start(authority.leaf("127.0.0.1"), move |r| answer(r.condition)).await;
            let mut private_hosts = PrivateHosts::default();
            private_hosts.add(&format!("127.0.0.1:{}", server.port)).unwrap();
            let (jwks_url, roots) = (Some(server.url("/k")), vec![authority.certificate()]);
            let source = Source { jwks_url, roots, private_hosts, ..Source::default() };
            let issuer = Arc::new(issuer(&source, settings));
            Self { server, reply, issuer }
        }

        fn publish(&self, reply: Reply) {
            *self.reply.lock().unwrap() = reply;
        }

        fn fetches(&self) -> usize {
            self.server.requests().len()
        }

        async fn keys(&self, now: UnixTime) -> Result<Held, Fault> {
            self.issuer.keys(now).await.map_err(|unavailable| unavailable.fault)
        }

        /// How many keys a request gets.
        async fn len(&self, now: UnixTime) -> Result<usize, Fault> {
            self.keys(now).await.map(|held| held.keys.len())
        }

        /// Waits until the last fetch has ended.
        async fn landed(&self) {
            let flight = self.issuer.holdings.log().last.clone();
            let mut flight = flight.expect("there was one");
            let _ = flight.wait_for(Option::is_some).await.unwrap();
        }

        async fn newer(&self, doubt: Doubt, held: &Held, now: UnixTime) -> Option<usize> {
            self.issuer.newer(held, doubt, now).await.map(|keys| keys.len())
        }

        async fn tend(&self, now: UnixTime) -> bool {
            if !self.issuer.is_due(now) {
                return false;
            }
            let fetches = self.fetches();
            self.issuer.tend(now, permit().await);
            self.landed().await;
            self.fetches() > fetches
        }
    }

    fn issuer(source: &Source, settings: TrustSettings) -> Issuer {
        let target = Target::new("https://issuer.example", None, source.jwks_url.as_deref()).unwrap();
        let roots = Arc::new(Roots::own(&source.roots));
        let connect = settings.connect_timeout;
        let egress = Egress::new(roots, source.private_hosts.clone(), connect, Arc::new(System));
        let (egress, settings, holdings) = (Arc::new(egress), Arc::new(settings), Arc::default());
        Issuer { target, source: source.clone(), egress, settings, holdings }
    }

    async fn permit() -> OwnedSemaphorePermit {
        Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap()
    }

    #[tokio::test]
    async fn past_the_soft_ttl_requests_get_the_set_at_hand_while_one_fetch_goes_on() {
        let scene = Scene::new(TrustSettings::default()).await;
        let first = scene.keys(NOW).await.unwrap();
        assert!(Arc::ptr_eq(&first.keys, &scene.keys(NOW + 599).await.unwrap().keys));
        assert_eq!(scene.fetches(), 1);

        let gate = Arc::new(Semaphore::new(0));
        scene.publish(Reply::ok(&keys(2)).behind(&gate));
        for _ in 0..20 {
            assert!(Arc::ptr_eq(&first.keys, &scene.keys(NOW + 600).await.unwrap().keys));
        }
        gate.add_permits(1);
        scene.landed().await;
        assert_eq!((scene.len(NOW + 600).await, scene.fetches()), (Ok(2), 2));
        // A clock that was set back counts like one that went on.
        assert_eq!(scene.len(NOW).await, Ok(2));
        gate.add_permits(1);
        scene.landed().await;
        assert_eq!(scene.fetches(), 3);
    }

    #[tokio::test]
    async fn the_soft_ttl_is_what_the_issuer_advises() {
        for (headers, seconds) in [
            (&["cache-control: max-age=1800", "age: 300"][..], 1500),
            (&["cache-control: max-age=1"][..], 300),
            (&["cache-control: no-store"][..], 300),
            (&["cache-control: max-age=604800"][..], 3600),
            (&["x: y"][..], 600),
        ] {
            let scene = Scene::new(TrustSettings::default()).await;
            scene.publish(with(headers));
            scene.keys(NOW).await.unwrap();
            scene.keys(NOW + seconds - 1).await.unwrap();
            assert!(scene.issuer.holdings.log().going_on().is_none(), "{headers:?}");
            scene.keys(NOW + seconds).await.unwrap();
            assert!(scene.issuer.holdings.log().going_on().is_some(), "{headers:?}");
        }
    }

    #[tokio::test]
    async fn an_issuer_at_fault_is_believed_to_the_hard_ttl_and_unavailable_from_then_on() {
        let scene = Scene::new(TrustSettings::default()).await;
        scene.keys(NOW).await.unwrap();
        scene.publish(failing());
        assert_eq!(scene.len(NOW + 24 * HOUR - 1).await, Ok(1));
        scene.landed().await;
        let failed = Err(Fault::Keys(Cause::Status(503)));
        assert_eq!(scene.len(NOW + 24 * HOUR - 1).await, Ok(1));
        assert_eq!(scene.len(NOW + 24 * HOUR).await, failed);
        scene.publish(Reply::ok(&keys(2)));
        // It failed just now.
        assert_eq!(scene.len(NOW + 24 * HOUR).await, failed);
        tokio::time::pause();
        tokio::time::advance(HOLD).await;
        tokio::time::resume();
        assert_eq!((scene.len(NOW + 24 * HOUR).await, scene.fetches()), (Ok(2), 3));
    }

    #[tokio::test]
    async fn neither_an_empty_nor_a_broken_set_replaces_a_good_one() {
        let scene = Scene::new(TrustSettings::default()).await;
        scene.keys(NOW).await.unwrap();
        let broken = ["{\"keys\":[]}", "{}", "<html>", "{\"keys\":[{\"kty\":\"AKP\"}]}"];
        for (round, body) in (1..).zip(broken) {
            scene.publish(Reply::ok(body));
            let now = NOW + round * HOUR;
            assert_eq!(scene.len(now).await, Ok(1), "{body}");
            scene.landed().await;
            assert_eq!((scene.len(now).await, scene.fetches()), (Ok(1), 1 + usize::try_from(round).unwrap()));
        }
    }

    #[tokio::test]
    async fn without_keys_a_failure_holds_for_a_second_and_no_longer() {
        let scene = Scene::new(TrustSettings::default()).await;
        scene.publish(failing());
        let failed = Err(Fault::Keys(Cause::Status(503)));
        for round in 1..=5 {
            for _ in 0..10 {
                assert_eq!(scene.len(NOW).await, failed);
            }
            assert_eq!(scene.fetches(), round);
            tokio::time::pause();
            tokio::time::advance(HOLD).await;
            tokio::time::resume();
        }
        scene.publish(Reply::ok(&keys(1)));
        assert_eq!(scene.len(NOW).await, Ok(1));
    }

    #[tokio::test]
    async fn a_request_waits_no_longer_than_it_may_and_the_fetch_goes_on_without_it() {
        let gate = Arc::new(Semaphore::new(0));
        let settings = TrustSettings { request_wait: Duration::from_millis(100), ..TrustSettings::default() };
        let scene = Scene::new(settings).await;
        scene.publish(Reply::ok(&keys(1)).behind(&gate));
        assert_eq!(scene.len(NOW).await, Err(Fault::Slow));
        assert_eq!(scene.len(NOW).await, Err(Fault::Slow));
        gate.add_permits(1);
        scene.landed().await;
        let held = scene.keys(NOW).await.unwrap();
        assert_eq!(scene.fetches(), 1);
        // Nor when it has a doubt: then it stands.
        scene.publish(Reply::ok(&keys(2)).behind(&gate));
        assert_eq!(scene.newer(Doubt::UnknownKey, &held, NOW).await, None);
        gate.add_permits(1);
        scene.landed().await;
        assert_eq!((scene.newer(Doubt::UnknownKey, &held, NOW).await, scene.fetches()), (Some(2), 2));
    }

    #[tokio::test]
    async fn an_unknown_key_is_looked_for_at_once_and_then_every_twenty_seconds() {
        let scene = Scene::new(TrustSettings::default()).await;
        let first = scene.keys(NOW).await.unwrap();
        assert!(first.waited);
        assert_eq!(scene.newer(Doubt::UnknownKey, &first, NOW).await, None, "one wait a request");
        let held = scene.keys(NOW).await.unwrap();
        assert_eq!((scene.fetches(), held.waited), (1, false));

        for (after, fetches) in [(0, 2), (0, 2), (19, 2), (20, 3), (39, 3), (45, 4), (64, 4), (65, 5)] {
            assert_eq!(scene.newer(Doubt::UnknownKey, &held, NOW + after).await, None);
            assert_eq!(scene.fetches(), fetches, "{after}");
        }
        scene.publish(Reply::ok(&keys(2)));
        assert_eq!(scene.newer(Doubt::UnknownKey, &held, NOW + 85).await, Some(2));
        // Who still holds the old set needs no fetch.
        assert_eq!(scene.newer(Doubt::Signature, &held, NOW + 85).await, Some(2));
        assert_eq!(scene.fetches(), 6);
    }

    #[tokio::test]
    async fn a_flood_of_unknown_keys_is_one_fetch_and_evicts_nothing() {
        let scene = Arc::new(Scene::new(TrustSettings::default()).await);
        scene.keys(NOW).await.unwrap();
        let mut flood = JoinSet::new();
        for _ in 0..200 {
            let scene = Arc::clone(&scene);
            flood.spawn(async move {
                let held = scene.keys(NOW).await.unwrap();
                scene.newer(Doubt::UnknownKey, &held, NOW).await
            });
        }
        assert!(flood.join_all().await.iter().all(Option::is_none));
        assert_eq!((scene.len(NOW).await, scene.fetches()), (Ok(1), 2));
    }

    #[tokio::test]
    async fn a_bad_signature_is_doubted_once_in_five_minutes_beside_unknown_keys() {
        let scene = Scene::new(TrustSettings::default()).await;
        scene.keys(NOW).await.unwrap();
        let held = scene.keys(NOW).await.unwrap();
        for (after, fetches) in [(0, 2), (299, 2), (300, 3), (599, 3)] {
            assert_eq!(scene.newer(Doubt::Signature, &held, NOW + after).await, None);
            assert_eq!(scene.fetches(), fetches, "{after}");
        }
        assert_eq!(scene.newer(Doubt::UnknownKey, &held, NOW + 599).await, None);
        assert_eq!(scene.fetches(), 4);
    }

    #[tokio::test]
    async fn a_doubt_does_not_press_an_issuer_that_fails() {
        let scene = Scene::new(TrustSettings::default()).await;
        scene.keys(NOW).await.unwrap();
        let held = scene.keys(NOW).await.unwrap();
        scene.publish(failing());
        assert_eq!(scene.newer(Doubt::UnknownKey, &held, NOW).await, None);
        // Within a second not for another reason either, and that one has not been spent.
        assert_eq!(scene.newer(Doubt::Signature, &held, NOW).await, None);
        assert_eq!((scene.fetches(), scene.len(NOW).await), (2, Ok(1)));
        assert!(scene.issuer.holdings.log().signature.is_none());
    }

    #[tokio::test]
    async fn issuers_in_use_are_refreshed_before_the_soft_ttl_and_others_are_left_alone() {
        let scene = Scene::new(TrustSettings::default()).await;
        assert!(!scene.issuer.is_due(NOW), "nobody has asked");
        scene.keys(NOW).await.unwrap();
        assert!(!scene.tend(NOW + 539).await);
        assert!(scene.tend(NOW + 600).await);
        let mut now = NOW + 600;
        while scene.tend(now + 600).await {
            now += 600;
        }
        assert_eq!(now + 600, NOW + 24 * HOUR);
        assert_eq!(scene.len(now).await, Ok(1));
        assert!(scene.tend(now + 600).await);
    }

    #[tokio::test]
    async fn failures_space_refreshes_alone() {
        let scene = Scene::new(TrustSettings::default()).await;
        scene.keys(NOW).await.unwrap();
        scene.publish(failing());
        let tried: Vec<_> = {
            let mut tried = Vec::new();
            for after in 0..400 {
                if scene.tend(NOW + 600 + after).await {
                    tried.push(after);
                }
            }
            tried
        };
        let pauses: Vec<_> = tried.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(tried[0], 0);
        for (pause, middle) in pauses.iter().zip([1, 2, 4, 8, 16, 32, 60, 60]) {
            assert!((middle * 8 / 10..=middle * 12 / 10 + 1).contains(pause), "{pauses:?}");
        }
        // Whoever has no keys does not wait for the pause to end.
        scene.publish(Reply::ok(&keys(2)));
        tokio::time::pause();
        tokio::time::advance(HOLD).await;
        tokio::time::resume();
        assert_eq!(scene.len(NOW + 24 * HOUR).await, Ok(2));
        assert!(scene.tend(NOW + 24 * HOUR + 600).await, "a success ends the pauses");
    }

    #[tokio::test]
    async fn a_failed_prefetch_leaves_nothing_behind() {
        let scene = Scene::new(TrustSettings::default()).await;
        scene.publish(failing());
        scene.issuer.prefetch(NOW, permit().await);
        scene.landed().await;
        scene.publish(Reply::ok(&keys(1)));
        assert_eq!((scene.len(NOW).await, scene.fetches()), (Ok(1), 2));
        scene.issuer.prefetch(NOW + 599, permit().await);
        assert_eq!(scene.fetches(), 2);
    }

    #[tokio::test]
    async fn what_has_not_changed_is_not_sent_again_and_is_fresh_again() {
        for (header, version) in [
            ("etag: \"v1\"", "\"v1\""),
            ("etag: W/\"v1\"", "W/\"v1\""),
            ("last-modified: Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:00 GMT"),
        ] {
            let scene = Scene::versioned(header, version).await;
            let first = scene.keys(NOW).await.unwrap();
            scene.keys(NOW + 1200).await.unwrap();
            scene.landed().await;
            let second = scene.keys(NOW + 2399).await.unwrap();
            assert!(Arc::ptr_eq(&first.keys, &second.keys), "{header}");
            assert_eq!((scene.fetches(), scene.issuer.holdings.log().failures), (2, 0));
        }
    }

    #[tokio::test]
    async fn a_304_that_nobody_asked_for_is_a_failure() {
        let scene = Scene::new(TrustSettings::default()).await;
        scene.publish(Reply::of(&["HTTP/1.1 304 Not Modified"], b""));
        assert_eq!(scene.len(NOW).await, Err(Fault::Keys(Cause::Status(304))));
    }

    fn kept_in(folder: &Path) -> TrustSettings {
        TrustSettings { state_path: Some(folder.join("issuers")), ..TrustSettings::default() }
    }

    #[tokio::test]
    async fn a_restart_in_an_outage_begins_with_the_set_that_was_kept() {
        let folder = tempfile::tempdir().unwrap();
        let scene = Scene::new(kept_in(folder.path())).await;
        let fetched = scene.issuer.fetch(Purpose::Use, NOW).await.unwrap();
        Arc::clone(&scene.issuer).save(fetched).await;
        scene.publish(failing());

        let restarted = |source: &Source| {
            let issuer = Arc::new(issuer(source, kept_in(folder.path())));
            issuer.restore();
            issuer
        };
        let issuer = restarted(&scene.issuer.source);
        for now in [NOW, NOW + 24 * HOUR - 1] {
            assert_eq!(issuer.keys(now).await.unwrap().keys.len(), 1);
        }
        // By the wall clock, however short it has been running.
        assert!(issuer.keys(NOW + 24 * HOUR).await.is_err());
        let elsewhere = Source { jwks_url: Some(scene.server.url("/other")), ..scene.issuer.source.clone() };
        assert!(restarted(&elsewhere).keys(NOW).await.is_err());
        std::fs::write(scene.issuer.place().unwrap().file(), "{").unwrap();
        assert!(restarted(&scene.issuer.source).keys(NOW).await.is_err());
    }

    #[tokio::test]
    async fn an_older_set_never_takes_the_place_of_a_newer_one() {
        let folder = tempfile::tempdir().unwrap();
        let scene = Scene::new(kept_in(folder.path())).await;
        let older = scene.issuer.fetch(Purpose::Use, NOW).await.unwrap();
        scene.publish(Reply::ok(&keys(2)));
        let newer = scene.issuer.fetch(Purpose::Use, NOW + 1).await.unwrap();
        for fetched in [newer, older] {
            Arc::clone(&scene.issuer).save(fetched).await;
        }
        let (kept, at) = scene.issuer.place().unwrap().load().unwrap().unwrap();
        assert_eq!((kept.keys().len(), at), (2, NOW + 1));
    }
}

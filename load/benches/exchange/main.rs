//! Micro-benchmarks of the exchange path: `cargo bench -p ficus-load`. The spine is measured whole, with its audit line
//! written and its metrics counted, but without HTTP; the parts are measured alone beneath it.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    dead_code,
    reason = "a benchmark panics to fail; parts are shared with another"
)]

mod spine;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use divan::Bencher;
use ficus::clock::Clock;
use ficus::domain::assertion::{Compact, UnverifiedAssertion};
use ficus::domain::authorize::authorize;
use ficus::domain::credential::Identity;
use ficus::domain::keyset::KeySet;
use ficus::domain::matching;
use ficus::domain::policy::IssuerPolicy;
use ficus::domain::resource::Target;
use ficus::domain::tenant::Tenant;
use ficus::domain::verify::Verified;
use spine::{AUDIENCE, ES256, ISSUER, RS256, SUBJECT, Signer, Spine};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATIONS: divan::AllocProfiler<mimalloc::MiMalloc> = divan::AllocProfiler::new(mimalloc::MiMalloc);

const LIMIT: usize = 16 << 10;
/// Distinct assertions: made before the clock starts, used in turn. With caches off, a second time costs what the first did.
const POOL: usize = 2000;

fn main() {
    divan::main();
}

// The whole spine

/// Exchanges in turn, of `pool` assertions for a resource.
fn exchanges(bencher: Bencher, tokens: &str, resource: &str, pool: usize, subject: &str) {
    let runtime = Runtime::new().unwrap();
    let spine = runtime.block_on(async { Spine::new(tokens) });
    let requests: Vec<_> =
        (0..pool).map(|number| Spine::request(&spine.signer.assertion(number, subject), resource)).collect();
    let next = AtomicUsize::new(0);
    bencher.bench_local(|| {
        let request = &requests[next.fetch_add(1, Ordering::Relaxed) % pool];
        let answer = runtime.block_on(spine.ask(request));
        assert_eq!(answer.is_ok(), subject == SUBJECT);
    });
}

const NO_CACHES: &str = "reuse = false\nassertion_cache = \"0B\"";

#[divan::bench(args = [RS256, ES256])]
fn fresh(bencher: Bencher, resource: &str) {
    exchanges(bencher, NO_CACHES, resource, 1, SUBJECT);
}

/// Every one of a pool of assertions for the first time, into caches that fill up meanwhile.
#[divan::bench(args = [RS256, ES256], sample_count = 20, sample_size = 100)]
fn fresh_into_the_caches(bencher: Bencher, resource: &str) {
    exchanges(bencher, "", resource, POOL, SUBJECT);
}

#[divan::bench(args = [RS256, ES256])]
fn repeated(bencher: Bencher, resource: &str) {
    exchanges(bencher, "", resource, 1, SUBJECT);
}

/// The signature need not be checked again, the token is new.
#[divan::bench(args = [RS256, ES256])]
fn repeated_without_reuse(bencher: Bencher, resource: &str) {
    exchanges(bencher, "reuse = false", resource, 1, SUBJECT);
}

#[divan::bench]
fn wrong_subject(bencher: Bencher) {
    exchanges(bencher, NO_CACHES, RS256, 1, "somebody else");
}

#[divan::bench]
fn garbage(bencher: Bencher) {
    let runtime = Runtime::new().unwrap();
    let spine = runtime.block_on(async { Spine::new("") });
    let request = Spine::request(&"x".repeat(1400), RS256);
    bencher.bench_local(|| assert!(runtime.block_on(spine.ask(&request)).is_err()));
}

// Its parts

#[divan::bench]
fn parse(bencher: Bencher) {
    let assertion = Signer::new().assertion(1, SUBJECT);
    bencher.bench_local(|| UnverifiedAssertion::parse(Compact::new(&assertion, LIMIT).unwrap()).is_ok());
}

#[divan::bench]
fn verify(bencher: Bencher) {
    let (signer, policy, now) = (Signer::new(), IssuerPolicy::standard(ISSUER), Clock::system().now());
    let keys = Arc::new(KeySet::parse(signer.jwks().as_bytes()).unwrap().0);
    let assertion = signer.assertion(1, SUBJECT);
    let read = UnverifiedAssertion::parse(Compact::new(&assertion, LIMIT).unwrap()).unwrap();
    let candidate = read.admit(&policy).unwrap();
    bencher.bench_local(|| candidate.verify(&keys, None, now).is_ok());
}

/// What follows the signature, with an assertion whose signature holds.
fn verified(work: impl FnOnce(&Spine, (&Tenant, &Identity), &Verified<'_>)) {
    let runtime = Runtime::new().unwrap();
    let spine = runtime.block_on(async { Spine::new("") });
    let snapshot = spine.exchange.snapshot.load_full();
    let tenant = snapshot.directory.tenant(spine::TENANT).unwrap();
    let identity = tenant.identity(spine::CLIENT, spine::TENANT).unwrap();
    let (policy, now) = (IssuerPolicy::standard(ISSUER), Clock::system().now());
    let keys = Arc::new(KeySet::parse(spine.signer.jwks().as_bytes()).unwrap().0);
    let assertion = spine.signer.assertion(1, SUBJECT);
    let read = UnverifiedAssertion::parse(Compact::new(&assertion, LIMIT).unwrap()).unwrap();
    let candidate = read.admit(&policy).unwrap();
    let verified = candidate.verify(&keys, None, now).unwrap();
    assert_eq!(verified.claims().audiences(), [AUDIENCE]);
    work(&spine, (tenant, identity), &verified);
}

/// Match and roles: everything between the signature and the mint.
#[divan::bench]
fn find_and_authorize(bencher: Bencher) {
    let target = Target::from_resource(RS256).unwrap();
    verified(|_, (tenant, identity), verified| {
        bencher.bench_local(|| {
            let matched = matching::find(tenant, identity, verified).unwrap();
            authorize(&matched, &target, spine::TENANT).unwrap()
        });
    });
}

#[divan::bench(args = [RS256, ES256])]
fn mint(bencher: Bencher, resource: &str) {
    let target = Target::from_resource(resource).unwrap();
    verified(|spine, (tenant, identity), verified| {
        let matched = matching::find(tenant, identity, verified).unwrap();
        let grant = authorize(&matched, &target, spine::TENANT).unwrap();
        bencher.bench_local(|| spine.exchange.keys.mint(&grant, Clock::system().now(), [7; 16]).is_ok());
    });
}

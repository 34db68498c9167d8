//! Warm caches take nothing that was taken away for granted. Each test first shows that both caches serve the request: the
//! same token comes again. Then one thing changes, and the very next request shows it.

use std::sync::Arc;

use ficus::emulator::{Document, Fault};
use serde_json::json;

use crate::support::*;

const RECORDS: &str = "etc/directory/records.toml";
const CONFIG: &str = "etc/ficus.toml";
const HOUR: i64 = 3600;
const ASSERTIONS: &str = "ficus_cache_requests_total{cache=\"assertions\",result=\"hit\"}";
const TOKENS: &str = "ficus_cache_requests_total{cache=\"tokens\",result=\"hit\"}";

/// Caches, as filled as they can be.
struct Warm {
    world: Arc<World>,
    form: Form,
    token: String,
}

impl Warm {
    async fn of(world: &Arc<World>, form: Form) -> Self {
        let token = form.send(world).await.token().to_owned();
        let before = (world.metric(ASSERTIONS).await, world.metric(TOKENS).await);
        assert_eq!(form.send(world).await.token(), token);
        let after = (world.metric(ASSERTIONS).await, world.metric(TOKENS).await);
        assert_eq!(after, (before.0 + 1.0, before.1 + 1.0), "both caches served it");
        Self { world: Arc::clone(world), form, token }
    }

    async fn again(&self) -> Reply {
        self.form.send(&self.world).await
    }

    /// The next request gets a token, and not the one before.
    async fn is_minted_anew(&self) -> String {
        let token = self.again().await.token().to_owned();
        assert_ne!(token, self.token);
        token
    }
}

fn warm<F: Future>(plan: Plan, test: impl FnOnce(Warm) -> F) -> F::Output {
    own(plan, |world| async move {
        let form = world.request();
        test(Warm::of(&world, form).await).await
    })
}

/// The records after one change.
async fn change(world: &World, from: &str, to: &str) {
    let records = world.records();
    assert!(records.contains(from), "{from}");
    world.live(RECORDS, &records.replacen(from, to, 1)).await;
}

/// The configuration with more in the emulated GitHub's entry, which is its last table.
async fn tighten(world: &World, more: &str) {
    let text = std::fs::read_to_string(world.folder.path().join(CONFIG)).unwrap();
    world.live(CONFIG, &format!("{text}\n{more}\n")).await;
}

#[test]
fn an_identity_that_is_switched_off_or_removed_gets_nothing() {
    warm(Plan::default(), |warm| async move {
        let name = "name = \"id-deploy\"";
        change(&warm.world, name, &format!("{name}\nenabled = false")).await;
        warm.again().await.refused(401, "unauthorized_client", 7_000_112);
        change(&warm.world, CLIENT, "aaaaaaaa-0099-4a00-8000-000000000099").await;
        warm.again().await.refused(401, "unauthorized_client", 700_016);
        warm.world.live(RECORDS, &warm.world.records()).await;
        assert_eq!(warm.again().await.token(), warm.token);
    });
}

#[test]
fn a_credential_that_is_switched_off_or_removed_fits_nobody() {
    warm(Plan::default(), |warm| async move {
        let subject = "subject = \"repo:my--org/payments-service:ref:refs/heads/main\"";
        change(&warm.world, subject, &format!("{subject}\nenabled = false")).await;
        warm.again().await.refused(401, "invalid_client", 700_213);
        change(&warm.world, subject, "subject = \"somebody else\"").await;
        warm.again().await.refused(401, "invalid_client", 700_213);
        let other = format!("{subject}\naudiences = [\"api://other\"]");
        change(&warm.world, subject, &other).await;
        warm.again().await.refused(401, "invalid_client", 700_212);
        let short = format!("{subject}\nmax_token_lifetime = \"1m\"");
        change(&warm.world, subject, &short).await;
        warm.again().await.refused(401, "invalid_client", 70_023);
    });
}

#[test]
fn a_role_that_is_taken_or_given_shows_in_the_next_token() {
    warm(Plan::default(), |warm| async move {
        let role = "role = \"Key Vault Secrets User\"";
        change(&warm.world, role, "role = \"Key Vault Reader\"").await;
        let token = warm.is_minted_anew().await;
        let roles = verify(&warm.world, &token, VAULT).await.claims["roles"].clone();
        assert_eq!(roles, json!(["Contributor", "Key Vault Reader"]));
        let none = warm.world.records().replace(
            &format!("\nprincipal_id = \"{PRINCIPAL}\"\nrole"),
            "\nprincipal_id = \"bbbbbbbb-0099-4a00-8000-000000000099\"\nrole",
        );
        warm.world.live(RECORDS, &none).await;
        warm.again().await.refused(401, "invalid_grant", 501_051);
    });
}

#[test]
fn a_resource_that_changes_or_goes_changes_the_next_token() {
    warm(Plan::default(), |warm| async move {
        let vault = "identifier_uris = [\"https://vault.example\"]";
        change(&warm.world, vault, &format!("{vault}\nsigning_algorithm = \"ES256\"")).await;
        let token = warm.is_minted_anew().await;
        assert_eq!(verify(&warm.world, &token, VAULT).await.header["alg"], "ES256");
        change(&warm.world, vault, "identifier_uris = [\"https://other.example\"]").await;
        warm.again().await.refused(401, "invalid_resource", 500_011);
    });
}

#[test]
fn an_issuer_that_is_switched_off_counts_as_unnamed() {
    warm(Plan::default(), |warm| async move {
        tighten(&warm.world, "enabled = false").await;
        assert_eq!(warm.again().await.status, 401);
        assert!(warm.again().await.text().starts_with("AADSTS700211: "));
    });
}

#[test]
fn a_tighter_policy_of_the_issuer_holds_for_what_was_verified_before() {
    for (setting, code) in [("algorithms = [\"ES256\"]", 5_002_738), ("max_token_lifetime = \"1m\"", 70_023)]
    {
        warm(Plan::default(), |warm| async move {
            tighten(&warm.world, setting).await;
            warm.again().await.refused(401, "invalid_client", code);
        });
    }
}

async fn ask_with_unknown_key(world: &World) {
    let (mut header, claims) = world.honest();
    header["kid"] = "made-up".into();
    let stranger = world.request_with(&world.sign(&header, &claims));
    stranger.send(world).await.refused(401, "invalid_client", 7_000_272);
}

#[test]
fn a_key_that_its_issuer_has_taken_back_verifies_nothing() {
    warm(Plan::default(), |warm| async move {
        let github = warm.world.emulator.github();
        let other = json!({ "keys": [github.keys()[1].public_jwk()] });
        github.set_fault(Document::Jwks, Fault::Body(other.to_string().into()));
        // A made-up key id has the set fetched, and the old key is gone with the next request.
        ask_with_unknown_key(&warm.world).await;
        warm.again().await.refused(401, "invalid_client", 7_000_272);
    });
}

#[test]
fn a_set_that_is_fetched_again_unchanged_leaves_the_caches_warm() {
    warm(Plan::default(), |warm| async move {
        let github = warm.world.emulator.github();
        let fetches = github.requests(Document::Jwks);
        ask_with_unknown_key(&warm.world).await;
        assert_eq!(github.requests(Document::Jwks), fetches + 1);
        let hits = warm.world.metric(ASSERTIONS).await;
        assert_eq!(warm.again().await.token(), warm.token);
        assert_eq!(warm.world.metric(ASSERTIONS).await, hits + 1.0);
    });
}

#[test]
fn a_revoked_signing_key_has_signed_no_next_token() {
    warm(Plan::default(), |warm| async move {
        let checked = verify(&warm.world, &warm.token, VAULT).await;
        let kid = checked.header["kid"].as_str().unwrap().to_owned();
        let folder = warm.world.folder.path().join("data/keys");
        ficus::signing::revoke(&folder, &kid, &warm.world.clock).unwrap();
        let published = || async {
            let keys = warm.world.get(&format!("/{TENANT}/discovery/v2.0/keys")).await.body.to_string();
            (!keys.contains(&kid)).then_some(())
        };
        eventually("the key leaves the JWKS", published).await;
        let token = warm.is_minted_anew().await;
        assert_ne!(verify(&warm.world, &token, VAULT).await.header["kid"], json!(kid));
    });
}

#[test]
fn an_assertion_that_has_expired_gets_nothing_and_an_old_token_is_not_given_again() {
    own(Plan::default(), |world| async move {
        let start = world.clock.now();
        let (header, mut claims) = world.honest();
        (claims["iat"], claims["exp"]) = (json!(start), json!(start + 5 * HOUR));
        let warm = Warm::of(&world, world.request_with(&world.sign(&header, &claims))).await;
        // A token of an hour is given again for half of it, and `expires_in` tells what is left.
        world.clock.set(start + 1799);
        let reply = warm.again().await;
        assert_eq!((reply.token(), &reply.body["expires_in"]), (&*warm.token, &json!(3600 - 1799 - 1)));
        world.clock.set(start + 1800);
        assert_eq!(warm.again().await.token(), warm.token);
        world.clock.set(start + 1801);
        let second = warm.is_minted_anew().await;
        // Set back, the clock has not yet seen the second token begin.
        world.clock.set(start);
        let third = warm.again().await.token().to_owned();
        assert!(third != second, "a token of the future");
        world.clock.set(start + 5 * HOUR + 59);
        warm.again().await.token();
        world.clock.set(start + 5 * HOUR + 60);
        warm.again().await.refused(401, "invalid_client", 700_024);
    });
}

#[test]
fn a_forged_signature_on_a_cached_payload_is_refused() {
    warm(Plan::default(), |warm| async move {
        let fields = &warm.form.fields;
        let (_, assertion) = fields.iter().find(|(name, _)| name == "client_assertion").unwrap();
        let (payload, signature) = assertion.rsplit_once('.').unwrap();
        let mut other = warm.world.honest().1;
        other["jti"] = json!("another");
        let foreign = warm.world.sign(&warm.world.honest().0, &other);
        let swapped = if signature.starts_with('A') { 'B' } else { 'A' };
        for forged in [
            format!("{payload}.{}", foreign.rsplit_once('.').unwrap().1),
            format!("{payload}.{swapped}{}", &signature[1..]),
        ] {
            let form = warm.form.clone().with("client_assertion", &forged);
            form.send(&warm.world).await.refused(401, "invalid_client", 700_027);
            form.send(&warm.world).await.refused(401, "invalid_client", 700_027);
        }
        assert_eq!(warm.again().await.token(), warm.token);
    });
}

#[test]
fn a_token_is_never_given_across_tenants_identities_or_forms_of_the_audience() {
    let directory = format!(
        "{DIRECTORY}\n[[role_assignment]]\ntenant = \"contoso.example\"\nprincipal_id = \"bbbbbbbb-0004-4a00-8000-000000000004\"\n\
         role = \"Key Vault Secrets User\"\nscope = \"/\"\n"
    );
    warm(Plan { directory, ..Plan::default() }, |warm| async move {
        let world = &warm.world;
        let tokens = |form: Form| async move { form.send(world).await.token().to_owned() };
        let identity = warm.form.clone().with("client_id", "aaaaaaaa-0004-4a00-8000-000000000004");
        let token = tokens(identity).await;
        assert_eq!(
            verify(world, &token, VAULT).await.claims["appid"],
            "aaaaaaaa-0004-4a00-8000-000000000004"
        );

        let tenant =
            warm.form.clone().tenant(OTHER_TENANT).with("client_id", "aaaaaaaa-0005-4a00-8000-000000000005");
        let token = tokens(tenant.with("scope", "https://foreign.example/.default")).await;
        assert_eq!(verify(world, &token, "https://foreign.example").await.claims["tid"], OTHER_TENANT);
        warm.form.clone().tenant(OTHER_TENANT).send(world).await.refused(401, "unauthorized_client", 700_016);

        for (scope, audience) in [
            ("https://vault.example//.default", "https://vault.example/"),
            ("cccccccc-0001-4a00-8000-000000000001/.default", "cccccccc-0001-4a00-8000-000000000001"),
            ("https://vault.example/.default", VAULT),
        ] {
            let token = tokens(warm.form.clone().with("scope", scope)).await;
            verify(world, &token, audience).await;
            assert_eq!(token == warm.token, audience == VAULT, "{audience}");
        }
    });
}

#[test]
fn every_dialect_gets_the_same_token_and_every_use_is_recorded() {
    warm(Plan::default(), |warm| async move {
        let before = warm.world.audit().len();
        let mut replies = Vec::new();
        for dialect in [Dialect::V2, Dialect::V1, Dialect::Rfc8693] {
            let reply = warm.form.send_in(&warm.world, dialect).await;
            assert_eq!(reply.token(), warm.token);
            replies.push(warm.world.record(&reply.trace()).await);
        }
        assert_eq!(warm.world.audit().len(), before + 3);
        let uti = verify(&warm.world, &warm.token, VAULT).await.claims["uti"].clone();
        for line in replies {
            assert_eq!((&line["uniqueTokenIdentifier"], &line["verified"]), (&uti, &json!(true)), "{line}");
        }
    });
}

#[test]
fn without_reuse_every_request_gets_a_token_of_its_own() {
    for (settings, assertions) in [
        ("[tokens]\nreuse = false\n", 1.0),
        ("[tokens]\ntoken_cache = \"0MiB\"\n", 1.0),
        ("[tokens]\nreuse = false\nassertion_cache = \"0MiB\"\n", 0.0),
    ] {
        let plan = Plan { settings: settings.to_owned(), ..Plan::default() };
        own(plan, |world| async move {
            let form = world.request();
            let first = form.send(&world).await.token().to_owned();
            assert_ne!(form.send(&world).await.token(), first);
            assert_eq!(
                (world.metric(ASSERTIONS).await, world.metric(TOKENS).await),
                (assertions, 0.0),
                "{settings}"
            );
        });
    }
}

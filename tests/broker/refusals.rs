//! One test per refusal, each changing one thing of the honest request; and one test that pins their order.

use http::Method;
use serde_json::{Value, json};

use crate::support::*;

const ROLELESS: &str = "aaaaaaaa-0004-4a00-8000-000000000004";
const BARE: &str = "aaaaaaaa-0003-4a00-8000-000000000003";
const OFF: &str = "aaaaaaaa-0002-4a00-8000-000000000002";
const FOREIGN: &str = "aaaaaaaa-0005-4a00-8000-000000000005";
const NIL: &str = "00000000-0000-0000-0000-000000000000";

/// A token request with everything that a fault may change.
struct Attempt {
    form: Form,
    header: Value,
    claims: Value,
    /// Signed by another key than the header names.
    foreign_key: bool,
    content_type: &'static str,
    method: Method,
    body_end: String,
    now: i64,
    /// Sent twice: the second answer counts.
    twice: bool,
}

impl Attempt {
    fn honest(world: &World) -> Self {
        let (header, claims) = world.honest();
        Self {
            form: world.request(),
            header,
            claims,
            foreign_key: false,
            content_type: "application/x-www-form-urlencoded",
            method: Method::POST,
            body_end: String::new(),
            now: world.clock.now(),
            twice: false,
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.form = self.form.clone().with(name, value);
    }

    fn remove(&mut self, name: &str) {
        self.form = self.form.clone().without(name);
    }

    fn forget(&mut self, claim: &str) {
        self.claims.as_object_mut().unwrap().remove(claim);
    }

    async fn send(&self, world: &World) -> Reply {
        self.send_in(world, Dialect::V2).await
    }

    async fn send_in(&self, world: &World, dialect: Dialect) -> Reply {
        let keys = world.emulator.github().keys();
        let assertion = keys[usize::from(self.foreign_key)].sign(&self.header, &self.claims);
        let absent = !self.form.fields.iter().any(|(name, _)| name == "client_assertion");
        let form =
            if absent { self.form.clone() } else { self.form.clone().with("client_assertion", &assertion) };
        let url = match dialect {
            Dialect::V1 => world.token_url_v1(&form.tenant),
            Dialect::V2 | Dialect::Rfc8693 => world.token_url(&form.tenant),
        };
        let request = world
            .client
            .request(self.method.clone(), url)
            .header("content-type", self.content_type)
            .body(form.in_dialect(dialect).body() + &self.body_end);
        if self.twice {
            Reply::of(request.try_clone().unwrap().send().await.unwrap()).await;
        }
        Reply::of(request.send().await.unwrap()).await
    }
}

/// What is expected of a fault, and the fault.
struct Case(u16, &'static str, u32, &'static str, fn(&mut Attempt));

/// All faults of a token request in the order in which they are answered: the first that is there wins.
const CASES: &[Case] = &[
    Case(405, "invalid_request", 900_561, "wrong method", |a| a.method = Method::PUT),
    Case(413, "invalid_request", 90_013, "body too large", |a| a.body_end.push_str(&"&".repeat(70_000))),
    Case(400, "invalid_request", 9_002_313, "repeated parameter", |a| {
        a.body_end.push_str("&scope=x&scope=y")
    }),
    Case(400, "invalid_request", 900_144, "content type", |a| a.content_type = "application/json"),
    Case(400, "invalid_request", 900_144, "grant type absent", |a| a.remove("grant_type")),
    Case(400, "unsupported_grant_type", 70_003, "grant type", |a| a.set("grant_type", "password")),
    Case(400, "invalid_request", 900_144, "client absent", |a| a.remove("client_id")),
    Case(400, "invalid_request", 900_144, "scope absent", |a| a.remove("scope")),
    Case(400, "invalid_scope", 1_002_012, "scope's form", |a| a.set("scope", "https://vault.example/read")),
    Case(400, "invalid_request", 7_000_216, "assertion absent", |a| a.remove("client_assertion")),
    Case(400, "invalid_request", 900_144, "assertion's type", |a| a.set("client_assertion_type", "saml")),
    Case(400, "invalid_request", 50_059, "no tenant", |a| a.form.tenant = "common".into()),
    Case(400, "invalid_request", 900_021, "nil tenant", |a| a.form.tenant = NIL.into()),
    Case(400, "invalid_request", 900_023, "tenant's form", |a| a.form.tenant = "con_toso".into()),
    Case(400, "invalid_request", 90_002, "unknown tenant", |a| a.form.tenant = "nobody.example".into()),
    Case(400, "unauthorized_client", 700_038, "nil client", |a| a.set("client_id", NIL)),
    Case(401, "unauthorized_client", 700_016, "unknown client", |a| a.set("client_id", FOREIGN)),
    Case(401, "unauthorized_client", 7_000_112, "disabled client", |a| a.set("client_id", OFF)),
    Case(400, "invalid_request", 50_027, "crit", |a| a.header["crit"] = json!(["exp"])),
    Case(400, "invalid_request", 5_002_727, "typ", |a| a.header["typ"] = json!("at+jwt")),
    Case(400, "invalid_request", 90_014, "iss absent", |a| a.forget("iss")),
    Case(401, "invalid_client", 700_231, "own issuer", |a| a.claims["iss"] = json!("{own}")),
    Case(401, "invalid_client", 70_025, "no credential", |a| a.set("client_id", BARE)),
    Case(401, "invalid_client", 700_211, "issuer", |a| a.claims["iss"] = json!("https://issuer.example")),
    Case(401, "invalid_client", 5_002_738, "alg", |a| a.header["alg"] = json!("HS256")),
    Case(401, "invalid_client", 5_002_723, "kid absent", |a| {
        drop(a.header.as_object_mut().unwrap().remove("kid"))
    }),
    Case(503, "temporarily_unavailable", 50_166, "no keys", |a| {
        a.claims["iss"] = json!("https://issuer.invalid")
    }),
    Case(401, "invalid_client", 7_000_272, "unknown kid", |a| a.header["kid"] = json!("nobody's")),
    Case(401, "invalid_client", 700_027, "signature", |a| a.foreign_key = true),
    Case(400, "invalid_request", 90_014, "exp absent", |a| a.forget("exp")),
    Case(400, "invalid_request", 90_014, "iat absent", |a| a.forget("iat")),
    Case(401, "invalid_client", 700_024, "expired", |a| a.claims["exp"] = json!(a.now - 61)),
    Case(401, "invalid_client", 70_023, "lifetime", |a| a.claims["iat"] = json!(a.now - 25 * 3600)),
    Case(401, "invalid_client", 700_022, "sub absent", |a| a.forget("sub")),
    Case(400, "invalid_request", 90_014, "aud absent", |a| a.forget("aud")),
    Case(401, "invalid_client", 700_213, "subject", |a| {
        a.claims["sub"] = json!("repo:my--org/other:ref:refs/heads/main")
    }),
    Case(401, "invalid_client", 700_212, "audience", |a| a.claims["aud"] = json!("api://other")),
    Case(401, "invalid_resource", 500_011, "unknown resource", |a| {
        a.set("scope", "https://absent.example/.default")
    }),
    Case(401, "invalid_grant", 501_051, "no role", |a| a.set("client_id", ROLELESS)),
    Case(401, "invalid_client", 50_013, "used before", |a| {
        a.claims["sub"] = json!("repo:my--org/payments-service:environment:once");
        a.twice = true;
    }),
];

const DIALECTS: [Dialect; 3] = [Dialect::V2, Dialect::V1, Dialect::Rfc8693];

impl Case {
    fn apply(&self, attempt: &mut Attempt, world: &World) {
        (self.4)(attempt);
        if attempt.claims["iss"] == "{own}" {
            attempt.claims["iss"] = json!(format!("{}/{TENANT}/v2.0", world.authority));
        }
    }

    #[track_caller]
    fn expect(&self, reply: &Reply, dialect: Dialect, what: &str) {
        let (status, error, code) = self.expected(dialect);
        assert_eq!(
            (reply.status, &reply.body["error"]),
            (status, &json!(error)),
            "{dialect:?}, {what} {}: {:?}",
            self.3,
            reply.body
        );
        reply.refused(status, error, code);
    }

    /// The same in all dialects, but for what only v2.0 has, and for OAuth's names (RFC 6749 section 5.2, RFC 8693 section 2.2.2).
    fn expected(&self, dialect: Dialect) -> (u16, &'static str, u32) {
        let Self(status, error, code, ..) = *self;
        let (error, code) = match (dialect, code) {
            (Dialect::V1 | Dialect::Rfc8693, 1_002_012) => ("invalid_resource", 500_012),
            _ => (error, code),
        };
        match (dialect, error) {
            (Dialect::Rfc8693, "unauthorized_client") => (401, "invalid_client", code),
            (Dialect::Rfc8693, "invalid_client") => (400, "invalid_request", code),
            (Dialect::Rfc8693, "invalid_resource" | "invalid_grant") => (400, "invalid_target", code),
            _ => (status, error, code),
        }
    }
}

#[test]
fn each_fault_alone_is_refused_and_the_honest_request_granted_before_and_after() {
    shared(|world| async move {
        for dialect in DIALECTS {
            for case in CASES {
                assert_eq!(world.request().send_in(world, dialect).await.status, 200);
                let mut attempt = Attempt::honest(world);
                case.apply(&mut attempt, world);
                case.expect(&attempt.send_in(world, dialect).await, dialect, "alone");
            }
            assert_eq!(world.request().send_in(world, dialect).await.status, 200);
        }
    });
}

#[test]
fn of_several_faults_the_first_in_the_order_is_answered() {
    shared(|world| async move {
        for dialect in DIALECTS {
            // From the last fault to the first, each added to all those before it.
            let mut attempt = Attempt::honest(world);
            for case in CASES.iter().rev() {
                case.apply(&mut attempt, world);
                case.expect(&attempt.send_in(world, dialect).await, dialect, "with all later faults");
            }
        }
    });
}

#[test]
fn a_lifetime_of_25_hours_is_the_longest() {
    shared(|world| async move {
        let (header, mut claims) = world.honest();
        let now = world.clock.now();
        claims["iat"] = json!(now - 100);
        claims["exp"] = json!(now - 100 + 25 * 3600);
        assert_eq!(world.request_with(&world.sign(&header, &claims)).send(world).await.status, 200);
        claims["exp"] = json!(now - 99 + 25 * 3600);
        let reply = world.request_with(&world.sign(&header, &claims)).send(world).await;
        reply.refused(401, "invalid_client", 70_023);
    });
}

#[test]
fn disabled_credentials_and_issuers_count_as_unnamed() {
    shared(|world| async move {
        let (header, mut claims) = world.honest();
        claims["sub"] = json!("repo:my--org/payments-service:environment:off");
        let reply = world.request_with(&world.sign(&header, &claims)).send(world).await;
        reply.refused(401, "invalid_client", 700_213);
    });
    RUNTIME.block_on(async {
        let world = World::start(Plan { issuer: "enabled = false".into(), ..Plan::default() }).await;
        // Its other credential still counts, so the issuer is what does not fit.
        world.request().send(&world).await.refused(401, "invalid_client", 700_211);
        let bare = world.request().with("client_id", BARE).send(&world).await;
        bare.refused(401, "invalid_client", 70_025);
    });
}

#[test]
fn a_resource_is_told_apart_only_to_who_has_been_matched() {
    shared(|world| async move {
        let (header, mut claims) = world.honest();
        claims["sub"] = json!("somebody");
        let stranger = world.request_with(&world.sign(&header, &claims));
        let known = stranger.send(world).await;
        let unknown = stranger.with("scope", "https://absent.example/.default").send(world).await;
        known.refused(401, "invalid_client", 700_213);
        unknown.refused(401, "invalid_client", 700_213);
    });
}

#[test]
fn before_the_signature_holds_no_answer_depends_on_subject_or_audience() {
    shared(|world| async move {
        let (header, claims) = world.honest();
        let forged = |claims: &Value| world.emulator.github().keys()[1].sign(&header, claims);
        let mut other = claims.clone();
        other["sub"] = json!("somebody");
        other["aud"] = json!("something");
        for claims in [&claims, &other] {
            let reply = world.request_with(&forged(claims)).send(world).await;
            reply.refused(401, "invalid_client", 700_027);
        }
    });
}

#[test]
fn p_09_nothing_that_is_configured_reaches_an_answer() {
    shared(|world| async move {
        // What the directory holds and none of these requests presents.
        let configured = [
            "api://staging",
            "environment:staging",
            "id-deploy",
            "main-branch",
            "Key Vault",
            "rg-Deploy",
            "issuer.invalid",
        ];
        for case in CASES.iter().filter(|case| case.2 != 50_166) {
            let mut attempt = Attempt::honest(world);
            case.apply(&mut attempt, world);
            let text = attempt.send(world).await.body.to_string();
            let leaked: Vec<_> = configured.iter().filter(|value| text.contains(**value)).collect();
            assert!(leaked.is_empty(), "{}: {leaked:?} in {text}", case.3);
        }
    });
}

#[test]
fn presented_values_are_echoed_cut_and_harmless() {
    shared(|world| async move {
        let (header, mut claims) = world.honest();
        claims["sub"] = json!(format!("\"quote\\ \u{e9}\r\n\u{0}{}", "x".repeat(400)));
        let reply = world.request_with(&world.sign(&header, &claims)).send(world).await;
        reply.refused(401, "invalid_client", 700_213);
        assert!(
            reply.text().contains(&format!("'?quote? ????{}'", "x".repeat(256 - 12))),
            "{}",
            reply.text()
        );
    });
}

#[test]
fn keys_and_algorithms_must_belong_together() {
    shared(|world| async move {
        let (header, claims) = world.honest();
        for (alg, code) in [
            ("none", 5_002_738),
            ("None", 5_002_738),
            ("", 5_002_738),
            ("rs256", 5_002_738),
            ("RS256 ", 5_002_738),
            ("HS384", 5_002_738),
            // Known, and not accepted from an issuer unless its entry lists it.
            ("RS512", 5_002_738),
            ("PS256", 5_002_738),
            ("EdDSA", 5_002_738),
            // Accepted, and not an algorithm of this key.
            ("ES256", 700_027),
        ] {
            let mut changed = header.clone();
            changed["alg"] = json!(alg);
            let reply = world.request_with(&world.sign(&changed, &claims)).send(world).await;
            reply.refused(401, "invalid_client", code);
        }
        // The token brings its own key: never looked at.
        let stranger = ficus::emulator::IssuerKey::rsa(ficus::emulator::KeyStyle::Uuid, 0);
        let mut bringing = header.clone();
        bringing["jwk"] = stranger.public_jwk().clone();
        bringing["jku"] = json!("https://attacker.example/jwks");
        let reply = world.request_with(&stranger.sign(&bringing, &claims)).send(world).await;
        reply.refused(401, "invalid_client", 700_027);
        let honest = world.request_with(&world.sign(&bringing, &claims)).send(world).await;
        assert_eq!(honest.status, 200);
    });
}

#[test]
fn an_error_body_is_what_sdks_read() {
    shared(|world| async move {
        let correlation = "0f0c4f0e-5a6e-4d37-9a53-3a5d5f2f2a11";
        let reply = world
            .request()
            .with("scope", "api://absent/.default")
            .header("client-request-id", correlation)
            .send(world)
            .await;
        let trace = reply.trace();
        let stamp = reply.body["timestamp"].as_str().unwrap();
        let authority = &world.authority;
        let expected = format!(
            "{{\"error\":\"invalid_resource\",\"error_description\":\"AADSTS500011: The resource principal named api://absent \
             was not found in the tenant named {TENANT}. It may not be registered there, or the request may have been sent \
             to the wrong tenant. Trace ID: {trace} Correlation ID: {correlation} Timestamp: {stamp}\",\
             \"error_codes\":[500011],\"timestamp\":\"{stamp}\",\"trace_id\":\"{trace}\",\"correlation_id\":\"{correlation}\",\
             \"error_uri\":\"{authority}/error?code=500011\"}}"
        );
        let expected: Value = serde_json::from_str(&expected).unwrap();
        assert_eq!(reply.body, expected);
        assert_eq!(stamp.len(), "2026-01-02 03:04:05Z".len());
    });
}

//! O and H: the request around a sound assertion: its form, its grant, client, resource and tenant.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ficus::config::Config;
use ficus::directory::files::Tree;
use ficus::document::Problems;
use ficus::emulator::Document;
use serde_json::json;

use crate::support::*;

/// What is expected of a refusal: status, OAuth error, code.
type Expected = (u16, &'static str, u32);

const MALFORMED: Expected = (400, "invalid_request", 9_002_313);
const ABSENT: Expected = (400, "invalid_request", 900_144);
const GRANT_TYPE: Expected = (400, "unsupported_grant_type", 70_003);
const NO_ASSERTION: Expected = (400, "invalid_request", 7_000_216);
const TOO_LARGE: Expected = (413, "invalid_request", 90_013);
const CLIENT_UNKNOWN: Expected = (401, "unauthorized_client", 700_016);
const SCOPE: Expected = (400, "invalid_scope", 1_002_012);
const RESOURCE_UNKNOWN: Expected = (401, "invalid_resource", 500_011);
const TENANT_FORM: Expected = (400, "invalid_request", 900_023);

/// A world of its own in which everything that is granted is an honest request of these tests.
struct Bench {
    world: std::sync::Arc<World>,
    honest: std::cell::Cell<usize>,
}

impl Bench {
    fn asked(&self) -> [u64; 2] {
        [Document::Discovery, Document::Jwks].map(|document| self.world.emulator.github().requests(document))
    }

    async fn granted(&self, form: &Form) -> Reply {
        let reply = form.send(&self.world).await;
        reply.token();
        self.honest.set(self.honest.get() + 1);
        reply
    }

    fn expect(what: &str, reply: &Reply, (status, error, code): Expected) {
        let shown = (reply.status, &reply.body["error"], &reply.body["error_codes"]);
        assert_eq!(shown, (status, &json!(error), &json!([code])), "{what}: {:?}", reply.body);
        reply.refused(status, error, code);
    }

    /// The honest request is granted, this one is refused, the honest one is granted.
    async fn refused(&self, what: &str, form: &Form, expected: Expected) {
        self.granted(&self.world.request()).await;
        Self::expect(what, &form.send(&self.world).await, expected);
        self.granted(&self.world.request()).await;
    }

    /// The same of a body and its headers as they are.
    async fn refused_as_it_is(
        &self,
        what: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
        expected: Expected,
    ) {
        self.granted(&self.world.request()).await;
        let mut request = self.world.client.post(self.world.token_url(TENANT)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Self::expect(what, &Reply::of(request.send().await.unwrap()).await, expected);
        self.granted(&self.world.request()).await;
    }
}

/// Afterwards nobody but the honest has got a token, and for none of the others the issuer was asked.
fn on_bench(test: impl AsyncFnOnce(&Bench)) {
    own(Plan::default(), async |world| {
        let bench = Bench { world, honest: Default::default() };
        bench.granted(&bench.world.request()).await;
        let asked = bench.asked();
        test(&bench).await;
        assert_eq!(bench.asked(), asked);
        let minted = bench.world.audit();
        let minted = minted.iter().filter(|line| line.get("uniqueTokenIdentifier").is_some());
        assert_eq!(minted.count(), bench.honest.get());
    });
}

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

#[test]
fn o_01_grants_of_other_kinds() {
    on_bench(async |bench| {
        let form = bench.world.request();
        bench.refused("missing", &form.clone().without("grant_type"), ABSENT).await;
        bench.refused("empty", &form.clone().with("grant_type", ""), ABSENT).await;
        for grant in [
            "password",
            "authorization_code",
            "refresh_token",
            "implicit",
            "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "urn:ietf:params:oauth:grant-type:saml2-bearer",
            "urn:ietf:params:oauth:grant-type:device_code",
            "Client_Credentials",
            "client_credentials ",
            "client_credentials\0",
            "client_credential",
            "client_credentials,password",
            "*",
        ] {
            bench.refused(grant, &form.clone().with("grant_type", grant), GRANT_TYPE).await;
        }
    });
}

#[test]
fn o_02_assertions_of_other_types_and_in_other_places() {
    on_bench(async |bench| {
        let (form, assertion) = (bench.world.request(), bench.world.assertion());
        bench.refused("type missing", &form.clone().without("client_assertion_type"), ABSENT).await;
        for kind in [
            "",
            "urn:ietf:params:oauth:client-assertion-type:saml2-bearer",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer ",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer2",
            "urn:ietf:params:oauth:client-assertion-type:jwt-beare",
            "URN:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "jwt-bearer",
            JWT_TYPE,
        ] {
            bench.refused(kind, &form.clone().with("client_assertion_type", kind), ABSENT).await;
        }
        let bare = form.clone().without("client_assertion");
        bench.refused("missing", &bare, NO_ASSERTION).await;
        bench.refused("empty", &form.clone().with("client_assertion", ""), NO_ASSERTION).await;
        for name in ["assertion", "subject_token", "Client_Assertion", "id_token"] {
            bench.refused(name, &bare.clone().with(name, &assertion), NO_ASSERTION).await;
        }
        let bearer = format!("Bearer {assertion}");
        bench.refused("in a header", &bare.clone().header("authorization", &bearer), NO_ASSERTION).await;
        bench.refused("a secret in its place", &bare.with("client_secret", "x"), MALFORMED).await;

        // A second authentication beside it.
        for name in ["client_secret", "assertion", "subject_token", "actor_token"] {
            bench.refused(name, &form.clone().with(name, &assertion), MALFORMED).await;
        }
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        for pair in [format!("{CLIENT}:secret"), format!(":{assertion}"), format!("{OTHER_TENANT}:")] {
            let form = form.clone().header("authorization", &basic(&pair));
            bench.refused("Basic", &form, MALFORMED).await;
        }
        // These prove nothing, and are not looked at.
        bench.granted(&form.clone().header("authorization", &basic(&format!("{CLIENT}:")))).await;
        bench.granted(&form.header("authorization", "Bearer x")).await;
    });
}

#[test]
fn o_03_clients_that_are_not_this_one() {
    on_bench(async |bench| {
        let form = bench.world.request();
        bench.refused("missing", &form.clone().without("client_id"), ABSENT).await;
        bench.refused("empty", &form.clone().with("client_id", ""), ABSENT).await;
        let zero = "00000000-0000-0000-0000-000000000000";
        let nil = (400, "unauthorized_client", 700_038);
        bench.refused("zero GUID", &form.clone().with("client_id", zero), nil).await;
        for client in [
            "aaaaaaaa-0000-4a00-8000-00000000000f",
            PRINCIPAL,
            // Of the other tenant.
            "aaaaaaaa-0005-4a00-8000-000000000005",
            "id-deploy",
            &format!("{CLIENT} "),
            &format!(" {CLIENT}"),
            &format!("{CLIENT}\n"),
            &format!("{CLIENT}\0"),
            &format!("{CLIENT},{CLIENT}"),
            &CLIENT[..CLIENT.len() - 1],
            &format!("{CLIENT}1"),
            &format!("{{{CLIENT}}}"),
            &format!("urn:uuid:{CLIENT}"),
            &CLIENT.replace('-', ""),
            &CLIENT.replacen('a', "\u{ff41}", 1),
            "*",
            "' OR '1'='1",
            "../aaaaaaaa-0001-4a00-8000-000000000001",
            &"a".repeat(30_000),
        ] {
            bench.refused(client, &form.clone().with("client_id", client), CLIENT_UNKNOWN).await;
        }
        bench.refused("1 MB", &form.clone().with("client_id", &"a".repeat(1 << 20)), TOO_LARGE).await;

        // Beyond the code nothing tells who is unknown from who is unmatched.
        let unknown = form.clone().with("client_id", "aaaaaaaa-0000-4a00-8000-00000000000f");
        let unknown = unknown.send(&bench.world).await;
        let (header, mut claims) = bench.world.honest();
        claims["sub"] = json!("somebody else");
        let unmatched =
            bench.world.request_with(&bench.world.sign(&header, &claims)).send(&bench.world).await;
        unmatched.refused(401, "invalid_client", 700_213);
        let names = |reply: &Reply| -> Vec<String> {
            let headers = reply.headers.keys().map(|name| name.to_string());
            headers.chain(reply.body.as_object().unwrap().keys().cloned()).collect()
        };
        assert_eq!((unknown.status, names(&unknown)), (unmatched.status, names(&unmatched)));
    });
}

#[test]
fn o_04_scopes_and_resources() {
    on_bench(async |bench| {
        let form = bench.world.request();
        for (scope, expected) in [
            ("https://absent.example/.default", RESOURCE_UNKNOWN),
            ("https://vault.example.evil.example/.default", RESOURCE_UNKNOWN),
            ("https://vault.examplee/.default", RESOURCE_UNKNOWN),
            ("https://vault.exampl/.default", RESOURCE_UNKNOWN),
            ("https://vault.example/secrets/.default", RESOURCE_UNKNOWN),
            ("HTTPS://VAULT.EXAMPLE/.default", RESOURCE_UNKNOWN),
            ("*/.default", RESOURCE_UNKNOWN),
            ("https://vault.example*/.default", RESOURCE_UNKNOWN),
            ("https://vault.example/.default,https://sql.example/.default", RESOURCE_UNKNOWN),
            // Of the other tenant; and Microsoft Graph, as Entra takes it.
            ("https://foreign.example/.default", RESOURCE_UNKNOWN),
            (".default", RESOURCE_UNKNOWN),
            ("https://vault.example", SCOPE),
            ("https://vault.example/.default https://sql.example/.default", SCOPE),
            ("https://vault.example/.default offline_access", SCOPE),
            ("https://vault.example/.Default", SCOPE),
            ("https://vault.example/.default/", SCOPE),
            ("https://vault.example/.default\0", SCOPE),
            ("https://vault.example\0/.default", SCOPE),
            ("https://vault.example/user_impersonation", SCOPE),
            ("openid", SCOPE),
            ("/.default", SCOPE),
            ("*", SCOPE),
        ] {
            let form = form.clone().with("scope", scope);
            bench.refused(scope, &form, expected).await;
        }
        let large = format!("https://{}/.default", "a".repeat(1 << 20));
        bench.refused("1 MB", &form.clone().with("scope", &large), TOO_LARGE).await;

        // What names another resource beside the scope is of another dialect, and changes nothing.
        let named =
            form.clone().with("resource", "https://sql.example").with("audience", "https://sql.example");
        let reply = bench.granted(&named).await;
        let checked = verify(&bench.world, reply.token(), VAULT).await;
        assert_eq!(checked.claims["aud"], VAULT, "one registered resource, as a text");
        // In the dialect that has both names, they must agree.
        let both = form.with("audience", "https://sql.example");
        let reply = both.send_in(&bench.world, Dialect::Rfc8693).await;
        assert!(reply.status == 400 && reply.body.get("access_token").is_none(), "{:?}", reply.body);
    });
}

#[test]
fn o_05_tenants_that_are_not_this_one() {
    on_bench(async |bench| {
        let form = bench.world.request();
        let (unknown, none) = ((400, "invalid_request", 90_002), (400, "invalid_request", 50_059));
        for (tenant, expected) in [
            ("99999999-9999-4999-8999-999999999999", unknown),
            ("nobody.example", unknown),
            ("contoso.example.evil.example", unknown),
            ("common", none),
            ("organizations", none),
            ("consumers", none),
            ("00000000-0000-0000-0000-000000000000", (400, "invalid_request", 900_021)),
            ("%00", TENANT_FORM),
            ("contoso.example%00", TENANT_FORM),
            ("%27%20OR%20%271%27=%271", TENANT_FORM),
            ("contoso.example;", TENANT_FORM),
            ("*", TENANT_FORM),
            ("%2e%2e%2f", TENANT_FORM),
            ("c%D0%BEntoso.example", TENANT_FORM),
            ("", TENANT_FORM),
            // There, and neither this client's nor this resource's.
            (OTHER_TENANT, CLIENT_UNKNOWN),
            ("fabrikam.example", CLIENT_UNKNOWN),
        ] {
            bench.refused(tenant, &form.clone().tenant(tenant), expected).await;
        }
    });
}

#[test]
fn o_05_a_client_id_is_found_only_under_its_own_tenant() {
    const FOREIGN: &str = "aaaaaaaa-0005-4a00-8000-000000000005";
    on_bench(async |bench| {
        let foreign = bench.world.request().tenant(OTHER_TENANT).with("client_id", FOREIGN);
        let foreign = foreign.with("scope", "https://foreign.example/.default");
        bench.granted(&foreign).await;
        bench.refused("its client under ours", &foreign.clone().tenant(TENANT), CLIENT_UNKNOWN).await;
        bench.refused("ours under it", &bench.world.request().tenant(OTHER_TENANT), CLIENT_UNKNOWN).await;
        // Nor is a resource of the other tenant.
        let other = bench.world.request().with("scope", "https://foreign.example/.default");
        bench.refused("its resource", &other, RESOURCE_UNKNOWN).await;
        bench.granted(&foreign).await;
    });
}

#[test]
fn o_06_our_own_token_is_no_assertion() {
    const OWN: Expected = (401, "invalid_client", 700_231);
    on_bench(async |bench| {
        let world = &bench.world;
        for resource in [VAULT, API] {
            let form = world.request().with("scope", &format!("{resource}/.default"));
            let token = bench.granted(&form).await.token().to_owned();
            bench.refused("our own token", &world.request_with(&token), OWN).await;
        }
        // Soundly signed by a trusted issuer's key, and naming an issuer of ours, of either version and any tenant.
        let (header, mut claims) = world.honest();
        for tenant in [TENANT, OTHER_TENANT] {
            for issuer in
                [format!("{}/{tenant}/v2.0", world.authority), format!("{}/{tenant}/", world.authority)]
            {
                claims["iss"] = json!(issuer);
                bench.refused(&issuer, &world.request_with(&world.sign(&header, &claims)), OWN).await;
            }
        }
    });
}

#[test]
fn o_06_an_assertion_ends_with_its_exp_and_a_minted_one_with_its_own() {
    own(Plan::default(), async |world| {
        let (assertion, now) = (world.assertion(), world.clock.now());
        world.request_with(&assertion).send(&world).await.token();
        world.clock.set(now + 3600);
        let old = world.request_with(&assertion).send(&world).await;
        old.refused(401, "invalid_client", 700_024);
        world.request().send(&world).await.token();
    });
}

#[test]
fn o_06_our_own_issuers_cannot_be_registered() {
    own(Plan::default(), async |world| {
        let (etc, records) = (world.folder.path().join("etc"), "etc/directory/records.toml");
        let honest = std::fs::read_to_string(world.folder.path().join(records)).unwrap();
        let refused = |issuer: &str| {
            let text = honest.replacen("\"https://issuer.invalid\"", &format!("{issuer:?}"), 1);
            std::fs::write(world.folder.path().join(records), text).unwrap();
            let problems = Problems::default();
            let config = Config::load(&etc.join("ficus.toml"), std::iter::empty(), &problems).unwrap();
            config.load_directory(&mut Tree::default(), &problems);
            assert_eq!(problems.any_error(), issuer.contains("localhost"));
            let told = problems.into_vec();
            told.iter().any(|problem| problem.to_string().contains("is an issuer of this broker"))
        };
        assert!(!refused("https://issuer.invalid"));
        for path in ["v2.0", ""] {
            for tenant in [TENANT, OTHER_TENANT] {
                let issuer = format!("{}/{tenant}/{path}", world.authority);
                assert!(refused(&issuer), "{issuer}");
            }
        }
        assert!(!refused("https://issuer.invalid"));
    });
}

#[test]
fn h_01_forms_that_can_be_read_in_two_ways() {
    on_bench(async |bench| {
        let honest = bench.world.request();
        let body = honest.body();
        let send = async |what: &str, body: String, expected| {
            bench.refused_as_it_is(what, &[FORM], body.into_bytes(), expected).await;
        };
        for (name, value) in &honest.fields {
            let pair =
                |value: &str| Form { fields: vec![(name.clone(), value.into())], ..honest.clone() }.body();
            send(&format!("{name}: honest first"), format!("{body}&{}", pair("other")), MALFORMED).await;
            send(&format!("{name}: honest last"), format!("{}&{body}", pair("other")), MALFORMED).await;
            send(&format!("{name}: the same twice"), format!("{body}&{}", pair(value)), MALFORMED).await;
            let escaped = format!("%{:02x}{}", name.as_bytes()[0], &pair("other")[1..]);
            send(&format!("{name}: written another way"), format!("{body}&{escaped}"), MALFORMED).await;
        }
        send("unknown ones twice", format!("{body}&x=1&x=1"), MALFORMED).await;
        send("semicolons", body.replace('&', ";"), GRANT_TYPE).await;
        for broken in ["%zz", "%", "%1", "%ff", "%c3%28", "%ed%a0%80"] {
            send(broken, format!("{body}&x={broken}"), MALFORMED).await;
            send(broken, format!("{body}&{broken}=x"), MALFORMED).await;
        }
        let invalid = [body.as_bytes(), b"&x=\xff"].concat();
        bench.refused_as_it_is("bytes that are no UTF-8", &[FORM], invalid, MALFORMED).await;
        send("empty", String::new(), ABSENT).await;
        send("100 000 ampersands", "&".repeat(100_000) + &body, TOO_LARGE).await;
        send("as many as fit", "&".repeat(60_000), ABSENT).await;
        // No more than a part of it is read: who does not stop sending may find the connection closed instead.
        let large = format!("{body}&x={}", "x".repeat(8 << 20));
        let request = bench.world.client.post(bench.world.token_url(TENANT)).header(FORM.0, FORM.1);
        match request.body(large).send().await {
            Ok(response) => Bench::expect("8 MB", &Reply::of(response).await, TOO_LARGE),
            Err(error) => assert!(error.is_request() && !error.is_timeout(), "{error:?}"),
        }

        // In the query they are not looked at.
        let empty = Form { fields: Vec::new(), ..honest.clone() };
        bench.granted(&honest).await;
        let query = empty.send_to(&bench.world, Dialect::V2, &format!("?{body}")).await;
        Bench::expect("in the query", &query, ABSENT);
        let absent = honest.clone().without("client_assertion");
        let token = format!("?client_assertion={}", bench.world.assertion());
        let query = absent.send_to(&bench.world, Dialect::V2, &token).await;
        Bench::expect("the assertion in the query", &query, NO_ASSERTION);
        bench.granted(&honest).await;
    });
}

#[test]
fn h_02_bodies_of_other_types_and_encodings() {
    on_bench(async |bench| {
        let form = bench.world.request();
        let body = form.body();
        let json: serde_json::Map<_, _> =
            form.fields.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let json = serde_json::to_string(&json).unwrap();
        let parts = form.fields.iter().map(|(name, value)| {
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        });
        let multipart = parts.collect::<String>() + "--b--\r\n";
        let xml = "<?xml version=\"1.0\"?><!DOCTYPE r [<!ENTITY x SYSTEM \"file:///etc/hostname\">]>\
                   <r><grant_type>&x;</grant_type></r>";
        for (kind, body) in [
            ("application/json", &json),
            ("application/json", &body),
            ("text/plain", &body),
            ("multipart/form-data; boundary=b", &multipart),
            ("application/xml", &xml.to_owned()),
            ("text/xml", &body),
            ("application/x-www-form-urlencoded2", &body),
            ("application/x-www-form", &body),
            ("application/x-www-form-urlencoded, text/plain", &body),
            ("", &body),
        ] {
            let body = body.clone().into_bytes();
            bench.refused_as_it_is(kind, &[("content-type", kind)], body, ABSENT).await;
        }
        bench.refused_as_it_is("no type", &[], body.clone().into_bytes(), ABSENT).await;
        let twice = [FORM, ("content-type", "text/plain")];
        bench.refused_as_it_is("two types", &twice, body.clone().into_bytes(), ABSENT).await;

        let packed = packed(body.as_bytes());
        for encoding in ["gzip", "GZIP", "deflate", "br", "x-gzip", "identity, gzip", "zstd"] {
            let headers = [FORM, ("content-encoding", encoding)];
            bench.refused_as_it_is(encoding, &headers, packed.clone(), MALFORMED).await;
            bench.refused_as_it_is(encoding, &headers, body.clone().into_bytes(), MALFORMED).await;
        }
        // Not said to be packed, and so a strange name without a value.
        bench.refused_as_it_is("packed in secret", &[FORM], packed, MALFORMED).await;
        let headers = [FORM, ("content-encoding", "gzip")];
        bench.refused_as_it_is("nine megabytes, packed", &headers, bomb(60_000), MALFORMED).await;
        bench.refused_as_it_is("64 MB, packed", &headers, bomb(420_000), TOO_LARGE).await;
    });
}

const GZIP: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// A gzip file of one stored block.
fn packed(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    let mut crc = u32::MAX;
    for byte in content {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    let sizes = [&length.to_le_bytes()[..], &(!length).to_le_bytes()].concat();
    let end = [(!crc).to_le_bytes(), u32::from(length).to_le_bytes()].concat();
    [&GZIP[..], &[1], &sizes, content, &end].concat()
}

/// A gzip file that begins with one zero byte and repeats it, 258 times for every 13 bits.
fn bomb(size: usize) -> Vec<u8> {
    let (mut bits, mut count, mut file) = (0_u64, 0, GZIP.to_vec());
    let mut put = |value: u64, length| {
        bits |= value << count;
        count += length;
        while count >= 8 {
            file.push(u8::try_from(bits & 0xff).unwrap());
            (bits, count) = (bits >> 8, count - 8);
        }
        file.len()
    };
    // The last block, of fixed codes; the literal 0; then length 258 (code 285) at distance 1.
    put(0b011, 3);
    put(0b0000_1100, 8);
    while put(0b1010_0011, 8) < size {
        put(0, 5);
    }
    file
}

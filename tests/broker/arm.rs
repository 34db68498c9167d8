//! The resource manager's answers: what the cloud is, what a caller may see, and whose token opens nothing.

use std::sync::LazyLock;

use ficus::emulator::github::Job;
use serde_json::json;

use crate::support::*;

/// The shared directory, with a resource manager and roles in subscriptions.
const MANAGERS: &str = include_str!("arm.toml");
const MANAGER: &str = "https://management.azure.com";
const ROLELESS: &str = "aaaaaaaa-0004-4a00-8000-000000000004";
const FOREIGN: &str = "aaaaaaaa-0005-4a00-8000-000000000005";
const SUBSCRIPTIONS: &str = "/subscriptions?api-version=2022-12-01";

fn plan() -> Plan {
    Plan { directory: format!("{DIRECTORY}\n{MANAGERS}"), ..Plan::default() }
}

static WORLD: LazyLock<World> = LazyLock::new(|| RUNTIME.block_on(World::start(plan())));

fn world<F: Future>(test: impl FnOnce(&'static World) -> F) -> F::Output {
    let world = &*WORLD;
    RUNTIME.block_on(test(world))
}

impl World {
    /// A token of ours.
    async fn ours(&self, client: &str, resource: &str) -> String {
        let tenant = if client == FOREIGN { OTHER_TENANT } else { TENANT };
        let request = token_request(&self.assertion(), &format!("{resource}/.default")).tenant(tenant);
        request.with("client_id", client).send(self).await.token().to_owned()
    }

    async fn ask(&self, path: &str, authorization: &str) -> Reply {
        let request = self.client.get(format!("{}{path}", self.authority));
        Reply::of(request.header("authorization", authorization).send().await.unwrap()).await
    }

    async fn bearing(&self, path: &str, token: &str) -> Reply {
        self.ask(path, &format!("Bearer {token}")).await
    }

    fn challenge(&self, place: &str, message: &str) -> String {
        let uri = format!("{}/{place}", self.authority);
        format!(
            "Bearer authorization_uri=\"{uri}\", error=\"invalid_token\", error_description=\"{message}\""
        )
    }

    /// A 401 with its body, its challenge, and nothing else.
    #[track_caller]
    fn denied(&self, reply: &Reply, place: &str, code: &str, message: &str) {
        assert_eq!(reply.body, json!({ "error": { "code": code, "message": message } }));
        assert_eq!(reply.status, 401);
        assert_eq!(reply.header("www-authenticate"), self.challenge(place, message));
        assert_eq!(reply.header("cache-control"), "no-store, no-cache");
        assert!(is_guid(&reply.trace()), "{reply:?}");
    }
}

const INVALID: (&str, &str) = ("InvalidAuthenticationToken", "The access token is invalid.");

fn subscription(id: &str, tenant: &str) -> serde_json::Value {
    json!({
        "id": format!("/subscriptions/{id}"),
        "subscriptionId": id,
        "displayName": id,
        "state": "Enabled",
        "tenantId": tenant,
        "managedByTenants": [],
        "authorizationSource": "RoleBased",
    })
}

#[test]
fn the_cloud_is_described_to_anybody() {
    world(|w| async move {
        let origin = &w.authority;
        let cloud = json!({
            "name": "ficus",
            "resourceManager": origin,
            "graph": origin,
            "graphAudience": origin,
            "microsoftGraphResourceId": origin,
            "authentication": {
                "loginEndpoint": origin,
                "audiences": [MANAGER, "https://management.core.windows.net", origin],
                "tenant": "common",
                "identityProvider": "AAD",
            },
            "suffixes": {},
        });
        for (path, expected) in [
            ("/metadata/endpoints?api-version=2022-09-01", cloud.clone()),
            ("//metadata/endpoints?api-version=2022-09-01", cloud.clone()),
            ("/Metadata/EndPoints?x=%2f&Api-Version=2099-01-01-preview", cloud.clone()),
            ("/metadata/endpoints?api-version=2019-05-01", json!([cloud])),
            ("/metadata/endpoints?api-version=2022-08-31", json!([cloud])),
        ] {
            let reply = w.get(path).await;
            assert_eq!((reply.status, &reply.body), (200, &expected), "{path}");
            assert_eq!(reply.header("content-type"), "application/json; charset=utf-8");
            assert_eq!(reply.header("cache-control"), "max-age=86400, private");
        }
        let reply = w.get("/metadata/endpoints").await;
        let message = "The api-version query parameter (?api-version=) is required for all requests.";
        let error = json!({ "error": { "code": "MissingApiVersionParameter", "message": message } });
        assert_eq!((reply.status, &reply.body), (400, &error));
    });
}

#[test]
fn a_caller_sees_the_subscriptions_that_it_has_a_role_in() {
    world(|w| async move {
        let token = w.ours(CLIENT, MANAGER).await;
        let [above, below] = ["33333333-3333-3333-3333-333333333333", "4a444444-4444-4444-4444-444444444444"];
        let list = json!({ "value": [subscription(above, TENANT), subscription(below, TENANT)] });
        for path in [SUBSCRIPTIONS, "//Subscriptions/?api-version=2016-06-01&x=y"] {
            let reply = w.bearing(path, &token).await;
            assert_eq!((reply.status, &reply.body), (200, &list), "{path}");
            assert_eq!(reply.header("cache-control"), "no-store, no-cache");
        }
        let one = format!("/SUBSCRIPTIONS/{}?api-version=2022-12-01", below.to_ascii_uppercase());
        let reply = w.bearing(&one, &token).await;
        assert_eq!((reply.status, reply.body), (200, subscription(below, TENANT)));

        // Another name of the same resource, and nobody's role.
        let token = w.ours(ROLELESS, "https://management.core.windows.net/").await;
        let reply = w.bearing(SUBSCRIPTIONS, &token).await;
        assert_eq!((reply.status, reply.body), (200, json!({ "value": [] })));

        // A v2.0 token on a curve, and a role at the root: all that the tenant's records name, none of another tenant.
        let token = w.ours(FOREIGN, MANAGER).await;
        let all = ["55555555-5555-5555-5555-555555555555", "66666666-6666-6666-6666-666666666666"];
        let reply = w.bearing(SUBSCRIPTIONS, &token).await;
        let list = json!({ "value": all.map(|id| subscription(id, OTHER_TENANT)) });
        assert_eq!((reply.status, reply.body), (200, list));
    });
}

#[test]
fn a_caller_sees_its_own_tenant() {
    world(|w| async move {
        let token = w.ours(ROLELESS, MANAGER).await;
        let reply = w.bearing("/tenants?api-version=2022-12-01", &token).await;
        let tenant = json!({
            "id": format!("/tenants/{TENANT}"),
            "tenantId": TENANT,
            "displayName": "contoso.example",
            "defaultDomain": "contoso.example",
            "domains": ["contoso.example"],
            "tenantCategory": "Home",
            "tenantType": "AAD",
        });
        assert_eq!((reply.status, reply.body), (200, json!({ "value": [tenant] })));
    });
}

#[test]
fn what_is_not_there_is_told_to_callers_only() {
    world(|w| async move {
        let token = w.ours(CLIENT, MANAGER).await;
        let missing = "The api-version query parameter (?api-version=) is required for all requests.";
        let nothing = "This broker serves nothing at this path.";
        let gone = "The subscription '55555555-5555-5555-5555-555555555555' could not be found.";
        for (path, status, code, message) in [
            ("/subscriptions", 400, "MissingApiVersionParameter", missing),
            ("/tenants", 400, "MissingApiVersionParameter", missing),
            (
                "/subscriptions/55555555-5555-5555-5555-555555555555?api-version=1",
                404,
                "SubscriptionNotFound",
                gone,
            ),
            ("/subscriptions/33333333-3333-3333-3333-333333333333/locations", 404, "NotFound", nothing),
            ("/providers?api-version=1", 404, "NotFound", nothing),
        ] {
            let error = json!({ "error": { "code": code, "message": message } });
            let reply = w.bearing(path, &token).await;
            assert_eq!((reply.status, reply.body), (status, error), "{path}");
            assert_eq!(reply.headers.get("www-authenticate"), None);
            let missing = "Authentication failed. The 'Authorization' header is missing.";
            w.denied(&w.get(path).await, "common", "AuthenticationFailed", missing);
        }
        let post = w.client.post(format!("{}{SUBSCRIPTIONS}", w.authority)).bearer_auth(&token);
        let reply = Reply::of(post.send().await.unwrap()).await;
        let message = "The requested resource does not support http method 'POST'.";
        let error = json!({ "error": { "code": "MethodNotAllowed", "message": message } });
        assert_eq!((reply.status, reply.header("allow"), &reply.body), (405, "GET", &error));
    });
}

#[test]
fn a_token_for_another_api_opens_nothing() {
    world(|w| async move {
        let own = &w.authority;
        for (resource, audience) in [(VAULT, VAULT), (API, API_CLIENT)] {
            let reply = w.bearing(SUBSCRIPTIONS, &w.ours(CLIENT, resource).await).await;
            let message = format!(
                "The access token has been obtained for wrong audience or resource '{audience}'. It should exactly \
                 match with one of the allowed audiences 'https://management.azure.com',\
                 'https://management.azure.com/','https://management.core.windows.net',\
                 'https://management.core.windows.net/','{own}','{own}/'."
            );
            w.denied(&reply, TENANT, "InvalidAuthenticationTokenAudience", &message);
        }
    });
}

#[test]
fn what_is_not_our_token_opens_nothing() {
    world(|w| async move {
        let token = w.ours(CLIENT, MANAGER).await;
        let (input, signature) = token.rsplit_once('.').unwrap();
        let other = w.ours(CLIENT, MANAGER).await;
        let first = if signature.starts_with('A') { "B" } else { "A" };
        let (code, message) = INVALID;
        for wrong in [
            // The signature of another token of ours, a changed one, and none.
            format!("{input}.{}", other.rsplit_once('.').unwrap().1),
            format!("{input}.{first}{}", &signature[1..]),
            format!("{input}."),
            // An external issuer's, for the same audience.
            w.emulator.github().assertion(&Job::default(), MANAGER),
            w.assertion(),
            "opaque".to_owned(),
        ] {
            w.denied(&w.bearing(SUBSCRIPTIONS, &wrong).await, "common", code, message);
        }
        let format = "Authentication failed. The 'Authorization' header is provided in an invalid format.";
        for header in [token.clone(), format!("Basic {token}"), format!("Bearer{token}"), String::new()] {
            let reply = w.ask(SUBSCRIPTIONS, &header).await;
            w.denied(&reply, "common", "AuthenticationFailedInvalidHeader", format);
        }
        assert_eq!(w.bearing(SUBSCRIPTIONS, &token).await.status, 200);
    });
}

#[test]
fn what_is_taken_away_is_gone_at_once() {
    own(plan(), |w| async move {
        let token = w.ours(CLIENT, MANAGER).await;
        let roleless = w.ours(ROLELESS, MANAGER).await;
        let foreign = w.ours(FOREIGN, MANAGER).await;
        for good in [&token, &roleless, &foreign] {
            assert_eq!(w.bearing(SUBSCRIPTIONS, good).await.status, 200);
        }

        // One identity is switched off, and one is removed.
        let path = w.folder.path().join("etc/directory/records.toml");
        let records = std::fs::read_to_string(&path).unwrap();
        let off = format!("client_id = \"{CLIENT}\"\nenabled = false");
        let records = records.replace(&format!("client_id = \"{CLIENT}\""), &off);
        let (start, end) =
            (records.find("# Fits the same token").unwrap(), records.find("# In another tenant").unwrap());
        let before = w.broker.generation();
        std::fs::write(path.with_extension("new"), format!("{}{}", &records[..start], &records[end..]))
            .unwrap();
        std::fs::rename(path.with_extension("new"), path).unwrap();
        wait_for(|| (w.broker.generation() > before).then_some(())).await;
        for (token, principal) in [(&token, PRINCIPAL), (&roleless, "bbbbbbbb-0004-4a00-8000-000000000004")] {
            let message = format!(
                "The identity '{principal}' of the access token does not exist any more, or is disabled."
            );
            let reply = w.bearing(SUBSCRIPTIONS, token).await;
            w.denied(&reply, TENANT, "InvalidAuthenticationToken", &message);
        }

        // The third's token ends.
        let start = w.clock.now();
        w.clock.set(start + 3599);
        assert_eq!(w.bearing(SUBSCRIPTIONS, &foreign).await.status, 200);
        w.clock.set(start + 3600);
        let reply = w.bearing(SUBSCRIPTIONS, &foreign).await;
        assert_eq!(reply.body["error"]["code"], "ExpiredAuthenticationToken");
        let message = reply.body["error"]["message"].as_str().unwrap();
        let times: Vec<_> = message.split('\'').skip(1).step_by(2).collect();
        assert_eq!(times[0], times[1], "{message}");
        let expected = format!(
            "The access token expiry UTC time '{0}' is earlier than current UTC time '{0}'.",
            times[0]
        );
        w.denied(&reply, "common", "ExpiredAuthenticationToken", &expected);
    });
}

#[test]
fn a_revoked_key_speaks_for_nobody() {
    own(plan(), |w| async move {
        let token = w.ours(FOREIGN, MANAGER).await;
        let kid = jsonwebtoken::decode_header(&token).unwrap().kid.unwrap();
        ficus::signing::revoke(&w.folder.path().join("data/keys"), &kid, &w.clock).unwrap();
        let (code, message) = INVALID;
        let denied = eventually("the revoked key is refused", || async {
            Some(w.bearing(SUBSCRIPTIONS, &token).await).filter(|reply| reply.status == 401)
        });
        w.denied(&denied.await, "common", code, message);
        assert_eq!(w.bearing(SUBSCRIPTIONS, &w.ours(FOREIGN, MANAGER).await).await.status, 200);
    });
}

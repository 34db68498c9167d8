//! Why a job was refused: the record and the metrics tell, the answer does not.

use serde_json::{Value, json};

use crate::support::*;

/// A claim and what is presented in its place, the cause and the nearest credential; then the classes of its fields.
type Near = ([&'static str; 4], [&'static str; 3]);

const NEAR: [Near; 7] = [
    (
        ["sub", "repo:my--org/payments-service:ref:refs/heads/mai", "S-GH-BRANCH", "main-branch"],
        ["EQUAL", "SIBLING", "EQUAL"],
    ),
    (
        ["sub", "repo:My--Org/payments-service:ref:refs/heads/main", "S-CASE", "main-branch"],
        ["EQUAL", "CASE", "EQUAL"],
    ),
    (
        ["sub", "repo:my--org@12/payments-service@34:ref:refs/heads/main", "S-GH-IMMUT", "main-branch"],
        ["EQUAL", "FORM", "EQUAL"],
    ),
    (
        ["sub", "repo:my--org/payments-service:environment:off", "C-OFF", "switched-off"],
        ["EQUAL", "EQUAL", "EQUAL"],
    ),
    (["aud", "api://azureadtokenexchange", "A-CASE", "main-branch"], ["EQUAL", "EQUAL", "CASE"]),
    (["aud", "https://github.com/my--org", "A-DEFAULT-GH", "main-branch"], ["EQUAL", "EQUAL", "DIFFERENT"]),
    (["iss", "https://issuer.invalid/", "I-SLASH-MISSING", "unreachable"], ["SLASH", "EQUAL", "EQUAL"]),
];

/// The honest token with one claim changed.
fn changed(world: &World, claim: &str, value: &str) -> String {
    let (header, mut claims) = world.honest();
    claims[claim] = json!(value);
    if claim == "iss" {
        claims["sub"] = json!("anything");
    }
    world.sign(&header, &claims)
}

/// An answer without what no two answers share, and without what was presented.
fn bare(reply: &Reply, presented: &str) -> (u16, Vec<String>, String) {
    let mut names: Vec<String> = reply.headers.keys().map(ToString::to_string).collect();
    names.sort();
    let (trace, correlation) = (reply.trace(), reply.body["correlation_id"].as_str().unwrap());
    let text = reply.body.to_string();
    (reply.status, names, text.replace(&trace, "T").replace(correlation, "C").replace(presented, "P"))
}

#[test]
fn the_record_tells_why_and_the_answer_is_that_of_a_stranger() {
    shared(async |world: &'static World| {
        world.request().send(world).await.token();
        for ([claim, near, cause, nearest], classes) in NEAR {
            // As long, and near to nothing.
            let far = "q".repeat(near.len());
            let token = changed(world, claim, near);
            let reply = world.request_with(&token).send(world).await;
            let stranger = world.request_with(&changed(world, claim, &far)).send(world).await;
            assert_eq!(bare(&reply, near), bare(&stranger, &far), "{cause}");
            assert_eq!(reply.header("content-length"), stranger.header("content-length"));
            // Nothing of what is configured, nor what was found.
            let whole = format!("{:?}{}", reply.headers, reply.body).replace(near, "");
            for secret in [
                cause,
                nearest,
                "refs/heads/main",
                "environment:",
                "api://",
                "issuer.invalid",
                "id-deploy",
                "EQUAL",
            ] {
                assert!(!whole.contains(secret), "{cause}: {secret} in {whole}");
            }

            let record = world.record(&reply.trace()).await;
            let found = &record["nearMiss"];
            assert_eq!(
                (&found["cause"], &found["credential"]),
                (&json!(cause), &json!(nearest)),
                "{record:#}"
            );
            let fields = ["issuer", "subject", "audience"];
            assert_eq!(fields.map(|field| found[field].as_str().unwrap()), classes, "{record:#}");
            assert!(found["hint"].as_str().is_some_and(|hint| hint.len() > 10));
            for (field, class) in fields.into_iter().zip(classes) {
                let configured = format!("configured{}{}", field[..1].to_uppercase(), &field[1..]);
                assert_eq!(found.get(&configured).is_some(), class != "EQUAL", "{record:#}");
            }
            assert_eq!(record["verified"], claim != "iss");
        }
        let granted = world.request().send(world).await;
        granted.token();
        assert_eq!(world.record(&granted.trace()).await["nearMiss"], Value::Null);
    });
}

#[test]
fn a_token_of_another_identity_is_told_to_the_operator_alone() {
    // Only one of two identities of the tenant has this credential.
    let more = format!(
        "{DIRECTORY}\n[[identity]]\ntenant = \"contoso.example\"\nname = \"id-theirs\"\nkind = \"application\"\n\
         client_id = \"aaaaaaaa-0009-4a00-8000-000000000009\"\n\
         principal_id = \"bbbbbbbb-0009-4a00-8000-000000000009\"\n\
         [[identity.federated_credential]]\nname = \"theirs\"\nissuer = \"{{issuer}}\"\nsubject = \"repo:my--org/payments-service:pull_request\"\n\
         [[identity.federated_credential]]\nname = \"reusable\"\nissuer = \"{{issuer}}\"\n\
         subject = \"repo:my--org/workflows:ref:refs/heads/next\"\n"
    );
    own(Plan { directory: more, ..Plan::default() }, |world| async move {
        let token = changed(&world, "sub", "repo:my--org/payments-service:pull_request");
        let reply = world.request_with(&token).send(&world).await;
        reply.refused(401, "invalid_client", 700_213);
        assert!(!reply.body.to_string().contains("theirs"));
        let found = world.record(&reply.trace()).await["nearMiss"].clone();
        assert_eq!(
            (&found["cause"], &found["otherIdentity"]),
            (&json!("T-WRONGCLIENT"), &json!("id-theirs"))
        );
        // By its own client id it is accepted as far as its roles.
        let right = world.request_with(&token).with("client_id", "aaaaaaaa-0009-4a00-8000-000000000009");
        right.send(&world).await.refused(401, "invalid_grant", 501_051);
        // The claim that names a reusable workflow's repository is read for the explanation alone.
        for (workflow, cause) in
            [("my--org/workflows", "S-GH-REUSE"), ("my--org/payments-service", "S-GH-REPO")]
        {
            let (header, mut claims) = world.honest();
            claims["sub"] = json!("repo:my--org/payments-service:ref:refs/heads/next");
            claims["job_workflow_ref"] =
                json!(format!("{workflow}/.github/workflows/deploy.yml@refs/heads/main"));
            let token = world.sign(&header, &claims);
            let wrong = world.request_with(&token).with("client_id", "aaaaaaaa-0009-4a00-8000-000000000009");
            let reply = wrong.send(&world).await;
            reply.refused(401, "invalid_client", 700_213);
            assert_eq!(world.record(&reply.trace()).await["nearMiss"]["cause"], cause);
        }
        // An object id is no client id.
        let reply = world.request_with(&token).with("client_id", PRINCIPAL).send(&world).await;
        reply.refused(401, "unauthorized_client", 700_016);
        let found = world.record(&reply.trace()).await["nearMiss"].clone();
        assert_eq!(
            (&found["cause"], &found["otherIdentity"]),
            (&json!("T-WRONGCLIENT"), &json!("id-deploy"))
        );
    });
}

#[test]
fn what_the_reason_tells_has_a_cause_too() {
    shared(async |world: &'static World| {
        let now = world.clock.now();
        let (header, claims) = world.honest();
        let with = |name: &str, value: Value| {
            let mut claims = claims.clone();
            claims[name] = value;
            world.sign(&header, &claims)
        };
        let mut unknown = header.clone();
        unknown["kid"] = json!("nobody's");
        let honest = world.assertion();
        let forged = format!("{}.{}", honest.rsplit_once('.').unwrap().0, "A".repeat(342));
        for (token, cause) in [
            (with("exp", json!(now - 3600)), "T-EXPIRED"),
            (with("iat", json!(now + 3600)), "T-FUTURE"),
            (with("exp", json!(now + 90_000_000)), "T-LONG"),
            (world.sign(&unknown, &claims), "T-KID"),
            (forged, "T-SIG"),
            (format!("Bearer {honest}"), "T-FORMAT"),
        ] {
            let reply = world.request_with(&token).send(world).await;
            assert_ne!(reply.status, 200);
            let record = world.record(&reply.trace()).await;
            assert_eq!(record["nearMiss"]["cause"], cause, "{record:#}");
        }
    });
}

#[test]
fn causes_are_counted_and_a_flood_is_looked_into_within_its_budget() {
    const BUDGET: u32 = 200;
    own(Plan::default(), |world| async move {
        let count = |cause: &str| format!("ficus_refusal_causes_total{{cause=\"{cause}\"}}");
        assert_eq!(world.metric(&count("S-GH-BRANCH")).await, 0.0);
        // The clock stands still: all of it happens in one second.
        for number in 0..BUDGET + 5 {
            let token =
                changed(&world, "sub", &format!("repo:my--org/payments-service:ref:refs/heads/b{number}"));
            world.request_with(&token).send(&world).await.refused(401, "invalid_client", 700_213);
        }
        let all = || async {
            let late = world.metric(&count("not_examined")).await;
            (world.metric(&count("S-GH-BRANCH")).await + late == f64::from(BUDGET + 5)).then_some(late)
        };
        assert_eq!(eventually("all refusals counted", all).await, 5.0);
        let with_cause =
            world.audit().iter().filter(|line| line["nearMiss"]["cause"] == "S-GH-BRANCH").count();
        assert_eq!(with_cause, BUDGET as usize);
        world.request().send(&world).await.token();
        // What is known is told again without looking; the next second has a budget of its own.
        let known = changed(&world, "sub", "repo:my--org/payments-service:ref:refs/heads/b0");
        let reply = world.request_with(&known).send(&world).await;
        assert_eq!(world.record(&reply.trace()).await["nearMiss"]["cause"], "S-GH-BRANCH");
        world.clock.set(world.clock.now() + 1);
        let late = changed(&world, "sub", "repo:my--org/payments-service:ref:refs/heads/b204");
        let reply = world.request_with(&late).send(&world).await;
        assert_eq!(world.record(&reply.trace()).await["nearMiss"]["cause"], "S-GH-BRANCH");
    });
}

#[test]
fn a_credential_that_somebody_overwrote_is_told_while_the_broker_runs() {
    own(Plan::default(), |world| async move {
        let (records, file) = (world.records(), "etc/directory/records.toml");
        world.request().send(&world).await.token();
        let overwritten = records.replacen(
            "payments-service:ref:refs/heads/main",
            "payments-service:ref:refs/heads/next",
            1,
        );
        assert_ne!(overwritten, records);
        world.live(file, &overwritten).await;
        let reply = world.request().send(&world).await;
        reply.refused(401, "invalid_client", 700_213);
        assert_eq!(world.record(&reply.trace()).await["nearMiss"]["cause"], "T-DUP");
        world.live(file, &records).await;
        world.request().send(&world).await.token();
    });
}

#[test]
fn what_refusals_are_looked_into_with_is_made_before_the_first_one() {
    own(Plan::default(), |world| async move {
        wait_for(|| world.broker.directory().is_prepared().then_some(())).await;
        let records = world.records().replace("id-roleless", "id-other");
        world.live("etc/directory/records.toml", &records).await;
        wait_for(|| world.broker.directory().is_prepared().then_some(())).await;
        assert_eq!(world.metric("ficus_exchanges_total{dialect=\"entra_v2\",outcome=\"refused\",reason=\"subject_unmatched\"}").await, 0.0);
    });
}

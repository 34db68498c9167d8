//! Every emulated platform in front of the broker: its token is exchanged, and its best-known near miss is not.

use ficus::emulator::ServiceAccount;
use ficus::emulator::github::Job;
use ficus::emulator::gitlab;

use crate::support::{AUDIENCE, DIRECTORY, Plan, RUNTIME, World};

const GITLAB: &str = "project_path:my--group/catalog-api:ref_type:branch:ref:main";

/// The shared world's directory, in which the first identity also trusts a workload on each of the other platforms.
pub fn plan() -> Plan {
    let trusted = [
        ("gitlab", GITLAB),
        ("gke", "system:serviceaccount:catalog:catalog-api"),
        ("aks", "system:serviceaccount:payments:payments-service"),
    ];
    let (mut issuer, mut credentials) = (String::new(), String::new());
    for (name, subject) in trusted {
        issuer += &format!(
            "[[issuer]]\nurl = \"{{{name}}}\"\nca_file = \"../emulator.pem\"\nallow_private_network = true\n"
        );
        credentials += &format!(
            "[[identity.federated_credential]]\nname = \"on-{name}\"\nissuer = \"{{{name}}}\"\nsubject = \"{subject}\"\n"
        );
    }
    let first = "[[identity.federated_credential]]";
    let directory = DIRECTORY.replacen(first, &format!("{credentials}{first}"), 1);
    Plan { issuer, directory, ..Plan::default() }
}

async fn granted(world: &World, assertion: &str, credential: &str) {
    let reply = world.request_with(assertion).send(world).await;
    assert!(!reply.token().is_empty());
    assert_eq!(world.record(&reply.trace()).await["federatedCredentialName"], credential);
}

async fn refused(world: &World, assertion: &str, code: u32) {
    world.request_with(assertion).send(world).await.refused(401, "invalid_client", code);
}

#[test]
fn each_platforms_token_is_exchanged_and_its_near_miss_refused() {
    RUNTIME.block_on(async {
        let world = &World::start(plan()).await;

        let github = world.emulator.github();
        granted(world, &github.assertion(&Job::default(), AUDIENCE), "main-branch").await;
        // An environment hides the branch.
        let production = Job { environment: Some("production".to_owned()), ..Job::default() };
        refused(world, &github.assertion(&production, AUDIENCE), 700_213).await;

        let (gitlab, job) = (world.emulator.gitlab(), gitlab::Job::default());
        granted(world, &gitlab.assertion(&job, AUDIENCE), "on-gitlab").await;
        granted(world, &gitlab.assertion(&job, vec![AUDIENCE]), "on-gitlab").await;
        // The full name of the branch, as GitHub would have it.
        let mut claims = gitlab.claims(&job, AUDIENCE);
        claims["sub"] = GITLAB.replace(":main", ":refs/heads/main").into();
        let key = &gitlab.keys()[1];
        refused(world, &key.sign(&key.header(), &claims), 700_213).await;

        let gke = world.emulator.gke();
        let (account, other) = (("catalog", "catalog-api"), ("default", "catalog-api"));
        let token = |(namespace, name)| gke.assertion(&ServiceAccount::new(namespace, name), &[AUDIENCE]);
        granted(world, &token(account), "on-gke").await;
        refused(world, &token(other), 700_213).await;

        let aks = world.emulator.aks();
        let account = ServiceAccount::new("payments", "payments-service");
        granted(world, &aks.assertion(&account, &[AUDIENCE]), "on-aks").await;
        // The slash is a part of the issuer.
        let mut claims = aks.claims(&account, &[AUDIENCE]);
        claims["iss"] = aks.issuer().trim_end_matches('/').into();
        let key = &aks.keys()[0];
        refused(world, &key.sign(&key.header(), &claims), 700_211).await;

        let granted = "ficus_exchanges_total{dialect=\"entra_v2\",outcome=\"granted\",reason=\"granted\"}";
        assert_eq!(world.metric(granted).await, 5.0);
    });
}

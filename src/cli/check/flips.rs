//! Who would get a token by one directory and not by another.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::{Value, json};

use crate::domain::authorize::suppose;
use crate::domain::credential::{CredentialState, Identity};
use crate::domain::directory::Directory;
use crate::domain::expectation::{Expectation, Judge};
use crate::domain::ids::Guid;
use crate::domain::refusal::Reason;
use crate::domain::resource::{Resource, Target};
use crate::domain::tenant::{Assignment, Tenant};
use crate::domain::verdict::{Claims, Question};

use super::records::shown;

/// A directory, and what is expected of it.
pub(super) struct Side<'a> {
    pub(super) directory: &'a Directory,
    pub(super) expectations: Vec<(Guid, &'a Expectation)>,
}

/// What a token would get: the name of the credential, or of the resource, that it is granted by or for.
#[derive(PartialEq, Eq)]
pub(super) enum Verdict {
    Granted(String),
    Refused(Reason),
}

impl Verdict {
    fn is_granted(&self) -> bool {
        matches!(self, Self::Granted(_))
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Granted(by) => format!("granted: {by}"),
            Self::Refused(reason) => format!("refused: AADSTS{} {}", reason.code(), reason.label()),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Granted(by) => json!({ "outcome": "granted", "by": by }),
            Self::Refused(reason) => {
                json!({ "outcome": "refused", "code": reason.code(), "reason": reason.label() })
            }
        }
    }
}

/// A token that would get something by one side only.
pub(super) struct Flip {
    pub(super) tenant: String,
    pub(super) identity: String,
    /// What the token says; `None` where it is about roles, whatever the token says.
    pub(super) claims: Option<Value>,
    pub(super) resource: Option<String>,
    pub(super) before: Verdict,
    pub(super) after: Verdict,
}

impl Flip {
    /// In words.
    pub(super) fn what(&self) -> &'static str {
        if self.after.is_granted() { "would now be granted" } else { "would no longer be granted" }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "change": if self.after.is_granted() { "granted" } else { "refused" },
            "tenant": self.tenant,
            "identity": self.identity,
            "claims": self.claims,
            "resource": self.resource,
            "before": self.before.json(),
            "after": self.after.json(),
        })
    }
}

/// Every flip: of what either side expects, of what either side's credentials are for, and of what identities may have.
pub(super) fn flips(before: &Side<'_>, after: &Side<'_>) -> Vec<Flip> {
    let sides = [before.directory, after.directory];
    let mut found = of_expectations(before, after);
    for tenant in before.directory.tenants() {
        let Ok(now) = after.directory.tenant(&tenant.id.to_string()) else { continue };
        let tenants = [tenant, now];
        of_credentials(sides, tenants, &mut found);
        of_access(tenants, &mut found);
    }
    // The same may be expected and be what a credential is for.
    let mut seen = HashSet::new();
    let mut key = |flip: &Flip| {
        let claims = flip.claims.as_ref().map(Value::to_string);
        seen.insert((flip.tenant.clone(), flip.identity.clone(), claims, flip.resource.clone()))
    };
    found.retain(&mut key);
    let order = |flip: &Flip| (flip.tenant.clone(), flip.identity.clone(), flip.resource.clone());
    found.sort_by_cached_key(order);
    found
}

fn of_expectations(before: &Side<'_>, after: &Side<'_>) -> Vec<Flip> {
    let judges = [before, after].map(|side| Judge::new(side.directory));
    let mut found = Vec::new();
    for (tenant, expectation) in before.expectations.iter().chain(&after.expectations) {
        let verdict = |judge: &Judge<'_>, directory: &Directory| {
            let Ok(client) = judge.client(*tenant, &expectation.identity) else {
                return Verdict::Refused(Reason::ClientUnknown);
            };
            let (tenant, client) = (tenant.to_string(), client.to_string());
            let (claims, target) = (&expectation.claims, expectation.target.as_ref());
            decided(&Question { tenant: &tenant, client: &client, claims, target }, directory)
        };
        let [was, is] = [(0, before), (1, after)].map(|(at, side)| verdict(&judges[at], side.directory));
        let name = after.directory.tenant(&tenant.to_string()).map(shown).unwrap_or_default();
        let resource = expectation.target.as_ref().map(|target| target.audience().to_string());
        let claims = Some(expectation.claims.json());
        let identity = expectation.identity.clone();
        found.extend(flip((name, identity), (claims, resource), was, is));
    }
    found
}

/// What each credential is for. An identity that is the same on both sides is left out: nothing else decides it.
fn of_credentials(sides: [&Directory; 2], tenants: [&Tenant; 2], found: &mut Vec<Flip>) {
    let [before, after] = tenants.map(by_client);
    let clients: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for client in clients {
        let pair = [before.get(client), after.get(client)];
        if pair[0] == pair[1] {
            continue;
        }
        let mut tried = BTreeMap::new();
        for credential in pair.iter().flatten().flat_map(|identity| &identity.credentials) {
            let key = (&*credential.issuer, credential.subject.as_str(), credential.audience.as_str());
            tried.entry(key).or_insert_with(|| Claims::of(credential));
        }
        let (tenant, name) =
            (tenants[1].id.to_string(), pair.iter().flatten().next_back().map(|one| one.name.clone()));
        let client = client.to_string();
        for claims in tried.values() {
            let question = Question { tenant: &tenant, client: &client, claims, target: None };
            let [was, is] = sides.map(|directory| decided(&question, directory));
            let identity = (shown(tenants[1]), name.clone().unwrap_or_default());
            found.extend(flip(identity, (Some(claims.json()), None), was, is));
        }
    }
}

/// What identities that are on both sides may have, where roles or resources differ.
fn of_access(tenants: [&Tenant; 2], found: &mut Vec<Flip>) {
    let [before, after] = tenants.map(by_client);
    let resources = tenants.map(by_resource);
    let given = tenants.map(by_principal);
    let all: BTreeSet<_> = resources.iter().flat_map(HashMap::keys).collect();
    let same_resource = |id: &Guid| resources[0].get(id) == resources[1].get(id);
    let changed: BTreeSet<_> = all.iter().copied().filter(|id| !same_resource(id)).collect();
    for (client, was) in &before {
        let Some(is) = after.get(client).filter(|is| counts(was) && counts(is)) else { continue };
        let same = was.principal_id == is.principal_id
            && given[0].get(&was.principal_id) == given[1].get(&is.principal_id);
        for id in if same { &changed } else { &all } {
            let target = Target::Client(**id);
            let verdicts = [(0, was), (1, is)].map(|(side, identity)| {
                let allowed = suppose((tenants[side], identity), &target, "");
                match (allowed, resources[side].get(*id)) {
                    (Err(refusal), _) => Verdict::Refused(refusal.reason()),
                    (Ok(_), resource) => {
                        Verdict::Granted(resource.map(|one| one.name.clone()).unwrap_or_default())
                    }
                }
            });
            let resource =
                resources.iter().rev().find_map(|side| side.get(*id)).map(|resource| resource.name.clone());
            let [was, now] = verdicts;
            found.extend(flip((shown(tenants[1]), is.name.clone()), (None, resource), was, now));
        }
    }
}

fn flip(
    (tenant, identity): (String, String),
    (claims, resource): (Option<Value>, Option<String>),
    before: Verdict,
    after: Verdict,
) -> Option<Flip> {
    let flips = before.is_granted() != after.is_granted();
    flips.then_some(Flip { tenant, identity, claims, resource, before, after })
}

fn decided(question: &Question<'_>, directory: &Directory) -> Verdict {
    match question.verdict(directory) {
        Ok(credential) => Verdict::Granted(credential.name.clone()),
        Err(refusal) => Verdict::Refused(refusal.reason()),
    }
}

/// Whether some token could fit.
fn counts(identity: &Identity) -> bool {
    identity.enabled
        && identity.credentials.iter().any(|credential| credential.state == CredentialState::Enabled)
}

fn by_client(tenant: &Tenant) -> BTreeMap<Guid, &Identity> {
    tenant.identities().map(|identity| (identity.client_id, identity)).collect()
}

fn by_resource(tenant: &Tenant) -> HashMap<Guid, &Resource> {
    tenant.resources().iter().map(|resource| (resource.client_id, resource)).collect()
}

fn by_principal(tenant: &Tenant) -> HashMap<Guid, BTreeSet<&Assignment>> {
    let mut found: HashMap<_, BTreeSet<_>> = HashMap::new();
    for assignment in tenant.assignments() {
        found.entry(assignment.principal_id).or_default().insert(assignment);
    }
    found
}

//! One tenant of the snapshot: its identities, credentials, resources and role assignments.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use super::credential::Identity;
use super::ids::Guid;
use super::refusal::Refusal;
use super::resource::{Resource, Target};
use super::scope::ScopePath;
use super::whereabouts::Whereabouts;

/// One tenant with everything in it. What belongs to another tenant can't be reached from here.
#[derive(Debug)]
pub struct Tenant {
    /// Its GUID; every URL and token of ours uses it.
    pub id: Guid,
    /// Its domain, lower case.
    pub domain: Option<String>,
    /// `iss` of v1.0 tokens.
    pub issuer_v1: Arc<str>,
    /// `iss` of v2.0 tokens.
    pub issuer_v2: Arc<str>,
    /// Shared with snapshots that hold the same.
    identities: HashMap<Guid, Arc<Identity>>,
    by_resource_id: HashMap<String, Guid>,
    resources: Vec<Resource>,
    by_uri: HashMap<String, usize>,
    by_client: HashMap<Guid, usize>,
    assignments: HashMap<Guid, Vec<Assignment>>,
    /// Every subscription that a record names: found when somebody asks for them, and then at hand.
    subscriptions: OnceLock<BTreeSet<Guid>>,
    /// For explaining refusals alone, so found when the first one is explained.
    whereabouts: OnceLock<Whereabouts>,
}

/// What an identity may do where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Assignment {
    /// Whom it is for.
    pub principal_id: Guid,
    /// The role's name, as it goes into `roles`.
    pub role: Arc<str>,
    /// Where it applies, and below.
    pub scope: ScopePath,
}

impl Tenant {
    /// A tenant without records.
    pub fn new(id: Guid, domain: Option<String>, issuers: (Arc<str>, Arc<str>)) -> Self {
        Self {
            id,
            domain: domain.map(|domain| domain.to_ascii_lowercase()),
            issuer_v1: issuers.0,
            issuer_v2: issuers.1,
            identities: HashMap::new(),
            by_resource_id: HashMap::new(),
            resources: Vec::new(),
            by_uri: HashMap::new(),
            by_client: HashMap::new(),
            assignments: HashMap::new(),
            subscriptions: OnceLock::new(),
            whereabouts: OnceLock::new(),
        }
    }

    /// Adds an identity; `false` when its client id is taken.
    pub fn add_identity(&mut self, identity: Arc<Identity>) -> bool {
        let free = !self.identities.contains_key(&identity.client_id);
        if free {
            if let Some(resource_id) = &identity.resource_id {
                self.by_resource_id.insert(resource_id.to_ascii_lowercase(), identity.client_id);
            }
            self.identities.insert(identity.client_id, identity);
        }
        free
    }

    /// Adds a resource; gives back the name of the first identifier that another resource has.
    pub fn add_resource(&mut self, resource: Resource) -> Result<(), String> {
        let index = self.resources.len();
        if self.by_client.contains_key(&resource.client_id) {
            return Err(resource.client_id.to_string());
        }
        if let Some(taken) = resource.identifier_uris.iter().find(|uri| self.by_uri.contains_key(*uri)) {
            return Err(taken.clone());
        }
        self.by_client.insert(resource.client_id, index);
        self.by_uri.extend(resource.identifier_uris.iter().map(|uri| (uri.clone(), index)));
        self.resources.push(resource);
        Ok(())
    }

    /// Adds a role assignment.
    pub fn add_assignment(&mut self, assignment: Assignment) {
        self.assignments.entry(assignment.principal_id).or_default().push(assignment);
    }

    /// Looks an identity up as a caller names it.
    pub fn identity(&self, client: &str, tenant: &str) -> Result<&Identity, Refusal> {
        let id = Guid::parse(client);
        if id.is_some_and(Guid::is_nil) {
            return Err(Refusal::ClientNil);
        }
        id.and_then(|id| self.identities.get(&id))
            .ok_or_else(|| Refusal::ClientUnknown { client: client.to_owned(), tenant: tenant.to_owned() })?
            .in_use(client)
    }

    /// The identity whose client id or resource id this is, enabled or not. ARM's ids have no case.
    pub fn named(&self, name: &str) -> Option<&Identity> {
        let id = Guid::parse(name).or_else(|| self.by_resource_id.get(&name.to_ascii_lowercase()).copied());
        self.identities.get(&id?).map(Arc::as_ref)
    }

    /// Makes what is needed to look identities up by anything but their ids, unless it is made.
    pub(super) fn prepare(&self) {
        self.whereabouts();
    }

    pub(super) fn is_prepared(&self) -> bool {
        self.whereabouts.get().is_some()
    }

    /// Looks an identity up by its client id.
    pub(super) fn client(&self, id: Guid) -> Option<&Identity> {
        self.identities.get(&id).map(Arc::as_ref)
    }

    /// Identities that may have a credential of this issuer and subject: whoever needs to know compares.
    pub(super) fn vouched_for(&self, issuer: &str, subject: &str) -> impl Iterator<Item = &Identity> {
        let clients = self.whereabouts().vouched(issuer, subject);
        clients.filter_map(|client| self.identities.get(&client)).map(Arc::as_ref)
    }

    /// The identity of a principal id.
    pub(super) fn principal(&self, principal: Guid) -> Option<&Identity> {
        let client = self.whereabouts().principal(principal)?;
        self.identities.get(&client).map(Arc::as_ref)
    }

    fn whereabouts(&self) -> &Whereabouts {
        self.whereabouts.get_or_init(|| Whereabouts::of(self.identities()))
    }

    /// Looks a resource up: by client id, by the exact URI, else with one trailing slash more or less.
    pub fn resource(&self, target: &Target) -> Option<&Resource> {
        let index = match target {
            Target::Client(id) => self.by_client.get(id),
            Target::Uri(uri) => self.by_uri.get(uri).or_else(|| match uri.strip_suffix('/') {
                Some(without) => self.by_uri.get(without),
                None => self.by_uri.get(&format!("{uri}/")),
            }),
        }?;
        self.resources.get(*index)
    }

    /// Names of the roles that a principal has at a scope or an ancestor of it, sorted, each once.
    pub fn roles(&self, principal: Guid, scope: &ScopePath) -> Vec<Arc<str>> {
        let given = self.assignments.get(&principal).map(Vec::as_slice).unwrap_or_default();
        let covering: BTreeSet<_> = given
            .iter()
            .filter(|assignment| assignment.scope.covers(scope))
            .map(|a| a.role.clone())
            .collect();
        covering.into_iter().collect()
    }

    /// The subscriptions in which a principal has a role, there or below, sorted. Who has one at `/` has it in every
    /// subscription that a record of the tenant names.
    pub fn subscriptions(&self, principal: Guid) -> Cow<'_, BTreeSet<Guid>> {
        let given = self.assignments.get(&principal).map(Vec::as_slice).unwrap_or_default();
        if given.iter().any(|assignment| assignment.scope.canonical().is_empty()) {
            return Cow::Borrowed(self.subscriptions.get_or_init(|| self.named_subscriptions()));
        }
        Cow::Owned(given.iter().filter_map(|assignment| assignment.scope.subscription()).collect())
    }

    fn named_subscriptions(&self) -> BTreeSet<Guid> {
        let homes =
            self.identities().filter_map(|identity| ScopePath::parse(identity.resource_id.as_deref()?));
        let homes = homes.filter_map(|home| home.subscription());
        let resources = self.resources.iter().filter_map(|resource| resource.scope.subscription());
        let assignments = self.assignments().filter_map(|assignment| assignment.scope.subscription());
        homes.chain(resources).chain(assignments).collect()
    }

    /// All identities, in no order.
    pub fn identities(&self) -> impl Iterator<Item = &Identity> {
        self.identities.values().map(|identity| &**identity)
    }

    /// All resources, in the order of the records.
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// All role assignments, in no order.
    pub fn assignments(&self) -> impl Iterator<Item = &Assignment> {
        self.assignments.values().flatten()
    }
}

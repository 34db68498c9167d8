//! What one file says. It depends on nothing outside the file, so that it holds for as long as the file is the same.

use std::sync::Arc;

use super::expectations::{self, Placed};
use super::issuers::Issuers;
use super::records;
use crate::document::{Document, Problem, Problems, Reader, Spot};
use crate::domain::credential::{Credential, Identity};
use crate::domain::resource::Resource;
use crate::domain::rules::MAX_CREDENTIALS;
use crate::domain::tenant::Assignment;

/// The records of one file, each checked for itself, and what is wrong with them.
#[derive(Debug)]
pub struct Content {
    pub(super) identities: Vec<Record<PlacedIdentity>>,
    pub(super) resources: Vec<Record<(Resource, Spot)>>,
    /// With the place of the principal.
    pub(super) assignments: Vec<Record<(Assignment, Spot)>>,
    pub(super) expectations: Vec<Record<Placed>>,
    pub(super) issuers: Issuers,
    pub(super) problems: Vec<Problem>,
}

/// A record, and the tenant that it says it belongs to.
#[derive(Debug)]
pub(super) struct Record<T> {
    pub(super) tenant: Option<String>,
    pub(super) tenant_spot: Spot,
    /// `None` when it could not be read, which is among the problems.
    pub(super) value: Option<T>,
}

/// An identity, and the places of what must be unique.
#[derive(Debug)]
pub(super) struct PlacedIdentity {
    /// Shared with the snapshots that hold it.
    pub(super) identity: Arc<Identity>,
    pub(super) name: Spot,
    pub(super) client_id: Spot,
    pub(super) principal_id: Spot,
}

impl Content {
    /// Reads a file's text.
    pub fn read(file: &str, text: &str) -> Self {
        let problems = Problems::default();
        let mut issuers = Issuers::default();
        let mut root = Document::parse(file, text, &problems).reader(&problems);
        let mut identity = |reader| Record::read(reader, |reader| identity(reader, &mut issuers));
        let identities = root.tables("identity").into_iter().map(&mut identity).collect();
        let resource = |reader| Record::read(reader, resource);
        let resources = root.tables("resource").into_iter().map(resource).collect();
        let assignment = |reader| Record::read(reader, assignment);
        let assignments = root.tables("role_assignment").into_iter().map(assignment).collect();
        let expectation = |reader| Record::read(reader, expectations::read);
        let expectations = root.tables("expect").into_iter().map(expectation).collect();
        root.finish();
        Self { identities, resources, assignments, expectations, issuers, problems: problems.into_vec() }
    }
}

impl<T> Record<T> {
    fn read(mut reader: Reader<'_>, read: impl FnOnce(&mut Reader<'_>) -> Option<T>) -> Self {
        let (tenant, tenant_spot) = (reader.get("tenant"), reader.spot("tenant"));
        let value = read(&mut reader);
        reader.finish();
        Self { tenant, tenant_spot, value }
    }
}

fn identity(reader: &mut Reader<'_>, issuers: &mut Issuers) -> Option<PlacedIdentity> {
    let identity = records::identity(reader);
    // A record that can't be read still has its credentials checked, so that all problems come at once.
    let credentials = credentials(reader, issuers);
    Some(PlacedIdentity {
        identity: Arc::new(Identity { credentials, ..identity? }),
        name: reader.spot("name"),
        client_id: reader.spot("client_id"),
        principal_id: reader.spot("principal_id"),
    })
}

fn credentials(reader: &mut Reader<'_>, issuers: &mut Issuers) -> Vec<Credential> {
    let tables = reader.tables("federated_credential");
    if tables.len() > MAX_CREDENTIALS {
        let message = format!("{} credentials: an identity has at most {MAX_CREDENTIALS}", tables.len());
        reader.problem("federated_credential", message, "nothing is truncated; use a second identity");
    }
    let mut read = Vec::with_capacity(tables.len());
    for mut reader in tables {
        if let Some(credential) = records::credential(&mut reader, issuers) {
            check_beside(&credential, &read, &reader);
            read.push(credential);
        }
        reader.finish();
    }
    read
}

/// The rules between the credentials of one identity.
fn check_beside(credential: &Credential, others: &[Credential], reader: &Reader<'_>) {
    if others.iter().any(|other| other.name.eq_ignore_ascii_case(&credential.name)) {
        reader.problem("name", format!("{:?} is there twice in this identity", credential.name), "");
    }
    let same = |other: &Credential| other.subject == credential.subject && other.issuer == credential.issuer;
    if others.iter().any(same) {
        let hint = "issuer and subject together are unique in an identity";
        reader.problem("subject", format!("{:?} is there twice for this issuer", credential.subject), hint);
    }
}

fn resource(reader: &mut Reader<'_>) -> Option<(Resource, Spot)> {
    Some((records::resource(reader)?, reader.spot("")))
}

fn assignment(reader: &mut Reader<'_>) -> Option<(Assignment, Spot)> {
    Some((records::assignment(reader)?, reader.spot("principal_id")))
}

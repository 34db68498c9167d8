//! Service accounts of Kubernetes, on every platform that runs it.

use super::super::grammar::kubernetes::ServiceAccount;
use super::{Cause, Class, Finding, Pair};

pub(super) fn subject(pair: &Pair<'_>) -> Option<Finding> {
    let presented = ServiceAccount::parse(&pair.said.subject)?;
    let Some(configured) = ServiceAccount::parse(&pair.credential.subject) else {
        let meant = ServiceAccount::parse_loosely(&pair.credential.subject)?;
        return (meant == presented).then_some(Finding::of(Class::Form, Cause::SK8sFmt));
    };
    match (presented.namespace == configured.namespace, presented.name == configured.name) {
        (true, false) if presented.name == "default" => {
            Some(Finding::sibling(Cause::SK8sDefault, "service account"))
        }
        (true, false) => Some(Finding::sibling(Cause::SK8sSa, "service account")),
        (false, true) => Some(Finding::sibling(Cause::SK8sNs, "namespace")),
        _ => None,
    }
}

//! Subjects of Kubernetes service accounts: `system:serviceaccount:NAMESPACE:NAME`.

/// A service account. Neither of its names can hold a colon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct ServiceAccount<'a> {
    pub(in super::super) namespace: &'a str,
    pub(in super::super) name: &'a str,
}

impl<'a> ServiceAccount<'a> {
    /// Reads the exact form.
    pub(in super::super) fn parse(subject: &'a str) -> Option<Self> {
        let (namespace, name) = subject.strip_prefix("system:serviceaccount:")?.split_once(':')?;
        (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some(Self { namespace, name })
    }

    /// Reads what people write in its place: `ns:name`, `ns/name`, `serviceaccount:ns:name` and the like.
    pub(in super::super) fn parse_loosely(subject: &'a str) -> Option<Self> {
        let (rest, name) = subject.rsplit_once([':', '/'])?;
        let namespace = rest.rsplit([':', '/']).next()?;
        let before = rest.strip_suffix(namespace).unwrap_or_default().trim_end_matches([':', '/']);
        let known = before.split([':', '/']).all(|word| {
            matches!(word, "" | "system" | "serviceaccount" | "serviceaccounts" | "sa" | "ns" | "namespace")
        });
        (known && !namespace.is_empty() && !name.is_empty()).then_some(Self { namespace, name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exact_form_and_what_people_write() {
        let account = Some(ServiceAccount { namespace: "shop", name: "cart" });
        assert_eq!(ServiceAccount::parse("system:serviceaccount:shop:cart"), account);
        for loose in ["shop:cart", "shop/cart", "serviceaccount:shop:cart", "system:serviceaccount:shop/cart"]
        {
            assert_eq!(ServiceAccount::parse(loose), None, "{loose}");
            assert_eq!(ServiceAccount::parse_loosely(loose), account, "{loose}");
        }
        for other in ["", "cart", "repo:shop:cart", "spiffe://shop/cart", "shop:", ":cart"] {
            assert_eq!(ServiceAccount::parse_loosely(other), None, "{other}");
        }
    }
}

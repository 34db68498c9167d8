//! Rules that every record keeps, wherever it comes from (reference: azure-management-and-imds.md section 1.4).

use url::{Host, Url};

/// Most federated identity credentials of one identity.
pub const MAX_CREDENTIALS: usize = 20;
/// Longest issuer, subject, audience or identifier URI, in characters.
pub const MAX_TEXT: usize = 600;
/// The audience of a credential that names none.
pub const DEFAULT_AUDIENCE: &str = "api://AzureADTokenExchange";

/// A rule that a value breaks: what is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// What is wrong with the value.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: &'static str,
}

fn broken<T>(message: impl Into<String>, hint: &'static str) -> Result<T, Broken> {
    Err(Broken { message: message.into(), hint })
}

/// A name of letters, digits, `-` and `_` that starts with a letter or digit.
pub fn name(text: &str, longest: usize) -> Result<(), Broken> {
    let fits = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && (3..=longest).contains(&text.len());
    if fits {
        return Ok(());
    }
    broken(
        format!(
            "{text:?} is not a name of 3 to {longest} letters, digits, '-' and '_' that starts with a letter or digit"
        ),
        "",
    )
}

/// A value that is compared byte for byte.
pub fn compared_text(text: &str) -> Result<(), Broken> {
    if text.is_empty() {
        return broken("is empty", "an empty value never matches");
    }
    if text.chars().count() > MAX_TEXT {
        return broken(format!("is longer than {MAX_TEXT} characters"), "");
    }
    if text.trim() != text {
        return broken(
            format!("{text:?} begins or ends with white space"),
            "tokens carry none: it would never match",
        );
    }
    if text.contains(char::is_control) {
        return broken(format!("{text:?} holds a control character"), "");
    }
    Ok(())
}

/// An issuer: an https URL as tokens carry it. Says whether its host is public.
pub fn issuer(text: &str) -> Result<Exposure, Broken> {
    compared_text(text)?;
    let hint = "copy the issuer as the platform's tokens carry it, for example https://token.actions.githubusercontent.com";
    let Ok(url) = Url::parse(text) else { return broken(format!("{text:?} is not a URL"), hint) };
    if url.scheme() != "https" {
        return broken(format!("{text:?} is not an https URL"), hint);
    }
    if url.query().is_some() || url.fragment().is_some() {
        return broken(format!("{text:?} has a query or fragment"), hint);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return broken(format!("{text:?} holds user information"), hint);
    }
    // A spelling that a URL parser changes is compared as one thing and fetched as another.
    if url.as_str() != text && url.as_str().strip_suffix('/') != Some(text) {
        return broken(
            format!("{text:?} would be fetched as {:?}", url.as_str()),
            "write it in the second form if tokens carry that",
        );
    }
    if text.ends_with("/.well-known/openid-configuration") {
        return broken(
            format!("{text:?} is the address of the discovery document"),
            "leave /.well-known/openid-configuration out",
        );
    }
    Ok(exposure(&url))
}

/// Whether a URL's host can be named by anyone or only inside a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// A domain name.
    Public,
    /// An IP literal, a name without a dot, or one below `localhost`, `local`, `localdomain` or `internal`.
    Private,
}

/// Classifies the host of a parsed URL, after the parser has normalised every odd spelling of an address.
pub fn exposure(url: &Url) -> Exposure {
    match url.host() {
        Some(Host::Domain(domain)) => {
            let domain = domain.trim_end_matches('.');
            let inner = ["localhost", "local", "localdomain", "internal"];
            let last = domain.rsplit('.').next().unwrap_or_default();
            if !domain.contains('.') || inner.contains(&last) { Exposure::Private } else { Exposure::Public }
        }
        _ => Exposure::Private,
    }
}

/// An identifier URI of a resource.
pub fn identifier_uri(text: &str) -> Result<(), Broken> {
    compared_text(text)?;
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    let absolute = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    if !absolute || text.contains(char::is_whitespace) || !text.is_ascii() {
        return broken(
            format!("{text:?} is not an absolute URI"),
            "for example https://vault.azure.net or api://my-api",
        );
    }
    if text.ends_with("/.default") {
        return broken(format!("{text:?} is a scope"), "leave /.default out: clients append it");
    }
    Ok(())
}

/// A resource group's name.
pub fn resource_group(text: &str) -> Result<(), Broken> {
    let fits = (1..=90).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_()-.".contains(&b))
        && !text.ends_with('.');
    if fits {
        Ok(())
    } else {
        broken(
            format!("{text:?} is not a resource group's name"),
            "1 to 90 letters, digits, '_', '(', ')', '-' and '.', not '.' at the end",
        )
    }
}

/// A tenant's domain: at least two labels.
pub fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.contains('.') && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_are_https_urls_in_the_spelling_that_is_fetched() {
        for good in [
            "https://token.actions.githubusercontent.com",
            "https://token.actions.githubusercontent.com/octo",
            "https://westeurope.oic.prod-aks.azure.com/11111111-2222-3333-4444-555555555555/66666666-7777-8888-9999-000000000000/",
            "https://oidc.eks.eu-west-1.amazonaws.com/id/0A1B2C3D4E5F60718293A4B5C6D7E8F9",
            "https://host.example:8443/x",
        ] {
            assert_eq!(issuer(good), Ok(Exposure::Public), "{good}");
        }
        for local in [
            "https://127.0.0.1",
            "https://localhost:6443",
            "https://[::1]/x",
            "https://a.localhost",
            "https://kubernetes",
            "https://metadata.google.internal",
            "https://x.local.",
        ] {
            assert_eq!(issuer(local), Ok(Exposure::Private), "{local}");
        }
        for wrong in [
            "",
            "x",
            "http://a.example",
            "file:///a",
            "data:,x",
            "https://",
            "https://u@a.example",
            "https://u:p@a.example",
            "https://a.example?x",
            "https://a.example/#",
            "https://A.example",
            "https://a.example:443",
            "https://a.example/b/../c",
            "https://0x7f.1",
            "https://2130706433",
            "https://127.1",
            "https://[::ffff:127.0.0.1]/",
            " https://a.example",
            "https://a.example\n",
            "https://a.example/.well-known/openid-configuration",
            "https://xn--a",
        ] {
            assert!(issuer(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn names_texts_and_domains() {
        assert!(name("a-b", 120).is_ok() && name(&"a".repeat(120), 120).is_ok());
        for wrong in ["ab", "-ab", "_ab", "a b", "äbc", &"a".repeat(121)] {
            assert!(name(wrong, 120).is_err(), "{wrong}");
        }
        assert!(compared_text(&"ü".repeat(600)).is_ok() && compared_text(&"a".repeat(601)).is_err());
        assert!(
            compared_text(" a").is_err() && compared_text("a\u{0}b").is_err() && compared_text("").is_err()
        );
        assert!(
            is_domain("contoso.example")
                && !is_domain("contoso")
                && !is_domain("a..b")
                && !is_domain("a.b/c")
        );
        assert!(identifier_uri("api://x").is_ok() && identifier_uri("https://x/").is_ok());
        assert!(identifier_uri("x").is_err() && identifier_uri("https://x/.default").is_err());
    }
}

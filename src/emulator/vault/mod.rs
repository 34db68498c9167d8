//! A protected API on loopback in the shape of Azure Key Vault's secrets: what a broker's tokens are for.
//!
//! It knows an authority and an audience, and learns everything else as any API does: from the authority's discovery
//! documents. Whoever presents a token of that authority for that audience, with the role, reads the secrets.
//!
//! Deliberately absent: the broker's own code for keys and tokens, writing, access policies, and role assignments: the
//! token's `roles` are those that the broker found at the resource's scope.

mod api;
mod authority;
mod judge;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use url::Url;

pub use authority::TrustError;

use super::server::{self, Running, Server};
use crate::clock::{Clock, random};
use crate::domain::digest::hex;
use crate::domain::ids::Guid;
use api::{Api, Front, Stored};
use authority::Authority;
use judge::Rules;

/// What to serve, where, and for whom.
pub struct Settings {
    /// The loopback port; 0 takes a free one.
    pub port: u16,
    /// The folder of the vault's own CA.
    pub folder: PathBuf,
    /// Whose tokens are accepted.
    pub authority: Tenant,
    /// Certificates of the CAs that the authority's server may be under, as PEM.
    pub authority_ca: Vec<u8>,
    /// The audience that tokens must have, in the challenge called the resource.
    pub resource: String,
    /// The role that tokens must have.
    pub role: String,
    /// What there is to read.
    pub secrets: Vec<Secret>,
}

/// A tenant's authority: `https://HOST/GUID`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    url: String,
    id: Guid,
}

impl Tenant {
    /// The URL, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl FromStr for Tenant {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "an authority is https://HOST/TENANT, as in https://localhost:8443/11111111-1111-1111-1111-111111111111";
        let url = Url::parse(text).map_err(|_| FORM)?;
        if url.scheme() != "https" || url.query().is_some() || url.fragment().is_some() {
            return Err(FORM);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(FORM);
        }
        // By domain there are documents, too, but tokens name their tenant by its GUID.
        let id = Guid::parse(url.path().trim_matches('/')).ok_or(
            "the tenant is named by its GUID: https://localhost:8443/11111111-1111-1111-1111-111111111111",
        )?;
        Ok(Self { url: format!("{}/{id}", url.origin().ascii_serialization()), id })
    }
}

/// A secret's name and value.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Letters, digits and hyphens; looked up without regard to case.
    pub name: String,
    /// What is kept.
    pub value: String,
}

impl FromStr for Secret {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once('=').ok_or("a secret is NAME=VALUE, as in db-password=sample")?;
        if !api::is_name(name) {
            return Err("a secret's name is 1 to 127 letters, digits and hyphens");
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

/// Why a vault did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port or the vault's own CA can't be had.
    #[error(transparent)]
    Server(#[from] server::StartError),
    /// The settings are at odds with each other or with HTTP.
    #[error("{0}")]
    Settings(String),
    /// The authority's documents can't be had.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// A running vault. It ends when this is dropped; [`Vault::shutdown`] also waits for the end.
#[derive(Debug)]
pub struct Vault {
    url: String,
    running: Running,
}

impl Vault {
    /// Reads the authority's documents, then serves in a task of its own.
    ///
    /// # Errors
    /// When the port is in use, the folder can't keep a CA, or the authority's documents can't be had.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let server = Server::bind(settings.port, Some(&settings.folder))?;
        let url = format!("https://{}", server.host_port());
        let challenge = api::challenge(&settings.authority, &settings.resource).ok_or_else(|| {
            StartError::Settings(format!("{:?} can't be the resource of a challenge", settings.resource))
        })?;
        let rules = Rules {
            audience: settings.resource,
            tenant: settings.authority.id.to_string(),
            role: settings.role,
        };
        let authority = Authority::reach(&settings.authority, &settings.authority_ca).await?;
        let made = Clock::system().now();
        let stored = |secret: Secret| Stored { secret, version: hex(&random::<16>()), made };
        let mut secrets: Vec<_> = settings.secrets.into_iter().map(stored).collect();
        secrets.sort_by_key(|stored| stored.secret.name.to_ascii_lowercase());
        let twice =
            secrets.windows(2).find(|two| two[0].secret.name.eq_ignore_ascii_case(&two[1].secret.name));
        if let Some(two) = twice {
            let name = &two[0].secret.name;
            return Err(StartError::Settings(format!("there are two secrets of the name {name}")));
        }
        let api = Api { url: url.clone(), challenge, authority, rules, secrets };
        let running = server.serve(vec![Arc::new(Front(Arc::new(api)))]);
        Ok(Self { url, running })
    }

    /// `https://localhost:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends, and waits until the port is free.
    pub async fn shutdown(self) {
        self.running.end().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_https_and_a_guid() {
        const URL: &str = "https://localhost:8443/11111111-1111-1111-1111-11111111111a";
        for same in [URL.to_owned(), format!("{URL}/"), URL.replace("11a", "11A"), URL.replace("lo", "LO")] {
            assert_eq!(same.parse::<Tenant>().unwrap().url(), URL, "{same}");
        }
        for wrong in [
            "localhost:8443",
            "https://localhost:8443",
            "https://localhost:8443/contoso.example",
            &URL.replace("https", "http"),
            &URL.replace("localhost", "me:secret@localhost"),
            &format!("{URL}/v2.0"),
            &format!("{URL}?a=b"),
            &format!("{URL}#a"),
        ] {
            wrong.parse::<Tenant>().unwrap_err();
        }
    }

    #[test]
    fn secrets_are_a_name_and_a_value_which_may_hold_anything() {
        let read = |text: &str| text.parse::<Secret>().ok().map(|secret| (secret.name, secret.value));
        assert_eq!(read("a-1=b=c d"), Some(("a-1".to_owned(), "b=c d".to_owned())));
        assert_eq!(read("a="), Some(("a".to_owned(), String::new())));
        for wrong in ["a", "=b", "a_b=c", "a/b=c", "\u{e9}=c", &format!("{}=c", "a".repeat(128))] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}

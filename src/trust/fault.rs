//! Why an issuer's keys are not to be had.
//!
//! Every variant is a closed word or number: no text of the issuer, no resolved address. What is logged can't be used
//! to look into the network (threat catalogue S-07), and nothing here needs escaping.

use std::error::Error;
use std::io;

use rustls::CertificateError;

use super::resolver::Unresolved;
use crate::domain::{json, keyset};

/// No key set for a request. Callers learn `retry_after` only; the fault is for audit, logs and `explain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct Unavailable {
    /// Seconds after which to ask again, 1 to 30.
    pub retry_after: u32,
    /// What went wrong.
    pub fault: Fault,
}

impl Unavailable {
    /// Whether the issuer's own document speaks for another issuer.
    pub fn is_of_another_issuer(&self) -> bool {
        self.fault == Fault::Discovery(Cause::WrongIssuer)
    }
}

impl From<Fault> for Unavailable {
    fn from(fault: Fault) -> Self {
        let retry_after = match fault {
            // The fetch goes on without the request: the next one may find it done.
            Fault::Slow | Fault::Interrupted => 1,
            Fault::Discovery(_) | Fault::Keys(_) => 5,
            // Only a change of the directory cures it.
            Fault::Unknown => 30,
        };
        Self { retry_after, fault }
    }
}

/// The step that failed, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not among the enabled issuers that the directory names.
    #[error("no enabled credential names this issuer")]
    Unknown,
    /// The request waited as long as it may; the fetch goes on.
    #[error("the keys are still being fetched")]
    Slow,
    /// The fetch ended without a result: the process is shutting down.
    #[error("the fetch was interrupted")]
    Interrupted,
    /// The discovery document could not be had or used.
    #[error("discovery document: {0}")]
    Discovery(Cause),
    /// The key set could not be had or used.
    #[error("key set: {0}")]
    Keys(Cause),
}

/// Why one document could not be had or used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// Its URL is not one that is fetched.
    #[error("its URL {0}")]
    Url(&'static str),
    /// Its host is, or resolves only to, addresses that this issuer may not use.
    #[error("its host has no address that may be connected to")]
    Address,
    /// The name did not resolve.
    #[error("its host name does not resolve")]
    Lookup,
    /// There is no root certificate to check the server against.
    #[error("there are no root certificates: the system has none, or the issuer's CA is unusable")]
    Roots,
    /// The connection failed or broke.
    #[error("the connection failed: {0}")]
    Connection(io::ErrorKind),
    /// The server's certificate is not trusted.
    #[error("the server's certificate {0}")]
    Certificate(&'static str),
    /// TLS failed otherwise: an old version, or no TLS at all.
    #[error("the TLS handshake failed")]
    Tls,
    /// What came is not HTTP, or broke off.
    #[error("the HTTP exchange failed")]
    Http,
    /// Not there before the deadline of the fetch.
    #[error("it did not arrive in time")]
    Deadline,
    /// Any status but 200, redirects too.
    #[error("the server answered with status {0}{hint}", hint = hint(*.0))]
    Status(u16),
    /// The file of the token that the server asks for can't be used.
    #[error("bearer_token_file can't be used: {0}")]
    Bearer(io::ErrorKind),
    /// More bytes than are read of such a document.
    #[error("it is larger than {0} bytes")]
    TooLarge(usize),
    /// Not the JSON object that it should be.
    #[error("{0}")]
    Json(#[from] json::Fault),
    /// A required member is absent or of a wrong type.
    #[error("its member {0:?} is absent or of a wrong type")]
    Member(&'static str),
    /// It speaks for another issuer, if only by a slash or a letter's case.
    #[error("its issuer is not, byte for byte, the one asked for")]
    WrongIssuer,
    /// No key of it can be used.
    #[error("{0}")]
    Unusable(#[from] keyset::Unusable),
}

/// API servers let nobody read their keys who is not bound to this role, which anonymous callers are not by default.
fn hint(status: u16) -> &'static str {
    match status {
        401 | 403 => {
            ": it wants to know who reads; for a Kubernetes API server set bearer_token_file to a token that is bound \
             to the role system:service-account-issuer-discovery"
        }
        _ => "",
    }
}

impl Cause {
    /// Boils a client's error down to a closed cause.
    pub(super) fn of_transport(error: &reqwest::Error) -> Self {
        let mut next: Option<&(dyn Error + 'static)> = Some(error);
        let mut broken = None;
        while let Some(error) = next {
            if let Some(unresolved) = error.downcast_ref() {
                return match unresolved {
                    Unresolved::Failed => Self::Lookup,
                    Unresolved::NotPermitted => Self::Address,
                };
            }
            if let Some(tls) = error.downcast_ref() {
                return Self::of_tls(tls);
            }
            next = match error.downcast_ref::<io::Error>() {
                // The source of an `io::Error` is the source of what it wraps: what it wraps would be left out.
                Some(io) => {
                    broken = Some(io.kind());
                    io.get_ref().map(|inner| -> &(dyn Error + 'static) { inner })
                }
                None => error.source(),
            };
        }
        match broken {
            _ if error.is_timeout() => Self::Connection(io::ErrorKind::TimedOut),
            Some(kind) => Self::Connection(kind),
            None => Self::Http,
        }
    }

    fn of_tls(error: &rustls::Error) -> Self {
        let rustls::Error::InvalidCertificate(reason) = error else { return Self::Tls };
        Self::Certificate(match reason {
            CertificateError::UnknownIssuer => "is not signed by a trusted authority",
            CertificateError::BadSignature => "has a bad signature",
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "is for another name"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "is not valid yet",
            _ => "is not valid",
        })
    }
}

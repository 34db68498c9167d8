//! What is demanded of one issuer's tokens.

use std::sync::Arc;
use std::time::Duration;

use super::algorithm::Algorithm;

/// Largest tolerance for clocks that an issuer may be given.
pub const MAX_LEEWAY: Duration = Duration::from_secs(300);

/// The rules for one issuer: the defaults of `[trust]`, or what its `[[issuer]]` entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerPolicy {
    /// The issuer, as bytes: it equals `iss`, the credentials' issuer and the document's `issuer` member.
    pub issuer: Arc<str>,
    /// A disabled issuer counts as unnamed.
    pub enabled: bool,
    /// Algorithms accepted from this issuer.
    pub algorithms: Vec<Algorithm>,
    /// Tolerance for clocks, at most [`MAX_LEEWAY`]. Applied to `exp`, `nbf` and `iat` alike.
    pub leeway: Duration,
    /// Longest accepted `exp` - `iat`. Entra's limit is 25 h (AADSTS70023); one-year tokens of API servers fall to it.
    pub max_token_lifetime: Duration,
    /// Whether the header must name a key. Without, exactly one fitting key must be there.
    pub require_kid: bool,
    /// Whether one of several audiences may match; else only a single audience does.
    pub multiple_audiences: bool,
    /// Whether each assertion is good for one token only.
    pub jti_once: bool,
}

impl IssuerPolicy {
    /// Those of a token's audiences that a credential's may equal: none of several, unless one of them may match.
    pub fn matchable<'a>(&self, audiences: &'a [String]) -> &'a [String] {
        if self.multiple_audiences { audiences } else { Self::only(audiences) }
    }

    /// The same for an issuer without a policy.
    pub fn only(audiences: &[String]) -> &[String] {
        if audiences.len() == 1 { audiences } else { &[] }
    }

    /// The rules that hold for an issuer without an entry of its own.
    pub fn standard(issuer: impl Into<Arc<str>>) -> Self {
        Self {
            issuer: issuer.into(),
            enabled: true,
            algorithms: Algorithm::DEFAULT.to_vec(),
            leeway: Duration::from_secs(60),
            max_token_lifetime: Duration::from_secs(25 * 3600),
            require_kid: true,
            multiple_audiences: false,
            jti_once: false,
        }
    }
}

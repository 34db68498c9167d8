//! What need not be computed twice: that an assertion's signature holds, and the token of an equal grant.
//!
//! Every other step runs on every request, times included, so whatever is taken away (an identity, a credential, a role, an
//! issuer, a key) counts from the next request on, and nothing is ever flushed.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;

use crate::clock::UnixTime;
use crate::document::{Reader, Size};
use crate::domain::asked::Resolved;
use crate::domain::assertion::Compact;
use crate::domain::authorize::Grant;
use crate::domain::ids::Guid;
use crate::domain::proof::Proof;
use crate::domain::tenant::Tenant;
use crate::signing::{Keys, Token};

/// The `[tokens]` section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenSettings {
    /// Whether an assertion that is presented again gets the token that it got before; true.
    pub reuse: bool,
    /// Memory for verified assertions in bytes, 0 (none are remembered) to 16GiB; 32MiB.
    pub assertion_cache: usize,
    /// Memory for minted tokens in bytes, 0 (as `reuse = false`) to 16GiB; 32MiB.
    pub token_cache: usize,
}

impl Default for TokenSettings {
    fn default() -> Self {
        Self { reuse: true, assertion_cache: 32 << 20, token_cache: 32 << 20 }
    }
}

impl TokenSettings {
    /// Reads the section.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let default = Self::default();
        let mut size = |key, default| {
            let show = |Size(bytes): Size| format!("{}MiB", bytes >> 20);
            reader.bounded(key, Size(default), Size(0)..=Size(16 << 30), show).0
        };
        Self {
            assertion_cache: size("assertion_cache", default.assertion_cache),
            token_cache: size("token_cache", default.token_cache),
            reuse: reader.get_or("reuse", default.reuse),
        }
    }
}

/// What the cache itself takes for an entry, beside key and value, roughly.
const OVERHEAD: usize = 256;
/// Least life, in seconds, that a token has left when it is given again: clients renew theirs five minutes before the end.
const LEAST_LEFT: i64 = 600;
/// How long anything is kept. Not what decides whether it may be used: that is looked at on our own clock, at each use.
const KEPT: Duration = Duration::from_secs(3600);

/// The two caches. Both are bounded, and both may lose anything at any time.
pub struct Remembered {
    proofs: Option<Cache<[u8; 32], Arc<Proof>>>,
    tokens: Option<Cache<Wish, Arc<Given>>>,
}

/// Who asks for what, with which assertion.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Wish {
    assertion: [u8; 32],
    tenant: Guid,
    identity: Guid,
    /// As it was asked for: v1.0 tokens echo it.
    audience: Arc<str>,
}

impl Wish {
    pub(super) fn new(compact: &Compact<'_>, tenant: &Tenant, resolved: &Resolved<'_, '_>) -> Self {
        Self {
            assertion: *compact.digest(),
            tenant: tenant.id,
            identity: resolved.identity.client_id,
            audience: resolved.target.audience(),
        }
    }
}

/// A token, and all that went into it but time and randomness.
struct Given {
    grant: Grant,
    token: Token,
}

impl Remembered {
    /// Remembers nothing yet.
    pub fn new(settings: TokenSettings) -> Self {
        let proofs = settings.assertion_cache;
        let tokens = if settings.reuse { settings.token_cache } else { 0 };
        Self {
            proofs: bounded(proofs, |key: &[u8; 32], proof: &Arc<Proof>| size_of_val(key) + proof.size()),
            tokens: bounded(tokens, |wish: &Wish, given: &Arc<Given>| {
                size_of::<(Wish, Given)>() + wish.audience.len() + given.token.jwt.len()
            }),
        }
    }

    /// The proof of exactly this text. Whether it holds is for the verification to say.
    pub(super) fn proof(&self, compact: &Compact<'_>) -> Option<Arc<Proof>> {
        self.proofs.as_ref()?.get(compact.digest())
    }

    pub(super) fn keep_proof(&self, proof: Proof) {
        if let Some(proofs) = &self.proofs {
            proofs.insert(*proof.digest(), Arc::new(proof));
        }
    }

    /// The token that the same wish got before, if it would be the same now but for time and randomness: an equal grant,
    /// under a key that still signs, and with enough of its life left. One that begins later than now was made before the
    /// clock was set back.
    pub(super) fn token(&self, wish: &Wish, grant: &Grant, keys: &Keys, now: UnixTime) -> Option<Token> {
        let given = self.tokens.as_ref()?.get(wish)?;
        let (token, lifetime) = (&given.token, i64::from(grant.lifetime()));
        let left = token.expires.saturating_sub(now);
        let is_young = (LEAST_LEFT.max(lifetime / 2)..=lifetime).contains(&left);
        let usable =
            is_young && given.grant == *grant && keys.still_signs(&token.kid, grant.algorithm(), now);
        let expires_in = u32::try_from(left - 1).ok().filter(|_| usable)?;
        Some(Token { expires_in, ..token.clone() })
    }

    pub(super) fn keep_token(&self, wish: Wish, grant: &Grant, token: &Token) {
        if let Some(tokens) = &self.tokens {
            tokens.insert(wish, Arc::new(Given { grant: grant.clone(), token: token.clone() }));
        }
    }
}

fn bounded<K, V>(bytes: usize, size: impl Fn(&K, &V) -> usize + Send + Sync + 'static) -> Option<Cache<K, V>>
where
    K: std::hash::Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    let weigh = move |key: &K, value: &V| u32::try_from(OVERHEAD + size(key, value)).unwrap_or(u32::MAX);
    let capacity = u64::try_from(bytes).unwrap_or(u64::MAX);
    (bytes > 0).then(|| Cache::builder().max_capacity(capacity).weigher(weigh).time_to_live(KEPT).build())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Document, Problems};

    fn read(text: &str) -> (TokenSettings, Vec<String>) {
        let problems = Problems::default();
        let mut reader = Document::parse("f.toml", text, &problems).reader(&problems);
        let settings = TokenSettings::read(&mut reader);
        reader.finish();
        (settings, problems.into_vec().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn settings_are_read_with_their_bounds() {
        assert_eq!(read(""), (TokenSettings::default(), vec![]));
        let text = "reuse = false\nassertion_cache = \"0B\"\ntoken_cache = \"1GiB\"\n";
        let expected = TokenSettings { reuse: false, assertion_cache: 0, token_cache: 1 << 30 };
        assert_eq!(read(text), (expected, vec![]));
        let (_, problems) = read("token_cache = \"17GiB\"\n");
        assert_eq!(problems, ["f.toml:1: token_cache: 17408MiB is out of range: expected 0MiB to 16384MiB"]);
    }

    #[test]
    fn memory_is_bounded_however_much_is_kept() {
        let cache = bounded(1 << 20, |_: &u64, text: &String| text.len()).unwrap();
        for number in 0..20_000 {
            cache.insert(number, "x".repeat(1000));
        }
        cache.run_pending_tasks();
        assert!(cache.weighted_size() <= 1 << 20, "{}", cache.weighted_size());
        assert!(cache.entry_count() > 500, "{}", cache.entry_count());
    }
}

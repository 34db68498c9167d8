//! Where role assignments apply: absolute paths, compared by whole segments and without regard to case, as ARM scopes are.

use super::ids::Guid;

/// A scope such as `/subscriptions/{id}/resourceGroups/{name}`. `/` covers everything.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScopePath(String);

impl ScopePath {
    /// Reads an absolute path of non-empty segments without a slash at its end, or `/`.
    pub fn parse(text: &str) -> Option<Self> {
        let path = text.strip_prefix('/')?;
        let whole = path.is_empty()
            || path.split('/').all(|segment| !segment.is_empty() && segment.trim() == segment);
        (whole && !path.contains(char::is_control)).then(|| Self(path.to_ascii_lowercase()))
    }

    /// Whether this scope is the other one or an ancestor of it.
    pub fn covers(&self, other: &Self) -> bool {
        match other.0.strip_prefix(&self.0) {
            Some(rest) => self.0.is_empty() || rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }

    /// The subscription that it is or lies in; none for what is not in one, such as `/` and an API of one's own.
    pub fn subscription(&self) -> Option<Guid> {
        let rest = self.0.strip_prefix("subscriptions/")?;
        Guid::parse(rest.split('/').next()?)
    }

    /// The path in its canonical (lower case) form, without the leading slash.
    pub fn canonical(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn covers(upper: &str, lower: &str) -> bool {
        ScopePath::parse(upper).unwrap().covers(&ScopePath::parse(lower).unwrap())
    }

    #[test]
    fn whole_segments_decide() {
        let group = "/subscriptions/a/resourceGroups/rg";
        assert!(covers(group, "/subscriptions/a/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/kv"));
        assert!(covers(group, "/Subscriptions/A/resourcegroups/RG"));
        assert!(!covers(group, "/subscriptions/a/resourceGroups/rg2"));
        assert!(!covers(group, "/subscriptions/a/resourceGroups"));
        assert!(covers("/", group));
        assert!(!covers(group, "/"));
    }

    #[test]
    fn only_absolute_paths_of_non_empty_segments() {
        for wrong in ["", "a/b", "//", "/a/", "/a//b", "/a/ b", "/a\n"] {
            assert!(ScopePath::parse(wrong).is_none(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn covering_is_a_prefix_of_segments(
            upper in proptest::collection::vec("[a-cA-C]{1,2}", 0..4),
            lower in proptest::collection::vec("[a-cA-C]{1,2}", 0..5),
        ) {
            let same = |a: &String, b: &String| a.eq_ignore_ascii_case(b);
            let naive = upper.len() <= lower.len() && upper.iter().zip(&lower).all(|(a, b)| same(a, b));
            let path = |segments: &[String]| format!("/{}", segments.join("/"));
            prop_assert_eq!(covers(&path(&upper), &path(&lower)), naive);
        }
    }
}

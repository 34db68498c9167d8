//! Which entries are asked for.

use std::net::IpAddr;

use ipnet::IpNet;

use super::entry::Entry;
use super::field::Field;
use crate::clock::UnixTime;
use crate::domain::ids::Guid;

/// A text in which `*` stands for any characters, also none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl From<&str> for Pattern {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Pattern {
    /// Whether the whole text is as the pattern says.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        // Where the last star was, and how much of the text it stands for so far.
        let (mut at, mut seen, mut star) = (0, 0, None);
        while seen < text.len() {
            if pattern.get(at) == Some(&b'*') {
                star = Some((at, seen));
                at += 1;
            } else if pattern.get(at) == Some(&text[seen]) {
                (at, seen) = (at + 1, seen + 1);
            } else if let Some((before, taken)) = star {
                (at, seen) = (before + 1, taken + 1);
                star = Some((before, seen));
            } else {
                return false;
            }
        }
        pattern[at..].iter().all(|byte| *byte == b'*')
    }

    fn folded(&self) -> Self {
        Self(self.0.to_ascii_lowercase())
    }
}

/// Whether an entry is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// It is not.
    No,
    /// It is a sum, and what decides was not recorded of its decisions.
    Unknown,
    /// It is.
    Yes,
}

/// What is asked for: all that is set must hold, of several values of one field any. Empty asks for everything.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// From this second on.
    pub since: Option<UnixTime>,
    /// Before this second.
    pub until: Option<UnixTime>,
    /// Grants alone, or refusals alone.
    pub granted: Option<bool>,
    /// Only where the signature held.
    pub verified: bool,
    clients: Vec<IpNet>,
    texts: Vec<(Field, Vec<Pattern>)>,
}

impl Filter {
    /// Asks for one of these values; for none of them asks for nothing.
    pub fn one_of(&mut self, field: Field, patterns: &[Pattern]) {
        let patterns: Vec<_> = match field.folds_case() {
            true => patterns.iter().map(Pattern::folded).collect(),
            false => patterns.to_vec(),
        };
        self.texts.extend((!patterns.is_empty()).then_some((field, patterns)));
    }

    /// Asks for clients in one of these networks; for none of them asks for nothing.
    pub fn clients(&mut self, networks: &[IpNet]) {
        self.clients = networks.to_vec();
    }

    /// Whether an entry is asked for.
    pub fn fit(&self, entry: &Entry) -> Fit {
        let in_time = self.since.is_none_or(|since| entry.at() >= since)
            && self.until.is_none_or(|until| entry.at() < until);
        let sure = in_time
            && self.granted.is_none_or(|granted| entry.granted() == granted)
            && (entry.verified || !self.verified);
        if !sure {
            return Fit::No;
        }
        let texts = self.texts.iter().map(|(field, patterns)| text(*field, patterns, entry));
        texts.chain([self.client(entry)]).min().unwrap_or(Fit::Yes)
    }

    fn client(&self, entry: &Entry) -> Fit {
        if self.clients.is_empty() {
            return Fit::Yes;
        }
        let address = entry.ip_address.as_ref().and_then(|address| address.parse::<IpAddr>().ok());
        match address {
            Some(address) if self.clients.iter().any(|network| network.contains(&address)) => Fit::Yes,
            None if entry.is_sum() => Fit::Unknown,
            _ => Fit::No,
        }
    }
}

fn text(field: Field, patterns: &[Pattern], entry: &Entry) -> Fit {
    let values = field.values(entry);
    let fits = |value: &String| match field.folds_case() {
        true => patterns.iter().any(|pattern| pattern.matches(&value.to_ascii_lowercase())),
        false => patterns.iter().any(|pattern| pattern.matches(value)),
    };
    if values.iter().flatten().any(fits) {
        return Fit::Yes;
    }
    // A sum has the identity's name and principal id, and lacks its client id.
    let asks_client = || patterns.iter().any(|Pattern(text)| Guid::parse(text).is_some());
    let told = field == Field::Identity && values[0].is_some() && !asks_client();
    match entry.is_sum() && field.is_lost_in_sums() && !told {
        true => Fit::Unknown,
        false => Fit::No,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::entry::tests::whole;
    use super::*;
    use crate::audit::Record;

    fn entry(change: impl FnOnce(&mut Record)) -> Entry {
        let mut record = Record { count: None, ..whole() };
        change(&mut record);
        Entry::parse(&serde_json::to_string(&record).unwrap()).unwrap()
    }

    fn asks(field: Field, values: &[&str]) -> Filter {
        let mut filter = Filter::default();
        let patterns: Vec<_> = values.iter().map(|value| Pattern::from(*value)).collect();
        filter.one_of(field, &patterns);
        filter
    }

    #[test]
    fn every_field_finds_its_own_value_and_no_other() {
        let (entry, mut seen) = (entry(|_| {}), Vec::new());
        for (field, value) in [
            (Field::Tenant, "TENANT"),
            (Field::Identity, "identity"),
            (Field::Identity, "Client"),
            (Field::Identity, "principal"),
            (Field::Resource, "resource"),
            (Field::Credential, "credential"),
            (Field::Issuer, "iss"),
            (Field::Subject, "repo:octo/app:pull_request"),
            (Field::Repository, "Octo/App"),
            (Field::Run, "10203040506"),
            (Field::Run, "30201000"),
            (Field::TokenId, "jti"),
            (Field::Digest, "digest"),
            (Field::Code, "700213"),
            (Field::Reason, "reason"),
            (Field::Cause, "cause"),
            (Field::Uti, "uti"),
            (Field::Correlation, "correlation"),
            (Field::Trace, "trace"),
            (Field::Client, "192.0.2.7"),
        ] {
            assert_eq!(asks(field, &[value]).fit(&entry), Fit::Yes, "{field:?}");
            assert_eq!(asks(field, &["other", value]).fit(&entry), Fit::Yes, "{field:?}");
            for wrong in [format!("{value}x"), format!("x{value}"), String::new()] {
                assert_eq!(asks(field, &[&wrong]).fit(&entry), Fit::No, "{field:?}");
            }
            seen.push(field);
        }
        assert_eq!(
            asks(Field::Subject, &["REPO:octo/app:pull_request"]).fit(&entry),
            Fit::No,
            "subjects have case"
        );
        assert_eq!(asks(Field::Uti, &[]).fit(&entry), Fit::Yes, "nothing is asked");
        let both = |code: &str| {
            let mut filter = asks(Field::Subject, &["repo:octo/*"]);
            filter.one_of(Field::Code, &[Pattern::from(code)]);
            filter.fit(&entry)
        };
        assert_eq!((both("700213"), both("700212")), (Fit::Yes, Fit::No));
    }

    #[test]
    fn times_have_a_first_second_and_an_end() {
        let at = |since, until| Filter { since, until, ..Filter::default() }.fit(&entry(|_| {}));
        const NOW: i64 = 1_790_000_000;
        assert_eq!((at(Some(NOW), None), at(Some(NOW + 1), None)), (Fit::Yes, Fit::No));
        assert_eq!((at(None, Some(NOW + 1)), at(None, Some(NOW))), (Fit::Yes, Fit::No));
    }

    #[test]
    fn outcome_and_signature_are_told_apart() {
        let refused = entry(|record| record.verified = false);
        let filter = |granted, verified| Filter { granted, verified, ..Filter::default() }.fit(&refused);
        assert_eq!((filter(Some(false), false), filter(Some(true), false)), (Fit::Yes, Fit::No));
        assert_eq!(filter(None, true), Fit::No);
        assert_eq!(Filter { verified: true, ..Filter::default() }.fit(&entry(|_| {})), Fit::Yes);
    }

    #[test]
    fn clients_are_found_by_address_and_network() {
        let fit = |network: &str, entry: &Entry| {
            let mut filter = Filter::default();
            filter.clients(&[network.parse().unwrap()]);
            filter.fit(entry)
        };
        let one = entry(|_| {});
        assert_eq!((fit("192.0.2.7/32", &one), fit("192.0.2.0/24", &one)), (Fit::Yes, Fit::Yes));
        assert_eq!((fit("192.0.2.8/32", &one), fit("::/0", &one)), (Fit::No, Fit::No));
        assert_eq!(fit("192.0.2.7/32", &entry(|record| record.ip_address = None)), Fit::No);
    }

    #[test]
    fn of_a_sum_only_what_it_has_is_told() {
        let sum = |name: Option<&str>| {
            let text = serde_json::json!({
                "createdDateTime": "2026-09-21T14:13:20Z", "status": { "errorCode": 700_027, "reason": "signature" },
                "outcome": "refused", "count": 40, "identityName": name,
            });
            Entry::parse(&text.to_string()).unwrap()
        };
        let named = sum(Some("id-a"));
        assert_eq!(asks(Field::Code, &["700027"]).fit(&named), Fit::Yes);
        assert_eq!(asks(Field::Code, &["700028"]).fit(&named), Fit::No);
        assert_eq!(asks(Field::Subject, &["repo:*"]).fit(&named), Fit::Unknown);
        assert_eq!(asks(Field::Identity, &["id-a"]).fit(&named), Fit::Yes);
        assert_eq!(asks(Field::Identity, &["id-b"]).fit(&named), Fit::No);
        assert_eq!(
            asks(Field::Identity, &["aaaaaaaa-0001-4a00-8000-000000000001"]).fit(&named),
            Fit::Unknown
        );
        assert_eq!(asks(Field::Identity, &["id-b"]).fit(&sum(None)), Fit::Unknown);
        // What is certainly not asked for stays so, whatever else is not known.
        let mut filter = asks(Field::Subject, &["repo:*"]);
        filter.one_of(Field::Code, &[Pattern::from("1")]);
        assert_eq!(filter.fit(&named), Fit::No);
        let mut filter = Filter::default();
        filter.clients(&["192.0.2.7/32".parse().unwrap()]);
        assert_eq!(filter.fit(&named), Fit::Unknown);
    }

    /// What a star means, in the plainest words.
    fn model(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|taken| model(rest, &text[taken..])),
            Some((c, rest)) => text.split_first().is_some_and(|(d, left)| c == d && model(rest, left)),
        }
    }

    proptest! {
        #[test]
        fn stars_mean_what_they_say(pattern in "[ab*é]{0,8}", text in "[ab*é]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(Pattern::from(&*pattern).matches(&text), model(&chars(&pattern), &chars(&text)));
        }
    }
}

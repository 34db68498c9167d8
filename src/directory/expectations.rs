//! `[[expect]]`: what must come of a token, written beside the records and held against them when all of them are read.

use super::parallel;
use crate::document::{Problems, Reader, Spot};
use crate::domain::directory::Directory;
use crate::domain::expectation::{Denial, Expectation, Judge, Outcome};
use crate::domain::ids::Guid;
use crate::domain::resource::Target;

/// An expectation, and the places of what may turn out to be wrong.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) expectation: Expectation,
    identity: Spot,
    outcome: Spot,
}

/// Reads one.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Placed> {
    let identity = reader.need("identity");
    let claims = reader.object("claims").map(crate::domain::verdict::Claims::new);
    let target = target(reader);
    let (key, outcome) = outcome(reader)?;
    let expectation = Expectation { identity: identity?, claims: claims?, target: target?, outcome };
    Some(Placed { expectation, identity: reader.spot("identity"), outcome: reader.spot(key) })
}

fn target(reader: &mut Reader<'_>) -> Option<Option<Target>> {
    let Some(text) = reader.get::<String>("resource") else {
        return (!reader.has("resource")).then_some(None);
    };
    let target = Target::from_resource(&text);
    if target.is_none() {
        let hint = "an identifier URI or client id, without /.default";
        reader.problem("resource", format!("{text:?} names no resource"), hint);
    }
    target.map(Some)
}

fn outcome(reader: &mut Reader<'_>) -> Option<(&'static str, Outcome)> {
    let (allow, deny) = (reader.get::<String>("allow"), reader.get::<String>("deny"));
    match (allow, deny) {
        (Some(name), None) if !reader.has("deny") => Some(("allow", Outcome::Allow(name))),
        (None, Some(name)) if !reader.has("allow") => {
            let denial = Denial::from_name(&name);
            if denial.is_none() {
                let message =
                    format!("{name:?} is nothing that a token is refused for by records and claims");
                reader.problem("deny", message, &format!("one of: {}", Denial::names()));
            }
            denial.map(|denial| ("deny", Outcome::Deny(denial)))
        }
        _ => {
            if reader.has("allow") == reader.has("deny") {
                let hint = "allow names the credential that grants, deny what it is refused for";
                reader.problem("", "says either allow or deny", hint);
            }
            None
        }
    }
}

/// Notes every expectation that does not hold: as a warning where something is switched off, since no expectation may hold back
/// a kill switch. There may be thousands, and the change waits for them.
pub(super) fn check(expected: Vec<(Guid, &Placed)>, directory: &Directory, problems: &Problems) {
    if expected.is_empty() {
        return;
    }
    let judge = Judge::new(directory);
    let judged = parallel::map(expected, |(tenant, placed)| {
        let tenant = directory.tenant(&tenant.to_string()).ok()?;
        Some((placed, judge.check(tenant, &placed.expectation).err()?))
    });
    for (placed, unmet) in judged.into_iter().flatten() {
        let spot = if unmet.identity { &placed.identity } else { &placed.outcome };
        match unmet.switched_off {
            None => spot.problem(problems, unmet.message, &unmet.hint),
            Some(switch) => {
                let message = format!("{}; it is suspended while {switch} is disabled", unmet.message);
                spot.warning(problems, message, "it is judged again once that is enabled");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Content, Surroundings, TenantEntry, compile};
    use super::*;
    use crate::domain::policy::IssuerPolicy;

    const RECORDS: &str = "[[identity]]\nname = \"id-a\"\nkind = \"application\"\n\
        client_id = \"00000001-0000-4000-8000-000000000000\"\nprincipal_id = \"00000001-0000-4000-8000-000000000001\"\n\
        [[identity.federated_credential]]\nname = \"main\"\nissuer = \"https://i.example\"\nsubject = \"main\"\n\
        [[identity.federated_credential]]\nname = \"tried\"\nissuer = \"https://i.example\"\nsubject = \"tried\"\n\
        mode = \"observe\"\n\
        [[resource]]\nname = \"res\"\nclient_id = \"00000001-0000-4000-8000-000000000002\"\n\
        identifier_uris = [\"api://res\"]\nscope = \"/a\"\n";
    const CLAIMS: &str =
        "claims = { iss = \"https://i.example\", sub = \"main\", aud = \"api://AzureADTokenExchange\" }";

    /// The problems of the records with one expectation, which begins in line 20.
    fn problems(expectation: &str) -> Vec<String> {
        of_records((RECORDS, true), expectation)
    }

    /// The same of other records, whose issuer may be switched off.
    fn of_records((records, issuer): (&str, bool), expectation: &str) -> Vec<String> {
        let id = Guid::parse("11111111-1111-1111-1111-111111111111").unwrap();
        let tenants = vec![TenantEntry::standard(id, None, "https://sts.example")];
        let policies = vec![IssuerPolicy { enabled: issuer, ..IssuerPolicy::standard("https://i.example") }];
        let around = Surroundings { tenants, policies, ..Surroundings::default() };
        let found = Problems::default();
        let content = Content::read("d.toml", &format!("{records}[[expect]]\n{expectation}\n"));
        compile([&content], &around, &found);
        found.into_vec().iter().map(ToString::to_string).collect()
    }

    fn judged(records: (&str, bool), claims: &str, outcome: &str) -> Vec<String> {
        of_records(records, &format!("identity = \"id-a\"\n{claims}\n{outcome}"))
    }

    /// The same for `id-a`, with these claims and what is expected of them.
    fn of(claims: &str, outcome: &str) -> Vec<String> {
        problems(&format!("identity = \"id-a\"\n{claims}\n{outcome}"))
    }

    #[test]
    fn what_holds_is_no_problem_and_what_does_not_is_told_at_its_key() {
        for outcome in ["allow = \"main\"", "resource = \"api://res\"\ndeny = \"not_assigned\""] {
            assert_eq!(of(CLAIMS, outcome), [""; 0], "{outcome}");
        }
        // Times are not looked at, and what else a token says does not matter.
        let more = "jti = \"x\", exp = 1, nbf = 9999999999, iat = 9999999999, n = [1, 1.5, true], m = { a = \"b\" } }";
        assert_eq!(of(&CLAIMS.replace(" }", &format!(", {more}")), "allow = \"main\""), [""; 0]);
        for (claims, outcome, said) in [
            (
                CLAIMS,
                "allow = \"other\"",
                "23: expect[0].allow: expected \"other\" to grant, but \"main\" does",
            ),
            (CLAIMS, "deny = \"700213\"", "23: expect[0].deny: expected a refusal, but \"main\" grants"),
            (
                &CLAIMS.replace("\"main\"", "\"mein\""),
                "allow = \"main\"",
                "23: expect[0].allow: it is refused: AADSTS700213 subject_unmatched, S-OTHER (hint: ",
            ),
            (
                &CLAIMS.replace("\"main\"", "\"tried\""),
                "allow = \"tried\"",
                "23: expect[0].allow: it is refused: AADSTS700213 subject_unmatched, C-OBSERVED (hint: ",
            ),
            (
                CLAIMS,
                "resource = \"api://res\"\nallow = \"main\"",
                "24: expect[0].allow: it is refused: AADSTS501051 not_assigned (hint: the identity has no role",
            ),
            (
                CLAIMS,
                "resource = \"api://other\"\ndeny = \"not_assigned\"",
                "24: expect[0].deny: it is refused: AADSTS500011 resource_unknown (hint: ",
            ),
            (
                &CLAIMS.replace("\"main\"", "1"),
                "deny = \"700213\"",
                "23: expect[0].deny: it is refused: AADSTS50027 assertion_malformed, T-FORMAT",
            ),
        ] {
            let found = of(claims, outcome);
            let expected = format!("d.toml:{said}");
            assert!(found.len() == 1 && found[0].starts_with(&expected), "{expected}: {found:#?}");
        }
    }

    #[test]
    fn what_is_switched_off_suspends_what_it_may_have_broken_and_nothing_else() {
        let off =
            |records: &str, after: &str| records.replacen(after, &format!("{after}enabled = false\n"), 1);
        let principal = "principal_id = \"00000001-0000-4000-8000-000000000001\"\n";
        let (main, tried) = ("subject = \"main\"\n", "subject = \"tried\"\n");
        let other = "[[identity]]\nname = \"id-b\"\nkind = \"application\"\n\
            client_id = \"00000003-0000-4000-8000-000000000000\"\nprincipal_id = \"00000003-0000-4000-8000-000000000001\"\n\
            [[identity.federated_credential]]\nname = \"other\"\nissuer = \"https://i.example\"\nsubject = \"b\"\n";
        let sound = format!("{RECORDS}{other}");
        let b = &CLAIMS.replace("\"main\"", "\"b\"");
        let mein = &CLAIMS.replace("\"main\"", "\"mein\"");
        for (records, issuer, claims, outcome, switch) in [
            (off(&sound, principal), true, CLAIMS, "allow = \"main\"", "identity \"id-a\""),
            (off(&sound, main), true, CLAIMS, "allow = \"main\"", "credential \"main\" of \"id-a\""),
            (sound.clone(), false, CLAIMS, "allow = \"main\"", "issuer \"https://i.example\""),
            // Refused all the same, for another reason than before.
            (off(&sound, principal), true, mein, "deny = \"S-OTHER\"", "identity \"id-a\""),
            (off(&sound, main), true, mein, "deny = \"700213\"", "credential \"main\" of \"id-a\""),
            (sound.clone(), false, mein, "deny = \"subject_unmatched\"", "issuer \"https://i.example\""),
            (
                off(&sound, "subject = \"b\"\n"),
                true,
                b,
                "deny = \"T-WRONGCLIENT\"",
                "credential \"other\" of \"id-b\"",
            ),
        ] {
            let sound = judged((&sound, true), claims, outcome);
            assert!(sound.is_empty(), "{sound:#?}");
            let found = judged((&records, issuer), claims, outcome);
            let said = format!("; it is suspended while {switch} is disabled (hint: ");
            assert!(found.len() == 1 && found[0].contains(": warning: "), "{switch}: {found:#?}");
            assert!(found[0].contains(&said), "{switch}: {found:#?}");
        }
        // What is off is not what breaks it.
        for (records, claims, outcome) in [
            (off(&sound, tried), mein.as_str(), "allow = \"main\""),
            (off(&sound, tried), CLAIMS, "deny = \"700213\""),
            (off(&sound, main), CLAIMS, "allow = \"gone\""),
            (sound.replace(main, &format!("{main}mode = \"observe\"\n")), CLAIMS, "allow = \"main\""),
            (off(&sound, "subject = \"b\"\n"), mein.as_str(), "deny = \"T-WRONGCLIENT\""),
        ] {
            let found = judged((&records, true), claims, outcome);
            assert!(found.len() == 1 && !found[0].contains("warning"), "{found:#?}");
        }
    }

    #[test]
    fn each_is_read_with_all_its_problems() {
        let deny = "deny = \"700213\"";
        for (expectation, said) in [
            (
                format!("identity = \"id-b\"\n{CLAIMS}\n{deny}"),
                "identity: no identity of the tenant is called \"id-b\"",
            ),
            (format!("{CLAIMS}\n{deny}"), "identity: is missing"),
            (format!("identity = \"id-a\"\n{deny}"), "claims: is missing"),
            (format!("identity = \"id-a\"\nclaims = 1\n{deny}"), "claims: expected a table, found 1"),
            (
                format!("identity = \"id-a\"\nclaims = {{ iat = 2026-11-22 }}\n{deny}"),
                "claims: iat: can't be said in JSON",
            ),
            (format!("identity = \"id-a\"\n{CLAIMS}"), "expect[0]: says either allow or deny"),
            (
                format!("identity = \"id-a\"\n{CLAIMS}\n{deny}\nallow = \"main\""),
                "expect[0]: says either allow or deny",
            ),
            (
                format!("identity = \"id-a\"\n{CLAIMS}\ndeny = \"S-GH-BRANHC\""),
                "deny: \"S-GH-BRANHC\" is nothing that a token is refused for by records and claims (hint: one of: AADSTS",
            ),
            (
                format!("identity = \"id-a\"\n{CLAIMS}\n{deny}\nresource = \"a b\""),
                "resource: \"a b\" names no resource",
            ),
            (format!("identity = \"id-a\"\n{CLAIMS}\n{deny}\nresource = 1"), "resource: expected a text"),
            (format!("identity = \"id-a\"\n{CLAIMS}\n{deny}\nx = 1"), "expect[0].x: unknown key"),
            (format!("tenant = \"t\"\nidentity = \"id-a\"\n{CLAIMS}\n{deny}"), "tenant: no tenant \"t\""),
        ] {
            let found = problems(&expectation);
            assert!(found.iter().any(|line| line.contains(said)), "{said}: {found:#?}");
            // What could not be judged is told once.
            assert_eq!(found.len(), 1, "{found:#?}");
        }
    }

    #[test]
    fn an_identity_goes_by_its_client_id_too_and_a_name_of_two_is_refused() {
        let with = |identity: &str, outcome: &str| {
            problems(&format!("identity = {identity:?}\n{CLAIMS}\n{outcome}"))
        };
        let (id, unknown) = ("00000001-0000-4000-8000-000000000000", "00000009-0000-4000-8000-000000000000");
        assert_eq!(with(id, "allow = \"main\""), [""; 0]);
        assert_eq!(with(unknown, "deny = \"client_unknown\""), [""; 0]);
        let two = RECORDS.split("[[resource]]").next().unwrap().replace("00000001", "00000002");
        let found = problems(&format!("identity = \"id-a\"\n{CLAIMS}\nallow = \"main\"\n{two}"));
        assert!(found.len() == 1 && found[0].contains("2 identities are called \"id-a\""), "{found:#?}");
    }

    #[test]
    fn what_is_expected_is_no_part_of_the_digest_and_judged_only_of_sound_records() {
        let tenant = TenantEntry::standard(Guid::from_random([1; 16]), None, "https://sts.example");
        let around = Surroundings { tenants: vec![tenant], ..Surroundings::default() };
        let digest = |text: &str| {
            let found = Problems::default();
            let digest = compile([&Content::read("d.toml", text)], &around, &found).digest().to_owned();
            (digest, found.into_vec().len())
        };
        let expectation = format!("[[expect]]\nidentity = \"id-a\"\n{CLAIMS}\nallow = \"main\"\n");
        assert_eq!(digest(&format!("{RECORDS}{expectation}")), digest(RECORDS));
        // One problem, not two.
        let broken = RECORDS.replacen("subject = \"main\"", "subjekt = \"main\"", 1);
        assert_eq!(digest(&format!("{broken}{expectation}")).1, digest(&broken).1);
    }
}

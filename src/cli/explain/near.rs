//! Why it was refused: what differs from each credential, the cause, and the record that would accept the token.

use serde_json::{Value, json};

pub(super) use super::super::output::plain;
use super::super::proposal::Proposal;
use super::Findings;
use crate::domain::credential::Credential;
use crate::domain::nearmiss::{Cause, Class, Compared, Finding, NearMiss, Piece, pieces};

const RED: &str = "\u{1b}[1;31m";
const GREEN: &str = "\u{1b}[1;32m";
const RESET: &str = "\u{1b}[0m";

/// What was found of the three fields of a credential.
pub(super) fn fields(findings: &Findings<'_>, credential: &Credential) -> [Option<Finding>; 3] {
    let near = findings.near.as_ref();
    let one = near.and_then(|near| near.ranked.iter().find(|one| one.credential == credential));
    one.map_or([None; 3], |one| one.fields().map(|(_, finding)| Some(finding)))
}

/// How a field relates, in a few words.
pub(super) fn relation(finding: Option<Finding>) -> String {
    match finding {
        None | Some(Finding { class: Class::Equal | Class::Different, .. }) => "differs".to_owned(),
        Some(Finding { class, part: Some(part), .. }) => format!("{}: {part}", class.label()),
        Some(Finding { class, part: None, .. }) => class.label().to_owned(),
    }
}

/// Both values, one under the other; where they are near, with what differs in colour or, without colours, marked below.
pub(super) fn sides(
    (presented, configured): (&str, &str),
    finding: Option<Finding>,
    colours: bool,
) -> String {
    let near = finding.is_some_and(|finding| finding.class != Class::Different);
    let [ours, theirs] = pieces(presented, configured);
    let line = |name: &str, colour: &str, pieces: &[Piece]| {
        let shown = pieces.iter().map(|piece| (plain(&piece.text), piece.common || !near));
        let (mut text, mut marks) = (String::new(), String::new());
        for (piece, common) in shown {
            marks.push_str(&if common { " " } else { "^" }.repeat(piece.len()));
            text.push_str(&if common || !colours { piece } else { format!("{colour}{piece}{RESET}") });
        }
        let marks = marks.trim_end();
        let below = if marks.is_empty() || colours { String::new() } else { format!("{:18}{marks}\n", "") };
        format!("      {name:<12}{text}\n{below}")
    };
    line("presented", RED, &ours) + &line("configured", GREEN, &theirs)
}

/// The cause, and what would accept the token.
pub(super) fn text(findings: &Findings<'_>) -> String {
    let Some(near) = &findings.near else { return String::new() };
    let part = near.part.map(|part| format!(" ({part})")).unwrap_or_default();
    let mut text = format!("\ncause: {}{part}\n  {}\n", near.cause.id(), near.cause.hint());
    if let Some(nearest) = near.ranked.first() {
        text.push_str(&format!("  nearest credential: {}\n", nearest.credential.name));
    }
    if let Some(other) = near.elsewhere {
        text.push_str(&format!("  identity that is meant: {} ({})\n", other.name, other.client_id));
    }
    let Some(proposal) = proposal(findings) else { return text };
    let what = match proposal.replaces {
        Some(name) => format!("{name}, changed"),
        None => "one more credential".to_owned(),
    };
    text.push_str(&format!("\nwhat would accept this token: {what}\n"));
    let az = proposal.az().map(|lines| ("az", lines));
    let proposed = [("TOML", proposal.toml())].into_iter().chain(az);
    for (tool, lines) in proposed.chain([("Terraform", proposal.terraform())]) {
        text.push_str(&format!("  {tool}:\n"));
        lines.lines().for_each(|line| text.push_str(&format!("    {line}\n")));
    }
    text
}

/// The same for scripts.
pub(super) fn json(findings: &Findings<'_>) -> Value {
    let Some(near) = &findings.near else { return Value::Null };
    let proposal = proposal(findings).map(|proposal| {
        json!({
            "action": if proposal.replaces.is_some() { "change" } else { "add" },
            "name": proposal.name,
            "toml": proposal.toml(),
            "az": proposal.az(),
            "terraform": proposal.terraform(),
        })
    });
    json!({
        "cause": near.cause.id(),
        "part": near.part,
        "hint": near.cause.hint(),
        "credential": near.ranked.first().map(|nearest| nearest.credential.name.clone()),
        "other_identity": near.elsewhere.map(|identity| identity.name.clone()),
        "proposal": proposal,
    })
}

fn proposal<'d>(findings: &Findings<'d>) -> Option<Proposal<'d>> {
    let (_, identity) = findings.identity?;
    if findings.hearsay && !findings.near.as_ref().is_some_and(only_spells_the_issuer) {
        return None;
    }
    Proposal::cure(findings.near.as_ref()?, identity, findings.said.as_ref()?)
}

/// Whether all that is amiss is white space or a slash at an end of the issuer: then the record that would cure it trusts nobody
/// else, whoever sent the token.
fn only_spells_the_issuer(near: &NearMiss<'_>) -> bool {
    let spells = matches!(near.cause, Cause::IWs | Cause::ISlashExtra | Cause::ISlashMissing);
    let rest =
        |one: &Compared<'_>| [one.subject, one.audience].iter().all(|finding| finding.class == Class::Equal);
    spells && near.ranked.first().is_some_and(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_marked_or_coloured_and_nothing_drives_the_terminal() {
        let sibling = Finding { class: Class::Sibling, cause: None, part: Some("branch") };
        let near = Some(sibling);
        let values = ("heads/de\u{1b}v", "heads/main");
        assert_eq!(
            sides(values, near, false),
            "      presented   heads/de\\u{1b}v\n                        ^^^^^^^^^\n      \
             configured  heads/main\n                        ^^^^\n"
        );
        assert_eq!(
            sides(values, near, true),
            "      presented   heads/\u{1b}[1;31mde\\u{1b}v\u{1b}[0m\n      \
             configured  heads/\u{1b}[1;32mmain\u{1b}[0m\n"
        );
        let far = Some(Finding { class: Class::Different, ..sibling });
        let plain = "      presented   heads/de\\u{1b}v\n      configured  heads/main\n";
        assert_eq!(
            (sides(values, far, true), sides(values, None, false)),
            (plain.to_owned(), plain.to_owned())
        );
    }
}

//! `--dry-run`: what the platform says of this workload, and the credential that would accept it.

use std::fmt::Write;

use time::OffsetDateTime;
use time::macros::format_description;

use super::super::proposal::Proposal;
use crate::client::assertion::Assertion;
use crate::client::hint;
use crate::client::plain;

pub(super) fn text(assertion: &Assertion) -> String {
    let said = assertion.said();
    let mut text = String::from("the platform's token says:\n");
    let claim = |value: &Option<String>| plain(value.as_deref().unwrap_or("-"));
    let lines = [
        ("issuer", claim(&said.issuer)),
        ("subject", claim(&said.subject)),
        ("audience", plain(&said.audiences.join(", "))),
        ("issued", time(said.issued_at)),
        ("expires", time(said.expires)),
        ("algorithm", plain(&said.algorithm)),
        ("key id", claim(&said.key_id)),
    ];
    let more = assertion.safe_claims();
    let more = more.iter().map(|(name, value)| (*name, plain(value)));
    for (name, value) in lines.into_iter().chain(more) {
        let _ = writeln!(text, "  {name:<21} {value}");
    }
    for oddity in hint::oddities(said) {
        let _ = writeln!(text, "  note: {oddity}");
    }
    let (Some(issuer), Some(subject), [audience]) = (&said.issuer, &said.subject, said.audiences.as_slice())
    else {
        text.push_str("\nno credential can accept it: it needs an issuer, a subject and one audience\n");
        return text;
    };
    let proposal = match Proposal::anew([issuer, subject, audience]) {
        Ok(proposal) => proposal,
        Err(why) => {
            let _ = writeln!(text, "\nno credential to be copied: {why}");
            return text;
        }
    };
    let az = proposal
        .az()
        .unwrap_or_else(|| "# none: az would take the value that begins with @ for a file\n".to_owned());
    let _ = write!(
        text,
        "\nthe credential that accepts it, in the directory below its [[identity]]:\n\n{}\n\
         the same with az, for identity NAME in resource group GROUP:\n\n{az}\n\
         and with Terraform:\n\n{}",
        proposal.toml(),
        proposal.terraform(),
    );
    text
}

fn time(seconds: Option<i64>) -> String {
    let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    let time = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    time.and_then(|time| time.format(&form).ok()).unwrap_or_else(|| "-".to_owned())
}

//! Records as a table, as CSV, or as they are. Strangers wrote into them: nothing of it drives a terminal or a spreadsheet.

use std::borrow::Cow;

use clap::ValueEnum;
use serde_json::json;

use super::super::output::{as_it_is, plain};
use crate::audit::drives_terminals;
use crate::audit::reading::{Count, Entry, Line};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people: cut to the terminal's width; whole where stdout is none. `?` marks a subject whose token nobody has verified.
    Table,
    /// The records as they are, one a line.
    Json,
    /// Every field, for spreadsheets: a value that one would take for a formula has a ' in front.
    Csv,
}

/// How wide the columns are that share what a terminal has.
struct Layout {
    identity: usize,
    resource: usize,
    subject: usize,
    client: Option<usize>,
    id: usize,
    /// Whether longer values are cut.
    cuts: bool,
}

const TIME: usize = 20;
const RESULT: usize = 30;
/// The beginning of an id is enough to tell it, and to ask for it with a star behind.
const SHORT_ID: usize = 8;
const WHOLE_ID: usize = 36;
const CLIENT: usize = 15;
/// Narrower terminals get broken lines.
const NARROWEST: usize = 100;

/// Shows records in one format.
pub(super) struct Show {
    format: Format,
    layout: Layout,
}

impl Show {
    /// `columns` is what the terminal has, if there is one.
    pub(super) fn new(format: Format, columns: Option<usize>) -> Self {
        let width = columns.unwrap_or(200).max(NARROWEST);
        let id = if width >= 190 { WHOLE_ID } else { SHORT_ID };
        let client = (width >= 150).then_some(CLIENT);
        let fixed = TIME + RESULT + id + client.map_or(0, |client| client + 2) + 5 * 2;
        let rest = width - fixed;
        let (identity, resource) = (rest * 22 / 100, rest * 30 / 100);
        let subject = rest - identity - resource;
        Self { format, layout: Layout { identity, resource, subject, client, id, cuts: columns.is_some() } }
    }

    pub(super) fn head(&self) -> String {
        match self.format {
            Format::Table => {
                let head = ["TIME", "RESULT", "IDENTITY", "RESOURCE", "SUBJECT", "CLIENT", "ID"];
                self.layout.row(head.map(str::to_owned))
            }
            Format::Json => String::new(),
            Format::Csv => csv(&COLUMNS.map(|(name, _)| Some(name.into()))),
        }
    }

    pub(super) fn record(&self, line: &Line<'_>) -> String {
        match self.format {
            Format::Table => self.layout.row(cells(&line.entry)),
            Format::Json => as_it_is(line.text) + "\n",
            Format::Csv => csv(&COLUMNS.map(|(_, value)| value(&line.entry))),
        }
    }

    /// What is below all records.
    pub(super) fn foot(&self, granted: u64, refused: u64) -> String {
        match self.format {
            Format::Table => format!("\n{granted} granted, {refused} refused\n"),
            Format::Json | Format::Csv => String::new(),
        }
    }

    pub(super) fn top_head(&self, field: &str) -> String {
        match self.format {
            Format::Table => {
                format!("{:>9}  {:>9}  {:>9}  {}\n", "DECISIONS", "GRANTED", "VERIFIED", field.to_uppercase())
            }
            Format::Json => String::new(),
            Format::Csv => csv(&["decisions", "granted", "verified", field].map(|name| Some(name.into()))),
        }
    }

    pub(super) fn top(&self, field: &str, value: Option<&str>, count: Count) -> String {
        let Count { decisions, granted, verified } = count;
        match self.format {
            Format::Table => {
                let value = value.map_or("(not recorded)".to_owned(), plain);
                let room = TIME + RESULT + self.layout.identity + self.layout.resource + self.layout.subject;
                let value = if self.layout.cuts { fitted(value, room) } else { value };
                format!("{decisions:>9}  {granted:>9}  {verified:>9}  {value}\n")
            }
            Format::Json => {
                let row =
                    json!({ "decisions": decisions, "granted": granted, "verified": verified, field: value });
                as_it_is(&row.to_string()) + "\n"
            }
            Format::Csv => {
                let [decisions, granted, verified] =
                    [decisions, granted, verified].map(|count| Some(count.to_string().into()));
                csv(&[decisions, granted, verified, value.map(Cow::from)])
            }
        }
    }
}

impl Layout {
    fn row(&self, [time, result, identity, resource, subject, client, id]: [String; 7]) -> String {
        let mut row = String::new();
        for (value, width) in [
            (time, Some(TIME)),
            (result, Some(RESULT)),
            (identity, Some(self.identity)),
            (resource, Some(self.resource)),
            (subject, Some(self.subject)),
            (client, self.client),
        ] {
            let Some(width) = width else { continue };
            let value = if self.cuts { fitted(value, width) } else { value };
            row.push_str(&format!("{value:<width$}  "));
        }
        let id: String = if self.cuts { id.chars().take(self.id).collect() } else { id };
        row.push_str(&id);
        row.truncate(row.trim_end().len());
        row + "\n"
    }
}

/// The cells of the table, all of printable ASCII.
fn cells(entry: &Entry) -> [String; 7] {
    let mut result = match (entry.granted(), &entry.near_miss.cause, &entry.status.reason) {
        (true, ..) => format!("granted {}", text(&entry.unique_token_identifier)),
        (false, Some(word), _) | (false, None, Some(word)) => {
            format!("AADSTS{} {}", entry.status.error_code, plain(word))
        }
        (false, None, None) => format!("AADSTS{}", entry.status.error_code),
    };
    if let Some(count) = entry.count {
        result.push_str(&format!(" x{count}"));
    }
    let hearsay = if entry.verified || entry.assertion.subject.is_none() { "" } else { "? " };
    let identity = entry.identity_name.as_ref().or(entry.app_id.as_ref());
    [
        plain(&entry.created),
        result,
        identity.map_or("-".to_owned(), |name| plain(name)),
        text(&entry.resource),
        format!("{hearsay}{}", text(&entry.assertion.subject)),
        text(&entry.ip_address),
        text(&entry.correlation_id),
    ]
}

fn text(value: &Option<String>) -> String {
    value.as_deref().map_or("-".to_owned(), plain)
}

/// At most so many characters of a text of ASCII, from both of its ends: the end of a subject tells as much as its beginning.
fn fitted(text: String, width: usize) -> String {
    if text.len() <= width {
        return text;
    }
    let kept = width.saturating_sub(1);
    let (head, tail) = (kept - kept / 2, kept / 2);
    format!("{}…{}", &text[..head], &text[text.len() - tail..])
}

type Value = fn(&Entry) -> Option<Cow<'_, str>>;

/// Every field, by its name in the record.
const COLUMNS: [(&str, Value); 32] = [
    ("createdDateTime", |entry| Some(entry.created.as_str().into())),
    ("outcome", |entry| Some(entry.outcome.as_str().into())),
    ("count", |entry| Some(entry.decisions().to_string().into())),
    ("errorCode", |entry| Some(entry.status.error_code.to_string().into())),
    ("reason", |entry| cow(&entry.status.reason)),
    ("cause", |entry| cow(&entry.near_miss.cause)),
    ("part", |entry| cow(&entry.near_miss.part)),
    ("nearestCredential", |entry| cow(&entry.near_miss.credential)),
    ("additionalDetails", |entry| cow(&entry.status.additional_details)),
    ("verified", |entry| Some(entry.verified.to_string().into())),
    ("tenantId", |entry| cow(&entry.tenant_id)),
    ("identityName", |entry| cow(&entry.identity_name)),
    ("appId", |entry| cow(&entry.app_id)),
    ("servicePrincipalId", |entry| cow(&entry.service_principal_id)),
    ("resource", |entry| cow(&entry.resource)),
    ("federatedCredentialName", |entry| cow(&entry.federated_credential_name)),
    ("roles", |entry| Some(entry.roles.join("; ").into())),
    ("uniqueTokenIdentifier", |entry| cow(&entry.unique_token_identifier)),
    ("issuer", |entry| cow(&entry.assertion.issuer)),
    ("subject", |entry| cow(&entry.assertion.subject)),
    ("audience", |entry| cow(&entry.assertion.audience)),
    ("jwtId", |entry| cow(&entry.assertion.jwt_id)),
    ("keyId", |entry| cow(&entry.assertion.key_id)),
    ("runId", |entry| cow(&entry.assertion.run_id)),
    ("jobId", |entry| cow(&entry.assertion.job_id)),
    ("digest", |entry| cow(&entry.assertion.digest)),
    ("ipAddress", |entry| cow(&entry.ip_address)),
    ("dialect", |entry| cow(&entry.dialect)),
    ("correlationId", |entry| cow(&entry.correlation_id)),
    ("traceId", |entry| cow(&entry.trace_id)),
    ("durationMicros", |entry| entry.duration_micros.map(|micros| micros.to_string().into())),
    ("directoryDigest", |entry| cow(&entry.directory_digest)),
];

fn cow(value: &Option<String>) -> Option<Cow<'_, str>> {
    value.as_deref().map(Cow::from)
}

/// One line as RFC 4180 has it, every value in quotes.
fn csv(values: &[Option<Cow<'_, str>>]) -> String {
    let cells: Vec<String> = values.iter().map(|value| cell(value.as_deref().unwrap_or_default())).collect();
    cells.join(",") + "\r\n"
}

fn cell(value: &str) -> String {
    let mut cell = String::from("\"");
    // Spreadsheets take these for the beginning of a formula, the wide ones too, and some look behind white space.
    if value.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']) {
        cell.push('\'');
    }
    for c in value.chars() {
        match c {
            '"' => cell.push_str("\"\""),
            c if c.is_control() || drives_terminals(c) => cell.extend(c.escape_default()),
            c => cell.push(c),
        }
    }
    cell + "\""
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::audit::reading::Reading;

    fn shown(show: &Show, subject: &str) -> String {
        let record = json!({
            "createdDateTime": "2026-09-21T14:13:20Z", "correlationId": "0a1b2c3d-0000-4000-8000-000000000001",
            "status": { "errorCode": 700_213, "reason": "subject_unmatched" }, "outcome": "refused",
            "identityName": "id-payments-prod", "assertion": { "subject": subject }, "ipAddress": "192.0.2.7",
            "resource": "https://vault.azure.net",
        });
        let mut text = String::new();
        let mut visit = |line: &Line<'_>| {
            text = show.record(line);
            ControlFlow::Continue(())
        };
        let _ = Reading::new(&mut visit).pull(&mut format!("{record}\n").as_bytes()).unwrap();
        text
    }

    const HOSTILE: [&str; 9] = [
        "\u{1b}[2J\u{1b}]0;owned\u{7}",
        "a\r\nb",
        "\u{9b}31m\u{85}",
        "\u{202e}gnp.exe\u{2066}",
        "=HYPERLINK(\"http://evil.example\",\"x\")",
        " \t@SUM(1)",
        "－2+3",
        "\",=1+1,\"",
        "\u{61c}-1",
    ];

    #[test]
    fn no_subject_drives_a_terminal_or_ends_a_line() {
        for format in [Format::Table, Format::Json, Format::Csv] {
            for columns in [None, Some(80), Some(250)] {
                for subject in HOSTILE {
                    let show = Show::new(format, columns);
                    let top = show.top("subject", Some(subject), Count::default());
                    for row in [shown(&show, subject), top] {
                        let line = row.strip_suffix("\r\n").or(row.strip_suffix('\n')).unwrap();
                        assert!(!line.contains(|c: char| c.is_control() || drives_terminals(c)), "{line:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn json_is_the_same_record() {
        for subject in HOSTILE {
            let row = shown(&Show::new(Format::Json, None), subject);
            let read: serde_json::Value = serde_json::from_str(&row).unwrap();
            assert_eq!(read["assertion"]["subject"], subject);
        }
    }

    #[test]
    fn no_cell_of_csv_is_a_formula_and_every_row_has_all_columns() {
        let show = Show::new(Format::Csv, None);
        for subject in HOSTILE {
            let row = shown(&show, subject);
            let inner = row.strip_prefix('"').and_then(|row| row.strip_suffix("\"\r\n")).unwrap();
            let cells: Vec<_> = inner.split("\",\"").collect();
            // A quote in a value is doubled, so that only separators look like one.
            let cells = if subject.contains("\",") { cells.len() - 2 } else { cells.len() };
            assert!(cells >= COLUMNS.len() - 2 && !row.contains("\"\"\"\"\""), "{row}");
            for start in ["\"=", "\"+", "\"-", "\"@", "\"－", "\" @"] {
                let harmless = row.replace("\"\"", "");
                assert!(!harmless.contains(start), "{row}");
            }
        }
        assert!(shown(&show, "=1").contains(",\"'=1\","));
        assert!(shown(&show, "a \"b\", c").contains(",\"a \"\"b\"\", c\","));
    }

    #[test]
    fn a_table_keeps_to_its_terminal_and_is_whole_elsewhere() {
        let long = format!("repo:my--org/payments-service:ref:refs/heads/{}/end", "x".repeat(200));
        for columns in [100, 120, 150, 200, 300] {
            let show = Show::new(Format::Table, Some(columns));
            for row in [show.head(), shown(&show, &long)] {
                assert!(row.trim_end().chars().count() <= columns, "{columns}: {row}");
            }
        }
        let row = shown(&Show::new(Format::Table, None), &long);
        assert!(row.contains(&format!("? {long} ")) && row.contains("192.0.2.7"), "{row}");
        assert!(row.ends_with("0a1b2c3d-0000-4000-8000-000000000001\n"), "{row}");
        assert!(shown(&Show::new(Format::Table, Some(120)), &long).contains("/end  0a1b2c3d\n"));
    }

    #[test]
    fn letters_that_look_alike_are_spelled_out_in_the_table() {
        assert!(shown(&Show::new(Format::Table, None), "repo:m\u{430}in").contains("repo:m\\u{430}in"));
    }
}

//! What `ficus dev` prints.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::super::samples::Sample;
use super::super::{absolute, shell_quoted};
use super::job::Answer;
use super::{CLIENT, SCOPE, Stage, TENANT};
use crate::domain::credential::{Comparison, Presented};
use crate::domain::matching;

pub(super) fn welcome(stage: &Stage) -> String {
    format!(
        "\nficus is up: {}  (metrics and health: http://{})\n",
        stage.broker.public_url(),
        stage.broker.ops_address()
    )
}

/// Both tokens side by side, and the credential that matched.
pub(super) fn granted(stage: &Stage, answer: &Answer) -> String {
    let token = answer.body["access_token"].as_str().unwrap_or_default();
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let came_in = table(
        &claims(&answer.assertion),
        &names(&["iss", "sub", "aud", "exp", "repository", "ref", "workflow", "run_id", "actor"]),
    );
    let went_out = table(
        &claims(token),
        &names(&["iss", "sub", "aud", "exp", "appid", "oid", "roles", "tid", "idtyp", "ver", "xms_mirid"]),
    );
    let record = last_record(stage);
    let matched = format!(
        "credential {} of identity {}: issuer, subject and audience are equal byte for byte",
        record["federatedCredentialName"], record["identityName"]
    );
    format!(
        "\n1. A GitHub Actions job of my--org/payments-service on main exchanges its token: HTTP {}\n\n{}\n   matched: {matched}\n   expires_in: {} s, token_type: {}\n",
        answer.status,
        side_by_side(("what came in: GitHub's token", &came_in), ("what went out: ficus' token", &went_out)),
        answer.body["expires_in"],
        answer.body["token_type"].as_str().unwrap_or_default(),
    )
}

/// What differs from platform to platform, and no more: the whole was shown already.
pub(super) fn granted_briefly(number: usize, sample: &Sample, answer: &Answer, stage: &Stage) -> String {
    let came_in = claims(&answer.assertion);
    let went_out = claims(answer.body["access_token"].as_str().unwrap_or_default());
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let record = last_record(stage);
    format!(
        "\n{number}. {}, {}: HTTP {}\n\n   came in    iss {}\n              sub {}\n              aud {}\n   \
         matched    credential {} of identity {}\n   went out   aud {}, appid {}, roles {}\n",
        sample.platform,
        sample.workload,
        answer.status,
        text(&came_in["iss"]),
        text(&came_in["sub"]),
        text(&came_in["aud"]),
        record["federatedCredentialName"],
        record["identityName"],
        text(&went_out["aud"]),
        text(&went_out["appid"]),
        went_out["roles"],
    )
}

/// A near miss: what the caller is told, and what the operator sees.
pub(super) fn refused(stage: &Stage, answer: &Answer) -> String {
    let said = claims(&answer.assertion);
    let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
    let audiences = [text("aud")];
    let (issuer, subject) = (text("iss"), text("sub"));
    let mut why = String::new();
    let directory = stage.broker.directory();
    let identity = directory.tenant(TENANT).and_then(|tenant| tenant.identity(CLIENT, TENANT));
    if let Ok(identity) = identity {
        let presented = Presented { issuer: &issuer, subject: &subject, audiences: &audiences };
        for (credential, comparison) in matching::explain(identity, presented) {
            let verdict = verdict(comparison);
            why.push_str(&format!(
                "     {:<20} {verdict}\n     {:<20} subject {}\n",
                credential.name, "", credential.subject
            ));
        }
    }
    format!(
        "\n5. The GitHub job on another branch is refused: HTTP {}\n\n   what the caller is told:\n{}\n   what the operator sees: presented\n     {:<20} subject {subject}\n{why}",
        answer.status,
        wrapped(answer.body["error_description"].as_str().unwrap_or_default(), 110, "     "),
        "",
    )
}

fn verdict(comparison: Comparison) -> String {
    let word = |equal: bool| if equal { "equal" } else { "differs" };
    format!(
        "issuer {}, subject {}, audience {}",
        word(comparison.issuer),
        word(comparison.subject),
        word(comparison.audience)
    )
}

/// Lines that work as long as `ficus dev` runs: the first renews the assertion.
pub(super) fn lines_to_paste(stage: &Stage) -> String {
    let (ca, emulator_ca) = (shell_quoted(&stage.ca_file()), shell_quoted(&stage.emulator_ca_file()));
    let assertion = shell_quoted(&stage.assertion_file());
    let [github, others @ ..] = &stage.samples;
    let others: Vec<_> = others
        .iter()
        .map(|sample| format!("# {}: {}\n{}\n", sample.platform, sample.workload, sample.curl(&emulator_ca)))
        .collect();
    format!(
        "\n6. Try it. A fresh token from the emulated GitHub, as a job gets it:\n\n\
         {} > {assertion}\n\n\
         and its exchange:\n\n\
         curl -sS --cacert {ca} {} \\\n  -d grant_type=client_credentials -d client_id={CLIENT} --data-urlencode scope={SCOPE} \\\n  \
         -d client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer \\\n  --data-urlencode client_assertion@{assertion}\n\n\
         The same with azure-identity (pip install azure-identity), in this environment:\n\n\
         export AZURE_AUTHORITY_HOST={}\nexport AZURE_TENANT_ID={TENANT}\nexport AZURE_CLIENT_ID={CLIENT}\n\
         export AZURE_FEDERATED_TOKEN_FILE={assertion}\nexport REQUESTS_CA_BUNDLE={ca}\n\
         python3 -c 'from azure.identity import DefaultAzureCredential as C; print(C().get_token(\"{SCOPE}\").token)'\n\n\
         Tokens of the other platforms (client_id and scope of each are in {}):\n\n{}\n\
         Every decision is a line in {}. Ctrl-C stops.\n",
        github.curl(&emulator_ca),
        stage.token_url(),
        stage.broker.public_url(),
        absolute(&stage.data.join("dev.json")).display(),
        others.join("\n"),
        stage.audit_file().display(),
    )
}

/// The claims of a compact JWS, for showing only.
fn claims(jwt: &str) -> Value {
    let payload =
        jwt.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok()).unwrap_or_default();
    serde_json::from_slice(&payload).unwrap_or(Value::Null)
}

/// The newest audit record: a grant's is written before its token leaves.
fn last_record(stage: &Stage) -> Value {
    let text = std::fs::read_to_string(stage.audit_file()).unwrap_or_default();
    text.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or(Value::Null)
}

const VALUE_WIDTH: usize = 46;

/// Name and value of each claim that is there, long values broken into lines.
fn table(claims: &Value, names: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    for name in names {
        let text = match &claims[name.as_str()] {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let characters: Vec<char> = text.chars().collect();
        for (index, chunk) in characters.chunks(VALUE_WIDTH).enumerate() {
            let label = if index == 0 { name.as_str() } else { "" };
            lines.push(format!("{label:<11}{}", chunk.iter().collect::<String>()));
        }
    }
    lines
}

fn side_by_side(left: (&str, &[String]), right: (&str, &[String])) -> String {
    let width = VALUE_WIDTH + 13;
    let empty = String::new();
    let mut text = format!(
        "   {:<width$}{}\n   {:<width$}{}\n",
        left.0,
        right.0,
        "-".repeat(width - 3),
        "-".repeat(width - 3)
    );
    for row in 0..left.1.len().max(right.1.len()) {
        let (a, b) = (left.1.get(row).unwrap_or(&empty), right.1.get(row).unwrap_or(&empty));
        text.push_str(format!("   {a:<width$}{b}").trim_end());
        text.push('\n');
    }
    text
}

fn wrapped(text: &str, width: usize, indent: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last().map_or(0, String::len);
        if last > 0 && last + word.len() >= width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.iter().map(|line| format!("{indent}{line}\n")).collect()
}

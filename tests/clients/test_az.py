"""Unmodified azure-cli, from an empty configuration folder: what its user types, and all that its user then sees."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

import golden
from golden import GUID, TIME
from stage import CLIENT, REPOSITORY, UNREACHABLE_CLIENT, Stage
from tokens import unverified

AZ = REPOSITORY / "tests" / ".venv-az" / "bin" / "az"
VAULT = "https://vault.azure.net"
MANAGER = "https://management.azure.com"
SUBSCRIPTION = "22222222-2222-2222-2222-222222222222"
# An identity with no role in any subscription.
WITHOUT = "a1b2c3d4-00fe-4a00-8000-00000000c0fe"
RECORDS = """
[[role_assignment]]
principal_id = "a1b2c3d4-0001-4a00-8000-00000000b001"
role = "Reader"
scope = "/subscriptions/{subscription}"

[[resource]]
name = "own-resource-manager"
client_id = "a1b2c3d4-00af-4a00-8000-00000000a0af"
identifier_uris = ["{authority}"]
scope = "/manager"
token_version = 2
signing_algorithm = "ES256"
assignment_required = false

[[identity]]
name = "app-without-subscriptions"
kind = "application"
client_id = "{without}"
principal_id = "a1b2c3d4-00fe-4a00-8000-00000000b0fe"

  [[identity.federated_credential]]
  name = "main"
  issuer = "{issuer}"
  subject = "repo:my--org/payments-service:ref:refs/heads/main"
"""

SWITCHED = """WARNING: Switched active cloud to 'ficus'.
WARNING: Use 'az login' to log in to this cloud.
WARNING: Use 'az account set' to set the active subscription.
"""
# az says this behind everything that the token endpoint says.
AGAIN = """Run the command below to authenticate interactively; additional arguments may be added as needed:
az logout
az login
"""
REFUSED = "ERROR: AADSTS{code}: {text} Trace ID: <id> Correlation ID: <id> Timestamp: <time>\n" + AGAIN
WRONG_SUBJECT = REFUSED.format(code=700213, text=golden.WRONG_SUBJECT.text)
EXPIRED = REFUSED.format(code=700024, text=golden.EXPIRED.text)
NO_RESOURCE = REFUSED.format(
    code=500011,
    text="The resource principal named https://nothing.example was not found in the tenant named "
    "11111111-1111-1111-1111-111111111111. It may not be registered there, or the request may have been sent to the "
    "wrong tenant.",
)
# az takes these for errors of its own. The code of the first is told in the middle; of the second, nothing is.
UNEXPECTED = "ERROR: The command failed with an unexpected error. Here is the traceback:\n"
TRACEBACK = "Traceback (most recent call last):\n  <frames>\n"
ISSUES = "To check existing issues, please visit: https://github.com/Azure/azure-cli/issues\n"
NO_TENANT = "99999999-9999-4999-8999-999999999999"
NO_AUTHORITY = (
    f"Unable to get authority configuration for <authority>/{NO_TENANT}. Authority would typically be in a format of "
    "https://login.microsoftonline.com/your_tenant or https://tenant_name.ciamlogin.com or "
    "https://tenant_name.b2clogin.com/tenant.onmicrosoft.com/policy.  Also please double check your tenant name or GUID "
    "is correct.\n"
)
UNKNOWN_TENANT = (
    f"{UNEXPECTED}ERROR: {NO_AUTHORITY}{TRACEBACK}"
    f"ValueError: OIDC Discovery failed on <authority>/{NO_TENANT}/v2.0/.well-known/openid-configuration. HTTP status: "
    '400, Error: {"error":"invalid_tenant","error_description":"AADSTS90002: '
    f"{golden.UNKNOWN_TENANT.text.replace('<tenant>', NO_TENANT)} Trace ID: <id> Correlation ID: <id> Timestamp: <time>"
    '","error_codes":[90002],"timestamp":"<time>","trace_id":"<id>","correlation_id":"<id>",'
    '"error_uri":"<authority>/error?code=90002"}\n'
    "\nDuring handling of the above exception, another exception occurred:\n\n"
    f"{TRACEBACK}ValueError: {NO_AUTHORITY}{ISSUES}"
)
UNAVAILABLE = (
    f"{UNEXPECTED}ERROR: HTTP Error: 503\n{TRACEBACK}msal.exceptions.MsalServiceError: HTTP Error: 503\n{ISSUES}"
)


@dataclass(frozen=True)
class Seen:
    """What the user of az sees."""

    code: int
    output: str
    error: str


class Az:
    """az with a configuration folder of its own, and no network but this machine."""

    def __init__(self, stage: Stage, folder: Path, **variables: str) -> None:
        assert AZ.exists(), f"{AZ} is missing: tests/run installs it"
        self.stage = stage
        self.folder = folder
        self.environment = {
            "AZURE_CONFIG_DIR": str(folder),
            "AZURE_CORE_COLLECT_TELEMETRY": "false",
            "AZURE_CORE_INSTANCE_DISCOVERY": "false",
            "AZURE_CORE_NO_COLOR": "true",
            "REQUESTS_CA_BUNDLE": stage.ca_file,
            "SSL_CERT_FILE": stage.ca_file,
            # Nothing listens there: whatever goes to another host fails.
            "HTTP_PROXY": "http://127.0.0.1:1",
            "HTTPS_PROXY": "http://127.0.0.1:1",
            "NO_PROXY": "localhost",
            "HOME": str(folder),
            "PATH": os.environ["PATH"],
            **variables,
        }

    def __call__(self, *arguments: str) -> Seen:
        done = subprocess.run(
            [AZ, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Seen(done.returncode, done.stdout, readable(done.stderr, self.stage))

    def login(self, assertion: str, *more: str, client: str = CLIENT, tenant: str | None = None) -> Seen:
        who = ("--service-principal", "-u", client, "--tenant", tenant or self.stage.tenant_id)
        return self("login", *who, "--federated-token", assertion, *more)


def readable(text: str, stage: Stage) -> str:
    """The text, less what differs from run to run. Ids of the directory stay: az shows whom it means."""
    text = TIME.sub("<time>", text.replace(stage.authority, "<authority>"))
    text = re.sub(rf"(Trace ID: |Correlation ID: |_id\":\"){GUID.pattern}", r"\1<id>", text)
    return re.sub(r"(Traceback \(most recent call last\):\n)(?:  .*\n)+", r"\1  <frames>\n", text)


@pytest.fixture(scope="module")
def stage(environment: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("az")
    running = Stage(folder)
    records = RECORDS.format(
        subscription=SUBSCRIPTION, authority=running.authority, without=WITHOUT, issuer=running.issuer
    )
    (running.directory / "az.toml").write_text(records)
    deadline = time.monotonic() + 20
    while ask(running, CLIENT, running.assertion()).status_code != 200:
        assert time.monotonic() < deadline, f"the records are not live:\n{(folder / 'serve.txt').read_text()}"
        time.sleep(0.1)
    yield running
    assert running.stop() == [0, 0]
    # Every token that was presented or minted is a JWT, and begins as all of them do.
    for file in (folder / "serve.txt", folder / "data" / "audit.jsonl"):
        text = file.read_text()
        assert text and "eyJ" not in text, f"{file} holds a token"


@pytest.fixture(scope="module")
def registered(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration folder in which our cloud is the active one."""
    az = Az(stage, tmp_path_factory.mktemp("registered"))
    found = az("cloud", "register", "-n", "ficus", "--endpoint-resource-manager", stage.authority)
    assert found == Seen(0, "", "")
    assert az("cloud", "set", "-n", "ficus") == Seen(0, "", SWITCHED)
    return az.folder


@pytest.fixture
def az(stage: Stage, registered: Path, tmp_path: Path) -> Az:
    return Az(stage, Path(shutil.copytree(registered, tmp_path / "az")))


def ask(stage: Stage, client: str, assertion: str) -> requests.Response:
    form = {
        "grant_type": "client_credentials",
        "client_id": client,
        "scope": f"{MANAGER}/.default",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": assertion,
    }
    url = f"{stage.authority}/{stage.tenant_id}/oauth2/v2.0/token"
    return requests.post(url, data=form, verify=stage.ca_file, timeout=10)


def account(stage: Stage) -> dict[str, Any]:
    """The subscription as az keeps it."""
    return {
        "cloudName": "ficus",
        "homeTenantId": stage.tenant_id,
        "id": SUBSCRIPTION,
        "isDefault": True,
        "managedByTenants": [],
        "name": SUBSCRIPTION,
        "state": "Enabled",
        "tenantId": stage.tenant_id,
        "user": {"name": CLIENT, "type": "servicePrincipal"},
    }


def told(seen: Seen) -> Any:
    assert (seen.code, seen.error) == (0, ""), seen
    return json.loads(seen.output)


def test_a_session_in_a_cloud_that_describes_itself(stage: Stage, az: Az) -> None:
    assert told(az.login(stage.assertion())) == [account(stage)]
    assert told(az("account", "list")) == [account(stage)]
    # It asked for the manager's token when it signed in, and for each of these now.
    for arguments, audience in (
        (("--resource", VAULT), VAULT),
        (("--scope", "https://storage.azure.com/.default"), "https://storage.azure.com"),
    ):
        got = told(az("account", "get-access-token", *arguments))
        claims = unverified(got.pop("accessToken"))
        assert (claims["aud"], claims["appid"], claims["tid"]) == (audience, CLIENT, stage.tenant_id)
        assert claims["uti"] == stage.minted()[-1]
        # az counts for itself, from a whole number of seconds that it is told.
        assert abs(got.pop("expires_on") - claims["exp"]) <= 5
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", got.pop("expiresOn"))
        assert got == {"subscription": SUBSCRIPTION, "tenant": stage.tenant_id, "tokenType": "Bearer"}
    refused = az("account", "get-access-token", "--scope", "https://nothing.example/.default")
    assert refused == Seen(1, "", NO_RESOURCE)
    tenants = told(az("rest", "--url", "/tenants?api-version=2022-12-01"))["value"]
    assert [tenant["defaultDomain"] for tenant in tenants] == ["contoso.example"]
    assert az("group", "list") == Seen(
        3,
        "",
        "ERROR: (NotFound) This broker serves nothing at this path.\nCode: NotFound\n"
        "Message: This broker serves nothing at this path.\n",
    )
    assert az("logout") == Seen(0, "", "")
    assert az("account", "list") == Seen(0, "[]\n", 'WARNING: Please run "az login" to access your accounts.\n')


def test_a_cloud_by_flags_whose_resource_manager_has_its_own_name(stage: Stage, tmp_path: Path) -> None:
    az = Az(stage, tmp_path)
    own = stage.authority
    endpoints = {
        "--endpoint-resource-manager": own,
        "--endpoint-active-directory": own,
        "--endpoint-active-directory-resource-id": own,
        "--endpoint-active-directory-graph-resource-id": own,
        "--endpoint-microsoft-graph-resource-id": own,
        "--endpoint-management": own,
    }
    flags = [word for pair in endpoints.items() for word in pair]
    assert az("cloud", "register", "-n", "ficus", "--skip-endpoint-discovery", *flags) == Seen(0, "", "")
    assert az("cloud", "set", "-n", "ficus") == Seen(0, "", SWITCHED)
    # This token is of version 2.0, and names the manager by its client id.
    assert told(az.login(stage.assertion(), "--allow-no-subscriptions")) == [account(stage)]
    none = f"ERROR: No subscriptions found for {WITHOUT}.\n"
    assert az.login(stage.assertion(), client=WITHOUT) == Seen(1, "", none)
    [level] = told(az.login(stage.assertion(), "--allow-no-subscriptions", client=WITHOUT))
    assert (level["id"], level["name"]) == (stage.tenant_id, "N/A(tenant level account)")


def test_a_cloud_from_the_metadata_url_and_the_tenant_by_its_domain(stage: Stage, tmp_path: Path) -> None:
    url = f"{stage.authority}/metadata/endpoints?api-version=2019-05-01"
    az = Az(stage, tmp_path, ARM_CLOUD_METADATA_URL=url)
    # It is the only cloud then, and active from the start.
    assert az("cloud", "set", "-n", "ficus") == Seen(0, "", "")
    assert told(az.login(stage.assertion(), tenant="contoso.example")) == [account(stage)]


@pytest.mark.parametrize(("job", "text"), [("feature", WRONG_SUBJECT), ("expired", EXPIRED)])
def test_a_refusal_is_told_and_ends_with_a_right_assertion(stage: Stage, az: Az, job: str, text: str) -> None:
    minted = stage.minted()
    assert az.login(stage.assertion(job)) == Seen(1, "", text)
    assert stage.minted() == minted
    # Nothing of the refusal is kept in the folder.
    assert told(az.login(stage.assertion())) == [account(stage)]


def test_an_unknown_tenant(stage: Stage, az: Az) -> None:
    minted = stage.minted()
    seen = az.login(stage.assertion(), tenant=NO_TENANT)
    assert seen == Seen(1, "", UNKNOWN_TENANT)
    assert stage.minted() == minted


def test_an_issuer_that_is_down(stage: Stage, az: Az) -> None:
    minted = stage.minted()
    assertion = stage.assertion("unreachable")
    answer = ask(stage, UNREACHABLE_CLIENT, assertion)
    assert (answer.status_code, answer.json()["error_codes"]) == (503, [50166])
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    assert az.login(assertion, client=UNREACHABLE_CLIENT) == Seen(1, "", UNAVAILABLE)
    assert stage.minted() == minted

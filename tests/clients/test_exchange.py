"""Every client: a token, a refusal that a person can read, and a token again once the assertion is right."""

import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

import crates
import npm
import sdk
from golden import (
    EXPIRED,
    ISSUER_STILL_UNAVAILABLE,
    ISSUER_UNAVAILABLE,
    UNKNOWN_TENANT,
    WRONG_SUBJECT,
    Refusal,
    masked,
    shown,
)
from stage import UNREACHABLE_CLIENT, Client, Outcome, Request, Stage
from tokens import unverified

VAULT = "https://vault.azure.net/.default"
ORDERS = "api://orders-api/.default"
PRINCIPAL = "a1b2c3d4-0001-4a00-8000-00000000b001"

ABSENT_TENANT = "99999999-9999-4999-8999-999999999999"
# What clients make of a Retry-After. These ask three times more, those in Rust as often as
# their program says, each time after as long.
PATIENT: dict[Client, int] = {
    sdk.workload_identity: 3,
    sdk.client_assertion: 3,
    sdk.aio_workload_identity: 3,
    sdk.aio_client_assertion: 3,
    sdk.default_credential: 3,
    npm.node_workload_identity: 3,
    npm.node_client_assertion: 3,
    crates.rust_workload_identity: 2,
    crates.rust_client_assertion: 2,
}
# These ask no more, but answer a program that does so before its time themselves. The rest don't know it.
HOLDING_BACK: tuple[Client, ...] = (sdk.msal, sdk.msal_oidc, npm.msal_node, npm.msal_node_oidc)


@pytest.fixture(scope="module", autouse=True)
def outages(broker: Stage) -> Iterator[dict[Client, tuple[str, Future[list[Outcome]]]]]:
    """Every client meets an issuer that is down, those that don't wait for themselves twice. The others take up to 15
    seconds in all, and other tests go on meanwhile."""
    with ThreadPoolExecutor(len(sdk.CLIENTS)) as threads:
        asked = broker.request(client_id=UNREACHABLE_CLIENT)
        assertions = {client: broker.assertion("unreachable") for client in sdk.CLIENTS}
        yield {
            client: (each, threads.submit(client, asked, [each] if client in PATIENT else [each, each]))
            for client, each in assertions.items()
        }


def test_a_token_for_each_resource_from_one_assertion(broker: Stage, client: Client) -> None:
    # SDKs keep an assertion for minutes and present it for every resource.
    assertion = broker.assertion()
    for scope, audience in ((VAULT, "https://vault.azure.net"), (ORDERS, "a1b2c3d4-00a1-4a00-8000-00000000a001")):
        [outcome] = client(broker.request(scope=scope), [assertion])
        assert outcome.token, outcome.error
        claims = unverified(outcome.token)
        assert (claims["aud"], claims["oid"], claims["tid"]) == (audience, PRINCIPAL, broker.tenant_id)
        assert claims["uti"] == broker.minted()[-1]


@pytest.mark.parametrize(
    ("job", "refusal"), [("feature", WRONG_SUBJECT), ("expired", EXPIRED)], ids=["subject", "expired"]
)
def test_a_refusal_is_readable_and_ends_with_a_right_assertion(
    broker: Stage, client: Client, job: str, refusal: Refusal
) -> None:
    minted = broker.minted()
    wrong = broker.assertion(job)
    first, second, good = client(broker.request(), [wrong, wrong, broker.assertion()])
    for refused in (first, second):
        check_shown(client, broker.request(), refused, refusal)
    # Two ids: the client asked again instead of replaying a kept refusal, as MSAL does for a minute after a 400.
    assert trace_id(first.error) != trace_id(second.error)
    # The good assertion gets a token in the same process, and it is the only one that was minted.
    assert good.token, good.error
    assert broker.minted() == [*minted, unverified(good.token)["uti"]]


def test_a_resource_keeps_its_trailing_slash(broker: Stage, client: Client) -> None:
    # This identity has no role on the database, so that the text shows which resource was understood.
    minted = broker.minted()
    assertion = broker.assertion()
    [refused] = client(broker.request(scope="https://database.windows.net//.default"), [assertion])
    assert refused.token is None
    expected = (
        f"AADSTS501051: Application '{broker.client_id}' is not assigned to a role for the application "
        "'https://database.windows.net/'."
    )
    assert expected in refused.error
    assert broker.minted() == minted
    # The assertion was not used up by the refusal.
    [good] = client(broker.request(), [assertion])
    assert good.token, good.error


def test_the_newline_of_a_token_file_does_no_harm(broker: Stage, client: Client) -> None:
    [outcome] = client(broker.request(), [f"{broker.assertion()}\n"])
    assert outcome.token, outcome.error


def test_the_tenant_by_its_domain(broker: Stage, client: Client) -> None:
    [outcome] = client(broker.request(tenant="contoso.example"), [broker.assertion()])
    assert outcome.token, outcome.error
    assert unverified(outcome.token)["tid"] == broker.tenant_id


def test_a_tenant_that_is_not_there(broker: Stage, client: Client) -> None:
    request = broker.request(tenant=ABSENT_TENANT)
    [refused] = client(request, [broker.assertion()])
    check_shown(client, request, refused, UNKNOWN_TENANT)


@pytest.mark.parametrize("tenant", [None, "contoso.example"])
def test_msal_may_ask_us_whether_we_are_an_authority(broker: Stage, tenant: str | None) -> None:
    [outcome] = sdk.msal_instance_discovery(broker.request(tenant=tenant), [broker.assertion()])
    assert outcome.token, outcome.error
    assert unverified(outcome.token)["tid"] == broker.tenant_id


@pytest.mark.parametrize("strict", npm.STRICT_CLIENTS, ids=lambda client: client.__name__)
def test_a_strict_client_finds_us_by_our_issuer(broker: Stage, strict: Client) -> None:
    [outcome] = strict(broker.request(), [broker.assertion()])
    assert outcome.token, outcome.error
    for tenant, text in (
        # Its document names the issuer with the tenant's GUID.
        ("contoso.example", "ClientError: discovered metadata issuer does not match the expected issuer"),
        # The body of an error that is no token endpoint's is not read.
        (ABSENT_TENANT, "ClientError: unexpected HTTP response status code"),
    ):
        [refused] = strict(broker.request(tenant=tenant), [broker.assertion()])
        assert refused == Outcome(None, text)


def test_an_issuer_that_is_down(
    broker: Stage, client: Client, outages: dict[Client, tuple[str, Future[list[Outcome]]]]
) -> None:
    assertion, presented = outages[client]
    request = broker.request(client_id=UNREACHABLE_CLIENT)
    first, *again = presented.result()
    check_shown(client, request, first, ISSUER_UNAVAILABLE)
    for held_back in again:
        check_shown(client, request, held_back, ISSUER_STILL_UNAVAILABLE)
    expected = 1 + PATIENT.get(client, 0 if client in HOLDING_BACK else 1)
    assert broker.attempts(assertion, expected=expected) == expected


def check_shown(client: Client, request: Request, refused: Outcome, refusal: Refusal) -> None:
    assert refused.token is None
    assert masked(request, refused.error) == shown(client, refusal)


def trace_id(error: str) -> str:
    found = re.search(r"Trace ID: ([0-9a-f-]{36})", error)
    assert found, error
    return found[1]

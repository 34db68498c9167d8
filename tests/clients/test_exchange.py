"""Every client: a token, a refusal that a person can read, and a token again once the assertion is right."""

import re

import pytest

from stage import Stage
from sdk import Client, msal_instance_discovery
from tokens import unverified

VAULT = "https://vault.azure.net/.default"
ORDERS = "api://orders-api/.default"
PRINCIPAL = "a1b2c3d4-0001-4a00-8000-00000000b001"

WRONG_SUBJECT = (
    "AADSTS700213: No matching federated identity record found for presented assertion subject "
    "'repo:my--org/payments-service:ref:refs/heads/feature/login'. Check the federated credential's issuer, subject "
    "and audience against the presented token; they are compared byte for byte."
)
EXPIRED = "AADSTS700024: Client assertion is not within its valid time range. Current time: "


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
    ("job", "text"), [("feature", WRONG_SUBJECT), ("expired", EXPIRED)], ids=["subject", "expired"]
)
def test_a_refusal_is_readable_and_ends_with_a_right_assertion(
    broker: Stage, client: Client, job: str, text: str
) -> None:
    minted = broker.minted()
    wrong = broker.assertion(job)
    first, second, good = client(broker.request(), [wrong, wrong, broker.assertion()])
    for refused in (first, second):
        assert refused.token is None
        assert text in refused.error
        assert "access_token" not in refused.error
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


@pytest.mark.parametrize("tenant", [None, "contoso.example"])
def test_msal_may_ask_us_whether_we_are_an_authority(broker: Stage, tenant: str | None) -> None:
    [outcome] = msal_instance_discovery(broker.request(tenant=tenant), [broker.assertion()])
    assert outcome.token, outcome.error
    assert unverified(outcome.token)["tid"] == broker.tenant_id


def trace_id(error: str) -> str:
    found = re.search(r"Trace ID: ([0-9a-f-]{36})", error)
    assert found, error
    return found[1]

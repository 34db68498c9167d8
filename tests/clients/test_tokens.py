"""Minted tokens, whole: what an API that validates with PyJWT finds in them."""

from typing import Any

from stage import Stage
from sdk import workload_identity
from tokens import discovery, verify

# Tokens begin this long before they are made, for clocks that are behind.
BACKDATED = 300
OID = "a1b2c3d4-0001-4a00-8000-00000000b001"
ORDERS_API = "a1b2c3d4-00a1-4a00-8000-00000000a001"


def mint(broker: Stage, scope: str) -> str:
    [outcome] = workload_identity(broker.request(scope=scope), [broker.assertion()])
    assert outcome.token, outcome.error
    return outcome.token


def check_times_and_id(claims: dict[str, Any], *, lifetime: int) -> None:
    """Takes the claims that differ from token to token out, so that the rest can be compared whole."""
    issued, begins, ends = claims.pop("iat"), claims.pop("nbf"), claims.pop("exp")
    # `type`, not `isinstance`: 1.0 and true are JSON numbers and booleans that compare equal to integers.
    assert [type(time) for time in (issued, begins, ends)] == [int, int, int]
    assert issued == begins
    assert ends - begins == lifetime + BACKDATED
    identifier = claims.pop("uti")
    assert isinstance(identifier, str) and len(identifier) == 22


def test_a_v1_token_on_rsa(broker: Stage) -> None:
    issuer = f"{broker.authority}/{broker.tenant_id}/"
    audience = "https://vault.azure.net"
    token = mint(broker, "https://vault.azure.net/.default")
    verified = verify(broker, token, algorithm="RS256", issuer=issuer, audience=audience)
    kid = verified.header["kid"]
    assert verified.header == {"typ": "JWT", "alg": "RS256", "kid": kid, "x5t": kid}
    check_times_and_id(verified.claims, lifetime=3600)
    assert verified.claims == {
        "aud": audience,
        "iss": issuer,
        "idp": issuer,
        "appid": broker.client_id,
        "appidacr": "2",
        "idtyp": "app",
        "oid": OID,
        "sub": OID,
        "roles": ["Key Vault Secrets User", "Storage Blob Data Contributor"],
        "tid": broker.tenant_id,
        "ver": "1.0",
        "xms_mirid": "/subscriptions/22222222-2222-2222-2222-222222222222/resourcegroups/rg-payments-prod/providers"
        "/Microsoft.ManagedIdentity/userAssignedIdentities/id-payments-prod",
        "xms_ficinfo": "ficus",
    }


def test_a_v2_token_on_an_elliptic_curve(broker: Stage) -> None:
    issuer = discovery(broker)["issuer"]
    assert issuer == f"{broker.authority}/{broker.tenant_id}/v2.0"
    token = mint(broker, "api://orders-api/.default")
    verified = verify(broker, token, algorithm="ES256", issuer=issuer, audience=ORDERS_API)
    assert verified.header == {"typ": "JWT", "alg": "ES256", "kid": verified.header["kid"]}
    check_times_and_id(verified.claims, lifetime=1800)
    assert verified.claims == {
        "aud": ORDERS_API,
        "iss": issuer,
        "azp": broker.client_id,
        "azpacr": "2",
        "idtyp": "app",
        "oid": OID,
        "sub": OID,
        "roles": ["Orders.Read.All"],
        "tid": broker.tenant_id,
        "ver": "2.0",
        "xms_mirid": "/subscriptions/22222222-2222-2222-2222-222222222222/resourcegroups/rg-payments-prod/providers"
        "/Microsoft.ManagedIdentity/userAssignedIdentities/id-payments-prod",
        "xms_ficinfo": "ficus",
    }

"""Minted tokens as the owner of an API validates them: from the discovery document alone."""

import ssl
from dataclasses import dataclass
from typing import Any

import jwt
import requests

from stage import Stage


@dataclass(frozen=True)
class Verified:
    """A token whose signature, times, issuer and audience hold."""

    header: dict[str, Any]
    claims: dict[str, Any]


def discovery(broker: Stage) -> dict[str, Any]:
    url = f"{broker.authority}/{broker.tenant_id}/v2.0/.well-known/openid-configuration"
    response = requests.get(url, timeout=10)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


def verify(broker: Stage, token: str, *, algorithm: str, issuer: str, audience: str) -> Verified:
    """No leeway: a token is valid the moment it arrives."""
    trust = ssl.create_default_context(cafile=broker.ca_file)
    # The default from Python 3.13 on, which is stricter about the CA's extensions.
    trust.verify_flags |= ssl.VERIFY_X509_STRICT
    keys = jwt.PyJWKClient(discovery(broker)["jwks_uri"], ssl_context=trust)
    decoded = jwt.decode_complete(
        token, keys.get_signing_key_from_jwt(token), algorithms=[algorithm], issuer=issuer, audience=audience
    )
    return Verified(decoded["header"], decoded["payload"])


def key_id(token: str) -> str:
    """The header's `kid`, likewise."""
    identifier: str = jwt.get_unverified_header(token)["kid"]
    return identifier


def unverified(token: str) -> dict[str, Any]:
    """Claims, for tests that are about something else."""
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims

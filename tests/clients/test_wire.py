"""The answers themselves: types and headers that some SDK needs, seen without an SDK."""

import json
import time
import uuid
from typing import Any

import pytest
import requests

from stage import Stage
from tokens import unverified

NEVER_STORED = {
    "content-type": "application/json; charset=utf-8",
    "cache-control": "no-store, no-cache",
    "pragma": "no-cache",
    "expires": "-1",
    "x-content-type-options": "nosniff",
}


def exchange(broker: Stage, assertion: str, headers: dict[str, str] | None = None) -> requests.Response:
    request = broker.request()
    form = {
        "grant_type": "client_credentials",
        "client_id": request.client_id,
        "scope": request.scope,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": assertion,
    }
    url = f"{request.authority}/{request.tenant}/oauth2/v2.0/token"
    return requests.post(url, data=form, headers=headers, timeout=10)


def check_headers(response: requests.Response) -> None:
    assert {name: response.headers.get(name) for name in NEVER_STORED} == NEVER_STORED
    assert str(uuid.UUID(response.headers["x-ms-request-id"])) == response.headers["x-ms-request-id"]
    # PKeyAuth in there starts a replay with a device certificate in MSAL.
    assert "www-authenticate" not in response.headers


def test_a_grant(broker: Stage) -> None:
    before = int(time.time())
    response = exchange(broker, broker.assertion())
    after = int(time.time())
    assert response.status_code == 200, response.text
    check_headers(response)
    assert "client-request-id" not in response.headers
    body: dict[str, Any] = response.json()
    # These and no other: MSAL Go fails on a `scope` or `client_info` that it did not expect.
    assert sorted(body) == ["access_token", "expires_in", "ext_expires_in", "token_type"]
    assert body["token_type"] == "Bearer"
    # Numbers, not strings: az adds to them and the Rust SDK reads nothing else.
    assert type(body["expires_in"]) is int and type(body["ext_expires_in"]) is int
    assert body["expires_in"] == body["ext_expires_in"]
    ends = unverified(body["access_token"])["exp"]
    assert ends - after - 1 <= body["expires_in"] <= ends - before - 1


def test_a_refusal(broker: Stage) -> None:
    minted = broker.minted()
    correlation = str(uuid.uuid4())
    asked = {"client-request-id": correlation, "return-client-request-id": "true"}
    response = exchange(broker, broker.assertion("feature"), asked)
    # 401, because MSAL and az keep a 400 for a minute.
    assert response.status_code == 401
    check_headers(response)
    assert response.headers["client-request-id"] == correlation
    body: dict[str, Any] = response.json()
    assert sorted(body) == [
        "correlation_id",
        "error",
        "error_codes",
        "error_description",
        "error_uri",
        "timestamp",
        "trace_id",
    ]
    assert (body["error"], body["error_codes"]) == ("invalid_client", [700213])
    assert body["trace_id"] == response.headers["x-ms-request-id"]
    assert body["correlation_id"] == correlation
    time.strptime(body["timestamp"], "%Y-%m-%d %H:%M:%SZ")
    assert body["error_uri"] == f"{broker.authority}/error?code=700213"
    # As it stands in the body: the Rust SDK shows a parse error for a text with any escape in it.
    description: str = body["error_description"]
    assert json.dumps(description) == f'"{description}"' and f'"{description}"' in response.text
    assert description.startswith("AADSTS700213: ")
    assert broker.minted() == minted
    assert exchange(broker, broker.assertion()).status_code == 200


def test_only_the_self_made_authority_vouches_for_the_broker(broker: Stage) -> None:
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(broker.authority, verify=broker.emulator_ca_file, timeout=10)

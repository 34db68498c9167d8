"""Validators from npm, with our discovery document alone: what they accept, and what they say of what they refuse."""

import base64
from dataclasses import dataclass

import pytest

import npm
from sdk import workload_identity
from stage import REPORTS_API, VAULT, Stage

ORDERS_API = "a1b2c3d4-00a1-4a00-8000-00000000a001"


@dataclass(frozen=True)
class Kind:
    """Of a token: where it comes from and what is in it."""

    scope: str
    audience: str
    version: str


RS256_V1 = Kind(VAULT, "https://vault.azure.net", "1.0")
RS256_V2 = Kind("api://reports-api/.default", REPORTS_API, "2.0")
ES256_V2 = Kind("api://orders-api/.default", ORDERS_API, "2.0")


@dataclass(frozen=True)
class Validator:
    """Its program, and what it says of another audience, signature and issuer."""

    program: str
    name: str
    audience: str
    signature: str
    issuer: str
    kinds: tuple[Kind, ...] = (RS256_V1, RS256_V2, ES256_V2)


BEARER = (
    'Error: 401 Bearer realm="api", error="invalid_token", error_description="{}", '
    'DPoP algs="RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES256K ES384 ES512 EdDSA"'
)
PASSPORT = Validator(
    "middleware.js",
    "passport_azure_ad",
    "Error: 401 jwt audience is invalid",
    "Error: 401 invalid signature",
    "Error: 401 jwt issuer is invalid",
    # It knows RSA alone.
    (RS256_V1, RS256_V2),
)
VALIDATORS = (
    Validator(
        "libraries.js",
        "jose",
        'JWTClaimValidationFailed: unexpected "aud" claim value',
        "JWSSignatureVerificationFailed: signature verification failed",
        'JWTClaimValidationFailed: unexpected "iss" claim value',
    ),
    Validator(
        "libraries.js",
        "jwks_rsa",
        "JsonWebTokenError: jwt audience invalid. expected: api://another",
        "JsonWebTokenError: invalid signature",
        "JsonWebTokenError: jwt issuer invalid. expected: {expected}",
    ),
    Validator(
        "middleware.js",
        "express_oauth2_jwt_bearer",
        BEARER.format("Unexpected 'aud' value"),
        BEARER.format("signature verification failed"),
        BEARER.format("Unexpected 'iss' value"),
    ),
    PASSPORT,
)


@pytest.mark.parametrize("validator", VALIDATORS, ids=lambda validator: validator.name)
def test_a_validator(broker: Stage, validator: Validator) -> None:
    v1 = f"{broker.authority}/{broker.tenant_id}"
    v2 = f"{v1}/v2.0"
    checks: list[dict[str, str]] = []
    outcomes: list[tuple[str | None, str]] = []
    for kind in validator.kinds:
        token = mint(broker, kind)
        # The same keys sign for both issuers: nothing else tells these apart.
        own, another = (v1, v2) if kind.version == "1.0" else (v2, v1)
        right = {"token": token, "audience": kind.audience, "base": own}
        checks += [
            right,
            {**right, "audience": "api://another"},
            {**right, "token": with_one_bit_flipped(token)},
            {**right, "base": another},
        ]
        outcomes += [
            (kind.version, ""),
            (None, validator.audience),
            (None, validator.signature),
            # That of v1.0 ends in a slash.
            (None, validator.issuer.format(expected=v2 if another == v2 else f"{v1}/")),
        ]
    assert run(validator, checks) == outcomes


def test_passport_azure_ad_refuses_what_it_does_not_know(broker: Stage) -> None:
    base = f"{broker.authority}/{broker.tenant_id}/v2.0"
    check = {"token": mint(broker, ES256_V2), "audience": ORDERS_API, "base": base}
    text = "Error: 401 In Strategy.prototype.jwtVerify: We did not receive a token we know how to validate"
    assert run(PASSPORT, [check]) == [(None, text)]


def run(validator: Validator, checks: list[dict[str, str]]) -> list[tuple[str | None, str]]:
    """The `ver` of what was accepted, or what was said."""
    outcomes = npm.run(validator.program, validator.name, {}, checks)
    return [(outcome["claims"] and outcome["claims"]["ver"], outcome["error"]) for outcome in outcomes]


def mint(broker: Stage, kind: Kind) -> str:
    [outcome] = workload_identity(broker.request(scope=kind.scope), [broker.assertion()])
    assert outcome.token, outcome.error
    return outcome.token


def with_one_bit_flipped(token: str) -> str:
    signed, _, signature = token.rpartition(".")
    decoded = bytearray(base64.urlsafe_b64decode(f"{signature}=="))
    decoded[20] ^= 1
    return f"{signed}.{base64.urlsafe_b64encode(decoded).rstrip(b'=').decode()}"

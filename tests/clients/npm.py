"""The clients and validators from npm, behind the signatures of those in Python: each a program in `node/`."""

import json
import os
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stage import Client, Outcome, Request

PROGRAMS = Path(__file__).with_name("node")


def run(
    program: str, name: str, request: dict[str, str], presented: list[Any], **environment: str
) -> list[dict[str, Any]]:
    """Presents one after the other in one process; what comes of each."""
    done = subprocess.run(
        ["node", PROGRAMS / program],
        input=json.dumps({"program": name, "presented": presented, **request}),
        # Nothing else may tell a client where to go, or whom to trust.
        env={
            "PATH": os.environ["PATH"],
            "NODE_EXTRA_CA_CERTS": os.environ["REQUESTS_CA_BUNDLE"],
            **environment,
        },
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    outcomes: list[dict[str, Any]] = json.loads(done.stdout)
    return outcomes


def _client(program: str, name: str, request: Request, assertions: list[str], **environment: str) -> list[Outcome]:
    return [Outcome(**outcome) for outcome in run(program, name, asdict(request), assertions, **environment)]


def node_workload_identity(request: Request, assertions: list[str]) -> list[Outcome]:
    with tempfile.TemporaryDirectory() as folder:
        return _client(
            "azure_identity.js",
            "workload_identity",
            request,
            assertions,
            # With the slash that the AKS webhook puts there.
            AZURE_AUTHORITY_HOST=f"{request.authority}/",
            AZURE_TENANT_ID=request.tenant,
            AZURE_CLIENT_ID=request.client_id,
            AZURE_FEDERATED_TOKEN_FILE=str(Path(folder, "token")),
        )


def node_client_assertion(request: Request, assertions: list[str]) -> list[Outcome]:
    return _client("azure_identity.js", "client_assertion", request, assertions)


def msal_node(request: Request, assertions: list[str]) -> list[Outcome]:
    return _client("msal_node.js", "known_authority", request, assertions)


def msal_node_oidc(request: Request, assertions: list[str]) -> list[Outcome]:
    return _client("msal_node.js", "oidc", request, assertions)


def openid_client(request: Request, assertions: list[str]) -> list[Outcome]:
    return _client("openid_client.js", "credentials", request, assertions)


def openid_client_exchange(request: Request, assertions: list[str]) -> list[Outcome]:
    return _client("openid_client.js", "exchange", request, assertions)


def openid_client_discovery(request: Request, assertions: list[str]) -> list[Outcome]:
    return _client("openid_client.js", "credentials_discovery", request, assertions)


def openid_client_exchange_discovery(request: Request, assertions: list[str]) -> list[Outcome]:
    return _client("openid_client.js", "exchange_discovery", request, assertions)


# Every one that takes whatever names a tenant.
CLIENTS: tuple[Client, ...] = (
    node_workload_identity,
    node_client_assertion,
    msal_node,
    msal_node_oidc,
    openid_client,
    openid_client_exchange,
)
# Those that know a tenant by its GUID alone: they refuse a document that names another issuer than the one asked for.
STRICT_CLIENTS: tuple[Client, ...] = (openid_client_discovery, openid_client_exchange_discovery)

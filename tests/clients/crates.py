"""The Rust SDK, behind the signature of the clients in Python: a program in `rust/`."""

import json
import os
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path

from stage import Client, Outcome, Request, target_folder


def _client(credential: str, request: Request, assertions: list[str]) -> list[Outcome]:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [target_folder() / "clients" / "debug" / "rust-client"],
            input=json.dumps({"credential": credential, "assertions": assertions, **asdict(request)}),
            # Nothing else may tell a client where to go, or whom to trust.
            env={
                "AZURE_AUTHORITY_HOST": f"{request.authority}/",
                "AZURE_TENANT_ID": request.tenant,
                "AZURE_CLIENT_ID": request.client_id,
                "AZURE_FEDERATED_TOKEN_FILE": str(Path(folder, "token")),
                "SSL_CERT_FILE": os.environ["REQUESTS_CA_BUNDLE"],
            },
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
            check=True,
        )
    return [Outcome(**outcome) for outcome in json.loads(done.stdout)]


def rust_workload_identity(request: Request, assertions: list[str]) -> list[Outcome]:
    return _client("workload_identity", request, assertions)


def rust_client_assertion(request: Request, assertions: list[str]) -> list[Outcome]:
    return _client("client_assertion", request, assertions)


CLIENTS: tuple[Client, ...] = (rust_workload_identity, rust_client_assertion)

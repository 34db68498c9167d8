"""The clients under test, unmodified, behind one signature.

Each is given a request and several assertions, which it presents one after the other **in one process**: what a client
keeps in memory (its cached tokens, MSAL's cached refusals) is part of what is tested.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from azure.core.credentials import TokenCredential
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ClientAssertionCredential, WorkloadIdentityCredential, aio
from msal import ConfidentialClientApplication
from msal.exceptions import MsalServiceError

import crates
import exchange
import npm
from stage import Client, Outcome, Request


def attempt(credential: TokenCredential, scope: str) -> Outcome:
    """Asks a credential of azure-identity."""
    try:
        return Outcome(credential.get_token(scope).token, "")
    except ClientAuthenticationError as error:
        return refused(error)


def refused(error: Exception) -> Outcome:
    return Outcome(None, f"{type(error).__name__}: {error}")


def workload_identity(request: Request, assertions: list[str]) -> list[Outcome]:
    def each(assertion: str) -> Outcome:
        token_file.write_text(assertion)
        # A new credential each time: one keeps the file's content for ten minutes.
        credential = WorkloadIdentityCredential(
            authority=request.authority,
            tenant_id=request.tenant,
            client_id=request.client_id,
            token_file_path=str(token_file),
        )
        return attempt(credential, request.scope)

    with tempfile.TemporaryDirectory() as folder:
        token_file = Path(folder, "token")
        return [each(assertion) for assertion in assertions]


def client_assertion(request: Request, assertions: list[str]) -> list[Outcome]:
    presented: Iterator[str] = iter(assertions)
    credential = ClientAssertionCredential(
        request.tenant, request.client_id, lambda: next(presented), authority=request.authority
    )
    return [attempt(credential, request.scope) for _ in assertions]


def aio_workload_identity(request: Request, assertions: list[str]) -> list[Outcome]:
    async def each(assertion: str, token_file: Path) -> Outcome:
        token_file.write_text(assertion)
        credential = aio.WorkloadIdentityCredential(
            authority=request.authority,
            tenant_id=request.tenant,
            client_id=request.client_id,
            token_file_path=str(token_file),
            connection_verify=os.environ["REQUESTS_CA_BUNDLE"],
        )
        async with credential:
            return await _attempt(credential, request.scope)

    async def all_of_them() -> list[Outcome]:
        with tempfile.TemporaryDirectory() as folder:
            return [await each(assertion, Path(folder, "token")) for assertion in assertions]

    return asyncio.run(all_of_them())


def aio_client_assertion(request: Request, assertions: list[str]) -> list[Outcome]:
    async def all_of_them() -> list[Outcome]:
        presented = iter(assertions)
        credential = aio.ClientAssertionCredential(
            request.tenant,
            request.client_id,
            lambda: next(presented),
            authority=request.authority,
            connection_verify=os.environ["REQUESTS_CA_BUNDLE"],
        )
        async with credential:
            return [await _attempt(credential, request.scope) for _ in assertions]

    return asyncio.run(all_of_them())


async def _attempt(credential: AsyncTokenCredential, scope: str) -> Outcome:
    try:
        return Outcome((await credential.get_token(scope)).token, "")
    except ClientAuthenticationError as error:
        return refused(error)


def workload(request: Request, home: str, ca_file: str) -> dict[str, str]:
    """The whole environment of a workload, which keeps its token in its home."""
    return {
        # With the slash that the AKS webhook puts there.
        "AZURE_AUTHORITY_HOST": f"{request.authority}/",
        "AZURE_TENANT_ID": request.tenant,
        "AZURE_CLIENT_ID": request.client_id,
        "AZURE_FEDERATED_TOKEN_FILE": str(Path(home, "token")),
        "REQUESTS_CA_BUNDLE": ca_file,
        "PATH": os.environ["PATH"],
        "HOME": home,
    }


def default_credential(request: Request, assertions: list[str]) -> list[Outcome]:
    """A program of its own, because nothing but its environment may tell it where to go."""
    with tempfile.TemporaryDirectory() as home:
        environment = workload(request, home, os.environ["REQUESTS_CA_BUNDLE"])
        program = Path(__file__).with_name("default_credential.py")
        done = subprocess.run(
            [sys.executable, program, request.scope],
            input=json.dumps(assertions),
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
            check=True,
        )
    return [Outcome(**outcome) for outcome in json.loads(done.stdout)]


def _msal(request: Request, assertions: list[str], **authority: Any) -> list[Outcome]:
    presented = iter(assertions)
    credential = {"client_assertion": lambda: next(presented)}
    try:
        application = ConfidentialClientApplication(request.client_id, client_credential=credential, **authority)
    except ValueError as error:  # no discovery document, no application
        return [refused(error) for _ in assertions]

    def each() -> Outcome:
        try:
            answer = application.acquire_token_for_client([request.scope])
        except MsalServiceError as error:  # a 5xx; other refusals are returned
            return refused(error)
        return Outcome(answer.get("access_token"), answer.get("error_description", ""))

    return [each() for _ in assertions]


def msal(request: Request, assertions: list[str]) -> list[Outcome]:
    where = f"{request.authority}/{request.tenant}"
    return _msal(request, assertions, authority=where, instance_discovery=False)


def msal_oidc(request: Request, assertions: list[str]) -> list[Outcome]:
    return _msal(request, assertions, oidc_authority=f"{request.authority}/{request.tenant}/v2.0")


def msal_instance_discovery(request: Request, assertions: list[str]) -> list[Outcome]:
    """For grants only: after a refusal MSAL 1.39 goes on to ask login.microsoftonline.com for other names of our host,
    whatever it was told, and without an answer from there the program sees a connection error."""
    where = f"{request.authority}/{request.tenant}"
    instance = f"{request.authority}/common/discovery/instance"
    return _msal(request, assertions, authority=where, instance_discovery=instance)


# Every one that shows refusals.
CLIENTS: tuple[Client, ...] = (
    workload_identity,
    client_assertion,
    aio_workload_identity,
    aio_client_assertion,
    default_credential,
    msal,
    msal_oidc,
    *exchange.CLIENTS,
    *npm.CLIENTS,
    *crates.CLIENTS,
)

"""One broker for all tests, and an environment in which clients find nothing else."""

import os
from collections.abc import Iterator

import pytest

from sdk import CLIENTS
from stage import Client, Stage

# Settings of the person who runs the tests: other credentials, a region (which changes the host), a proxy.
FOREIGN = ("AZURE_", "MSAL_", "IDENTITY_", "IMDS_", "MSI_", "REGION_NAME", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture(scope="session", autouse=True)
def environment() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.upper().startswith(FOREIGN):
                patch.delenv(name)
        yield patch


@pytest.fixture(scope="session")
def broker(environment: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    running = Stage(tmp_path_factory.mktemp("ficus"))
    # Replaces the system's roots: from here on clients trust the self-made CA and no other.
    environment.setenv("REQUESTS_CA_BUNDLE", running.ca_file)
    yield running
    assert running.stop() == [0, 0], "the broker or the platforms did not end well after Ctrl-C"


@pytest.fixture(params=CLIENTS, ids=lambda client: client.__name__)
def client(request: pytest.FixtureRequest) -> Client:
    chosen: Client = request.param
    return chosen

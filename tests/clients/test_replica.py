"""A second broker that sees the keys of the first through a read-only mount, as a replica does."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from sdk import workload_identity
from stage import Process, Request, Stage, free_ports
from test_image import needs_bubblewrap
from tokens import key_id, unverified


class Replica:
    """The configuration, CA and keys of a running stage; ports and a record of its own."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        public, operations = free_ports(2)
        data = stage.directory.parents[1] / "data"
        keys = str(data / "keys")
        sandbox = ["bwrap", "--die-with-parent", "--bind", "/", "/", "--dev-bind", "/dev", "/dev", "--ro-bind", keys, keys]
        settings = {
            "FICUS_LISTEN__ADDRESS": f"127.0.0.1:{public}",
            "FICUS_LISTEN__OPS_ADDRESS": f"127.0.0.1:{operations}",
            "FICUS_AUDIT__PATH": str(folder / "audit.jsonl"),
        }
        self.authority = f"https://localhost:{public}"
        self.process = Process(
            "serve",
            "--config",
            str(stage.directory.parent / "ficus.toml"),
            log=folder / "replica.txt",
            sandbox=sandbox,
            environment=os.environ | settings,
        )
        self.process.wait_until("is ready", lambda: ready(f"http://127.0.0.1:{operations}"))


def ready(operations: str) -> bool:
    try:
        return requests.get(f"{operations}/readyz", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


@pytest.fixture
def stage(environment: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stage]:
    running = Stage(tmp_path / "first")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", running.ca_file)
    yield running
    assert running.stop() == [0, 0]


def key_ids(authority: str, tenant: str) -> set[str]:
    keys: list[dict[str, Any]] = requests.get(f"{authority}/{tenant}/discovery/v2.0/keys", timeout=10).json()["keys"]
    return {key["kid"] for key in keys}


@needs_bubblewrap
def test_a_replica_that_can_only_read_follows_a_rotation(stage: Stage, tmp_path: Path) -> None:
    replica = Replica(stage, tmp_path)
    try:
        first = key_ids(stage.authority, stage.tenant_id)
        assert key_ids(replica.authority, stage.tenant_id) == first and len(first) == 2
        stage.rotate()
        for broker in (stage.authority, replica.authority):
            replica.process.wait_until("publishes the new keys", lambda: len(key_ids(broker, stage.tenant_id)) == 4)
        assert key_ids(replica.authority, stage.tenant_id) == key_ids(stage.authority, stage.tenant_id)
        request = Request(replica.authority, stage.tenant_id, stage.client_id, stage.request().scope)

        def signs_with_a_new_key() -> bool:
            [outcome] = workload_identity(request, [stage.assertion()])
            assert outcome.token, outcome.error
            # The issuer is that of the first: they are one authority.
            assert unverified(outcome.token)["iss"] == f"{stage.authority}/{stage.tenant_id}/"
            return key_id(outcome.token) not in first

        replica.process.wait_until("signs with a new key", signs_with_a_new_key)
    finally:
        # It is the sandbox that ends, and takes the broker with it.
        replica.process.stop()

"""The container image: what its Dockerfile says, executed. The image itself needs a container engine and is not built."""

import json
import os
import shutil
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from stage import REPOSITORY
from image import Image, instructions

DATA = "/var/lib/ficus/data"
TENANT = "11111111-1111-1111-1111-111111111111"
START_SECONDS = 60.0
STOP_SECONDS = 20.0

needs_bubblewrap = pytest.mark.skipif(
    # In CI it has to be there: a skip would go unnoticed.
    shutil.which("bwrap") is None and not os.environ.get("CI"),
    reason="bwrap is missing: install bubblewrap (Debian and Ubuntu: apt install bubblewrap)",
)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return Image(tmp_path)


@pytest.fixture
def settings() -> dict[str, str]:
    """The image's own listeners, on ports that are free here."""
    public, operations = free_ports(2)
    return {
        "FICUS_LISTEN__ADDRESS": f"0.0.0.0:{public}",
        "FICUS_LISTEN__OPS_ADDRESS": f"0.0.0.0:{operations}",
        "FICUS_PUBLIC_URL": f"https://localhost:{public}",
    }


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("0.0.0.0", 0)) for _ in range(count)]
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def test_what_is_copied_exists_and_is_not_kept_from_the_builder() -> None:
    passed = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert "*" in passed
    copies = [rest.split()[:-1] for word, rest in instructions() if word == "COPY" and "--from=" not in rest]
    sources = [source for named in copies for source in named]
    assert sorted(set(sources)) == sorted(line[1:] for line in passed if line.startswith("!"))
    for source in sources:
        assert (REPOSITORY / source).exists(), source


def test_the_listeners_are_those_that_are_exposed(image: Image) -> None:
    [exposed] = [rest.split() for word, rest in instructions() if word == "EXPOSE"]
    listeners = [image.stage.environment[f"FICUS_LISTEN__{name}"] for name in ("ADDRESS", "OPS_ADDRESS")]
    assert listeners == [f"0.0.0.0:{port}" for port in exposed]


def test_the_user_is_not_root_and_owns_the_volume(image: Image) -> None:
    user, group = image.stage.user.split(":")
    # Engines give a fresh volume the owner and mode of the folder in the image.
    assert int(user) > 0 and image.stage.volumes == [DATA]
    assert any(f"install -d -o {user} -g {group} -m 0700 {DATA}" in run for run in image.stage.runs)


@needs_bubblewrap
def test_a_broker_runs_in_the_image(image: Image, settings: dict[str, str]) -> None:
    stage, before = image.stage, image.files()
    code, output = image.run([*stage.entrypoint, "check"], settings)
    assert code == 0, output
    # No keys yet: a container that can't sign must not stay up.
    code, output = image.run([*stage.entrypoint, *stage.command], settings)
    assert code == 1 and "ficus keys init" in output, output
    code, output = image.run([*stage.entrypoint, "keys", "init"], settings)
    assert code == 0, output
    code, output = image.run(stage.health, settings)
    assert code == 1 and "nobody listens" in output, output

    with running(image, settings):
        refused_over_tls(image, settings["FICUS_PUBLIC_URL"])

    assert image.files() == before
    volume = image.volume(DATA)
    assert {path.name for path in volume.iterdir()} == {"audit.jsonl", "keys", "tls"}
    [record] = [json.loads(line) for line in (volume / "audit.jsonl").read_text().splitlines()]
    assert record["outcome"] == "refused", record

    # A second container on the same volume has the same keys and CA.
    kept = (volume / "tls" / "ca.pem").read_bytes()
    with running(image, settings):
        refused_over_tls(image, settings["FICUS_PUBLIC_URL"])
    assert (volume / "tls" / "ca.pem").read_bytes() == kept


def refused_over_tls(image: Image, authority: str) -> None:
    """What a client sees of a broker whose directory doesn't know it, while it trusts the CA of the volume alone."""
    trust = str(image.volume(DATA) / "tls" / "ca.pem")
    base = f"{authority}/{TENANT}"
    discovery = requests.get(f"{base}/v2.0/.well-known/openid-configuration", verify=trust, timeout=10)
    assert discovery.status_code == 200, discovery.text
    assert discovery.json()["issuer"] == f"{base}/v2.0"
    keys = requests.get(discovery.json()["jwks_uri"], verify=trust, timeout=10).json()["keys"]
    assert sorted(key["kty"] for key in keys) == ["EC", "RSA"]

    form = {
        "grant_type": "client_credentials",
        "client_id": str(uuid.uuid4()),
        "scope": "https://vault.azure.net/.default",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": "e30.e30.AA",
    }
    refused = requests.post(f"{base}/oauth2/v2.0/token", data=form, verify=trust, timeout=10)
    assert (refused.status_code, refused.json()["error_codes"]) == (401, [700016]), refused.text


@contextmanager
def running(image: Image, settings: dict[str, str]) -> Iterator[None]:
    """A broker that is healthy; it must end in order after SIGTERM."""
    reader, writer = os.pipe()
    log = image.root.parent / "serve.log"
    with log.open("wb") as output:
        process = image.start(
            [*image.stage.entrypoint, *image.stage.command],
            settings,
            sandboxed=["--info-fd", str(writer)],
            pass_fds=[writer],
            stdout=output,
            stderr=output,
        )
    os.close(writer)
    try:
        with os.fdopen(reader) as info:
            # bubblewrap doesn't pass signals on; the broker gets its own, as an engine would send it.
            broker: int = json.load(info)["child-pid"]
        deadline = time.monotonic() + START_SECONDS
        while (health := image.run(image.stage.health, settings))[0] != 0:
            assert process.poll() is None and time.monotonic() < deadline, f"{health}\n{log.read_text()}"
            time.sleep(0.1)
        yield
        os.kill(broker, signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()

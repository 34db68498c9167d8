"""The real broker beside the real emulated platforms: `ficus serve` and `ficus emulate`, each a process of its own, over TLS
on free ports. The directory is the shipped sample, and tests may edit the files of one that they started themselves."""

import base64
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

REPOSITORY = Path(__file__).resolve().parents[2]
SAMPLES = REPOSITORY / "config" / "directory"
TENANT = "11111111-1111-1111-1111-111111111111"
CLIENT = "a1b2c3d4-0001-4a00-8000-00000000c001"
VAULT = "https://vault.azure.net/.default"
AUDIENCE = "api://AzureADTokenExchange"
GITHUB = "https://token.actions.githubusercontent.com"
START_SECONDS = 60.0
STOP_SECONDS = 20.0

# Nothing listens there, so that this issuer's keys can't be had: port 1 needs privileges, and nobody takes it.
UNREACHABLE = "https://127.0.0.1:1"
UNREACHABLE_CLIENT = "a1b2c3d4-00ff-4a00-8000-00000000c0ff"
REPORTS_API = "a1b2c3d4-00a2-4a00-8000-00000000a002"
EXTRA_RECORDS = f"""
[[identity]]
name = "app-whose-issuer-is-down"
kind = "application"
client_id = "{UNREACHABLE_CLIENT}"
principal_id = "a1b2c3d4-00ff-4a00-8000-00000000b0ff"

  [[identity.federated_credential]]
  name = "down"
  issuer = "{UNREACHABLE}"
  subject = "anybody"

# What validators that don't know curves need: a v2.0 token signed with RSA.
[[resource]]
name = "reports-api"
client_id = "{REPORTS_API}"
identifier_uris = ["api://reports-api"]
scope = "/apis/reports"
token_version = 2
signing_algorithm = "RS256"
assignment_required = false
"""


@dataclass(frozen=True)
class Request:
    """What a client asks for, and where."""

    authority: str
    tenant: str
    client_id: str
    scope: str


@dataclass(frozen=True)
class Outcome:
    """What the program that uses a client gets: a token, or a text to show."""

    token: str | None
    error: str


# Presents the assertions one after the other in one process.
Client = Callable[[Request, list[str]], list[Outcome]]


class Process:
    """A running `ficus`, its output in a file."""

    def __init__(
        self, *arguments: str, log: Path, sandbox: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        self._name = f"ficus {arguments[0]}"
        self._log = log
        command = [*sandbox, binary(), *arguments]
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)

    def wait_until(self, what: str, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not holds():
            code = self._process.poll()
            assert code is None, f"{self._name} ended with {code} before it {what}:\n{self.output()}"
            assert time.monotonic() < deadline, f"after {START_SECONDS} s no {self._name} that {what}:\n{self.output()}"
            time.sleep(0.02)

    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def wait(self, seconds: float = START_SECONDS) -> int:
        """The exit code, once it has ended."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def stop(self) -> int:
        """Stops it as Ctrl-C does; the exit code."""
        self._process.send_signal(signal.SIGINT)
        return self.wait(STOP_SECONDS)


class Stage:
    """Platforms and broker, up and ready."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._processes: list[Process] = []
        self.tenant_id = TENANT
        self.client_id = CLIENT
        self.directory = folder / "config" / "directory"
        self.ca_file = str(folder / "data" / "tls" / "ca.pem")
        self._audit_file = folder / "data" / "audit.jsonl"
        self.operations = ""
        try:
            platforms = self._emulate(folder)
            self.emulator_ca_file: str = platforms["ca_file"]
            self.issuer: str = platforms["issuers"]["github"]["issuer"]
            self._jobs: dict[str, dict[str, str]] = platforms["jobs"]
            self.authority = self._serve(folder)
        except BaseException:
            self.stop()
            raise

    def _emulate(self, folder: Path) -> dict[str, Any]:
        data = folder / "platforms"
        process = Process("emulate", "--listen", "127.0.0.1:0", "--data", str(data), log=folder / "emulate.txt")
        self._processes.append(process)
        process.wait_until("is up", lambda: "Ctrl-C stops." in process.output())
        description: dict[str, Any] = json.loads((data / "emulate.json").read_text())
        return description

    def _serve(self, folder: Path) -> str:
        port, operations = free_ports(2)
        authority = f"https://localhost:{port}"
        self.directory.mkdir(parents=True)
        for sample in SAMPLES.glob("*.toml"):
            # Tests change what the samples expect to stay as it is.
            records = re.sub(r"\n\[\[expect\]\]\n(?:[^\[\n].*\n)+", "\n", sample.read_text())
            (self.directory / sample.name).write_text(records.replace(GITHUB, self.issuer))
        (self.directory / "extra.toml").write_text(EXTRA_RECORDS)
        configuration = folder / "config" / "ficus.toml"
        configuration.write_text(
            f"""public_url = "{authority}"
            listen = {{ address = "127.0.0.1:{port}", ops_address = "127.0.0.1:{operations}" }}
            keys = {{ path = "../data/keys", create = true }}
            [[tenant]]
            id = "{TENANT}"
            domain = "contoso.example"
            [[issuer]]
            url = "{self.issuer}"
            ca_file = "{self.emulator_ca_file}"
            allow_private_network = true
            [[issuer]]
            url = "{UNREACHABLE}"
            allow_private_network = true
            ca_file = "{self.emulator_ca_file}"
            """
        )
        process = Process("serve", "--config", str(configuration), log=folder / "serve.txt")
        self._processes.append(process)
        self.operations = f"http://127.0.0.1:{operations}"
        process.wait_until("is ready", lambda: self.ready())
        return authority

    def ready(self) -> bool:
        try:
            return requests.get(f"{self.operations}/readyz", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    def change(self, name: str, text: str | None) -> None:
        """Saves a file of the directory, or removes it, and returns once the broker decides by it."""
        before = self._generation()
        path = self.directory / name
        if text is None:
            path.unlink()
        else:
            # Beside it and renamed, as the README advises; without the ending it is no file of the directory.
            beside = path.with_suffix(".new")
            beside.write_text(text)
            beside.rename(path)
        self._processes[-1].wait_until(f"took {name}", lambda: self._generation() > before)

    def rotate(self) -> None:
        """Has new keys sign in a few seconds."""
        configuration = self.directory.parent / "ficus.toml"
        subprocess.run([binary(), "keys", "rotate", "--now", "--config", configuration], check=True, timeout=60)

    def _generation(self) -> int:
        described = requests.get(f"{self.operations}/readyz?verbose", timeout=5).text
        [generation] = [line.split()[1] for line in described.splitlines() if line.startswith("generation ")]
        return int(generation)

    def request(
        self, *, scope: str = VAULT, tenant: str | None = None, client_id: str | None = None
    ) -> Request:
        """The sample's request, changed where a test says so."""
        return Request(self.authority, tenant or self.tenant_id, client_id or self.client_id, scope)

    def assertion(self, job: str = "main") -> str:
        """A fresh token of the emulated GitHub, fetched as a job fetches it. `unreachable` is of an issuer that is down."""
        if job == "unreachable":
            return of_unreachable_issuer()
        response = requests.get(
            f"{self._jobs[job]['url']}&audience=api%3A%2F%2FAzureADTokenExchange",
            headers={"Authorization": f"Bearer {self._jobs[job]['token']}"},
            verify=self.emulator_ca_file,
            timeout=10,
        )
        response.raise_for_status()
        value: str = response.json()["value"]
        return value

    def minted(self) -> list[str]:
        """The `uti` of every token that was handed out. A grant's record is written before its token leaves, so one
        that is not here was never answered."""
        return [record["uniqueTokenIdentifier"] for record in self._records() if record["outcome"] == "granted"]

    def attempts(self, assertion: str, *, expected: int) -> int:
        """How often an assertion was decided on. The record of a refusal may come after its answer, so this waits until
        there are as many as expected; there may be more."""
        digest = hashlib.sha256(assertion.encode()).hexdigest()

        def count() -> int:
            return sum(record.get("assertion", {}).get("digest") == digest for record in self._records())

        self._processes[-1].wait_until(f"recorded {expected} attempts", lambda: count() >= expected)
        return count()

    def _records(self) -> list[dict[str, Any]]:
        lines = self._audit_file.read_text().splitlines(True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def stop(self) -> list[int]:
        """Stops both; their exit codes."""
        return [process.stop() for process in reversed(self._processes)]


def of_unreachable_issuer() -> str:
    """An assertion whose signature nobody can check, since the keys can't be had."""
    now = int(time.time())
    header = {"alg": "RS256", "kid": "1", "typ": "JWT"}
    # No two alike, so that the record tells them apart.
    token_id = str(uuid.uuid4())
    claims = {"iss": UNREACHABLE, "sub": "anybody", "aud": AUDIENCE, "iat": now, "exp": now + 600, "jti": token_id}
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), bytes(256)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago: the broker's public URL has to be known before it starts."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def target_folder() -> Path:
    """Where cargo puts what it builds."""
    return REPOSITORY / os.environ.get("CARGO_TARGET_DIR", "target")


def binary() -> Path:
    """FICUS_BIN, else what `cargo build` makes."""
    binary = Path(os.environ.get("FICUS_BIN", target_folder() / "debug" / "ficus")).absolute()
    assert binary.is_file(), f"{binary} is not there: run `cargo build`, or name the binary in FICUS_BIN"
    return binary

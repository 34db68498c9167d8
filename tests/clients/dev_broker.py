"""The real broker, as a newcomer starts it: `ficus dev` in a folder of its own, on free ports."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

REPOSITORY = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
STOP_SECONDS = 20.0

# What `ficus dev` prints last. dev.json and readiness come before its own demonstration exchanges, whose audit
# records would be taken for those of a test.
LAST_LINE = "Ctrl-C stops."


@dataclass(frozen=True)
class Request:
    """What a client asks for, and where."""

    authority: str
    tenant: str
    client_id: str
    scope: str


class DevBroker:
    """A running `ficus dev`, and what a script learns about it from dev.json."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "output.txt"
        data = folder / "data"
        arguments = ["dev", "--listen", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--data", str(data)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([binary(), *arguments], stdout=log, stderr=subprocess.STDOUT)
        try:
            self._wait_until("ends its demonstration", lambda: LAST_LINE in self._output())
            description: dict[str, Any] = json.loads((data / "dev.json").read_text())
            self._wait_until("is ready", lambda: _ready(description["operations"]))
        except BaseException:
            self._process.kill()
            raise
        self.authority: str = description["authority"]
        self.tenant_id: str = description["tenant_id"]
        self.client_id: str = description["client_id"]
        self.ca_file: str = description["ca_file"]
        self.emulator_ca_file: str = description["emulator_ca_file"]
        self._scope: str = description["scope"]
        self._audit_file = Path(description["audit_file"])
        self._jobs: dict[str, dict[str, str]] = description["jobs"]

    def request(self, *, scope: str | None = None, tenant: str | None = None) -> Request:
        """The sample's request, changed where a test says so."""
        return Request(self.authority, tenant or self.tenant_id, self.client_id, scope or self._scope)

    def assertion(self, job: str = "main") -> str:
        """A fresh token of the emulated platform, fetched as a job fetches it."""
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
        records = (json.loads(line) for line in self._audit_file.read_text().splitlines(True) if line.endswith("\n"))
        return [record["uniqueTokenIdentifier"] for record in records if record["outcome"] == "granted"]

    def stop(self) -> int:
        """Stops it as Ctrl-C does; the exit code."""
        self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def _wait_until(self, what: str, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not holds():
            code = self._process.poll()
            assert code is None, f"ficus dev ended with {code} before it {what}:\n{self._output()}"
            assert time.monotonic() < deadline, f"after {START_SECONDS} s no ficus dev that {what}:\n{self._output()}"
            time.sleep(0.02)

    def _output(self) -> str:
        return self._log.read_text(errors="replace")


def binary() -> Path:
    """FICUS_BIN, else what `cargo build` makes."""
    target = REPOSITORY / os.environ.get("CARGO_TARGET_DIR", "target")
    binary = Path(os.environ.get("FICUS_BIN", target / "debug" / "ficus")).absolute()
    assert binary.is_file(), f"{binary} is not there: run `cargo build`, or name the binary in FICUS_BIN"
    return binary


def _ready(operations: str) -> bool:
    try:
        return requests.get(f"{operations}/readyz", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False

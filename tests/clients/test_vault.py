"""An API that accepts our tokens: the emulated vault, which trusts the discovery documents and nothing else."""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from sdk import workload, workload_identity
from stage import CLIENT, TENANT, Process, Stage

ROLE = "Key Vault Secrets User"
PRINCIPAL = "a1b2c3d4-0001-4a00-8000-00000000b001"
SCOPE = (
    "/subscriptions/22222222-2222-2222-2222-222222222222/resourceGroups/rg-payments-prod"
    "/providers/Microsoft.KeyVault/vaults/kv-payments"
)
ASSIGNMENT = f"""
[[role_assignment]]
principal_id = "{PRINCIPAL}"
role = "{ROLE}"
scope = "{SCOPE}"
"""
STORAGE = "https://storage.azure.com/.default"
NAME, VALUE = "db-password", "correct horse = battery staple"


class Vault:
    """`ficus emulate vault` beside a broker whose directory has nobody in the role that the vault asks for."""

    def __init__(self, folder: Path) -> None:
        self.stage = Stage(folder)
        try:
            self._unassign()
            self._start(folder)
        except BaseException:
            self.stage.stop()
            raise

    def _unassign(self) -> None:
        payments = (self.stage.directory / "payments.toml").read_text()
        before, rest = payments.split(ASSIGNMENT)
        self.stage.change("payments.toml", before + rest)
        # With a role on storage alone, a token for the vault is given all the same: refusing is the vault's part.
        resources = (self.stage.directory / "resources.toml").read_text()
        assert resources.count("assignment_required = true") == 1
        self.stage.change("resources.toml", resources.replace("assignment_required = true", "assignment_required = false"))

    def _start(self, folder: Path) -> None:
        data = folder / "vault"
        arguments = ["--listen", "127.0.0.1:0", "--data", str(data), "--secret", f"{NAME}={VALUE}"]
        arguments += ["--authority", f"{self.stage.authority}/{TENANT}", "--ca-file", self.stage.ca_file]
        self._process = Process("emulate", "vault", *arguments, log=folder / "vault.txt")
        try:
            self._process.wait_until("is up", lambda: "Ctrl-C stops." in self._process.output())
            description = json.loads((data / "vault.json").read_text())
        except BaseException:
            self._process.stop()
            raise
        assert description["secrets"] == [NAME]
        self.url: str = description["url"]
        self.ca_file: str = description["ca_file"]
        self.both_ca_files = str(data / "both.pem")
        Path(self.both_ca_files).write_text(Path(self.stage.ca_file).read_text() + Path(self.ca_file).read_text())

    def program(self) -> subprocess.CompletedProcess[str]:
        """A new process each time: a new token from the platform, a new one from the broker, one secret."""
        with tempfile.TemporaryDirectory() as home:
            Path(home, "token").write_text(self.stage.assertion())
            environment = workload(self.stage.request(), home, self.both_ca_files)
            return subprocess.run(
                [sys.executable, Path(__file__).with_name("read_secret.py")],
                env=environment | {"VAULT_URL": self.url, "SECRET_NAME": NAME},
                capture_output=True,
                text=True,
                timeout=60,
            )

    def get(self, path: str, authorization: str | None, method: str = "GET") -> requests.Response:
        headers = {"Authorization": authorization} if authorization else {}
        return requests.request(method, f"{self.url}{path}", headers=headers, verify=self.ca_file, timeout=10)

    def stop(self) -> list[int]:
        return [self._process.stop(), *self.stage.stop()]

    def output(self) -> str:
        return self._process.output()


@pytest.fixture(scope="module")
def vault(environment: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    running = Vault(tmp_path_factory.mktemp("vault"))
    yield running
    assert running.stop() == [0, 0, 0], "something did not end well after Ctrl-C"


@pytest.fixture
def assigned(vault: Vault) -> Iterator[None]:
    vault.stage.change("assignment.toml", ASSIGNMENT)
    yield
    vault.stage.change("assignment.toml", None)


def token(vault: Vault, monkeypatch: pytest.MonkeyPatch, **request: str) -> str:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", vault.stage.ca_file)
    [outcome] = workload_identity(vault.stage.request(**request), [vault.stage.assertion()])
    assert outcome.token, outcome.error
    return outcome.token


def check_forbidden(done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("403 (Forbidden) Caller is not authorized to perform action on resource."), done.stderr
    assert f"appid={CLIENT};oid={PRINCIPAL};iss=" in done.stderr
    assert "ForbiddenByRbac" in done.stderr
    assert VALUE not in done.stderr


def test_the_secret_is_there_while_the_role_is_assigned(vault: Vault) -> None:
    check_forbidden(vault.program())

    vault.stage.change("assignment.toml", ASSIGNMENT)
    done = vault.program()
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"{NAME} {VALUE} [0-9a-f]{{32}}\n", done.stdout), done.stdout

    vault.stage.change("assignment.toml", None)
    check_forbidden(vault.program())


def test_no_good_token_is_answered_with_the_challenge(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    good = token(vault, monkeypatch)
    header, claims, signature = good.split(".")
    foreign = token(vault, monkeypatch, scope=STORAGE)
    absent = "AKV10000: Request is missing a Bearer or PoP token."
    cases = {
        None: absent,
        "Basic YTpi": absent,
        "Bearer garbage": "The token is not a JWT in compact form.",
        f"Bearer {vault.stage.assertion()}": "AKV10046: Unable to resolve the key used for signature validation.",
        f"Bearer {foreign}": "AKV10022: Invalid audience. Expected https://vault.azure.net.",
        f"Bearer {header}.{claims}.{signature[:-8]}AAAAAAAA": "The token's signature does not hold.",
        f"Bearer {header}.{foreign.split('.')[1]}.{signature}": "The token's signature does not hold.",
    }
    for authorization, message in cases.items():
        response = vault.get(f"/secrets/{NAME}?api-version=7.6", authorization)
        assert (response.status_code, response.json()) == (
            401,
            {"error": {"code": "Unauthorized", "message": message}},
        )
        assert response.headers["WWW-Authenticate"] == (
            f'Bearer authorization="{vault.stage.authority}/{TENANT}", resource="https://vault.azure.net"'
        )
    # The good one is only short of the role: what was refused above was refused for what was changed.
    assert vault.get(f"/secrets/{NAME}?api-version=7.6", f"Bearer {good}").status_code == 403
    assert signature not in vault.output()


def test_what_can_be_asked(vault: Vault, assigned: None, monkeypatch: pytest.MonkeyPatch) -> None:
    bearer = f"Bearer {token(vault, monkeypatch)}"
    [item] = vault.get("/secrets?api-version=7.6", bearer).json()["value"]
    assert item["id"] == f"{vault.url}/secrets/{NAME}"
    secret = vault.get(f"/secrets/{NAME.upper()}?api-version=7.6", bearer).json()
    assert secret["value"] == VALUE
    assert secret["attributes"] == item["attributes"] and secret["attributes"]["enabled"] is True
    same = vault.get(secret["id"].removeprefix(vault.url) + "?api-version=7.6", bearer)
    assert same.json() == secret
    assert same.headers["Cache-Control"] == "no-store"
    [version] = vault.get(f"/secrets/{NAME}/versions?api-version=7.6", bearer).json()["value"]
    assert version["id"] == secret["id"]

    for method, path, status, code in (
        ("GET", "/secrets/absent?api-version=7.6", 404, "SecretNotFound"),
        ("GET", f"/secrets/{NAME}/{'0' * 32}?api-version=7.6", 404, "SecretNotFound"),
        ("GET", "/secrets/a_b?api-version=7.6", 400, "BadParameter"),
        ("GET", f"/secrets/{NAME}", 400, "BadParameter"),
        ("PUT", f"/secrets/{NAME}?api-version=7.6", 405, "MethodNotAllowed"),
        ("GET", "/keys?api-version=7.6", 404, "NotFound"),
    ):
        response = vault.get(path, bearer, method)
        assert (response.status_code, response.json()["error"]["code"]) == (status, code), path
        # Whatever it is, nobody learns it without a token.
        assert vault.get(path, None, method).status_code == 401


def test_a_key_that_is_new_is_fetched(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    old = token(vault, monkeypatch)
    vault.stage.rotate()
    deadline = time.monotonic() + 30
    # The broker signs with the new key 5 seconds from now, and the vault asks for keys every 5 seconds at most.
    while (new := token(vault, monkeypatch)).split(".")[0] == old.split(".")[0]:
        assert time.monotonic() < deadline, "the broker goes on with the old key"
        time.sleep(0.5)
    while vault.get(f"/secrets/{NAME}?api-version=7.6", f"Bearer {new}").status_code == 401:
        assert time.monotonic() < deadline, "the vault does not take the new key"
        time.sleep(0.5)
    for each in (old, new):
        assert vault.get(f"/secrets/{NAME}?api-version=7.6", f"Bearer {each}").status_code == 403


def test_an_authority_that_is_not_there_is_told(vault: Vault, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    arguments = ["--listen", "127.0.0.1:0", "--data", str(tmp_path), "--ca-file", vault.stage.ca_file]
    process = Process("emulate", "vault", *arguments, "--authority", f"https://127.0.0.1:1/{TENANT}", log=log)
    assert process.wait() == 69
    assert f"https://127.0.0.1:1/{TENANT}/.well-known/openid-configuration: " in process.output()
    assert "(hint: is the broker up, " in process.output()

"""The commands that ficus proposes, run by a real shell and an unmodified az: what az asks Azure to store is the record, to
the last character, whatever the token's subject is made of."""

import base64
import datetime
import json
import os
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stage import AUDIENCE, CLIENT, TENANT, Stage, binary
from test_az import AZ, SUBSCRIPTION

READER = f"""
[[role_assignment]]
principal_id = "a1b2c3d4-0001-4a00-8000-00000000b001"
role = "Reader"
scope = "/subscriptions/{SUBSCRIPTION}"
"""
IDENTITIES = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{{}}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{{}}"
# Whoever may name a branch chooses these.
BRANCHES = {
    "plain": "feature/login",
    "blanks and quotes": "it's \"a\" b",
    "shell": "$(touch pwned)`touch pwned`;touch pwned&&$HOME",
    "backslashes": "a\\b\\\\c\\",
    "templates": "${x}%{ if x }$$",
    # az takes the content of a file for what follows the first equals sign of an argument.
    "a file": "x=@/etc/hostname",
    "an option": "--name other",
}


class Recorder(ThreadingHTTPServer):
    """Takes what az asks the resource manager to store, over TLS, and answers as if it were stored."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.stage = stage
        self.stored: list[tuple[str, Any]] = []
        self.ca_file = folder / "recorder.pem"
        key_file = folder / "recorder-key.pem"
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "recorder")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.ca_file, key_file)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"https://localhost:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    server: Recorder

    def do_PUT(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.stored.append((self.path.split("?")[0], body))
        self._answer(200, body)

    def do_GET(self) -> None:
        """The cloud's description is the broker's, but for who the resource manager is."""
        assert self.path.startswith("/metadata/endpoints?"), self.path
        described = requests.get(f"{self.server.stage.authority}{self.path}", verify=self.server.stage.ca_file, timeout=10)
        answer = json.loads(described.text)
        for cloud in answer if isinstance(answer, list) else [answer]:
            cloud["resourceManager"] = self.server.url
        self._answer(200, answer)

    def _answer(self, status: int, body: Any) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


class Desk:
    """A person with az, logged in at the broker, whose resource manager is the recorder."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        assert AZ.exists(), f"{AZ} is missing: tests/run installs it"
        self.folder = folder
        self.stage = stage
        self.recorder = Recorder(self.stage, folder)
        authorities = folder / "authorities.pem"
        authorities.write_text(Path(self.stage.ca_file).read_text() + self.recorder.ca_file.read_text())
        self.environment = {
            "PATH": f"{AZ.parent}:/usr/bin:/bin",
            "HOME": str(folder),
            "AZURE_CONFIG_DIR": str(folder / "az"),
            "AZURE_CORE_COLLECT_TELEMETRY": "false",
            "AZURE_CORE_INSTANCE_DISCOVERY": "false",
            "REQUESTS_CA_BUNDLE": str(authorities),
            # Nothing listens there: whatever goes to another host fails.
            "HTTPS_PROXY": "http://127.0.0.1:1",
            "NO_PROXY": "localhost",
        }
        self.stage.change("reader.toml", READER)
        self.sh(f"az cloud register -n ficus --endpoint-resource-manager {self.stage.authority}")
        self.sh("az cloud set -n ficus")
        self.sh(f"az login --service-principal -u {CLIENT} --tenant {TENANT} --federated-token {self.stage.assertion()}")
        self.sh(f"az cloud update -n ficus --endpoint-resource-manager {self.recorder.url}")

    def sh(self, script: str) -> None:
        """What a real shell makes of it."""
        done = subprocess.run(
            ["sh", "-euc", script], env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"

    def token(self, subject: str) -> str:
        """Not signed: nobody is asked to believe it."""
        now = int(time.time())
        claims = {"iss": self.stage.issuer, "sub": subject, "aud": AUDIENCE, "iat": now, "exp": now + 600}
        parts = [json.dumps({"alg": "RS256", "kid": "1"}).encode(), json.dumps(claims).encode(), b"none"]
        return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)

    def ficus(self, *arguments: str, token: str) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FICUS_")}
        done = subprocess.run(
            [binary(), *arguments], input=token, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.stdout, done.stderr
        return done.stdout

    def explained(self, subject: str) -> dict[str, Any]:
        """What `explain` proposes."""
        configuration = str(self.stage.directory.parent / "ficus.toml")
        tenant = ("--tenant", TENANT, "--client-id", CLIENT)
        arguments = ("explain", "--config", configuration, *tenant, "--token-file", "-", "--offline", "--json")
        proposal: dict[str, Any] = json.loads(self.ficus(*arguments, token=self.token(subject)))["near_miss"]["proposal"]
        return proposal

    def rehearsed(self, subject: str) -> str:
        """The command that `token --dry-run` shows, with the names that people put in."""
        shown = self.ficus("token", "--from", "stdin", "--dry-run", token=self.token(subject))
        _, _, rest = shown.partition("in resource group GROUP:\n\n")
        command, _, _ = rest.partition("\n\nand with Terraform")
        return command.replace(" NAME ", " mine ").replace(" GROUP ", " rg-mine ")


@pytest.fixture(scope="module")
def desk(environment: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    stage = Stage(folder / "stage")
    try:
        desk = Desk(stage, folder)
        yield desk
        desk.recorder.shutdown()
    finally:
        assert stage.stop() == [0, 0]


@pytest.mark.parametrize("branch", BRANCHES.values(), ids=BRANCHES.keys())
def test_az_stores_what_was_presented(desk: Desk, branch: str) -> None:
    subject = f"repo:my--org/payments-service:ref:refs/heads/{branch}"
    proposal = desk.explained(subject)
    expected = {"issuer": desk.stage.issuer, "subject": subject, "audiences": [AUDIENCE]}
    for command, group, identity in (
        (proposal["az"], "rg-payments-prod", "id-payments-prod"),
        (desk.rehearsed(subject), "rg-mine", "mine"),
    ):
        desk.recorder.stored.clear()
        desk.sh(command)
        [(path, body)] = desk.recorder.stored
        at = f"{IDENTITIES.format(group, identity)}/federatedIdentityCredentials/{proposal['name']}"
        # The name of the second one has no others to keep clear of.
        assert path.rpartition("/")[0] == at.rpartition("/")[0]
        assert path == at or identity == "mine"
        assert body["properties"] == expected, command
    assert not (desk.folder / "pwned").exists()


@pytest.mark.parametrize("subject", ["a\nb", "a\x1b[2J", "m\u0430in"])
def test_what_can_t_be_copied_is_not_proposed(desk: Desk, subject: str) -> None:
    subject = f"repo:my--org/payments-service:ref:refs/heads/{subject}"
    assert desk.explained(subject) is None
    shown = desk.ficus("token", "--from", "stdin", "--dry-run", token=desk.token(subject))
    assert "no credential to be copied" in shown and "az identity" not in shown


def test_az_is_not_given_what_it_would_read_from_a_file(desk: Desk) -> None:
    shown = desk.ficus("token", "--from", "stdin", "--dry-run", token=desk.token("@/etc/hostname"))
    assert "begins with @" in shown and "az identity" not in shown
    assert 'subject = "@/etc/hostname"' in shown

"""`ficus token --output az` with an unmodified az, which is then used as people use it."""

import json
import subprocess
from pathlib import Path
from typing import Any

from runners import GitHubRunner, Platforms
from stage import CLIENT, REPOSITORY, TENANT, Stage, binary
from tokens import unverified

AZ = REPOSITORY / "tests" / ".venv-az" / "bin"
READER = """
[[role_assignment]]
principal_id = "a1b2c3d4-0001-4a00-8000-00000000b001"
role = "Reader"
scope = "/subscriptions/22222222-2222-2222-2222-222222222222"
"""


def test_az_is_logged_in_and_stays_so(tmp_path: Path) -> None:
    assert (AZ / "az").exists(), f"{AZ} has no az: tests/run installs it"
    stage = Stage(tmp_path / "stage")
    try:
        stage.change("reader.toml", READER)
        session(stage, tmp_path)
        in_a_workflow(Platforms(stage, tmp_path / "stage"), tmp_path)
    finally:
        assert stage.stop() == [0, 0]


def session(stage: Stage, home: Path) -> None:
    environment = {
        "PATH": f"{AZ}:/usr/bin:/bin",
        "HOME": str(home),
        "AZURE_CONFIG_DIR": str(home / "az"),
        "AZURE_CORE_COLLECT_TELEMETRY": "false",
        "AZURE_AUTHORITY_HOST": stage.authority,
        "AZURE_TENANT_ID": TENANT,
        "AZURE_CLIENT_ID": CLIENT,
        # Nothing listens there: whatever goes to another host fails.
        "HTTPS_PROXY": "http://127.0.0.1:1",
        "NO_PROXY": "localhost",
    }

    def run(*command: str | Path, token: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=environment, input=token, capture_output=True, text=True, timeout=300
        )

    login = [binary(), "token", "--from", "stdin", "--ca-file", stage.ca_file, "--output", "az"]
    refused = run(*login, token=stage.assertion("feature"))
    assert refused.returncode == 1 and "AADSTS700213" in refused.stderr, refused.stderr
    assert not (home / "az" / "clouds.config").exists()
    for _ in ("first", "again"):
        done = run(*login, token=stage.assertion())
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert "eyJ" not in done.stderr
    bundle = home / "az" / "ficus-ca.pem"
    assert f"REQUESTS_CA_BUNDLE='{bundle}'" in done.stderr, done.stderr
    environment["REQUESTS_CA_BUNDLE"] = str(bundle)
    got = run("az", "account", "get-access-token", "--resource", "https://vault.azure.net")
    assert got.returncode == 0, got.stderr
    claims = unverified(json.loads(got.stdout)["accessToken"])
    assert (claims["appid"], claims["aud"], claims["uti"]) == (CLIENT, "https://vault.azure.net", stage.minted()[-1])


def in_a_workflow(platforms: Platforms, folder: Path) -> None:
    """The action of `integrations/github` with `az: true`, and a step that uses az."""
    stage = platforms.stage
    platforms.machine["PATH"] = f"{AZ}:{platforms.machine['PATH']}"
    broker = {"authority": stage.authority, "tenant": TENANT, "client-id": CLIENT, "az": "true"}
    use = "az account get-access-token --resource https://vault.azure.net --query tokenType --output tsv"
    steps = [
        {"uses": "./integrations/github", "with": broker | {"ca": Path(stage.ca_file).read_text()}},
        {"run": use},
    ]
    workflow: dict[str, Any] = {"permissions": {"id-token": "write"}, "jobs": {"deploy": {"steps": steps}}}
    done = GitHubRunner(platforms, {}, folder).run(workflow, "deploy")
    assert done.code == 0, done.log
    assert done.log.splitlines()[-1] == "Bearer" and "eyJ" not in done.log, done.log

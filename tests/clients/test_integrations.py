"""What stands under `integrations/`, executed: the files themselves, on emulated runners, against a real broker."""

import copy
import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import runners
from runners import INTEGRATIONS, Done, GitHubRunner, Platforms
from stage import CLIENT, TENANT, Process, Stage, binary, free_ports
from tokens import unverified

CATALOG = "a1b2c3d4-0003-4a00-8000-00000000c003"
VAULT = "https://vault.azure.net"
SQL = "https://database.windows.net/"


@pytest.fixture(scope="module")
def platforms(environment: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platforms]:
    folder = tmp_path_factory.mktemp("integrations")
    stage = Stage(folder)
    # The sample trusts GitLab and GKE by their real names; here they are emulated.
    described = json.loads((folder / "platforms" / "emulate.json").read_text())["issuers"]
    configuration = stage.directory.parent / "ficus.toml"
    entries = "".join(
        f'[[issuer]]\nurl = "{described[name]["issuer"]}"\nca_file = "{stage.emulator_ca_file}"\n'
        "allow_private_network = true\n"
        for name in ("gitlab", "gke")
    )
    text = "\n".join(line.strip() for line in configuration.read_text().splitlines())
    beside = configuration.with_suffix(".new")
    beside.write_text(f"{text}\n{entries}")
    beside.rename(configuration)
    catalog = (stage.directory / "catalog.toml").read_text()
    for name in ("gitlab", "gke"):
        lines = catalog.splitlines(True)
        at = next(n for n, line in enumerate(lines) if f'name = "{name}-' in line)
        lines[at + 1] = f'  issuer = "{described[name]["issuer"]}"\n'
        catalog = "".join(lines)
    stage.change("catalog.toml", catalog)
    yield Platforms(stage, folder)
    assert stage.stop() == [0, 0]
    for file in (folder / "serve.txt", folder / "data" / "audit.jsonl"):
        assert "eyJ" not in file.read_text(), f"{file} holds a token"


def granted(platforms: Platforms, token: str, client: str, audience: str) -> None:
    """The token is the last one that the broker gave, and for these."""
    claims = unverified(token)
    assert claims["uti"] == platforms.stage.minted()[-1]
    assert (claims["appid"], claims["aud"]) == (client, audience)


@pytest.fixture
def vault(platforms: Platforms, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    data, stage = tmp_path / "vault", platforms.stage
    arguments = ["--listen", "127.0.0.1:0", "--data", str(data), "--secret", "db-password=hunter2"]
    arguments += ["--authority", f"{stage.authority}/{TENANT}", "--ca-file", stage.ca_file]
    process = Process("emulate", "vault", *arguments, log=tmp_path / "vault.txt")
    process.wait_until("is up", lambda: "Ctrl-C stops." in process.output())
    yield json.loads((data / "vault.json").read_text())["url"], data / "ca.pem"
    assert process.stop() == 0


def workflow() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((INTEGRATIONS / "github" / "workflow.yml").read_text())
    return read


def test_a_workflow_on_github_reads_a_secret(
    platforms: Platforms, vault: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, (url, ca_file) = platforms.stage, vault
    variables = {
        "BROKER_URL": stage.authority,
        "BROKER_TENANT": TENANT,
        "BROKER_CLIENT_ID": CLIENT,
        "BROKER_CA": Path(stage.ca_file).read_text(),
        "VAULT_URL": url,
    }
    # The machine knows the platform's CA and the vault's; the broker's comes by the action's input.
    machine = tmp_path / "machine.pem"
    machine.write_text(Path(stage.emulator_ca_file).read_text() + ca_file.read_text())
    known = {"SSL_CERT_FILE": str(machine), "CURL_CA_BUNDLE": str(machine)}
    monkeypatch.setattr(platforms, "machine", platforms.machine | known)
    runner = GitHubRunner(platforms, variables, tmp_path)
    done = runner.run(workflow(), "deploy")
    assert done.code == 0, done.log
    token = done.outputs["broker.access_token"]
    granted(platforms, token, CLIENT, VAULT)
    assert unverified(token)["exp"] >= int(done.outputs["broker.expires_on"]) - 5
    # The log has the secret's id and no token; the one that was printed was taken for a mask.
    assert f"{url}/secrets/db-password/" in done.log and '"value":"..."' in done.log, done.log
    assert "eyJ" not in done.log and runner.masks == [token]

    without: dict[str, Any] = copy.deepcopy(workflow())
    without["permissions"] = {"contents": "read"}
    refused = GitHubRunner(platforms, variables, tmp_path).run(without, "deploy")
    assert refused.code == 1 and "permissions:\n  id-token: write\n" in refused.log, refused.log

    other: dict[str, Any] = copy.deepcopy(workflow())
    other["jobs"]["deploy"]["steps"][1]["with"]["audience"] = "api://other"
    refused = GitHubRunner(platforms, variables, tmp_path).run(other, "deploy")
    assert refused.code == 1 and "AADSTS700212" in refused.log and "eyJ" not in refused.log, refused.log


def test_a_job_on_gitlab(platforms: Platforms, tmp_path: Path) -> None:
    stage = platforms.stage
    # A variable of type file is a path for the job.
    variables = {
        "BROKER_URL": stage.authority,
        "BROKER_TENANT": "contoso.example",
        "BROKER_CLIENT_ID": CATALOG,
        "BROKER_CA": stage.ca_file,
    }
    pipeline = runners.gitlab_pipeline("gitlab-ci.yml")

    def run(changed: dict[str, Any], **more: str) -> Done:
        return runners.gitlab_job(platforms, changed, "deploy", variables | more, tmp_path)

    done = run(pipeline)
    assert done.code == 0, done.log
    claims = json.loads(done.log)
    assert (claims["appid"], claims["aud"], claims["uti"]) == (CATALOG, SQL, stage.minted()[-1])

    without = copy.deepcopy(pipeline)
    del without[".ficus-token"]["id_tokens"]
    refused = run(without)
    assert refused.code == 1 and "id_tokens:\n  FICUS_ID_TOKEN:\n    aud: api://Azure" in refused.log, refused.log
    refused = run(pipeline, BROKER_CLIENT_ID=CLIENT)
    assert refused.code == 1 and "AADSTS700211" in refused.log and "eyJ" not in refused.log, refused.log


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((INTEGRATIONS / "kubernetes" / name).read_text()))


def test_a_pod(platforms: Platforms, tmp_path: Path) -> None:
    stage = platforms.stage
    account, pod = documents("pod.yaml")
    name, namespace = account["metadata"]["name"], account["metadata"]["namespace"]
    assert (pod["spec"]["serviceAccountName"], pod["metadata"]["namespace"]) == (name, namespace)
    # The emulated cluster's pod is of this very account.
    assert platforms.described["issuers"]["gke"]["subject"] == f"system:serviceaccount:{namespace}:{name}"
    files = {"ficus-ca": {"ca.pem": Path(stage.ca_file).read_text()}}
    command, environment = runners.kubelet(platforms, pod, files, tmp_path)
    broker = {"AZURE_AUTHORITY_HOST": stage.authority}
    done = platforms.shell(command, environment | broker, tmp_path)
    assert done.code == 0, done.log
    granted(platforms, json.loads(done.log)["access_token"], CATALOG, SQL)
    [token] = tmp_path.glob("var/run/secrets/*/token")
    token.unlink()
    refused = platforms.shell(command, environment | broker, tmp_path)
    assert refused.code == 1 and "can't be read" in refused.log, refused.log


def certificate(host: str) -> tuple[bytes, bytes]:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(hours=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return made.public_bytes(serialization.Encoding.PEM), private


def test_the_broker_in_a_cluster(tmp_path: Path) -> None:
    kinds = {document["kind"]: document for document in documents("broker.yaml")}
    spec = kinds["Deployment"]["spec"]["template"]["spec"]
    [container] = spec["containers"]
    mounts = {mount["name"]: f"{tmp_path}{mount['mountPath']}" for mount in container["volumeMounts"]}
    [config] = [volume for volume in spec["volumes"] if volume["name"] == "config"]
    cert, key = certificate("ficus.ficus.svc")
    content = {
        "configMap": {name: text.encode() for name, text in kinds["ConfigMap"]["data"].items()},
        "secret": {"tls.crt": cert, "tls.key": key},
    }
    for source in config["projected"]["sources"]:
        [(kind, described)] = source.items()
        for item in described["items"]:
            path = Path(mounts["config"], item["path"])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content[kind][item["key"]])
    Path(mounts["data"]).mkdir(parents=True)
    file = f"{mounts['config']}/ficus.toml"
    assert mounts["config"].endswith("/var/lib/ficus/config"), "the image's FICUS_CONFIG"
    checked = subprocess.run(
        [binary(), "check", "--config", file], env={}, capture_output=True, text=True, timeout=60
    )
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stderr
    assert "1 identity, 1 credential, 1 resource, 1 role assignment" in checked.stdout

    port, operations = free_ports(2)
    environment = {"FICUS_LISTEN__ADDRESS": f"127.0.0.1:{port}", "FICUS_LISTEN__OPS_ADDRESS": f"127.0.0.1:{operations}"}
    process = Process(
        *container["args"], "--config", file, log=tmp_path / "serve.txt", environment=environment
    )

    def ready() -> bool:
        asked = [binary(), "health", "--url", f"http://127.0.0.1:{operations}"]
        return subprocess.run(asked, capture_output=True, timeout=60).returncode == 0

    process.wait_until("is ready", ready)
    assert process.stop() == 0
    # The ports that are named are those that the configuration listens on.
    named = {each["name"]: each["containerPort"] for each in container["ports"]}
    text = kinds["ConfigMap"]["data"]["ficus.toml"]
    assert f':{named["https"]}"' in text and f':{named["operations"]}"' in text
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "operations"}


def test_the_steps_of_a_jenkinsfile(platforms: Platforms, tmp_path: Path) -> None:
    text = (INTEGRATIONS / "jenkins" / "Jenkinsfile").read_text()
    exchange, use = runners.jenkins_steps(text)
    environment = runners.jenkins_environment(text) | {
        "AZURE_AUTHORITY_HOST": platforms.stage.authority,
        "WORKSPACE_TMP": str(tmp_path),
        "JENKINS_URL": "https://jenkins.example/",
    }
    credential = tmp_path / "secret"
    credential.write_text(platforms.stage.assertion())
    # Jenkins runs `sh` with -xe.
    done = platforms.shell(["sh", "-xec", exchange], environment | {"ID_TOKEN_FILE": str(credential)}, tmp_path)
    assert done.code == 0, done.log
    granted(platforms, (tmp_path / "token").read_text(), CLIENT, VAULT)
    used = platforms.shell(["sh", "-xec", use], environment, tmp_path)
    assert used.code == 0 and "got a token of" in used.log, used.log
    assert not (tmp_path / "token").exists() and "eyJ" not in done.log + used.log


def test_curl_alone(platforms: Platforms, tmp_path: Path) -> None:
    stage, job = platforms.stage, platforms.described["jobs"]["main"]
    broker = {"AZURE_AUTHORITY_HOST": f"{stage.authority}/", "AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": CLIENT}
    on_github = {"ACTIONS_ID_TOKEN_REQUEST_URL": job["url"], "ACTIONS_ID_TOKEN_REQUEST_TOKEN": job["token"]}
    (tmp_path / "token").write_text(stage.assertion())
    in_a_pod = {"AZURE_FEDERATED_TOKEN_FILE": str(tmp_path / "token")}

    def run(variables: dict[str, str]) -> Done:
        return platforms.shell([str(INTEGRATIONS / "curl" / "token.sh"), VAULT], broker | variables, tmp_path)

    for variables in (on_github, in_a_pod):
        done = run(variables)
        assert done.code == 0, done.log
        granted(platforms, done.log.strip(), CLIENT, VAULT)
    (tmp_path / "token").write_text(stage.assertion("feature"))
    refused = run(in_a_pod)
    assert refused.code == 1 and "AADSTS700213" in refused.log and "eyJ" not in refused.log, refused.log
    refused = run({})
    assert refused.code != 0 and "id-token: write" in refused.log, refused.log

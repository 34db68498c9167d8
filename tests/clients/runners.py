"""Emulated runners of CI systems: they read the files that are under `integrations/`, and run what those say as the platform
does, with the variables that it sets and no others."""

import json
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import yaml

from stage import REPOSITORY, Stage, binary

INTEGRATIONS = REPOSITORY / "integrations"


@dataclass
class Done:
    """How a job ended, and the log that people see."""

    code: int
    log: str
    outputs: dict[str, str] = field(default_factory=dict)


class Platforms:
    """The platforms' endpoints beside a broker, and what every machine there has."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage = stage
        self.folder = folder
        self.described: dict[str, Any] = json.loads((folder / "platforms" / "emulate.json").read_text())
        tools = folder / "bin"
        tools.mkdir()
        (tools / "ficus").symlink_to(binary())
        self.authorities = folder / "authorities.pem"
        self.authorities.write_text(Path(stage.ca_file).read_text() + Path(stage.emulator_ca_file).read_text())
        # The machine trusts both CAs, as OpenSSL, curl and rustls are told.
        self.machine = {
            "PATH": f"{tools}:/usr/bin:/bin",
            "HOME": str(folder),
            "SSL_CERT_FILE": str(self.authorities),
            "CURL_CA_BUNDLE": str(self.authorities),
        }

    def token(self, platform: str, audience: str) -> str:
        """What the platform puts into a job or pod."""
        at, ca_file = self.described["issuers"][platform], self.stage.emulator_ca_file
        headers, body = {"Authorization": f"Bearer {at['token']}"}, at["body"]
        if body:
            spec = {"spec": {"audiences": [audience], "expirationSeconds": 3600}}
            answer = requests.post(at["url"], json=spec, headers=headers, verify=ca_file, timeout=10)
            token: str = answer.json()["status"]["token"]
        else:
            url, params = at["url"].split("?")[0], {"audience": audience}
            # The first one waits for GitLab's key of 4096 bits to be made.
            answer = requests.get(url, params=params, headers=headers, verify=ca_file, timeout=120)
            token = answer.json()["value"]
        return token

    def shell(self, command: list[str], variables: dict[str, str], folder: Path) -> Done:
        ended = subprocess.run(
            command,
            env=self.machine | variables,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        return Done(ended.returncode, ended.stdout)


class GitHubRunner:
    """GitHub Actions' runner: expressions, outputs, masks, and an id token for those who have the permission."""

    def __init__(self, platforms: Platforms, variables: dict[str, str], folder: Path) -> None:
        self.platforms = platforms
        self.vars = variables
        self.folder = folder
        self.log = ""
        self.masks: list[str] = []

    def run(self, workflow: dict[str, Any], job: str) -> Done:
        steps = workflow["jobs"][job]["steps"]
        permissions = workflow["jobs"][job].get("permissions", workflow.get("permissions", {}))
        environment = {"CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(REPOSITORY)}
        if permissions.get("id-token") == "write":
            described = self.platforms.described["jobs"]["main"]
            environment["ACTIONS_ID_TOKEN_REQUEST_URL"] = described["url"]
            environment["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = described["token"]
        code, results = self._steps(steps, environment, {"vars": self.vars})
        return Done(code, self.log, {f"{id}.{name}": value for id, got in results.items() for name, value in got.items()})

    def _steps(
        self, steps: list[dict[str, Any]], environment: dict[str, str], context: dict[str, Any]
    ) -> tuple[int, dict[str, dict[str, str]]]:
        results: dict[str, dict[str, str]] = {}
        for at, step in enumerate(steps):
            context = context | {"steps": {id: {"outputs": got} for id, got in results.items()}}
            uses = step.get("uses", "")
            if uses.startswith("actions/checkout@"):
                continue  # We stand in the repository.
            if uses:
                code, got = self._action(uses, step.get("with", {}), environment, context)
            else:
                code, got = self._script(step, environment, context)
            results[step.get("id", str(at))] = got
            if code != 0:
                return code, results
        return 0, results

    def _action(
        self, uses: str, given: dict[str, str], environment: dict[str, str], context: dict[str, Any]
    ) -> tuple[int, dict[str, str]]:
        assert uses.startswith("./"), uses
        action = yaml.safe_load((REPOSITORY / uses / "action.yml").read_text())
        assert action["runs"]["using"] == "composite"
        unknown = set(given) - set(action["inputs"])
        assert not unknown, f"no such input: {unknown}"
        inputs = {}
        for name, description in action["inputs"].items():
            assert name in given or "default" in description, f"{name} is required"
            inputs[name] = self._expanded(given.get(name, description.get("default", "")), context)
        code, results = self._steps(action["runs"]["steps"], environment, {"inputs": inputs})
        inner = {"steps": {id: {"outputs": got} for id, got in results.items()}}
        return code, {name: self._expanded(each["value"], inner) for name, each in action["outputs"].items()}

    def _script(
        self, step: dict[str, Any], environment: dict[str, str], context: dict[str, Any]
    ) -> tuple[int, dict[str, str]]:
        assert "${{" not in step["run"], "an expression within a script is an injection"
        temporary = self.folder / "temp"
        temporary.mkdir(exist_ok=True)
        script, outputs, exported = (temporary / name for name in ("step.sh", "outputs", "environment"))
        script.write_text(step["run"])
        outputs.write_text("")
        exported.write_text("")
        own = {name: self._expanded(value, context) for name, value in step.get("env", {}).items()}
        places = {"GITHUB_OUTPUT": str(outputs), "GITHUB_ENV": str(exported), "RUNNER_TEMP": str(temporary)}
        # What the runner calls `shell: bash`.
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
        done = self.platforms.shell(command, environment | own | places, self.folder)
        self._write(done.log)
        got = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
        # For the steps that follow.
        environment.update(line.split("=", 1) for line in exported.read_text().splitlines())
        return done.code, got

    def _write(self, text: str) -> None:
        for line in text.splitlines():
            if line.startswith("::add-mask::"):
                self.masks.append(line.removeprefix("::add-mask::"))
                line = "::add-mask::***"
            for mask in self.masks:
                line = line.replace(mask, "***")
            self.log += line + "\n"

    def _expanded(self, text: str, context: dict[str, Any]) -> str:
        def value(found: re.Match[str]) -> str:
            at: Any = context
            for name in found.group(1).split("."):
                at = at.get(name, "") if isinstance(at, dict) else ""
            return str(at)

        return re.sub(r"\$\{\{ *([\w.-]+) *\}\}", value, text)


def gitlab_pipeline(name: str) -> dict[str, Any]:
    """The pipeline with its includes in it, and their inputs set."""
    pipeline: dict[str, Any] = yaml.safe_load((INTEGRATIONS / "gitlab" / name).read_text())
    for include in pipeline.pop("include"):
        header, body = (REPOSITORY / include["local"]).read_text().split("\n---\n")
        specified = yaml.safe_load(header)["spec"]["inputs"]
        unknown = set(include["inputs"]) - set(specified)
        assert not unknown, f"no such input: {unknown}"
        for key, description in specified.items():
            assert key in include["inputs"] or "default" in description, f"{key} is required"
            value = include["inputs"].get(key, description.get("default", ""))
            body = body.replace(f"$[[ inputs.{key} ]]", json.dumps(value))
        assert "$[[" not in body
        pipeline |= yaml.safe_load(body)
    return pipeline


def gitlab_job(
    platforms: Platforms, pipeline: dict[str, Any], name: str, variables: dict[str, str], folder: Path
) -> Done:
    """Runs a job as GitLab's shell executor does: before_script and script in one shell, which ends at the first failure."""
    job = pipeline[name]
    if "extends" in job:
        job = pipeline[job["extends"]] | job
    environment = {"CI": "true", "GITLAB_CI": "true", "CI_PROJECT_DIR": str(folder), **variables}
    for key, value in job.get("variables", {}).items():
        # GitLab expands variables within variables before the job starts.
        environment[key] = re.sub(r"\$(\w+)", lambda found: environment.get(found.group(1), ""), value)
    for key, token in job.get("id_tokens", {}).items():
        environment[key] = platforms.token("gitlab", token["aud"])
    lines = [*job.get("before_script", []), *job["script"]]
    script = "set -eo pipefail\n" + "\n".join(lines)
    return platforms.shell(["bash", "--noprofile", "--norc", "-c", script], environment, folder)


def jenkins_steps(text: str) -> list[str]:
    """The scripts of `sh` steps. Of Groovy's triple quotes the escapes are resolved: a backslash before a newline is gone
    with it."""
    return [re.sub(r"\\\n", "", script) for script in re.findall(r"sh '''(.*?)'''", text, re.DOTALL)]


def jenkins_environment(text: str) -> dict[str, str]:
    block = re.search(r"environment \{(.*?)\}", text, re.DOTALL)
    assert block
    return dict(re.findall(r"(\w+) = '([^']*)'", block.group(1)))


def kubelet(
    platforms: Platforms, pod: dict[str, Any], files: dict[str, dict[str, str]], folder: Path
) -> tuple[list[str], dict[str, str]]:
    """Puts the volumes of a pod into a folder in place of the root; command and variables of its container, told so."""
    [container] = pod["spec"]["containers"]
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}

    def moved(text: str) -> str:
        for mount in container["volumeMounts"]:
            text = text.replace(mount["mountPath"] + "/", f"{folder}{mount['mountPath']}/")
        return text

    for mount in container["volumeMounts"]:
        place = Path(f"{folder}{mount['mountPath']}")
        place.mkdir(parents=True)
        volume = volumes[mount["name"]]
        for name, text in files.get(volume.get("configMap", {}).get("name", ""), {}).items():
            (place / name).write_text(text)
        for source in volume.get("projected", {}).get("sources", []):
            asked = source["serviceAccountToken"]
            assert asked["expirationSeconds"] >= 600
            (place / asked["path"]).write_text(platforms.token("gke", asked["audience"]))
    command = [*container["command"], *(moved(argument) for argument in container.get("args", []))]
    environment = {each["name"]: moved(each["value"]) for each in container.get("env", [])}
    return command, environment | {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}

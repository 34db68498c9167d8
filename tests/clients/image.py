"""The last stage of the Dockerfile without a container engine: the files that its instructions name, in a folder, executed
under bubblewrap as a container engine would with --read-only. It knows the forms that our Dockerfile uses, and no others."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import certifi

from stage import REPOSITORY, binary

# What programs written in Rust may need of debian:bookworm-slim: its C library, and libgcc_s for unwinding.
BASE_LIBRARIES = {"libc.so.6", "libm.so.6", "libgcc_s.so.1"}
LOADER = re.compile(r"(/\S*/ld-linux\S*) \(")
LIBRARY = re.compile(r"(\S+) => (\S+) \(")


@dataclass
class Dockerfile:
    """What the last stage says."""

    copies: list[tuple[str, str]] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    volumes: list[str] = field(default_factory=list)
    folder: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)


def instructions() -> list[tuple[str, str]]:
    """All of the Dockerfile: word and rest. Comments go first, since they may stand between continued lines."""
    text = (REPOSITORY / "Dockerfile").read_text()
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = lines.replace("\\\n", " ").splitlines()
    return [(word, rest.strip()) for word, rest in (line.split(None, 1) for line in joined if line.strip())]


def last_stage() -> Dockerfile:
    # Nothing of an earlier stage is left but what COPY --from takes.
    everything = instructions()
    begins = max(number for number, (word, _) in enumerate(everything) if word == "FROM")
    stage = Dockerfile()
    for word, rest in everything[begins + 1 :]:
        match word:
            case "RUN":
                stage.runs.append(rest)
            case "COPY":
                source, target = rest.removeprefix("--from=build ").split()
                stage.copies.append((source, target))
            case "ENV":
                stage.environment |= dict(pair.split("=", 1) for pair in shlex.split(rest))
            case "VOLUME":
                stage.volumes = json.loads(rest)
            case "WORKDIR":
                stage.folder = rest
            case "USER":
                stage.user = rest
            case "ENTRYPOINT":
                stage.entrypoint = json.loads(rest)
            case "CMD":
                stage.command = json.loads(rest)
            case "HEALTHCHECK":
                stage.health = json.loads(rest.split(" CMD ", 1)[1])
            case "EXPOSE":
                pass
            case _:
                raise AssertionError(f"the tests don't know how to do: {word} {rest}")
    return stage


class Image:
    """The file set, and how to run a program in it."""

    def __init__(self, folder: Path) -> None:
        self.stage = last_stage()
        self.root = folder / "root"
        self._volumes = {name: folder / "volumes" / str(number) for number, name in enumerate(self.stage.volumes)}
        # Mount points: the root is read-only, so they must be there.
        for name in ["/dev", "/proc", self.stage.folder, *self.stage.volumes]:
            self._at(name).mkdir(parents=True, exist_ok=True)
        for volume in self._volumes.values():
            volume.mkdir(parents=True, mode=0o700)
        self._copy_base()
        for source, target in self.stage.copies:
            self._copy(source, target)

    def volume(self, name: str) -> Path:
        """Where a volume is on this machine."""
        return self._volumes[name]

    def files(self) -> dict[str, int]:
        """Everything in the root, and when it changed."""
        return {str(path): path.lstat().st_ctime_ns for path in self.root.rglob("*")}

    def start(
        self, arguments: list[str], settings: dict[str, str], sandboxed: Sequence[str] = (), **options: Any
    ) -> subprocess.Popen[bytes]:
        """Runs as `docker run --read-only --cap-drop ALL -e ...` does, on this machine's network. The program is process 1
        of its own process namespace, which has no signal handlers but those that it installs."""
        user, group = self.stage.user.split(":")
        sandbox = ["bwrap", "--unshare-all", "--share-net", "--die-with-parent", "--new-session", "--as-pid-1"]
        sandbox += ["--unshare-user", "--uid", user, "--gid", group, "--cap-drop", "ALL"]
        sandbox += ["--ro-bind", str(self.root), "/", "--dev", "/dev", "--proc", "/proc"]
        for name, folder in self._volumes.items():
            sandbox += ["--bind", str(folder), name]
        sandbox += ["--chdir", self.stage.folder, "--clearenv", "--setenv", "PATH", "/usr/local/bin:/usr/bin:/bin"]
        for name, value in (self.stage.environment | settings).items():
            sandbox += ["--setenv", name, value]
        return subprocess.Popen([*sandbox, *sandboxed, "--", *arguments], **options)

    def run(self, arguments: list[str], settings: dict[str, str]) -> tuple[int, str]:
        """Exit code and output."""
        process = self.start(arguments, settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
        return process.returncode, output.decode()

    def _at(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def _copy(self, source: str, target: str) -> None:
        if source == "/build/target/release/ficus":
            self._at(target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(binary(), self._at(target))
        else:
            shutil.copytree(REPOSITORY / source, self._at(target))

    def _copy_base(self) -> None:
        """Of the base image only what the program can't do without; less than there really is hides nothing."""
        listed = subprocess.run(["ldd", binary()], check=True, capture_output=True, text=True).stdout
        libraries = dict(LIBRARY.findall(listed))
        assert set(libraries) <= BASE_LIBRARIES, f"not in debian:bookworm-slim: {set(libraries) - BASE_LIBRARIES}"
        [loader] = LOADER.findall(listed)
        for path in [loader, *libraries.values()]:
            self._at(path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, self._at(path))
        if any("ca-certificates" in run for run in self.stage.runs):
            roots = self._at("/etc/ssl/certs/ca-certificates.crt")
            roots.parent.mkdir(parents=True)
            shutil.copy(certifi.where(), roots)

"""What compares ficus with its peers runs: the harness drives another authorization server as it drives the broker."""

import os
import re
import subprocess
from pathlib import Path

from stage import REPOSITORY, binary, target_folder

# Counts alone: time means nothing here.
SCENARIO = """
about = "A few exchanges with anybody"
[traffic]
send = "fresh"
pool = 60
connections = 4
[[phase]]
name = "full"
seconds = 20
count = 20
[[phase]]
name = "open"
seconds = 2
rate = 10
"""


def test_a_peer_stands_in_the_same_table(tmp_path: Path) -> None:
    harness = Path(os.environ.get("FICUS_LOAD_BIN", target_folder() / "debug" / "ficus-load")).absolute()
    assert harness.is_file(), f"{harness} is not there: run `cargo build -p ficus-load`"
    scenario = tmp_path / "few.toml"
    scenario.write_text(SCENARIO)
    done = subprocess.run(
        [REPOSITORY / "load" / "peers" / "run", "1", "--scenario", scenario],
        env={
            "PATH": os.environ["PATH"],
            "TMPDIR": str(tmp_path),
            "PEERS": "oidc-provider",
            "FICUS_LOAD": str(harness),
            "FICUS": str(binary()),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    # The harness itself holds that none failed.
    assert re.search(r"ok +errors==0", done.stderr), done.stderr
    verified = [int(count) for count in re.findall(r"(\d+) tokens verified, by the peer's keys", done.stderr)]
    assert len(verified) == 1 and verified[0] > 0, done.stderr
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines()]
    assert rows == ["server", "---", "ficus", "oidc-provider"], done.stdout
    assert list(tmp_path.iterdir()) == [scenario], "something is left behind"

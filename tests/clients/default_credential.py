"""A workload that knows DefaultAzureCredential and a scope. Assertions come on stdin; each is put into the token file
as a platform renews it, then a token is asked for. The outcomes go to stdout."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from azure.identity import DefaultAzureCredential

from sdk import attempt
from stage import Outcome


def main() -> None:
    outcomes: list[Outcome] = []
    for assertion in json.load(sys.stdin):
        Path(os.environ["AZURE_FEDERATED_TOKEN_FILE"]).write_text(assertion)
        # A new one each time: it keeps the file's content for ten minutes.
        outcomes.append(attempt(DefaultAzureCredential(), sys.argv[1]))
    json.dump([asdict(outcome) for outcome in outcomes], sys.stdout)


if __name__ == "__main__":
    main()

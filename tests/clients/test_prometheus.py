"""Rules and dashboard against a real Prometheus that scrapes the real broker: every query has data, every series is there."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from stage import REPOSITORY, START_SECONDS, VAULT, Stage, free_ports

INTEGRATIONS = REPOSITORY / "integrations"
RULES = INTEGRATIONS / "prometheus" / "ficus.rules.yml"
DASHBOARD = INTEGRATIONS / "grafana" / "ficus.json"

needs_prometheus = pytest.mark.skipif(
    (shutil.which("prometheus") is None or shutil.which("promtool") is None) and not os.environ.get("CI"),
    reason="prometheus or promtool is missing (Debian and Ubuntu: apt install prometheus)",
)
pytestmark = needs_prometheus


class Prometheus:
    """Scrapes one broker every second and evaluates the rules as often."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        [port] = free_ports(1)
        self._url = f"http://127.0.0.1:{port}"
        configuration = folder / "prometheus.yml"
        configuration.write_text(
            f"""
            global: {{ scrape_interval: 1s, evaluation_interval: 1s }}
            rule_files: ["{RULES}"]
            scrape_configs:
              - job_name: ficus
                static_configs: [{{ targets: ["{stage.operations.removeprefix("http://")}"] }}]
            """
        )
        command = ["prometheus", f"--config.file={configuration}", f"--web.listen-address=127.0.0.1:{port}"]
        self._log = (folder / "prometheus.txt").open("wb")
        self._process = subprocess.Popen(
            [*command, f"--storage.tsdb.path={folder / 'data'}"], stdout=self._log, stderr=subprocess.STDOUT
        )

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What an expression gives now; nothing while Prometheus is not up."""
        try:
            response = requests.get(f"{self._url}/api/v1/query", params={"query": expression}, timeout=10)
        except requests.ConnectionError:
            return []
        if response.status_code == requests.codes.unavailable:
            return []
        answer: dict[str, Any] = response.json()
        assert answer["status"] == "success", f"{expression}: {answer}"
        result: list[dict[str, Any]] = answer["data"]["result"]
        return [series for series in result if series["value"][1] != "NaN"]

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)
        self._log.close()


@pytest.fixture(scope="module")
def prometheus(broker: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    running = Prometheus(broker, tmp_path_factory.mktemp("prometheus"))
    yield running
    running.stop()


def load(stage: Stage) -> None:
    """A grant, a repeated one and a refusal."""
    assertion = stage.assertion()
    for presented, status in ((assertion, 200), (assertion, 200), ("nonsense", 400)):
        form = {
            "grant_type": "client_credentials",
            "client_id": stage.client_id,
            "scope": VAULT,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": presented,
        }
        url = f"{stage.authority}/{stage.tenant_id}/oauth2/v2.0/token"
        assert requests.post(url, data=form, verify=stage.ca_file, timeout=10).status_code == status


def expressions() -> list[str]:
    dashboard = json.loads(DASHBOARD.read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(found) > 20
    # What Grafana puts in: all replicas, and a time of several scrapes.
    return [text.replace("$instance", ".*").replace("$__rate_interval", "20s") for text in found]


def recorded() -> list[str]:
    return re.findall(r"- record: (\S+)", RULES.read_text())


def test_the_rules_hold_what_they_promise() -> None:
    tests = RULES.with_name("ficus.rules.test.yml")
    for command in (["check", "rules", RULES], ["test", "rules", tests]):
        done = subprocess.run(["promtool", *command], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_test_that_it_fires_and_one_that_it_does_not() -> None:
    tests = RULES.with_name("ficus.rules.test.yml").read_text()
    alerts = re.findall(r"- alert: (\S+)", RULES.read_text())
    assert len(alerts) > 10
    for alert in alerts:
        assert re.search(rf"alertname: {alert}\n\s+exp_alerts:", tests), f"{alert} never fires"
        assert f"alertname: {alert} }}" in tests, f"{alert} always fires"


def test_every_series_of_rules_and_dashboard_is_one_of_ours(broker: Stage) -> None:
    load(broker)
    metrics = requests.get(f"{broker.operations}/metrics", timeout=10).text
    used = set(re.findall(r"\b(?:ficus|process)_[a-z0-9_]+", " ".join(expressions()) + RULES.read_text()))
    assert len(used) > 15
    for name in used:
        assert re.search(rf"^{name}[{{ ]", metrics, re.MULTILINE), f"{name} is not in /metrics"


def test_every_query_of_the_dashboard_and_every_recorded_series_has_data(broker: Stage, prometheus: Prometheus) -> None:
    missing = expressions() + recorded()
    deadline = time.monotonic() + START_SECONDS
    while missing:
        assert time.monotonic() < deadline, f"no data for {missing}"
        load(broker)
        missing = [expression for expression in missing if not prometheus.query(expression)]
    assert prometheus.query('ALERTS{alertstate="firing"}') == []

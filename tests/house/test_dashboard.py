"""The Grafana dashboard asks for metrics that the server has, by labels that they have."""

import json
import re
from pathlib import Path

import httpx
import numpy as np

from tests.app.serving import registered, running, settings_in

DASHBOARD = json.loads((Path(__file__).parents[2] / "deploy/grafana/tandem.json").read_text())
METRIC = re.compile(r"\btandem_\w+")
BY = re.compile(r"by \(([^)]*)\)|\{([^}]*)\}")


def expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def series(client: httpx.Client) -> dict[str, set[str]]:
    """The names of all series, each with its labels."""
    found: dict[str, set[str]] = {}
    for line in client.get("/metrics").text.splitlines():
        if not line.startswith("#"):
            name, _, labels = line.partition("{")
            found.setdefault(name.split()[0], set()).update(re.findall(r"(\w+)=\"", labels))
    return found


def test_every_expression_finds_its_series(tmp_path: Path) -> None:
    with running(settings_in(tmp_path)) as server:
        registered(server.services, name="shown")
        body = {"model": "shown", "inputs": np.zeros((1, 8, 8)).tolist(), "engine": "torch"}
        assert server.client.post("/predict", json=body).status_code == 200
        assert server.client.post("/predict", json={**body, "inputs": [3]}).status_code == 422
        known = series(server.client)
    assert len(expressions()) > 12
    for expression in expressions():
        names = METRIC.findall(expression)
        assert names, expression
        labels = set.union(*(known[name] for name in names))
        for grouped, matched in BY.findall(expression):
            asked = re.findall(r"\w+(?=\s*=)", matched) if matched else re.findall(r"\w+", grouped)
            assert set(asked) <= labels, expression


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells

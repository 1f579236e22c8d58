"""`mlserver infer`, as it is published, from an environment of its own (see Makefile)."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.app.serving import linear_logits, registered, running, settings_in

MLSERVER = Path(sys.prefix) / "mlserver/bin/mlserver"


@pytest.mark.skipif(not MLSERVER.exists(), reason="MLServer cannot be installed on this Python")
def test_a_file_of_requests_is_answered_line_by_line(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 1), dtype=np.uint8)
    requests = [
        {
            "id": f"line-{index}",
            "inputs": [
                {"name": "image", "shape": [1, 8, 8, 1], "datatype": "UINT8", "data": one.ravel().tolist()}
            ],
            "outputs": [{"name": "logits"}, {"name": "label"}],
        }
        for index, one in enumerate(x)
    ]
    given, answers = tmp_path / "requests.jsonl", tmp_path / "answers.jsonl"
    given.write_text("\n".join(map(json.dumps, requests)) + "\n")
    with running(settings_in(tmp_path / "data")) as server:
        model = registered(server.services, name="pictures")
        command = [
            MLSERVER, "infer", "--url", "{}:{}".format(*server.address), "--model-name", "pictures",
            "--input-data-path", given, "--output-data-path", answers, "--workers", "2", "--batch-size", "4",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    found = sorted(map(json.loads, answers.read_text().splitlines()), key=lambda one: one["id"])
    assert [one["id"] for one in found] == [f"line-{index}" for index in range(9)]
    expected = linear_logits(model.file, x)
    for answer, logits in zip(found, expected, strict=True):
        assert (answer["model_name"], answer["model_version"]) == ("pictures", "1")
        outputs = {one["name"]: one for one in answer["outputs"]}
        np.testing.assert_allclose(outputs["logits"]["data"], logits, atol=1e-4)
        assert outputs["label"]["data"] == [str(logits.argmax())]

"""The benchmark of accuracy trains on a file of texts, scores both sides on the same rows, and says what it found."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GOOD, BAD = ("fine", "lovely", "splendid"), ("awful", "broken", "dreadful")


def made_up_reviews(count: int) -> str:
    """One JSON object a line; which word a text holds decides its label."""
    rows = []
    for number in range(count):
        label, words = (("positive", GOOD), ("negative", BAD))[number % 2]
        rows.append({"words": f"thing {number} is {words[number % 3]}", "verdict": label})
    return "\n".join(map(json.dumps, rows))


@pytest.mark.timeout(300)
def test_reviews_are_scored_on_both_sides_and_the_figures_agree(tmp_path: Path) -> None:
    file = tmp_path / "reviews.jsonl"
    file.write_text(made_up_reviews(120))
    options = ["--file", str(file), "--text", "words", "--label", "verdict", "--epochs", "1"]
    options += ["--seeds", "0", "--frameworks", "torch"]
    command = [sys.executable, "-m", "benchmarks.accuracy", "reviews", *options]
    # One job needs no trainers in reserve, each of which would import its framework.
    environment = {**os.environ, "TANDEM_WARM_SPARE": "false"}
    shown = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    bases = re.search(r"^seed 0: tf-idf (\S+), tf-idf C=10 (\S+) on 18 test rows$", shown, re.MULTILINE)
    line = r"^  torch  accuracy (\S+) on 18 test rows, 1 epochs, \d+ s, (\S+) and (\S+) points$"
    accuracy, *points = re.search(line, shown, re.MULTILINE).groups()
    assert bases.groups() == ("1.0000", "1.0000")
    assert float(accuracy) * 18 == pytest.approx(round(float(accuracy) * 18), abs=0.01)
    assert [float(value) for value in points] == pytest.approx([100 * (float(accuracy) - 1)] * 2, abs=0.1)
    verdict = " and ".join("met" if float(value) >= -2 else "missed" for value in points)
    assert shown.endswith(
        "mean of 1 seed(s): tf-idf 1.0000, tf-idf C=10 1.0000\n"
        f"  torch  {accuracy}, {points[0]} and {points[1]} points: {verdict}\n"
    )

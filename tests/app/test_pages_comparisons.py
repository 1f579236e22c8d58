"""The pages of comparisons in a real Chromium, against a real server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.client import Tandem
from tests.app.browser import Browser, missing, until
from tests.app.serving import Running, running, settings_in

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.timeout(300),
]

TRAINING_S = 120.0
MEASURING_S = 90.0
"""Until all engines have loaded a model and are measured, on a busy machine."""
RECIPE = {"dataset": "diabetes", "model": {"architecture": "linear"}, "training": {"epochs": 4, "seed": 3}}
KEEP_BLOBS = """
window.saved = [];
const make = URL.createObjectURL;
URL.createObjectURL = (blob) => (blob.text().then((text) => window.saved.push(text)), make.call(URL, blob));
"""


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[Running]:
    """A server without workers."""
    with running(settings_in(tmp_path)) as server:
        yield server


def begun(server: Running, **changes: Any) -> str:
    """A comparison whose first job waits for ever; its id."""
    answer = server.client.post("/comparisons", json={**RECIPE, **changes})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def url(server: Running) -> str:
    host, port = server.address[:2]
    return f"http://{host}:{port}"


def test_without_comparisons_the_list_says_how_to_make_one(idle: Running, chromium: Browser) -> None:
    chromium.open(f"{url(idle)}/ui/comparisons")
    said = chromium.shows("#comparisons-empty", "No comparison yet")
    assert "Compare frameworks" in said
    assert "tandem compare FILE" in said
    assert not chromium.sees("#listed")


def test_the_newest_comparisons_are_listed_and_older_ones_shown(idle: Running, chromium: Browser) -> None:
    for number in range(17):
        begun(idle, name=f"made-{number}")
    chromium.open(f"{url(idle)}/ui/comparisons")
    assert "0 of 4 jobs" in chromium.shows("#comparisons tr:first-child", "made-16")
    rows = "return document.querySelectorAll('#comparisons tr').length"
    assert chromium.js(rows) == 15
    chromium.click("#more")
    chromium.shows("#comparisons tr:last-child", "made-0")
    assert chromium.js(rows) == 17
    assert not chromium.sees("#more")


def test_a_job_is_compared_from_its_page_and_watched_to_the_conclusion(
    tandem_up: str, chromium: Browser
) -> None:
    with Tandem(tandem_up) as tandem:
        job = tandem.wait(tandem.create_job({**RECIPE, "framework": "jax", "name": "to-compare"}).id)
    chromium.open(f"{tandem_up}/ui/jobs/{job.id}")
    chromium.shows("#compare", "Compare frameworks")
    chromium.click("#compare")

    chromium.shows("#title", "to-compare")
    chromium.shows("#position", "of 4 jobs")
    assert "seed 3" in chromium.text("#about")
    chromium.shows("#runs", "waits for its turn")
    assert not chromium.sees("#agreement")

    chromium.shows("#status", "succeeded", TRAINING_S)
    assert "Test rmse: PyTorch" in chromium.shows("#conclusion", "Test rmse")
    assert "100.00 %" not in chromium.text("#agreement")  # there are no labels in a regression
    chromium.shows("#loss .legend", "PyTorch")
    assert "JAX" in chromium.js("return document.querySelector('#quality .plot').ariaLabel")
    figures = chromium.text("#training")
    assert "test rmse" in figures
    assert "peak memory, MB" in figures
    assert "batch of 32, ms" in chromium.shows("#serving", "inputs/s", MEASURING_S)
    assert "Predictions are fastest from" in chromium.text("#conclusion")
    assert not chromium.sees("#progress, #measuring, #cancel")

    mine = urlsplit(chromium.url).path.rsplit("/", 1)[-1]
    chromium.click("#runs a")
    chromium.shows("#part", mine)
    assert not chromium.sees("#compare")
    chromium.open(f"{tandem_up}/ui/comparisons")
    chromium.shows("#comparisons tr", "linear on diabetes, test rmse")
    chromium.shows(f"#comparisons tr:has([href$='{mine}'])", "succeeded")


def test_what_cannot_be_compared_is_explained_on_the_jobs_page(idle: Running, window: Browser) -> None:
    table = "size,label\n" + "".join(f"{row % 7},{'ab'[row % 2]}\n" for row in range(80))
    form = {"name": "gone", "task": "tabular-classification", "target": "label"}
    made = idle.client.post("/datasets", data=form, files={"file": ("gone.csv", table)})
    assert made.status_code == 201, made.text
    job = idle.client.post("/jobs", json={**RECIPE, "dataset": "gone", "framework": "torch"}).json()
    idle.client.post(f"/jobs/{job['id']}/cancel")
    assert idle.client.delete(f"/datasets/{made.json()['id']}").status_code == 200
    window.open(f"{url(idle)}/ui/jobs/{job['id']}")
    window.shows("#compare", "Compare frameworks")
    window.click("#compare")
    window.shows("#trouble", "gone")
    assert urlsplit(window.url).path == f"/ui/jobs/{job['id']}"


def test_a_comparison_is_cancelled_then_deleted(idle: Running, chromium: Browser) -> None:
    made = begun(idle)
    chromium.open(f"{url(idle)}/ui/comparisons/{made}")
    chromium.shows("#now", "PyTorch waits for a worker with seed 3")
    assert not chromium.sees("#delete")
    chromium.click("#cancel")
    chromium.shows("#status", "cancelled")
    chromium.shows("#runs", "cancelled")
    assert not chromium.sees("#cancel, #progress")
    chromium.click("#delete button")
    chromium.shows("#delete button", "Really delete?")
    chromium.click("#delete button")
    chromium.shows("#comparisons-empty")
    assert idle.client.get(f"/comparisons/{made}").status_code == 404


def test_a_comparison_that_is_not_there_is_said_so(idle: Running, window: Browser) -> None:
    window.open(f"{url(idle)}/ui/comparisons/cmp_00000000000000000000000000")
    window.shows("#trouble", "cmp_00000000000000000000000000")
    assert not window.sees("#actions, #offline")


def test_the_report_is_saved_with_the_key(window: Browser, tmp_path: Path) -> None:
    with running(settings_in(tmp_path, api_key="hush")) as server:
        server.client.headers["Authorization"] = "Bearer hush"
        window.view(1280)
        window.open(f"{url(server)}/ui/comparisons/{begun(server)}")
        window.shows("#key", "asks for a key")
        window.type("#key-input", "hush\n")
        window.shows("#title", "diabetes-linear")
        window.js(KEEP_BLOBS)
        for button, beginning in (("#markdown", "# diabetes-linear: "), ("#report", "<!doctype html>")):
            window.click(button)
            assert until(lambda: window.js("return window.saved.pop()")).startswith(beginning)


def test_without_a_key_the_report_is_a_page_of_its_own(idle: Running, chromium: Browser) -> None:
    made = begun(idle)
    chromium.open(f"{url(idle)}/ui/comparisons/{made}")
    chromium.shows("#report", "Report")
    link = chromium.js("const a = document.querySelector('#report'); return [a.href, a.target, a.download]")
    assert link == [f"{url(idle)}/comparisons/{made}/report", "_blank", ""]


@pytest.fixture(scope="module")
def compared(tandem_up: str) -> str:
    """A comparison that has succeeded; its id."""
    with Tandem(tandem_up) as tandem:
        made = tandem.compare({**RECIPE, "seeds": [0, 1], "name": "compared"})
        ended = tandem.wait_for_comparison(made.id)
    assert ended.status == "succeeded"
    return ended.id


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1440])
def test_no_page_is_wider_than_its_window(
    tandem_up: str, compared: str, chromium: Browser, width: int, dark: bool
) -> None:
    chromium.view(width, dark=dark)
    for path, filled in {"/ui/comparisons": "#listed", f"/ui/comparisons/{compared}": "#training"}.items():
        chromium.open(tandem_up + path)
        chromium.shows(filled, patience_s=MEASURING_S)
        assert chromium.js("return document.documentElement.scrollWidth") <= width, path

"""The pages in a real Chromium, against a real server with workers behind it."""

import json
from math import cos, sin
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from app.client import Tandem
from app.replies import Job
from tests.app.browser import PATIENCE_S, Browser, missing, until
from tests.app.serving import Running, registered, running, settings_in

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.timeout(300),
]

THREE = Path(__file__).parents[2] / "examples/three.png"
TRAINING_S = 90.0
LOADING_S = 60.0
"""Until both engines have started and loaded a model, on a busy machine."""
A_ZERO = [(round(30 * cos(turn / 3)), round(55 * sin(turn / 3))) for turn in range(20)]
TRAINING_LOSSES = """
const heads = [...document.querySelectorAll("#metrics-head th")].map((head) => head.innerText.toLowerCase());
const rows = [...document.querySelectorAll("#metrics tr")];
return rows.map((row) => row.children[heads.indexOf("train loss")]?.innerText);
"""
MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def trained(tandem_up: str) -> dict[str, Job]:
    """A job of each framework on the same spec."""
    spec = {"dataset": "diabetes", "model": {"architecture": "linear"}, "training": {"epochs": 4}}
    with Tandem(tandem_up) as tandem:
        ids = {name: tandem.create_job({**spec, "framework": name}).id for name in ("torch", "jax")}
        jobs = {name: tandem.wait(job_id) for name, job_id in ids.items()}
    assert {job.status for job in jobs.values()} == {"succeeded"}
    return jobs


def test_a_job_is_started_watched_and_its_model_tried(tandem_up: str, chromium: Browser) -> None:
    chromium.open(f"{tandem_up}/")
    chromium.shows("#architecture-about", "3x3 convolutions")
    chromium.set("#epochs", "4")
    chromium.set("[name=width]", "16")
    chromium.click("#start-button")

    chromium.shows("#title", "digits-cnn")
    chromium.shows("#status", "succeeded", TRAINING_S)
    assert "test accuracy" in chromium.shows("#numbers")
    assert chromium.js("return document.querySelectorAll('#loss canvas, #quality canvas').length") == 2
    assert "validation 9" in chromium.js("return document.querySelector('#quality .plot').ariaLabel")
    assert chromium.text("#metrics").count("\n") >= 3
    assert all(chromium.js(TRAINING_LOSSES))
    assert '"width": 16' in chromium.text("#spec")

    chromium.click("#model")
    chromium.shows("#drop")
    chromium.type("#files", str(THREE))
    verdict = chromium.shows(".verdict", "largest difference between their logits", LOADING_S)
    assert "Both say the same" in verdict
    assert chromium.text(".engine[data-engine=torch] .figure") == "3"
    assert chromium.text(".engine[data-engine=jax] .figure") == "3"

    chromium.draw("#draw", A_ZERO)
    chromium.shows(".answer figcaption", "drawing", LOADING_S)
    assert chromium.text(".engine[data-engine=jax] .figure") == "0"


def test_both_frameworks_start_at_once_and_lie_on_each_other(tandem_up: str, chromium: Browser) -> None:
    chromium.open(f"{tandem_up}/")
    chromium.shows("#architecture-about", "convolutions")
    chromium.set("#architecture", "mlp")
    chromium.js("document.querySelector('[name=framework][value=both]').click()")
    assert chromium.js("return document.querySelector('#curl').textContent").count("curl ") == 2
    chromium.click("#start-button")

    chromium.shows("#status", "succeeded", TRAINING_S)
    chromium.shows("#side tr:first-child td + td", "succeeded", TRAINING_S)
    assert "training losses are at most" in chromium.shows("#agreement", "at most")
    chromium.shows("#loss .legend", "JAX train")
    assert "with" in parse_qs(urlsplit(chromium.url).query)


@pytest.mark.parametrize("path", ["jobs/job_nowhere", "models/nowhere", "comparisons/cmp_nowhere"])
def test_a_page_about_nothing_says_so_and_offers_nothing(path: str, tandem_up: str, window: Browser) -> None:
    window.open(f"{tandem_up}/ui/{path}")
    window.shows("#trouble", "nowhere")
    assert (
        window.js(
            "return [...document.querySelectorAll('main .card')].filter((one) => one.checkVisibility()).length"
        )
        == 0
    )


def test_a_wrong_value_is_explained_beside_its_field(tandem_up: str, window: Browser) -> None:
    window.open(f"{tandem_up}/")
    window.shows("#architecture-about", "convolutions")
    window.set("[name=width]", "9999")
    window.set("#batch-size", "100000")
    window.click("#start-button")
    window.shows(".problem", "512")
    assert window.js("return document.activeElement.name") == "width"
    described = (
        "return document.getElementById(document.activeElement.getAttribute('aria-describedby')).textContent"
    )
    assert "512" in window.js(described)
    window.shows("#start details .problem", "65536")
    assert urlsplit(window.url).path == "/"


def test_rows_are_typed_and_both_engines_answer(
    tandem_up: str, trained: dict[str, Job], chromium: Browser
) -> None:
    chromium.open(f"{tandem_up}/ui/models/{trained['jax'].name}")
    chromium.shows("#columns", "bmi")
    chromium.type("#row", "0.04, 0.05, 0.06, 0.02, -0.04, -0.03, -0.04, 0, 0.02, -0.02")
    chromium.click("#rows button")
    chromium.shows(".verdict", "logits", LOADING_S)
    values = [float(chromium.text(f".engine[data-engine={name}] .figure")) for name in ("torch", "jax")]
    assert values[0] == pytest.approx(values[1], rel=1e-4)


def test_a_wrong_row_is_explained(tandem_up: str, trained: dict[str, Job], window: Browser) -> None:
    window.open(f"{tandem_up}/ui/models/{trained['torch'].name}")
    window.shows("#columns", "bmi")
    window.type("#row", "1, 2")
    window.click("#rows button")
    assert "10" in window.shows(".problem")


def test_a_whole_dataset_is_predicted_from_the_page(
    tandem_up: str, trained: dict[str, Job], chromium: Browser
) -> None:
    name = trained["torch"].name
    with Tandem(tandem_up) as tandem:
        newest = max(version.version for version in tandem.model(name).versions)
        chromium.open(f"{tandem_up}/ui/models/{name}")
        chromium.shows("#predictions-empty", "No dataset was predicted")
        chromium.shows("#prediction-dataset", "diabetes")
        assert chromium.js("return document.querySelector('#prediction-dataset').value") == "diabetes"
        chromium.set("#prediction-split", "all")
        chromium.set("#prediction-version", str(newest))
        chromium.set("#prediction-engine", "jax")
        chromium.set("#prediction-format", "jsonl")
        chromium.click("#prediction-button")
        chromium.shows("#predictions li .status", "succeeded", TRAINING_S)
        said = chromium.text("#predictions li")
        assert "442 of 442 rows" in said
        assert f"all rows, version {newest}" in said
        assert "rmse" in said
        link = chromium.js("return document.querySelector('#predictions li a.button').href")
        lines = httpx.get(link).text.splitlines()
        assert len(lines) == 442
        assert {"row", "split", "target", "value"} <= json.loads(lines[-1]).keys()

        # One that another client made is seen too, and deleted.
        body = {"model": name, "dataset": "diabetes", "engine": "torch"}
        httpx.post(f"{tandem_up}/predictions", json=body).raise_for_status()
        chromium.shows("#predictions li + li", "diabetes", LOADING_S)
        chromium.shows("#predictions li:first-child .status", "succeeded", TRAINING_S)
        chromium.click("#predictions li:first-child button")
        chromium.shows("#predictions li:first-child button", "Really delete?")
        chromium.click("#predictions li:first-child button")
        chromium.shows("#predictions li:first-child", "all rows")
        assert (
            len(
                chromium.js(
                    "return [...document.querySelectorAll('#predictions li')].map(one => one.dataset.id)"
                )
            )
            == 1
        )


def test_a_job_without_a_checkpoint_is_retried_from_its_start(window: Browser, tmp_path: Path) -> None:
    spec = {"dataset": "digits", "model": {"architecture": "mlp"}, "training": {"epochs": 1}}
    with running(settings_in(tmp_path)) as server:  # no worker: it stays queued
        job = server.client.post("/jobs", json={**spec, "framework": "torch"}).json()
        window.open(f"{_url(server)}ui/jobs/{job['id']}")
        window.shows("#position", "waits for a worker")
        window.click("#cancel")
        window.shows("#status", "cancelled")
        assert window.text("#retry") == "Retry"
        window.click("#retry")
        until(lambda: urlsplit(window.url).path != f"/ui/jobs/{job['id']}")
        window.shows("#position", "waits for a worker")


def test_a_prediction_is_cancelled_and_retried(window: Browser, tmp_path: Path) -> None:
    with running(settings_in(tmp_path)) as server:  # no worker: it stays queued
        registered(server.services, name="waiting")
        window.open(f"{_url(server)}ui/models/waiting")
        window.shows("#prediction-dataset", "digits")
        window.click("#prediction-button")
        window.shows("#predictions li .position", "waits for a worker")
        window.click("#predictions li button")
        window.shows("#predictions li .status", "cancelled")
        window.js("[...document.querySelectorAll('#predictions button')].at(-1).click()")
        window.shows("#predictions li + li .status", "cancelled")
        window.shows("#predictions li:first-child .status", "queued")


def test_a_dataset_that_cannot_be_predicted_is_explained(
    tandem_up: str, trained: dict[str, Job], window: Browser
) -> None:
    window.open(f"{tandem_up}/ui/models/{trained['torch'].name}")
    window.shows("#prediction-dataset", "diabetes")
    window.js("document.querySelector('#prediction-dataset').replaceChildren(new Option('digits'))")
    window.click("#prediction-button")
    window.shows("#prediction .problem")
    assert window.js("return document.activeElement.id") == "prediction-dataset"


def test_another_version_becomes_champion(tandem_up: str, trained: dict[str, Job], chromium: Browser) -> None:
    name = trained["torch"].name
    with Tandem(tandem_up) as tandem:
        oldest = min(version.version for version in tandem.model(name).versions)
    chromium.open(f"{tandem_up}/ui/models/{name}")
    chromium.shows("#versions tr:last-child button", "Make champion")
    chromium.click("#versions tr:last-child button")
    chromium.shows("#versions tr:last-child .alias", "champion")
    chromium.shows("#about", f"version {oldest}")


def test_a_job_is_cancelled_and_retried(tandem_up: str, chromium: Browser) -> None:
    with Tandem(tandem_up) as tandem:
        spec = {"framework": "torch", "dataset": "digits", "model": {"architecture": "cnn"}}
        job = tandem.create_job({**spec, "training": {"epochs": 5000}, "name": "endless"})
        chromium.open(f"{tandem_up}/ui/jobs/{job.id}")
        chromium.shows("#position", "step", TRAINING_S)
        chromium.click("#cancel")
        chromium.shows("#status", "cancelled", TRAINING_S)
        chromium.click("#retry")
        chromium.shows("#about", job.id)
        chromium.shows("#cancel", "Cancel")
        chromium.click("#cancel")
        chromium.shows("#status", "cancelled", TRAINING_S)


def test_a_dataset_is_uploaded_and_its_markup_stays_text(
    tandem_up: str, chromium: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "Weather 2026.csv"
    kinds = ("sunny", MARKUP)
    rows = [f"{row % 7},{row * 3 % 11},{kinds[row % 2]}" for row in range(80)]
    file.write_text("\n".join(["wind,rain,kind", *rows]))
    chromium.open(f"{tandem_up}/ui/datasets")
    chromium.shows("#datasets", "digits")
    chromium.type("#file", str(file))
    assert chromium.js("return document.querySelector('#dataset-name').value") == "weather-2026"
    chromium.shows("#target-field")
    chromium.click("#upload-button")
    chromium.shows("#uploaded", "weather-2026 is there")
    assert MARKUP in chromium.shows("[data-name='weather-2026']", "2 classes")
    assert chromium.js("return document.querySelectorAll('main img').length") == 0

    chromium.click("[data-name='weather-2026'] button")
    chromium.shows("[data-name='weather-2026'] button", "Really delete?")
    chromium.click("[data-name='weather-2026'] button")
    with Tandem(tandem_up) as tandem:
        until(lambda: "weather-2026" not in [found.name for found in tandem.datasets()])


def test_an_upload_that_cannot_be_read_is_explained(tandem_up: str, window: Browser, tmp_path: Path) -> None:
    file = tmp_path / "broken.csv"
    file.write_text("a,b\n1,2\n3\n")
    window.open(f"{tandem_up}/ui/datasets")
    window.shows("#datasets", "digits")
    window.type("#file", str(file))
    window.click("#upload-button")
    assert "row" in window.shows("#upload .problem").lower()


def test_a_job_that_is_not_there_is_said_so(tandem_up: str, window: Browser) -> None:
    window.open(f"{tandem_up}/ui/jobs/job_00000000000000000000000000")
    window.shows("#trouble", "job_00000000000000000000000000")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1440])
def test_no_page_is_wider_than_its_window(
    tandem_up: str, trained: dict[str, Job], chromium: Browser, width: int, dark: bool
) -> None:
    chromium.view(width, dark=dark)
    mine, other = trained["torch"], trained["jax"]
    pages = {
        "/": "#finished",
        "/ui/datasets": "#datasets",
        f"/ui/jobs/{mine.id}?with={other.id}": "#side",
        f"/ui/models/{mine.name}": "#versions",
    }
    for path, filled in pages.items():
        chromium.open(tandem_up + path)
        chromium.shows(filled)
        assert chromium.js("return document.documentElement.scrollWidth") <= width, path


def test_a_key_is_asked_for_once(window: Browser, tmp_path: Path) -> None:
    with running(settings_in(tmp_path, api_key="hush")) as server:
        window.open(_url(server))
        window.shows("#key", "asks for a key")
        window.type("#key-input", "wrong\n")
        window.shows("#key-refused")
        window.type("#key-input", "hush\n")
        window.shows("#architecture-about", "convolutions")
        window.click("#start-button")
        window.shows("#title", "digits-cnn")  # the stream, too, carries the key
        window.shows("#position", "waits for a worker")
        assert not window.js("return document.querySelector('#key').open")
        assert "hush" not in window.js("return document.documentElement.outerHTML")


def test_a_server_that_goes_away_is_noticed(window: Browser, tmp_path: Path) -> None:
    with running(settings_in(tmp_path)) as server:
        window.open(_url(server))
        window.shows("#finished-empty")
    window.shows("#offline", "does not answer", PATIENCE_S)


def _url(server: Running) -> str:
    host, port = server.address[:2]
    return f"http://{host}:{port}/"

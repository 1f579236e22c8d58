"""`/comparisons`: what is refused, what is answered, the report. No worker runs; the tests do what one would."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.conclusions import conclusions
from tests.app.serving import Running, assert_problem
from workers import comparisons, jobs
from workers.comparison_figures import FIGURES, Figure, Figures, Run

Ask = Callable[..., httpx.Response]
BODY = {"dataset": "digits", "model": {"architecture": "linear"}, "training": {"epochs": 2, "seed": 7}}


@pytest.fixture
def ask(client: httpx.Client) -> Ask:
    """Ask for a comparison; keyword arguments replace what is asked, None leaves it out."""

    def post(headers: dict[str, str] | None = None, **asked: Any) -> httpx.Response:
        given = {name: value for name, value in {**BODY, **asked}.items() if value is not None}
        return client.post("/comparisons", json=given, headers=headers)

    return post


def test_a_jobs_body_without_a_framework_is_enough(client: httpx.Client, ask: Ask) -> None:
    answer = ask(metadata={"team": "vision"})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert answer.headers["location"] == f"/comparisons/{made['id']}" == made["urls"]["self"]
    assert (made["object"], made["status"], made["name"]) == ("comparison", "running", "digits-linear")
    assert made["spec"]["frameworks"] == ["torch", "jax"]
    assert made["spec"]["seeds"] == [7]
    assert made["spec"]["training"]["batch_size"] > 0
    assert made["progress"] == {"jobs": 0, "total_jobs": 4}
    assert made["metadata"] == {"team": "vision"}
    assert [(run["framework"], run["seed"], run["status"]) for run in made["runs"]] == [
        ("torch", 7, "queued"),
        ("jax", 7, None),
    ]
    assert made["frameworks"].keys() == {"torch", "jax"}
    assert (made["agreement"], made["serving"], made["error"], made["finished_at"]) == (
        None,
        None,
        None,
        None,
    )
    assert client.get(made["urls"]["self"]).json() == made
    job = client.get(f"/jobs/{made['runs'][0]['job']}").json()
    assert (job["comparison"], job["framework"], job["spec"]["training"]["seed"]) == (made["id"], "torch", 7)


def test_the_first_framework_that_is_named_begins(ask: Ask) -> None:
    made = ask(frameworks=["jax", "torch"], seeds=[3, 4]).json()
    assert [(run["framework"], run["seed"]) for run in made["runs"]] == [
        ("jax", 3),
        ("torch", 3),
        ("torch", 4),
        ("jax", 4),
    ]


@pytest.mark.parametrize(
    ("changes", "pointer", "hints"),
    [
        ({"framework": "torch"}, "/framework", ["frameworks"]),
        ({"frameworks": ["torch"]}, "/frameworks", ["2"]),
        ({"frameworks": ["torch", "torch"]}, "/frameworks", ["only once"]),
        ({"frameworks": ["torch", "jaxx"]}, "/frameworks/1", ["jax"]),
        ({"seeds": []}, "/seeds", []),
        ({"seeds": [1, 1]}, "/seeds", ["only once"]),
        ({"seeds": [-1]}, "/seeds/0", []),
        ({"seeds": list(range(21))}, "/seeds", ["20"]),
        ({"seeds": ["a"]}, "/seeds/0", []),
        ({"dataset": "digit"}, "/dataset", ["digits"]),
        ({"dataset": None}, "/dataset", []),
        ({"training": {}}, "/training", []),
        ({"model": {"architecture": "linearr"}}, "/model/architecture", ["linear"]),
        ({"init": {"from": {"model": "nobody"}}}, "/init/from/model", ["nobody"]),
        ({"name": "Not A Name"}, "/name", []),
    ],
)
def test_what_cannot_be_compared_is_refused(
    client: httpx.Client, ask: Ask, changes: dict[str, Any], pointer: str, hints: list[str]
) -> None:
    before = client.get("/comparisons").json()
    answer = ask(**changes)
    assert_problem(answer, 422, pointer, *hints)
    assert client.get("/comparisons").json() == before


def test_a_regression_is_scored_by_its_error_from_the_beginning(ask: Ask) -> None:
    assert ask(dataset="diabetes").json()["metric"] == "test_rmse"


def test_sent_twice_with_one_key_it_is_one_comparison(client: httpx.Client, ask: Ask) -> None:
    key = {"Idempotency-Key": "compare once"}
    first, again = ask(headers=key, name="once"), ask(headers=key, name="once")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["idempotency-replayed"] == "true"
    assert first.json()["id"] == again.json()["id"]
    assert len(client.get("/jobs?name=once").json()["data"]) == 1
    assert_problem(ask(headers=key, name="twice"), 422, "/headers/idempotency-key")


def test_a_list_is_filtered_and_paged(client: httpx.Client, ask: Ask) -> None:
    made = [ask().json()["id"] for _ in range(3)]
    client.post(f"/comparisons/{made[1]}/cancel")
    page = client.get("/comparisons?limit=1").json()
    assert ([one["id"] for one in page["data"]], page["has_more"]) == ([made[2]], True)
    following = client.get(f"/comparisons?limit=2&after={page['last_id']}").json()
    assert [one["id"] for one in following["data"]] == [made[1], made[0]]
    assert made[1] in [one["id"] for one in client.get("/comparisons?status=cancelled").json()["data"]]
    assert client.get("/comparisons?dataset=mnist").json()["data"] == []
    assert_problem(client.get("/comparisons?status=queued"), 422, "/status", "running")


def test_it_is_cancelled_then_deleted_and_its_job_stays(client: httpx.Client, ask: Ask) -> None:
    made = ask().json()
    assert_problem(client.delete(made["urls"]["self"]), 409)
    cancelled = client.post(made["urls"]["cancel"]).json()
    assert (cancelled["status"], cancelled["runs"][0]["status"]) == ("cancelled", "cancelled")
    assert client.post(made["urls"]["cancel"]).json()["status"] == "cancelled"
    deleted = {"id": made["id"], "object": "comparison", "deleted": True}
    assert client.delete(made["urls"]["self"]).json() == deleted
    for path in ("self", "report"):
        assert_problem(client.get(made["urls"][path]), 404)
    assert client.get(f"/jobs/{made['runs'][0]['job']}").json()["comparison"] is None


def test_a_job_that_fails_fails_the_comparison_which_says_why(
    client: httpx.Client, server: Running, ask: Ask
) -> None:
    made = ask().json()
    job = made["runs"][0]["job"]
    db = server.services.database
    claim = jobs.claim(db, job, worker="wrk_test", host="here", lease_s=60)
    assert claim is not None
    told = {"code": "diverged", "message": "The loss is nan <b>at step 3</b>."}
    jobs.attempt_failed(db, job, claim.fence, **told, retryable=False, backoff_s=0)
    comparisons.advance(db, max_attempts=1)
    failed = client.get(made["urls"]["self"]).json()
    assert (failed["status"], failed["error"]["code"]) == ("failed", "diverged")
    assert job in failed["error"]["message"]
    page = client.get(made["urls"]["report"])
    assert "&lt;b&gt;at step 3&lt;/b&gt;" in page.text
    assert "script" not in page.text


def test_the_report_is_a_page_or_markdown_as_it_is_asked_for(client: httpx.Client, ask: Ask) -> None:
    made = ask(seeds=[1, 2]).json()
    page = client.get(made["urls"]["report"])
    assert page.headers["content-type"].startswith("text/html")
    assert "script-src" not in page.headers["content-security-policy"]
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<h1>digits-linear: PyTorch and JAX compared</h1>" in page.text
    assert (
        client.get(made["urls"]["report"], headers={"Accept": "text/html, text/markdown;q=0.5"}).text
        == page.text
    )
    plain = client.get(made["urls"]["report"], headers={"Accept": "text/markdown"})
    assert plain.headers["content-type"].startswith("text/markdown")
    lines = plain.text.splitlines()
    assert lines[0] == "# digits-linear: PyTorch and JAX compared"
    assert "linear on digits, 2 epochs" in plain.text
    assert "2 seeds (1, 2)" in plain.text
    assert "running (0 of 8 jobs have ended)" in plain.text
    assert sum(line.startswith(("| PyTorch | ", "| JAX | ")) for line in lines) == 4


def figures(
    torch: dict[str, Figure | None],
    jax: dict[str, Figure | None],
    beside: int = 0,
    target: float | None = None,
) -> Figures:
    """Of one run each."""
    unknown: dict[str, Figure | None] = dict.fromkeys(FIGURES)
    runs = tuple(Run(name, 0, None, dict.fromkeys(FIGURES), beside) for name in ("torch", "jax"))
    return Figures("test_accuracy", target, runs, {"torch": unknown | torch, "jax": unknown | jax})


def of_speed(torch: Figure, jax: Figure) -> list[str]:
    found = conclusions(figures({"samples_per_s": torch}, {"samples_per_s": jax}), None)
    return [sentence for sentence in found if "samples/s" in sentence]


def test_nothing_is_concluded_from_nothing() -> None:
    assert conclusions(figures({}, {}), None) == ()
    assert conclusions(figures({"samples_per_s": Figure(5, None)}, {}), None) == ()


def test_the_faster_framework_is_named_with_the_factor() -> None:
    (sentence,) = of_speed(Figure(1000, None), Figure(2500, None))
    assert sentence == "JAX trains 2,500 samples/s, PyTorch 1,000: a factor of 2.5."


def test_what_varies_by_itself_as_much_is_no_difference() -> None:
    (close,) = of_speed(Figure(1000, None), Figure(1030, None))
    assert close.endswith("no difference worth the name.")
    (wide,) = of_speed(Figure(1000, 10), Figure(2500, 2000))
    assert wide.endswith("no further apart than seeds are.")


def test_less_time_and_less_memory_are_better() -> None:
    found = conclusions(
        figures(
            {"time_to_target_s": Figure(4, None), "peak_memory_bytes": Figure(2e9, None)},
            {"time_to_target_s": Figure(8, None), "peak_memory_bytes": Figure(1e9, None)},
            target=0.95,
        ),
        None,
    )
    assert "PyTorch reaches a validation accuracy of 0.95 in 4.0 s, JAX 8.0: a factor of 2." in found
    assert "JAX takes 1,000 MB of memory, PyTorch 2,000: a factor of 2." in found


@pytest.mark.parametrize(
    ("torch", "jax", "expected"),
    [
        (Figure(0.9, None), Figure(0.8, None), "More seeds"),
        (Figure(0.9, 0.1), Figure(0.85, 0.01), "no further apart"),
        (
            Figure(0.9, 0.01),
            Figure(0.8, 0.01),
            "Test accuracy: PyTorch 0.9 ± 0.01, JAX 0.8 ± 0.01: further apart",
        ),
    ],
)
def test_scores_are_weighed_against_what_seeds_do(torch: Figure, jax: Figure, expected: str) -> None:
    (sentence,) = conclusions(figures({"score": torch}, {"score": jax}), None)
    assert expected in sentence


def test_what_makes_times_worth_less_is_said() -> None:
    disturbed = conclusions(figures({}, {}, beside=2), None)
    assert disturbed == (
        "2 of 2 trainings shared the machine with other jobs: their times say less. Compare again when it is idle.",
    )
    short = conclusions(figures({"train_s": Figure(0.9, None)}, {"train_s": Figure(60, None)}), None)
    assert "too short" in short[0]

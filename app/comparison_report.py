"""A comparison as a document: Markdown, or one HTML page that needs nothing else, to read, print and keep."""

from collections.abc import Sequence
from dataclasses import dataclass

from app import loss_chart
from app.conclusions import title
from app.schemas.comparisons import Comparison, Figure, LossDifference
from app.templates import templates

POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""It has styles of its own, and no scripts."""


@dataclass(frozen=True)
class Table:
    """A heading, the head of each column, and rows whose first cell says what they are."""

    heading: str
    about: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def markdown(shown: Comparison) -> str:
    parts = [f"# {heading(shown)}", *about(shown)]
    parts += ["\n".join(f"- {sentence}" for sentence in shown.conclusion)] if shown.conclusion else []
    for table in tables(shown):
        lines = [_row(table.head), _row(["---"] * len(table.head)), *map(_row, table.rows)]
        parts += [f"## {table.heading}", table.about, "\n".join(lines)]
    return "\n\n".join(part for part in parts if part) + "\n"


def html(shown: Comparison) -> str:
    return (
        templates()
        .get_template("comparison_report.html")
        .render(
            comparison=shown,
            heading=heading(shown),
            about=about(shown),
            tables=tables(shown),
            chart=loss_chart.of(shown.runs),
            title=title,
            width=loss_chart.WIDTH,
            height=loss_chart.HEIGHT,
        )
    )


def heading(shown: Comparison) -> str:
    return f"{shown.name}: {' and '.join(title(name) for name in shown.frameworks)} compared"


def about(shown: Comparison) -> list[str]:
    """What was compared, and how it stands."""
    sentences = [_what(shown)]
    if shown.status != "succeeded":
        done = f"{shown.progress.jobs} of {shown.progress.total_jobs} jobs have ended"
        why = f": {shown.error.message}" if shown.error is not None else "."
        sentences.append(f"Status: {shown.status} ({done}){why}")
    return sentences


def _what(shown: Comparison) -> str:
    training, seeds = shown.spec["training"], shown.spec["seeds"]
    length = f"{training['epochs']} epochs" if training.get("epochs") else f"{training['max_steps']} steps"
    devices = sorted({run.device for run in shown.runs if run.device is not None})
    where = f", on {', '.join(devices)}" if devices else ""
    return (
        f"{shown.spec['model']['architecture']} on {shown.dataset.name}, {length}, batches of {training['batch_size']},"
        f" {_plural(len(seeds), 'seed')} ({', '.join(map(str, seeds))}). Each framework trains from the same initial"
        f" weights on the same batches, one job after another{where}."
    )


def tables(shown: Comparison) -> list[Table]:
    found = [_of_frameworks(shown)]
    if shown.serving is not None:
        found.append(_of_engines(shown))
    if shown.agreement:
        found.append(_of_agreement(shown))
    return [*found, _of_runs(shown)]


def _of_frameworks(shown: Comparison) -> Table:
    rows = [
        [label, *(_figure(getattr(one, name), scale, digits) for one in shown.frameworks.values())]
        for label, name, scale, digits in _figures(shown)
    ]
    many = len(shown.spec["seeds"]) > 1
    means = "Means over the seeds, ± their standard deviation. " if many else ""
    target = (
        "" if shown.target is None else " The target is the validation score that every training reached."
    )
    return Table(
        "Training",
        f"{means}Times count from when a worker took the job.{target}",
        ["", *map(title, shown.frameworks)],
        rows,
    )


def _figures(shown: Comparison) -> list[tuple[str, str, float, int]]:
    """What each row is called, its figure, what that is multiplied by, and its digits."""
    target = "target" if shown.target is None else f"{shown.target:.4g}"
    return [
        (shown.metric.replace("_", " "), "score", 1, 4),
        ("samples per second", "samples_per_s", 1, 4),
        ("first step, s", "time_to_first_step_s", 1, 3),
        ("compiling, s", "compile_s", 1, 3),
        ("all steps, s", "train_s", 1, 3),
        (f"validation {shown.metric.removeprefix('test_')} of {target}, s", "time_to_target_s", 1, 3),
        ("peak memory, MB", "peak_memory_bytes", 1e-6, 4),
    ]


def _of_engines(shown: Comparison) -> Table:
    assert shown.serving is not None
    sizes = list(shown.serving.engines[0].latency_ms) if shown.serving.engines else []
    rows = [
        [
            title(one.name),
            *(f"{one.latency_ms[size]:.3g}" for size in sizes),
            *(f"{one.samples_per_s[size]:,.0f}" for size in sizes[-1:]),
            f"{one.difference:.1g}",
        ]
        for one in shown.serving.engines
    ]
    head = ["", *(f"batch of {size}, ms" for size in sizes), *(f"inputs/s at {size}" for size in sizes[-1:])]
    return Table(
        "Predictions",
        f"{shown.serving.model}@{shown.serving.version} on each engine of the server. {shown.serving.reason}",
        [*head, f"difference from {title(shown.serving.reference)}"],
        rows,
    )


def _of_agreement(shown: Comparison) -> Table:
    rows = [
        [
            str(one.seed),
            _of_losses(one.loss_difference),
            "unknown" if one.logit_difference is None else f"{one.logit_difference:.2g}",
            "" if one.equal_predictions is None else f"{one.equal_predictions:.2%}",
        ]
        for one in shown.agreement or ()
    ]
    return Table(
        "Agreement",
        "Each model on the framework that trained it, over the test split. Deep networks amplify the last bit of a sum:"
        " after many steps they differ from themselves on another number of threads as much as from their twin.",
        ["seed", "loss: first difference, largest", "largest of an output", "equal predictions"],
        rows,
    )


def _of_losses(found: LossDifference | None) -> str:
    if found is None:
        return "unknown"
    return f"{found.first:.2g}, {found.largest:.2g} at step {found.step}"


def _of_runs(shown: Comparison) -> Table:
    rows = [
        [
            title(run.framework),
            str(run.seed),
            run.job or "",
            run.status or "waits for its turn",
            _number(run.figures["score"], 4),
            _number(run.figures["samples_per_s"], 4),
            str(run.beside),
        ]
        for run in shown.runs
    ]
    head = [
        "",
        "seed",
        "job",
        "status",
        shown.metric.replace("_", " "),
        "samples per second",
        "jobs beside it",
    ]
    return Table("Runs", "", head, rows)


def _figure(figure: Figure | None, scale: float, digits: int) -> str:
    if figure is None:
        return ""
    spread = "" if figure.spread is None else f" ± {_number(figure.spread * scale, 2)}"
    return f"{_number(figure.mean * scale, digits)}{spread}"


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 10 ** min(digits, 3) else f"{value:.{digits}g}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"

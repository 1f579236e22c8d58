"""The losses of several trainings over each other, as points of an SVG."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.schemas.comparisons import Run

WIDTH, HEIGHT = 640, 220


@dataclass(frozen=True)
class Line:
    """A curve of one training, as points of an SVG polyline."""

    framework: str
    seed: int
    points: str


@dataclass(frozen=True)
class Chart:
    """`low` and `high`: the losses at the bottom and the top; `steps`: where it ends on the right."""

    lines: Sequence[Line]
    low: float
    high: float
    steps: int


def of(runs: Sequence[Run]) -> Chart | None:
    """None while no training has said anything."""
    curves = [(run, _losses(run)) for run in runs]
    every = [point for _, points in curves for point in points]
    if not every:
        return None
    low, high = (choose(loss for _, loss in every) for choose in (min, max))
    last = max(step for step, _ in every)

    def place(step: float, loss: float) -> str:
        down = (high - loss) / (high - low) if high > low else 0.5
        return f"{WIDTH * step / last:.1f},{HEIGHT * down:.1f}"

    lines = [
        Line(run.framework, run.seed, " ".join(place(*point) for point in points)) for run, points in curves
    ]
    return Chart(lines, low, high, int(last))


def _losses(run: Run) -> list[tuple[float, float]]:
    """Steps, and the training loss there."""
    if run.curve is None:
        return []
    told = zip(run.curve["step"], run.curve.get("train_loss", []), strict=False)
    return [(step, loss) for step, loss in told if step is not None and loss is not None]

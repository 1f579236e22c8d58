"""What the figures of a comparison say, in words."""

from collections.abc import Callable, Mapping, Sequence

from app.schemas.engines import Engines
from models.framework import Framework
from workers.comparison_figures import Figure, Figures

TITLES: Mapping[str, str] = {"torch": "PyTorch", "jax": "JAX", "openvino": "OpenVINO"}
WITHIN_SEEDS = "no further apart than seeds are"
EQUAL = 1.05
"""Less than so many times as much is no difference worth the name: that much a machine varies by itself."""
SHORT_S = 5.0
"""Steps that take less time say little of how fast steps are."""


def conclusions(figures: Figures, serving: Engines | None) -> tuple[str, ...]:
    """A sentence each on the score, training, the way to the target, memory and predictions; none about what is not
    known."""
    found = [
        _score(figures),
        _better(figures, "samples_per_s", "trains", "samples/s", "{:,.0f}".format, more_is_better=True),
        _better(figures, "time_to_target_s", _reaches(figures), "s", "{:.1f}".format),
        _better(figures, "peak_memory_bytes", "takes", "MB of memory", lambda value: f"{value / 1e6:,.0f}"),
        None if serving is None else _predictions(serving),
        _short(figures),
        _disturbed(figures),
    ]
    return tuple(sentence for sentence in found if sentence is not None)


def title(framework: str) -> str:
    return TITLES.get(framework, framework)


def _known(figures: Figures, name: str) -> dict[Framework, Figure]:
    found = {framework: one[name] for framework, one in figures.frameworks.items()}
    return {framework: figure for framework, figure in found.items() if figure is not None}


def _score(figures: Figures) -> str | None:
    known = _known(figures, "score")
    if len(known) < 2:
        return None
    each = ", ".join(f"{title(name)} {_with_spread(one)}" for name, one in known.items())
    if any(one.spread is None for one in known.values()):
        return f"{_named(figures)}: {each}. More seeds would say whether they differ."
    verdict = WITHIN_SEEDS if _within_seeds([*known.values()]) else "further apart than seeds are"
    return f"{_named(figures)}: {each}: {verdict}."


def _named(figures: Figures) -> str:
    return figures.metric.replace("_", " ").capitalize()


def _within_seeds(figures: Sequence[Figure]) -> bool:
    """Whether they differ by no more than one standard deviation."""
    means = [one.mean for one in figures]
    spreads = [one.spread for one in figures if one.spread is not None]
    return bool(spreads) and max(means) - min(means) <= max(spreads)


def _with_spread(figure: Figure) -> str:
    spread = "" if figure.spread is None else f" ± {figure.spread:.2g}"
    return f"{figure.mean:.4g}{spread}"


def _reaches(figures: Figures) -> str:
    part = figures.metric.removeprefix("test_")
    return (
        f"reaches a validation {part} of {figures.target:.4g} in"
        if figures.target is not None
        else "trains in"
    )


def _better(
    figures: Figures,
    name: str,
    does: str,
    unit: str,
    shown: Callable[[float], str],
    *,
    more_is_better: bool = False,
) -> str | None:
    known = sorted(_known(figures, name).items(), key=lambda one: one[1].mean, reverse=more_is_better)
    if len(known) < 2:
        return None
    (best, first), (last, second) = known[0], known[-1]
    larger, smaller = max(first.mean, second.mean), min(first.mean, second.mean)
    if smaller <= 0:
        return None
    ratio = larger / smaller
    verdict = "no difference worth the name" if ratio < EQUAL else f"a factor of {ratio:.2g}"
    if _within_seeds([first, second]):
        verdict = WITHIN_SEEDS
    return f"{title(best)} {does} {shown(first.mean)} {unit}, {title(last)} {shown(second.mean)}: {verdict}."


def _predictions(serving: Engines) -> str | None:
    found = {one.name: one for one in serving.engines if one.agrees}
    if len(found) < 2:
        return None
    each = "; ".join(
        f"{title(name)} {one.latency_ms['1']:.3g} ms for one input, {one.samples_per_s['32']:,.0f} inputs/s in batches"
        " of 32"
        for name, one in found.items()
    )
    return f"Predictions are fastest from {title(serving.choice)}. {each}."


def _short(figures: Figures) -> str | None:
    shortest = min((one.mean for one in _known(figures, "train_s").values()), default=SHORT_S)
    if shortest >= SHORT_S:
        return None
    return f"The steps took {shortest:.2g} s: too short to say much of their speed. Train for more epochs."


def _disturbed(figures: Figures) -> str | None:
    beside = sum(run.beside > 0 for run in figures.runs)
    if not beside:
        return None
    return (
        f"{beside} of {len(figures.runs)} trainings shared the machine with other jobs: their times say less. Compare"
        " again when it is idle."
    )

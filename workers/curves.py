"""A job's points as columns, thinned for a chart."""

from collections.abc import Sequence
from typing import Any

from workers.tables import MetricRow

AXES = ("step", "epoch")


def columns(points: Sequence[MetricRow], most: int | None) -> dict[str, list[Any]]:
    """One list a name, all of one length, ordered by step; at most `most` rows."""
    rows = _merged(points)
    if most is not None and len(rows) > most:
        rows = [rows[index] for index in sorted(_kept(rows, most))]
    names = dict.fromkeys([*AXES, *(name for row in rows for name in row)])
    return {name: [row.get(name) for row in rows] for name in names}


def _merged(points: Sequence[MetricRow]) -> list[dict[str, Any]]:
    """Points of one step, whatever their kind, become one row."""
    rows: dict[int, dict[str, Any]] = {}
    for point in points:
        rows.setdefault(point.step, {"step": point.step, "epoch": point.epoch}).update(point.data)
    return list(rows.values())


def _kept(rows: Sequence[dict[str, Any]], most: int) -> set[int]:
    """Indices to keep. Evaluations are few between training points, so they get half of the room first."""
    ends = [len(rows) - 1] if most == 1 else [0, len(rows) - 1]
    between = range(1, len(rows) - 1)
    evaluated = [
        index for index in between if any(not name.startswith("train_") for name in _values(rows[index]))
    ]
    room = most - len(ends)
    kept = _thinned(evaluated, room - room // 2)
    others = sorted(set(between) - set(evaluated))
    return {*ends, *kept, *_thinned(others, room - len(kept))}


def _values(row: dict[str, Any]) -> list[str]:
    return [name for name in row if name not in AXES]


def _thinned(indices: Sequence[int], most: int) -> list[int]:
    """Evenly spread over the whole."""
    if len(indices) <= most:
        return list(indices)
    return [indices[position * len(indices) // most] for position in range(most)]

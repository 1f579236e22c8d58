"""A look at a dataset's samples: how many of each class, and what makes its figures less worth than they look."""

from collections.abc import Iterator
from dataclasses import replace
from hashlib import blake2b

import numpy as np

from models.data.dataset import SPLITS, Dataset, Split
from models.data.report import ClassCounts, DataWarning, Report
from models.data.scratch import chunks
from models.data.texts import Texts
from models.signature import TableInput

DOMINANT = 0.95
"""A class with a larger share makes always guessing it look good."""
SMALL = 30
"""With fewer samples a split's accuracy is mostly chance: its standard error is above 5 points."""
NAMED = 5


def inspected(dataset: Dataset) -> Dataset:
    """The same dataset, with the report in its description."""
    return replace(dataset, description=dataset.description.model_copy(update={"report": report_of(dataset)}))


def report_of(dataset: Dataset) -> Report:
    """What all samples are looked at for."""
    return Report(class_counts=_class_counts(dataset), warnings=tuple(_warnings(dataset)))


def _class_counts(dataset: Dataset) -> ClassCounts | None:
    classes = dataset.description.classes
    if classes is None:
        return None
    return ClassCounts(
        **{
            name: tuple(np.bincount(getattr(dataset, name).y, minlength=len(classes)).tolist())
            for name in SPLITS
        }
    )


def _warnings(dataset: Dataset) -> Iterator[DataWarning]:
    yield from _duplicates(dataset)
    counts = _class_counts(dataset)
    if counts is not None and dataset.description.classes is not None:
        yield from _empty_classes(counts, dataset.description.classes)
        yield from _dominant_class(counts, dataset.description.classes)
    yield from _constant_columns(dataset)
    for name in SPLITS:
        if (size := len(getattr(dataset, name))) < SMALL:
            detail = f"The {name} split has {size} sample(s): what is measured on it is mostly chance."
            yield DataWarning(code="small_split", detail=detail)


def _duplicates(dataset: Dataset) -> Iterator[DataWarning]:
    """Samples of one split that are in another, their labels left out of account."""
    seen = {name: _digests(getattr(dataset, name)) for name in SPLITS}
    for one, other in (("train", "test"), ("train", "validation"), ("validation", "test")):
        known = set(seen[one])
        count = sum(digest in known for digest in seen[other])
        if count:
            yield DataWarning(
                code="duplicates",
                detail=f"{count} of the {len(seen[other])} {other} samples are also in the {one} split: what is"
                f" measured on {other} is too good by what the network remembers of them.",
            )


def _digests(split: Split) -> list[bytes]:
    """A hash of every sample, 16 bytes."""
    if isinstance(split.x, Texts):
        return [_digest(text.strip().lower().encode()) for text in split.x]
    return [_digest(row.tobytes()) for chunk in chunks(split.x) for row in chunk]


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()


def _empty_classes(counts: ClassCounts, classes: tuple[str, ...]) -> Iterator[DataWarning]:
    for name in SPLITS:
        empty = [classes[index] for index, count in enumerate(getattr(counts, name)) if not count]
        if empty:
            detail = f"The {name} split has no sample of {_listed(empty)}: nothing is measured on them there."
            yield DataWarning(code="empty_class", detail=detail)


def _dominant_class(counts: ClassCounts, classes: tuple[str, ...]) -> Iterator[DataWarning]:
    totals = np.array([getattr(counts, name) for name in SPLITS]).sum(axis=0)
    share = totals.max() / totals.sum()
    if share > DOMINANT:
        detail = (
            f"{share:.1%} of all samples are {classes[int(totals.argmax())]!r}: a model that always says so has that"
            " accuracy. Look at the loss too, or balance the classes."
        )
        yield DataWarning(code="dominant_class", detail=detail)


def _constant_columns(dataset: Dataset) -> Iterator[DataWarning]:
    taken = dataset.description.input
    if not isinstance(taken, TableInput):
        return
    x_NC = dataset.train.array
    constant = np.fmin.reduce(x_NC) == np.fmax.reduce(x_NC)
    names = [name for name, same in zip(taken.columns, constant, strict=True) if same]
    if names:
        detail = f"In the training rows {_listed(names)} always has the same value, from which nothing can be learned."
        yield DataWarning(code="constant_column", detail=detail)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(map(repr, names[:NAMED])) + more

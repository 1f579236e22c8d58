"""Texts as token ids: by the tokenizer of the weights that a job starts from, else by one trained for it.

Shape suffixes: N rows, T tokens.
"""

from collections.abc import Iterable, Iterator, Sequence
from math import prod
from pathlib import Path

import numpy as np

from models.data.dataset import Dataset, Split
from models.errors import InvalidInput
from models.job import JobSpec
from models.lengths import lengths
from models.plan import width_of
from models.preprocessing import Preprocessing
from models.preprocessing.options import PreprocessSpec
from models.preprocessing.text import TextPreprocessing
from models.text_spec import TextSpec
from models.tokenization import CHUNK, PADDING_ID, Encoder, chunks, filled, trained

LARGE_BYTES = 64 * 1024 * 1024
"""Token ids of a split that need more than this are kept in a file."""


def prepared_texts(dataset: Dataset, job: JobSpec, known: Preprocessing | None, folder: Path) -> Dataset:
    """The dataset with texts as token ids, int32 [N, T] with T the most tokens of a text.

    The rows of validation and test are sorted by length, so that a batch of them needs little padding.

    Raises:
        InvalidInput: the network takes no texts, or the job gives options for images.
    """
    spec = job.model
    if not isinstance(spec, TextSpec):
        raise InvalidInput(
            f"{spec.name!r} does not take texts. Choose an architecture for text-classification"
            " (GET /architectures lists them).",
            pointer="/model/architecture",
            code="task_mismatch",
        )
    refuse_image_options(job.preprocess, "texts")
    preprocessing = preprocessing_of(dataset.train.texts, spec, known)
    return Dataset(
        dataset.description.model_copy(update={"input": preprocessing.input}),
        preprocessing,
        encoded(dataset.train, preprocessing, folder / "train.ids"),
        _evaluated(dataset.validation, preprocessing, folder / "validation.ids"),
        _evaluated(dataset.test, preprocessing, folder / "test.ids"),
    )


def refuse_image_options(given: PreprocessSpec, held: str) -> None:
    """Raise InvalidInput, naming the first option of `preprocess` that is given; `held` is what the dataset holds."""
    for option in given.model_dump(exclude_none=True):
        raise InvalidInput(
            f"{option!r} is for images, and this dataset holds {held}. Leave it out; how texts become tokens is said"
            " in 'model'.",
            pointer=f"/preprocess/{option}",
        )


def preprocessing_of(texts: Sequence[str], spec: TextSpec, known: Preprocessing | None) -> TextPreprocessing:
    """The known tokenizer, or one trained on these texts; either cuts to the length that the job wants."""
    if isinstance(known, TextPreprocessing):
        return TextPreprocessing(
            tokenizer=known.tokenizer, length=spec.length, padding=known.padding, vocabulary=known.vocabulary
        )
    text = trained(texts, spec)
    vocabulary = Encoder(text, spec.length).vocabulary
    return TextPreprocessing(tokenizer=text, length=spec.length, padding=PADDING_ID, vocabulary=vocabulary)


def _evaluated(split: Split, preprocessing: TextPreprocessing, file: Path) -> Split:
    unsorted = file.with_suffix(".unsorted")
    try:
        return sorted_by_length(encoded(split, preprocessing, unsorted), preprocessing, file)
    finally:
        unsorted.unlink(missing_ok=True)


def encoded(split: Split, preprocessing: TextPreprocessing, file: Path) -> Split:
    """The split with token ids for texts, in memory or, where they need much, in this file."""
    ids_NT = _room((len(split), preprocessing.length), file)
    start = 0
    for rows in _rows(split.x, preprocessing):
        ids_NT[start : start + len(rows)] = filled(rows, preprocessing.length, preprocessing.padding)
        start += len(rows)
    return Split(ids_NT, split.y)


def sorted_by_length(split: Split, preprocessing: TextPreprocessing, file: Path) -> Split:
    """The same rows, the shortest first; rows of one length stay in their order."""
    order_N = np.argsort(lengths(split.array, preprocessing.padding), kind="stable")
    ids_NT = _room(split.array.shape, file)
    for start in range(0, len(order_N), CHUNK):
        ids_NT[start : start + CHUNK] = split.array[order_N[start : start + CHUNK]]
    return Split(ids_NT, split.y[order_N])


def _rows(texts: Iterable[str], preprocessing: TextPreprocessing) -> Iterator[list[list[int]]]:
    """The token ids of the texts, CHUNK at a time; the unknown token where there would be none."""
    encoder = preprocessing.encoder
    substitute = [encoder.unknown if encoder.unknown is not None else int(preprocessing.example()[0])]
    for chunk in chunks(texts):
        yield [ids or substitute for ids in encoder.ids(chunk)]


def token_batches(texts: Iterable[str], preprocessing: TextPreprocessing) -> Iterator[np.ndarray]:
    """The texts as token ids, int32 [N, T], as wide as the longest needs."""
    for rows in _rows(texts, preprocessing):
        width = width_of(max(map(len, rows)), preprocessing.length)
        yield filled(rows, width, preprocessing.padding)


def _room(shape: tuple[int, ...], file: Path) -> np.ndarray:
    """An array of int32 that is filled next, in memory or memory-mapped."""
    if prod(shape) * 4 <= LARGE_BYTES:
        return np.empty(shape, np.int32)
    return np.memmap(file, np.int32, "w+", shape=shape)

import pickle
from pathlib import Path

import numpy as np
import pytest

from models.data.texts import Texts

WORDS = ["one", "", "zwölf", "三", "🙂 five", "six"]


def test_texts_come_back_as_they_were_given() -> None:
    texts = Texts.of(iter(WORDS))
    assert list(texts) == WORDS
    assert [texts[index] for index in range(len(texts))] == WORDS
    assert (texts[-1], texts[np.int64(2)]) == ("six", "zwölf")
    assert texts.sizes.tolist() == [len(word.encode()) for word in WORDS]


def test_a_text_beyond_the_last_is_an_index_error() -> None:
    with pytest.raises(IndexError):
        Texts.of(WORDS)[len(WORDS)]
    with pytest.raises(IndexError):
        Texts.of(WORDS)[np.array([0, len(WORDS)])]


@pytest.mark.parametrize(
    "rows",
    [
        np.array([3, 0, 3, -1]),
        np.array([], np.int64),
        np.array([True, False, True, False, False, True]),
        slice(1, 4),
        slice(None, None, -2),
    ],
    ids=["numbers", "none", "mask", "slice", "steps"],
)
def test_rows_are_taken_as_from_an_array(rows: np.ndarray | slice) -> None:
    assert list(Texts.of(WORDS)[rows]) == np.array(WORDS, object)[rows].tolist()


def test_no_texts_at_all_are_texts() -> None:
    assert list(Texts.of([])) == []
    assert len(Texts.of([])[np.array([], np.int64)]) == 0


def test_equal_texts_have_equal_arrays_however_they_were_made() -> None:
    built, taken = Texts.of(["b", "a"]), Texts.of(["a", "b"])[np.array([1, 0])]
    assert built.data.tobytes() == taken.data.tobytes()
    assert built.offsets.tolist() == taken.offsets.tolist()


def test_texts_in_a_file_are_read_only_where_asked(tmp_path: Path) -> None:
    texts = Texts.of(WORDS)
    texts.data.tofile(tmp_path / "data")
    mapped = Texts(np.memmap(tmp_path / "data", np.uint8, "r"), texts.offsets)
    assert mapped[4] == WORDS[4]
    assert isinstance(mapped.data, np.memmap)
    assert list(pickle.loads(pickle.dumps(texts))) == WORDS


@pytest.mark.parametrize("offsets", [[], [1, 3], [0, 2], [0, 4, 3], [0, 2, 1, 3]])
def test_offsets_that_do_not_divide_the_data_are_refused(offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="offsets"):
        Texts(np.zeros(3, np.uint8), np.array(offsets, np.int64))


def test_half_a_surrogate_pair_is_no_text() -> None:
    with pytest.raises(UnicodeEncodeError):
        Texts.of(["\ud800"])

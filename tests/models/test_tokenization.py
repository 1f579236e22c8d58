"""Tokenizers, and texts turned into tokens for a job or a request."""

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from models.catalog import architectures
from models.data.assembly import assemble
from models.data.dataset import Split
from models.data.texts import Texts
from models.errors import InvalidInput
from models.job import JobSpec
from models.preparation import expected_signature, prepared
from models.preparation import text as preparation
from models.preprocessing import TextPreprocessing
from models.signature import TextInput
from models.tokenization import trained

SPECS = architectures()
WORDS = ["film", "plot", "actor", "scene", "ending", "music"]
NOWHERE = Path("unused: nothing here is large")
TEXTS = [
    f"The {WORDS[index % 6]} was {('Great', 'awful')[index % 2]}, really! Take {index}."
    for index in range(200)
]


def spec(**options):
    return SPECS["bilstm"](**{"min_frequency": 1, "length": 16, **options})


def dataset(texts=TEXTS):
    y = np.arange(len(texts), dtype=np.int64) % 2
    return assemble("text-classification", Split(Texts.of(texts), y), classes=["good", "bad"])


def job(**options):
    model = {"architecture": "bilstm", "min_frequency": 1, "length": 16, **options.pop("model", {})}
    body = {"framework": "torch", "dataset": "x", "model": model, "training": {"epochs": 1}, **options}
    return JobSpec.model_validate_json(json.dumps(body))


@pytest.mark.parametrize("options", [{}, {"tokenizer": "bpe", "vocabulary": 600}], ids=["word", "bpe"])
def test_the_same_texts_give_the_same_tokenizer(options):
    texts = [*TEXTS, *reversed(TEXTS)]
    assert trained(texts, spec(**options)) == trained(list(texts), spec(**options))


def test_words_are_told_apart_without_their_case_by_frequency_then_alphabet():
    text = trained(["b B b a A c", "ae\u0301 zebra"], spec())
    vocabulary = json.loads(text)["model"]["vocab"]
    by_id = sorted(vocabulary, key=vocabulary.get)
    words = [word for word in by_id if not word.startswith("[")]
    assert words[:2] == ["b", "a"]
    assert set(words) == {"a", "b", "c", "a\u00e9", "zebra"}


def test_rare_words_and_words_beyond_the_vocabulary_are_unknown():
    texts = ["often often often", "twice twice", "once"]
    assert "once" not in json.loads(trained(texts, spec(min_frequency=2)))["model"]["vocab"]
    few = json.loads(trained([" ".join(f"w{index}" for index in range(100))], spec(vocabulary=16)))["model"][
        "vocab"
    ]
    assert len(few) == 16


def test_bytes_leave_no_text_unknown():
    texts = dataset()
    found = prepared(texts, job(model={"tokenizer": "bpe", "vocabulary": 600}), None, NOWHERE).preprocessing
    ids = found.batch(["\u4f60\u597d \U0001f600", "never seen"])
    assert ids.min() >= 0
    assert ids.max() < found.vocabulary
    assert (ids[:, 0] != found.padding).all()


def test_only_the_training_split_is_looked_at():
    source = dataset()
    unseen = Split(Texts.of(f"unheard{index}" for index in range(len(source.test))), source.test.y)
    changed = type(source)(source.description, None, source.train, source.validation, unseen)
    vocabulary = json.loads(prepared(changed, job(), None, NOWHERE).preprocessing.tokenizer)["model"]["vocab"]
    assert not [word for word in vocabulary if word.startswith("unheard")]


def test_a_prepared_split_is_what_a_request_would_make(tmp_path):
    source = dataset()
    found = prepared(source, job(), None, tmp_path)
    assert found.description.input.vocabulary == found.preprocessing.vocabulary
    assert found.train.array.shape == (len(source.train), 16)
    sent = found.preprocessing.batch(list(source.train.texts))
    width = sent.shape[1]
    np.testing.assert_array_equal(found.train.array[:, :width], sent)
    assert (found.train.array[:, width:] == found.preprocessing.padding).all()
    np.testing.assert_array_equal(found.train.y, source.train.y)


def test_evaluation_rows_are_sorted_by_length_and_keep_their_labels(tmp_path):
    texts = [f"{('good', 'bad')[index % 2]} {'word ' * (index * 7 % 13)}" for index in range(200)]
    found = prepared(dataset(texts), job(), None, tmp_path)
    good = found.preprocessing.batch(["good"])[0, 0]
    for split in (found.validation, found.test):
        lengths = (split.array != found.preprocessing.padding).sum(1)
        assert (np.diff(lengths) >= 0).all()
        np.testing.assert_array_equal(split.array[:, 0] == good, split.y == 0)


def test_every_row_has_a_token_and_long_ones_are_cut(tmp_path):
    texts = [("word " * 50, "!!!", "\u2603")[index % 3] + str(index) for index in range(90)]
    found = prepared(dataset(texts), job(model={"length": 8, "min_frequency": 2}), None, tmp_path)
    for split in (found.train, found.validation, found.test):
        assert (split.array[:, 0] != found.preprocessing.padding).all()
        assert split.array.shape[1] == 8


def test_a_known_tokenizer_is_used_again_and_may_cut_elsewhere(tmp_path):
    known = prepared(dataset(), job(), None, tmp_path).preprocessing
    other = dataset([text.replace("film", "motion picture") for text in TEXTS])
    found = prepared(other, job(model={"length": 5}), known, tmp_path)
    assert found.preprocessing.tokenizer == known.tokenizer
    assert (found.preprocessing.length, found.train.array.shape[1]) == (5, 5)
    assert found.description.input.vocabulary == known.vocabulary


def test_large_splits_lie_on_disk(tmp_path, monkeypatch):
    small = prepared(dataset(), job(), None, tmp_path)
    monkeypatch.setattr(preparation, "LARGE_BYTES", 100)
    large = prepared(dataset(), job(), None, tmp_path)
    assert isinstance(large.train.array, np.memmap)
    for name in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(large, name).array, getattr(small, name).array)


@pytest.fixture(scope="module")
def preprocessing():
    return prepared(dataset(), job(), None, NOWHERE).preprocessing


def test_texts_may_come_as_objects(preprocessing):
    ids = preprocessing.batch(["The film was great", {"text": "the FILM was GREAT"}])
    np.testing.assert_array_equal(ids[0], ids[1])


@pytest.mark.parametrize(
    ("item", "words", "pointer"),
    [
        (5, "text", "/inputs/1"),
        (None, "text", "/inputs/1"),
        (["a"], "text", "/inputs/1"),
        ("", "empty", "/inputs/1"),
        ("  \n ", "empty", "/inputs/1"),
        ({"txt": "a"}, "Did you mean 'text'", "/inputs/1"),
        ({"text": 3}, "text", "/inputs/1"),
        ("qwertz asdf", "know", "/inputs/1"),
    ],
    ids=repr,
)
def test_what_is_no_text_is_refused_by_its_place(preprocessing, item, words, pointer):
    with pytest.raises(InvalidInput, match=words) as caught:
        preprocessing.batch(["a great film", item])
    assert caught.value.pointer.startswith(pointer)


def test_a_stored_tokenizer_gives_the_same_tokens(preprocessing):
    again = TextPreprocessing.model_validate_json(preprocessing.model_dump_json())
    np.testing.assert_array_equal(again.batch(TEXTS[:9]), preprocessing.batch(TEXTS[:9]))


def test_options_for_images_are_refused():
    wrong = job(preprocess={"size": [8, 8]})
    for act in (
        lambda: expected_signature(dataset().description, wrong),
        lambda: prepared(dataset(), wrong, None, NOWHERE),
    ):
        with pytest.raises(InvalidInput, match="for images") as caught:
            act()
        assert caught.value.pointer == "/preprocess/size"


def test_texts_stay_texts_until_a_tokenizer_is_there():
    assert isinstance(expected_signature(dataset().description, job()).input, TextInput)


def test_a_text_that_somebodys_tokenizer_cannot_take_is_refused():
    text = Tokenizer(WordLevel({"[PAD]": 0, "film": 1}, unk_token="[UNK]")).to_str()
    about = TextPreprocessing(tokenizer=text, length=4, padding=0, vocabulary=2)
    with pytest.raises(InvalidInput, match=r"Missing \[UNK\] token"):
        about.batch(["zebra"])

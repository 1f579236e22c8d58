"""Tokenizers of published checkpoints, from each of their files, against transformers' own."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer

from models.catalog import architectures
from models.checkpoints.preprocessing import of_images, of_texts, token_signature
from models.checkpoints.tokenizers import padding_id, tokenizer_json
from models.errors import CorruptArtifact, InvalidInput
from models.initial import initial_weights
from models.signature import ImageInput
from models.tokenization import Encoder

MARKS = ("[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = "abcdefghijklmnopqrstuvwxyzäéßABCÉ0123456789"
WORDS = (
    *("film", "good", "un", "##believ", "##able", "##ly", "naive", "naïve", "cafe", "café", "Café", "CAFE"),
    *(
        ",",
        ".",
        "!",
        "?",
        "'",
        "-",
        "[",
        "]",
        "don",
        "t",
        "電",
        "影",
        "the",
        "The",
        "\u2028",
        "\x85",
        "e\u0301",
    ),
)
VOCABULARY = (*MARKS, *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS))
"""'t' comes twice, which leaves an id unused."""
TEXTS = (
    "The unbelievably good film!",
    "Café CAFÉ café naïve NAÏVE Straße",
    "don't   split\tthis\nbadly -- or that…",
    "電影 is 電影, the 影",
    "qqqq zzz9 ÉÉ \u00a0 \u200b \ufffd \x00 x\u2028y",
    "",
    "   ",
    "a" * 300,
    "[CLS] the [MASK] film [SEP]",
)


@pytest.fixture
def folder(tmp_path):
    """A repository's folder as transformers wants it, with the vocabulary as text."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "distilbert"}))
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", "utf-8", newline="\n")
    return tmp_path


def files_in(folder):
    return {path.name: path for path in folder.iterdir()}


CONFIGS = {
    "none": None,
    "uncased": {"do_lower_case": True},
    "cased": {"do_lower_case": False},
    "silent": {"model_max_length": 512},
    "accents": {"do_lower_case": True, "strip_accents": False},
    "words": {"do_lower_case": False, "tokenize_chinese_chars": False, "strip_accents": True},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_vocabulary_splits_as_transformers_does_it(folder, name):
    if CONFIGS[name] is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(CONFIGS[name]))
    theirs = AutoTokenizer.from_pretrained(folder)
    ours = Encoder(tokenizer_json(files_in(folder)), 64)
    expected = [
        theirs(text, truncation=True, max_length=64, split_special_tokens=True)["input_ids"] for text in TEXTS
    ]
    assert ours.ids(TEXTS) == expected
    assert ours.vocabulary == len(set(VOCABULARY))


def test_lower_case_makes_a_difference(folder):
    found = []
    for lowered in (True, False):
        (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lowered}))
        found.append(Encoder(tokenizer_json(files_in(folder)), 64).ids(["The Café"])[0])
    ids = {word: index for index, word in enumerate(VOCABULARY)}
    frame = [ids["[CLS]"]], [ids["[SEP]"]]
    assert found[0] == [*frame[0], ids["the"], ids["cafe"], *frame[1]]
    assert found[1] == [*frame[0], ids["The"], ids["Café"], *frame[1]]


@pytest.mark.parametrize("name", ["uncased", "cased"])
def test_a_tokenizers_json_is_taken_as_it_is_and_before_the_vocabulary(folder, name):
    (folder / "tokenizer_config.json").write_text(json.dumps(CONFIGS[name]))
    theirs = AutoTokenizer.from_pretrained(folder)
    theirs.save_pretrained(folder)
    (folder / "vocab.txt").write_text("nothing of use\n")
    text = tokenizer_json(files_in(folder))
    assert text == (folder / "tokenizer.json").read_text("utf-8")
    expected = theirs(list(TEXTS), truncation=True, max_length=16, split_special_tokens=True)["input_ids"]
    assert Encoder(text, 16).ids(TEXTS) == expected


def test_truncation_and_padding_of_the_file_do_not_count(folder):
    """Published files hold them, as the last user set them."""
    tokenizer = Tokenizer.from_str(tokenizer_json(files_in(folder)))
    plain = Encoder(tokenizer.to_str(), 64).ids(TEXTS)
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=50)
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    assert Encoder(tokenizer_json(files_in(folder)), 64).ids(TEXTS) == plain


def test_words_end_at_line_feeds_whatever_wrote_the_file(folder):
    text = tokenizer_json(files_in(folder))
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY), "utf-8", newline="\r\n")
    assert tokenizer_json(files_in(folder)) == text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b"not json"),
        ("tokenizer.json", b"\xff\xfe"),
        ("vocab.txt", b""),
        ("vocab.txt", b"the\nfilm\n"),
        ("vocab.txt", b"[CLS]\n[SEP]\n[UNK]\n\xff\n"),
        ("tokenizer_config.json", b"not json"),
        ("tokenizer_config.json", b"[1]"),
        ("tokenizer_config.json", b'{"do_lower_case": "yes"}'),
    ],
)
def test_damaged_files_are_refused(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(CorruptArtifact, match=r"^The tokenizer's files cannot be read: .") as caught:
        tokenizer_json(files_in(folder))
    assert str(folder) not in caught.value.detail


@pytest.mark.parametrize(
    ("words", "id"),
    [(("[UNK]", "a", "[PAD]"), 2), (("[UNK]", "<pad>"), 1), (("<pad>", "[PAD]"), 1), (("[UNK]", "a"), 2)],
)
def test_the_padding_is_known_by_its_name_and_is_no_word_where_it_has_none(words, id):
    assert padding_id(of_words(words), rows=3) == id


def test_a_tokenizer_may_say_what_it_pads_with():
    tokenizer = Tokenizer.from_str(of_words(("[UNK]", "a", "nothing")))
    tokenizer.enable_padding(pad_id=2, pad_token="nothing")
    assert padding_id(tokenizer.to_str(), rows=9) == 2


def test_without_a_token_or_a_free_embedding_to_pad_with_a_tokenizer_is_refused():
    with pytest.raises(InvalidInput, match="no token to fill short texts up with"):
        of_texts(weights(2), SPEC, of_words(("[UNK]", "a")))


@pytest.mark.parametrize("model", [models.WordLevel, models.WordPiece])
def test_a_tokenizer_that_knows_no_unknown_words_is_refused(model):
    tokenizer = Tokenizer(model({"[PAD]": 0, "a": 1}, unk_token="[UNK]"))
    with pytest.raises(InvalidInput, match="cannot take a text with unknown words") as caught:
        of_texts(weights(2), SPEC, tokenizer.to_str())
    assert caught.value.specific_code == "tokenizer_mismatch"


def of_words(words, special=()):
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, "[UNK]"))
    tokenizer.add_special_tokens(list(special))
    return tokenizer.to_str()


# --- the preprocessing that goes with weights ---------------------------------------------------------------------

SPEC = architectures()["distilbert"](layers=1, heads=1, hidden=4, mlp=4, positions=20, length=12)


def weights(rows):
    named = token_signature(SPEC)
    taken = named.input.model_copy(update={"vocabulary": rows})
    return initial_weights(SPEC, named.model_copy(update={"input": taken}), 0)


@pytest.mark.parametrize("rows", [len(VOCABULARY), 500])
def test_the_preprocessing_has_the_tokenizer_and_the_rows_of_the_weights(folder, rows):
    text = tokenizer_json(files_in(folder))
    found = of_texts(weights(rows), SPEC, text)
    assert (found.tokenizer, found.length, found.padding, found.vocabulary) == (text, 12, 0, rows)


def test_a_tokenizer_larger_than_the_embeddings_is_refused(folder):
    text, size = tokenizer_json(files_in(folder)), len(VOCABULARY)
    with pytest.raises(
        InvalidInput, match=f"has {size} tokens, but the network has embeddings of {size - 1}"
    ) as caught:
        of_texts(weights(size - 1), SPEC, text)
    assert caught.value.specific_code == "tokenizer_mismatch"


def test_a_tokenizer_with_ids_beyond_the_embeddings_is_refused():
    """It has few tokens, but ids with gaps between them."""
    text = of_words(("[UNK]", "a"))
    gaps = json.loads(text)
    gaps["model"]["vocab"]["a"] = 40
    with pytest.raises(InvalidInput, match="has 41 tokens, but the network has embeddings of 40"):
        of_texts(weights(40), SPEC, json.dumps(gaps))
    assert of_texts(weights(41), SPEC, json.dumps(gaps)).vocabulary == 41
    marked = json.loads(of_words(("[UNK]", "a", "[CLS]", "[SEP]")))
    marked["post_processor"] = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 9]}
    with pytest.raises(InvalidInput, match="has 10 tokens, but the network has embeddings of 9"):
        of_texts(weights(9), SPEC, json.dumps(marked))


def test_added_tokens_count(folder):
    text = of_words(("[UNK]", "a", "[PAD]"), special=("[EXTRA]",))
    with pytest.raises(InvalidInput, match="has 4 tokens, but the network has embeddings of 3"):
        of_texts(weights(3), SPEC, text)
    assert of_texts(weights(4), SPEC, text).padding == 2


def test_weights_without_embeddings_have_no_preprocessing():
    with pytest.raises(InvalidInput, match="no embeddings of tokens where 'distilbert' has them"):
        of_texts({"conv.weight": np.zeros((1, 1), np.float32)}, SPEC, of_words(("[UNK]", "[PAD]")))


def test_images_are_normalised_as_they_were_published():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    colour = of_images(ImageInput(height=20, width=30, channels=3), mean, std)
    assert (colour.height, colour.width, colour.mean, colour.std) == (20, 30, mean, std)
    grey = of_images(ImageInput(height=20, width=30, channels=1), mean, std)
    assert grey.channels == 1
    assert grey.mean == pytest.approx((0.449,))
    assert grey.std == pytest.approx((0.226,))

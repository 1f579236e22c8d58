"""Checkpoints of the Hugging Face hub: from a server of this test that speaks its protocol, and from a folder."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import BertWordPieceTokenizer

from models import tensor_files
from models.checkpoints.published import Library
from models.errors import CorruptArtifact, NotFound, Unavailable
from models.published import Published
from models.tokenization import Encoder

NET = Published("tiny", "huggingface", "people/tiny")
TENSORS = {"distilbert.embeddings.word_embeddings.weight": np.arange(40, dtype=np.float32).reshape(10, 4)}
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "film", "A", "good", "bad")
VOCABULARY = "".join(f"{word}\n" for word in WORDS)
CASED = json.dumps({"do_lower_case": False})
TOKENIZER = BertWordPieceTokenizer({word: id for id, word in enumerate(WORDS)}).to_str()


def of_safetensors(tensors, folder):
    tensor_files.write(tensors, folder / "made", {"format": "pt"})
    return (folder / "made").read_bytes()


def of_torch(tensors):
    buffer = io.BytesIO()
    torch.save({name: torch.tensor(array) for name, array in tensors.items()}, buffer)
    return buffer.getvalue()


@pytest.fixture
def repository(tmp_path):
    """The files of a repository, as most have them."""
    return {
        "model.safetensors": of_safetensors(TENSORS, tmp_path),
        "tokenizer.json": TOKENIZER.encode(),
        "tokenizer_config.json": CASED.encode(),
        "config.json": b"{}",
        "README.md": b"not needed",
        "vocab.txt": VOCABULARY.encode(),
    }


def assert_kept(found, tokens=None):
    kept = tensor_files.read(found.weights)[1]
    assert kept.keys() == TENSORS.keys()
    assert all(np.array_equal(kept[name], array) for name, array in TENSORS.items())
    assert Encoder(found.tokenizer, 8).ids(["A film"]) == [tokens or [2, 5, 6, 3]]


# --- from the hub -------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(publisher, repository, tmp_path):
    """The server with the repository, and a library in front of it."""

    def put(files):
        publisher.files = {f"{NET.reference}/resolve/main/{name}": data for name, data in files.items()}

    put(repository)
    library = Library(tmp_path / "cache", None, endpoint=publisher.address)
    return publisher, library, put


def names(publisher):
    return [path.rpartition("/")[2] for path, _ in publisher.asked]


def test_a_repository_is_fetched_once_and_only_what_is_needed(hub):
    publisher, library, put = hub
    found = library.fetch(NET)
    assert_kept(found)
    assert sorted(names(publisher)) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    put({})
    assert library.fetch(NET) == found
    assert sorted(path.name for path in found.weights.parent.iterdir()) == [
        "complete.json",
        "tokenizer.json",
        "weights.safetensors",
    ]
    folders = [path.name for path in found.weights.parents[1].iterdir() if path.is_dir()]
    assert folders == ["people--tiny"]


def test_a_vocabulary_does_where_there_is_no_other_tokenizer(hub, repository):
    publisher, library, put = hub
    put({name: data for name, data in repository.items() if name != "tokenizer.json"})
    assert_kept(library.fetch(NET), [2, 7, 6, 3])
    assert "vocab.txt" in names(publisher)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_file_that_arrives_damaged_is_refused_and_fetched_again(hub, name):
    """A large one is known by its SHA-256, a small one by git's hash."""
    publisher, library, _ = hub
    publisher.damaged.add(f"{NET.reference}/resolve/main/{name}")
    with pytest.raises(Unavailable, match=f"{name} of 'people/tiny' arrived damaged") as caught:
        library.fetch(NET)
    assert caught.value.specific_code == "download_damaged"
    publisher.damaged.clear()
    assert_kept(library.fetch(NET))
    assert names(publisher).count(name) == 2


def test_what_had_arrived_before_is_not_fetched_again(hub):
    publisher, library, _ = hub
    publisher.damaged.add(f"{NET.reference}/resolve/main/tokenizer.json")
    with pytest.raises(Unavailable):
        library.fetch(NET)
    publisher.damaged.clear()
    library.fetch(NET)
    assert names(publisher).count("model.safetensors") == 1


@pytest.mark.parametrize(
    ("left", "words"),
    [
        ("model.safetensors", "neither model.safetensors nor pytorch_model.bin"),
        ("tokenizer.json", "neither tokenizer.json nor vocab.txt"),
    ],
)
def test_a_repository_without_weights_or_tokenizer_is_named(hub, repository, left, words):
    _, library, put = hub
    put({name: data for name, data in repository.items() if name not in (left, "vocab.txt")})
    with pytest.raises(NotFound, match=f"^'people/tiny' has {words} on the hub"):
        library.fetch(NET)


def test_a_repository_that_is_not_there_says_what_else_to_do(hub):
    _, library, put = hub
    put({})
    with pytest.raises(Unavailable) as caught:
        library.fetch(NET)
    assert (
        "put its files into a folder 'tiny' in the folder that TANDEM_PRETRAINED_DIR" in caught.value.detail
    )
    assert "\n" not in caught.value.detail
    assert caught.value.specific_code == "download_failed"


def test_a_hub_that_does_not_answer_says_what_else_to_do(tmp_path):
    library = Library(tmp_path / "cache", None, endpoint="http://127.0.0.1:1")
    with pytest.raises(Unavailable, match=r"could not be downloaded from the hub .*TANDEM_PRETRAINED_DIR"):
        library.fetch(NET)


def test_a_tokenizer_that_is_none_is_refused(hub, repository):
    _, library, put = hub
    put(repository | {"tokenizer.json": b"{}"})
    with pytest.raises(CorruptArtifact, match="tokenizer's files cannot be read"):
        library.fetch(NET)


# --- from a folder ------------------------------------------------------------------------------------------------


@pytest.fixture
def offline(tmp_path):
    """A library that may only read a folder, and how files get into it."""
    folder = tmp_path / "offline"

    def put(files, name="tiny"):
        for path, data in files.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / path).write_bytes(data)

    return Library(tmp_path / "cache", folder, endpoint="http://127.0.0.1:1"), put, folder


@pytest.mark.parametrize("name", ["tiny", "people/tiny"])
def test_a_folder_under_either_name_takes_the_hubs_place(offline, repository, name):
    library, put, folder = offline
    put(repository, name)
    assert_kept(library.fetch(NET))
    assert_kept(library.fetch(NET))
    assert {path.name for path in (folder / name).iterdir()} == repository.keys()


def test_weights_may_be_those_of_torch(offline, repository):
    library, put, _ = offline
    files = {"pytorch_model.bin": of_torch(TENSORS), "tokenizer.json": repository["tokenizer.json"]}
    put(files)
    assert_kept(library.fetch(NET))


def test_of_several_forms_the_safer_is_taken(offline, repository):
    library, put, _ = offline
    put(repository | {"pytorch_model.bin": b"never read", "vocab.txt": b"never read"})
    assert_kept(library.fetch(NET))


@pytest.mark.parametrize(("config", "tokens"), [(CASED, [2, 7, 6, 3]), (None, [2, 5, 6, 3])])
def test_a_vocabulary_alone_is_a_tokenizer(offline, repository, config, tokens):
    library, put, _ = offline
    put({name: repository[name] for name in ("model.safetensors", "vocab.txt")})
    if config is not None:
        put({"tokenizer_config.json": config.encode()})
    assert_kept(library.fetch(NET), tokens)


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        ((), "model.safetensors (or pytorch_model.bin)"),
        (("tokenizer.json",), "model.safetensors (or pytorch_model.bin)"),
        (("model.safetensors",), "tokenizer.json (or vocab.txt)"),
    ],
)
def test_a_missing_file_is_named_and_where_it_belongs(offline, repository, there, missing):
    library, put, folder = offline
    put({name: repository[name] for name in there})
    with pytest.raises(NotFound) as caught:
        library.fetch(NET)
    assert caught.value.detail == (
        f"'people/tiny' is not in the folder of published checkpoints: put its {missing} into a folder 'tiny' in the"
        " folder that TANDEM_PRETRAINED_DIR names."
    )
    assert str(folder) not in caught.value.detail
    assert caught.value.specific_code == "checkpoint_missing"


def test_a_file_put_into_the_folder_later_is_noticed(offline, repository):
    library, put, _ = offline
    put({name: repository[name] for name in ("model.safetensors", "vocab.txt")})
    assert_kept(library.fetch(NET))
    put({"tokenizer_config.json": CASED.encode()})
    assert_kept(library.fetch(NET), [2, 7, 6, 3])


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", None])
def test_damaged_weights_are_refused(offline, repository, content):
    library, put, folder = offline
    put(repository)
    damaged = repository["model.safetensors"][:-4] if content is None else content
    put({"model.safetensors": damaged})
    with pytest.raises(CorruptArtifact, match=r"^model\.safetensors cannot be read: .") as caught:
        library.fetch(NET)
    assert str(folder) not in caught.value.detail


def test_half_precision_weights_become_whole(offline, repository, tmp_path):
    library, put, _ = offline
    from safetensors.torch import save

    halves = {name: torch.tensor(array).bfloat16() for name, array in TENSORS.items()}
    put(repository | {"model.safetensors": save(halves, {"format": "pt"})})
    assert_kept(library.fetch(NET))
    assert Path(tmp_path / "cache").is_dir()

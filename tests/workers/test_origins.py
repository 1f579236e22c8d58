"""Jobs that start from a published checkpoint with a tokenizer of its own, through the trainer in both frameworks."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tokenizers import BertWordPieceTokenizer
from transformers import DistilBertConfig, DistilBertForMaskedLM

from models import engine
from models.data import dataset as datasets
from models.data.assembly import assemble
from models.data.dataset import Split
from models.data.texts import Texts
from models.distilbert.spec import DistilBERTSpec
from models.errors import NotFound
from models.framework import FRAMEWORKS, Framework
from models.job import Init, JobSpec
from models.preparation import expected_signature
from models.preprocessing import TextPreprocessing
from models.published import Published
from models.state import TrainingState, save_state
from models.training import TrainingSpec, resolve
from models.weights import read_weights
from workers import messages, origins
from workers.observer import Channel, Inbox
from workers.trainer import Trainer

STEPS = 4
REPOSITORY = "distilbert/distilbert-base-uncased"
WORDS = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "film",
    "good",
    "bad",
    "very",
    "##ly",
    "a",
    ".",
    "real",
)
ROWS = len(WORDS) + 3
"""Embeddings of the checkpoint: a few more than its tokenizer has tokens."""
TOKENIZER = BertWordPieceTokenizer({word: id for id, word in enumerate(WORDS)}).to_str()
TEXTS = {"bad": "a very bad film .", "good": "A really good film ."}


class SmallDistilBERT(DistilBERTSpec):
    """A small one that claims the published checkpoints."""

    __module__ = DistilBERTSpec.__module__  # the twins are looked for beside it

    def published(self) -> tuple[Published, ...]:
        return DistilBERTSpec().published()


SPEC = SmallDistilBERT(layers=1, heads=2, hidden=8, mlp=12, positions=20, length=16)


def guesser() -> dict[str, np.ndarray]:
    """What transformers saves of a network that guesses masked words: a backbone, and heads that are of no use here."""
    torch.manual_seed(5)
    config = DistilBertConfig(
        n_layers=1, n_heads=2, dim=8, hidden_dim=12, max_position_embeddings=20, vocab_size=ROWS
    )
    return {name: tensor.numpy() for name, tensor in DistilBertForMaskedLM(config).state_dict().items()}


@dataclass(frozen=True)
class Workplace:
    """Folders with the publisher's files and a dataset of texts, and the lines to a supervisor."""

    folder: Path
    channel: Channel
    inbox: Inbox

    @property
    def offline(self) -> Path:
        return self.folder / "published"

    def assignment(self, name: str, framework: Framework = "torch", **training: Any) -> messages.Assignment:
        path = self.folder / "dataset.safetensors"
        description = datasets.read(path).description
        given = {"max_steps": STEPS, "batch_size": 8, "precision": "float64", "seed": 3, **training}
        body = {
            "framework": framework,
            "dataset": "films",
            "model": {"architecture": "distilbert"},
            "training": given,
            "init": {"from": "pretrained"},
        }
        job = JobSpec.model_validate(body, strict=False).model_copy(update={"model": SPEC})
        signature = expected_signature(description, job)
        resolved: TrainingSpec = resolve(SPEC, job.training, signature, description.splits.train)
        work = self.folder / f"{name}-{framework}"
        work.mkdir()
        return messages.Assignment(
            job_id=name,
            fence=1,
            spec=job.model_copy(update={"training": resolved}),
            dataset=messages.StoredDataset(path=str(path)),
            device="cpu",
            work_folder=str(work),
            checkpoint_folder=str(work / "checkpoints" / "1"),
            checkpoint_every_s=1e6,
            pretrained_cache=str(self.folder / "cache"),
            pretrained_folder=str(self.offline),
        )

    def outcome(self, assignment: messages.Assignment) -> Any:
        return Trainer(engine.load(assignment.spec.framework), assignment, self.channel, self.inbox).run()


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("origins")
    y = np.arange(60) % 2
    texts = Texts.of(f"{TEXTS[('bad', 'good')[label]]} {'very ' * (row % 7)}" for row, label in enumerate(y))
    films = assemble("text-classification", Split(texts, y), classes=["bad", "good"])
    datasets.write(films, folder / "dataset.safetensors")
    published = folder / "published" / REPOSITORY.rpartition("/")[2]
    published.mkdir(parents=True)
    save_file(guesser(), published / "model.safetensors", {"format": "pt"})
    (published / "tokenizer.json").write_text(TOKENIZER)
    reading, _writing = os.pipe()  # never closed while the inbox's thread reads: that would end this process
    silence = os.open(os.devnull, os.O_WRONLY)
    yield Workplace(folder, Channel(silence), Inbox(os.fdopen(reading, "rb")))
    os.close(silence)
    torch.set_num_threads(threads)


CASES = {"frozen": {"freeze": "backbone"}, "slower": {"backbone_learning_rate": 1e-6}}


@pytest.fixture(scope="module", params=CASES)
def results(workplace: Workplace, request: pytest.FixtureRequest) -> tuple[str, dict[str, messages.Result]]:
    """What both frameworks make of the same job."""
    found = {}
    for framework in FRAMEWORKS:
        assignment = workplace.assignment(request.param, framework, **CASES[request.param])
        found[framework] = workplace.outcome(assignment)
        assert isinstance(found[framework], messages.Result), found[framework]
    return request.param, found


def test_the_checkpoints_tokenizer_travels_with_the_result(
    results: tuple[str, dict[str, messages.Result]],
) -> None:
    for result in results[1].values():
        card = read_weights(Path(result.weights)).card
        assert isinstance(card.preprocessing, TextPreprocessing)
        assert card.preprocessing.tokenizer == TOKENIZER
        assert (card.preprocessing.vocabulary, card.preprocessing.length) == (ROWS, 16)
        assert card.preprocessing.encoder.ids(["A really good film"]) == [[2, 10, 12, 9, 6, 5, 3]]
        assert card.signature.input.kind == "tokens"
        assert card.classes == ("bad", "good")
        assert result.signature == card.signature


def test_both_frameworks_make_the_same_of_it(results: tuple[str, dict[str, messages.Result]]) -> None:
    in_torch, in_jax = results[1].values()
    assert in_torch.step == in_jax.step == STEPS
    assert in_torch.metrics == pytest.approx(in_jax.metrics, rel=1e-6, abs=1e-9)
    torch_weights, jax_weights = (load_file(one.weights) for one in (in_torch, in_jax))
    assert torch_weights.keys() == jax_weights.keys()
    for name, array in torch_weights.items():
        np.testing.assert_allclose(jax_weights[name], array, rtol=1e-7, atol=1e-9, err_msg=name)


def test_the_backbone_is_the_published_one_and_the_head_is_new(
    results: tuple[str, dict[str, messages.Result]],
) -> None:
    """Frozen it stays bit for bit; slowed down it moves a little, and the head a thousand times as much."""
    case, found = results
    published = guesser()
    for result in found.values():
        weights = load_file(result.weights)
        backbone = {name for name in weights if name.startswith("distilbert.")}
        assert backbone == {name for name in published if name.startswith("distilbert.")}
        moved = max(np.abs(weights[name] - published[name]).max() for name in backbone)
        if case == "frozen":
            assert moved == 0
        else:
            assert 0 < moved < 1e-4
        assert weights.keys() - backbone == {
            *("pre_classifier.weight", "pre_classifier.bias", "classifier.weight", "classifier.bias")
        }
        assert np.abs(weights["classifier.bias"]).max() > 1e-5  # it began at 0


# --- where it starts ----------------------------------------------------------------------------------------------


def test_an_attempt_goes_on_from_its_own_checkpoint_without_the_published_one(
    workplace: Workplace, tmp_path: Path
) -> None:
    assignment = workplace.assignment("resumed")
    description = datasets.read(workplace.folder / "dataset.safetensors").description
    signature = expected_signature(description, assignment.spec)
    before = origins.find(assignment, signature, lambda text: None)
    assert isinstance(before.known, TextPreprocessing)
    assert before.state is None
    save_state(TrainingState({"a": np.ones(2, np.float32)}, step=7), tmp_path / "7")
    lost = assignment.model_copy(
        update={
            "checkpoints": (str(tmp_path / "7"),),
            "pretrained_folder": str(tmp_path / "nowhere"),
            "pretrained_cache": str(tmp_path / "cache"),
        }
    )
    after = origins.find(lost, signature, lambda text: None)
    assert after.state is not None
    assert after.state.step == 7
    with pytest.raises(NotFound):
        origins.find(lost.model_copy(update={"checkpoints": ()}), signature, lambda text: None)


def test_checkpoints_that_went_between_claim_and_start_are_looked_for_again_by_the_next_attempt(
    workplace: Workplace, tmp_path: Path
) -> None:
    source = Init.model_validate({"from": {"job": "job_that_still_runs"}})
    assignment = workplace.assignment("continued")
    continued = assignment.model_copy(
        update={
            "spec": assignment.spec.model_copy(update={"init": source}),
            "continued_checkpoints": (str(tmp_path / "20"), str(tmp_path / "10")),
        }
    )
    for step in (10, 20):
        save_state(TrainingState({"a": np.ones(2, np.float32)}, step=step), tmp_path / str(step))
        (tmp_path / str(step) / "state.safetensors").write_bytes(b"damaged")
    damaged = workplace.outcome(continued)
    assert (damaged.code, damaged.retryable) == ("corrupt_artifact", False)
    rmtree(tmp_path / "20")
    gone = workplace.outcome(continued)
    assert (gone.code, gone.retryable) == ("unavailable", True)


def failed(workplace: Workplace, name: str, offline: Path, cache: Path) -> messages.Failed:
    changes = {"pretrained_folder": str(offline), "pretrained_cache": str(cache)}
    found = workplace.outcome(workplace.assignment(name).model_copy(update=changes))
    assert isinstance(found, messages.Failed), found
    assert str(offline) not in found.message
    assert not found.retryable
    return found


def test_a_job_without_the_files_fails_and_says_which(workplace: Workplace, tmp_path: Path) -> None:
    found = failed(workplace, "missing", tmp_path / "nowhere", tmp_path / "cache")
    assert found.code == "checkpoint_missing"
    assert "put its model.safetensors (or pytorch_model.bin) into a folder" in found.message


def test_a_job_whose_checkpoint_is_another_network_fails_and_says_where(
    workplace: Workplace, tmp_path: Path
) -> None:
    folder = tmp_path / "offline" / "distilbert-base-uncased"
    folder.mkdir(parents=True)
    weights = guesser()
    weights["distilbert.transformer.layer.0.ffn.lin1.weight"] = np.zeros((24, 8), np.float32)
    save_file(weights, folder / "model.safetensors")
    (folder / "tokenizer.json").write_text(TOKENIZER)
    found = failed(workplace, "misfit", tmp_path / "offline", tmp_path / "cache")
    assert found.code == "shape_mismatch"
    assert (
        "'distilbert.transformer.layer.0.ffn.lin1.weight' is [24, 8] there and [12, 8] here" in found.message
    )


def test_a_job_whose_tokenizer_is_too_large_fails(workplace: Workplace, tmp_path: Path) -> None:
    folder = tmp_path / "offline" / "distilbert-base-uncased"
    folder.mkdir(parents=True)
    save_file(guesser(), folder / "model.safetensors")
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in (*WORDS, *"abcdefghij")))
    found = failed(workplace, "tokens", tmp_path / "offline", tmp_path / "cache")
    assert found.code == "tokenizer_mismatch"
    assert f"has 23 tokens, but the network has embeddings of {ROWS}" in found.message

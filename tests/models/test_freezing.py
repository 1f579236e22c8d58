"""A frozen backbone, and one that learns at a rate of its own, in both frameworks."""

from itertools import pairwise

import numpy as np
import pytest

from models import engine
from models.catalog import architectures
from models.engine import Definition, Samples
from models.framework import FRAMEWORKS
from models.initial import initial_weights
from models.plan import Plan
from models.preprocessing import Normalisation
from models.signature import ImageInput, Signature
from models.training import TrainingSpec

SPEC = architectures()["cnn"](width=4, stages=2)
SIGNATURE = Signature(task="image-classification", input=ImageInput(height=8, width=8, channels=1), outputs=3)
DEFINITION = Definition(
    SPEC, SIGNATURE, Normalisation(np.array([120], np.float32), np.array([0.01], np.float32))
)
ROWS, STEPS = 32, 8
ADAM = {"name": "adam", "learning_rate": 1e-2}
SGD = {"name": "sgd", "learning_rate": 1e-1, "momentum": 0.9, "weight_decay": 1e-2}
FROZEN = {"freeze": "backbone"}
SLOWER = {"backbone_learning_rate": 1e-3}


@pytest.fixture(scope="module")
def samples():
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (ROWS, 8, 8, 1), dtype=np.uint8)
    return Samples(x, generator.integers(0, 3, ROWS, dtype=np.int32))


def trainer_of(framework, samples, weights, slots=None, step=0, **given):
    fields = {"max_steps": STEPS, "batch_size": 8, "precision": "float64", **given}
    training = TrainingSpec.model_validate(fields, strict=False)
    splits = {"train": samples, "validation": samples, "test": samples}
    return engine.load(framework).trainer(
        DEFINITION, training, splits, weights, slots or {}, step, device="cpu"
    )


def advance(trainer, optimizer, first=0, last=STEPS):
    rates = np.full(STEPS, optimizer["learning_rate"])
    plan = Plan(seed=1, rows=ROWS, batch_size=8, learning_rates=rates)
    cuts = [first, *(cut for cut in (4,) if first < cut < last), last]
    return np.concatenate([trainer.run(plan.segment(a, b)).result() for a, b in pairwise(cuts)])


@pytest.fixture(scope="module")
def start():
    weights = initial_weights(SPEC, SIGNATURE, 0)
    generator = np.random.default_rng(3)
    return {
        name: generator.uniform(0.5, 2, array.shape).astype(np.float32)
        if name.endswith("running_var")
        else array
        for name, array in weights.items()
    }


@pytest.mark.parametrize("optimizer", [ADAM, SGD], ids=["adam", "sgd"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_only_the_head_of_a_frozen_network_changes(framework, optimizer, samples, start):
    trainer = trainer_of(framework, samples, start, optimizer=optimizer, **FROZEN)
    advance(trainer, optimizer)
    for name, array in trainer.weights().items():
        assert np.array_equal(array, start[name]) != SPEC.in_head(name), name
    assert all(set(slot) == {"fc.weight", "fc.bias"} for slot in trainer.slots().values())


@pytest.mark.parametrize("given", [FROZEN, SLOWER], ids=["frozen", "slower"])
@pytest.mark.parametrize("optimizer", [ADAM, SGD], ids=["adam", "sgd"])
def test_both_frameworks_do_the_same(given, optimizer, samples, start):
    found = {}
    for framework in FRAMEWORKS:
        trainer = trainer_of(framework, samples, start, optimizer=optimizer, gradient_clip_norm=0.05, **given)
        results = advance(trainer, optimizer)
        found[framework] = (results, trainer.weights(), trainer.slots())
    (a, weights, slots), (b, other_weights, other_slots) = found.values()
    assert np.abs(a - b).max() < 1e-10
    assert all(np.abs(weights[name] - other_weights[name]).max() < 1e-10 for name in weights)
    for slot, arrays in slots.items():
        assert arrays.keys() == other_slots[slot].keys()
        assert all(np.abs(arrays[name] - other_slots[slot][name]).max() < 1e-10 for name in arrays)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_backbone_may_learn_more_slowly(framework, samples, start):
    moved = {}
    for name, given in (("same", {}), ("slower", {"backbone_learning_rate": 1e-4})):
        trainer = trainer_of(framework, samples, start, optimizer=ADAM, **given)
        advance(trainer, ADAM, 0, 1)
        after = trainer.weights()
        moved[name] = {
            key: np.abs(after[key] - start[key]).max() for key in ("stages.0.conv1.weight", "fc.weight")
        }
    assert moved["slower"]["stages.0.conv1.weight"] == pytest.approx(
        moved["same"]["stages.0.conv1.weight"] / 100, rel=1e-3
    )
    assert moved["slower"]["fc.weight"] == pytest.approx(moved["same"]["fc.weight"])


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_clipping_counts_what_learns_alone(framework, samples, start):
    """The head's gradient is clipped as if it were all there is."""
    frozen = trainer_of(framework, samples, start, optimizer=SGD, gradient_clip_norm=1e-3, **FROZEN)
    advance(frozen, SGD, 0, 1)
    momentum = frozen.slots()["momentum_buffer"]
    decayed = {name: SGD["weight_decay"] * start[name] for name in momentum}
    norm = np.sqrt(sum(((momentum[name] - decayed[name]) ** 2).sum() for name in momentum))
    assert norm == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("given", [({}, FROZEN), (FROZEN, {})], ids=["then frozen", "then free"])
@pytest.mark.parametrize("optimizer", [ADAM, SGD], ids=["adam", "sgd"])
def test_a_run_goes_on_with_another_choice_alike_in_both(given, optimizer, samples, start):
    """Slots of what was frozen until now start at zero."""
    before, after = given
    first = trainer_of("torch", samples, start, optimizer=optimizer, **before)
    advance(first, optimizer, 0, 4)
    found = []
    for framework in FRAMEWORKS:
        second = trainer_of(
            framework, samples, first.weights(), first.slots(), 4, optimizer=optimizer, **after
        )
        found.append((advance(second, optimizer, 4, STEPS), second.weights()))
    (a, weights), (b, other_weights) = found
    assert np.abs(a - b).max() < 1e-10
    assert all(np.abs(weights[name] - other_weights[name]).max() < 1e-10 for name in weights)


def test_a_frozen_backbone_has_no_learning_rate():
    with pytest.raises(ValueError, match="a frozen backbone has no learning rate"):
        TrainingSpec(max_steps=1, freeze="backbone", backbone_learning_rate=1e-3)

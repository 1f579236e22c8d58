"""The JAX predictor, and compilation across weights, threads and processes."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from models import engine
from models.catalog import architectures
from models.engine import Definition
from models.frameworks.jax.compilation import FUSED_REDUCTIONS, Compiler
from models.frameworks.jax.serving import LARGEST_BUCKET, LEAST_BUCKET, largest_bucket
from models.initial import initial_weights
from models.preprocessing import Normalisation
from models.signature import ImageInput, Signature, TableInput

ENGINE = engine.load("jax")
IMAGES = Signature(task="image-classification", input=ImageInput(height=12, width=9, channels=3), outputs=7)
TABLE = Signature(
    task="tabular-regression", input=TableInput(features=4, columns=("a", "b", "c", "d")), outputs=1
)
CASES = {
    "linear-table": (architectures()["linear"](), TABLE),
    "mlp": (architectures()["mlp"](hidden=(8,), activation="tanh"), IMAGES),
    "cnn": (architectures()["cnn"](width=4, stages=1), IMAGES),
}


def predictor(case, seed=0):
    spec, signature = CASES[case]
    channels = signature.input.shape[-1]
    raw = 100 if signature is IMAGES else 0
    normalisation = Normalisation(np.full(channels, raw, np.float32), np.full(channels, 0.02, np.float32))
    weights = initial_weights(spec, signature, seed)
    return ENGINE.predictor(Definition(spec, signature, normalisation), weights)


def batch(case, rows, seed=0):
    generator = np.random.default_rng(seed)
    shape = (rows, *CASES[case][1].input.shape)
    if case == "linear-table":
        return generator.normal(size=shape).astype(np.float32)
    return generator.integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("case", CASES)
def test_a_batch_of_any_size_gives_the_logits_of_its_rows(case):
    subject, x = predictor(case), batch(case, 2 * LARGEST_BUCKET + 3)
    alone = np.concatenate([subject.logits(row[None]) for row in x])
    assert (alone.shape, alone.dtype) == ((len(x), CASES[case][1].outputs), np.float32)
    for rows in (2, 3, 5, 8, LARGEST_BUCKET, LARGEST_BUCKET + 1, len(x)):
        np.testing.assert_allclose(subject.logits(x[:rows]), alone[:rows], atol=2e-6)


def test_what_is_compiled_ahead_serves_batches_of_every_size():
    spec, signature = architectures()["mlp"](hidden=(9,)), CASES["mlp"][1]
    normalisation = Normalisation(np.zeros(3, np.float32), np.ones(3, np.float32))
    subject = ENGINE.predictor(
        Definition(spec, signature, normalisation), initial_weights(spec, signature, 0)
    )
    subject.warm_up(batch("mlp", 1)[0], 12)
    assert sorted(rows for rows, *_ in subject._forward._compiled) == [1, 2, 4, 8, 16]
    before = dict(subject._forward._compiled)
    for rows in range(1, 17):
        assert subject.logits(batch("mlp", rows)).shape == (rows, 7)
    assert subject._forward._compiled == before


@pytest.mark.parametrize(
    ("map_bytes", "rows"),
    [
        (0, LARGEST_BUCKET),
        (4 * 8 * 8 * 32, LARGEST_BUCKET),
        (4 * 32 * 32 * 32, 16),
        (4 * 224 * 224 * 64, LEAST_BUCKET),
    ],
)
def test_networks_with_large_maps_compute_small_batches(map_bytes, rows):
    assert largest_bucket(map_bytes) == rows


def test_while_it_compiles_ahead_it_makes_do_with_what_is_there():
    spec, signature = architectures()["mlp"](hidden=(10,)), CASES["mlp"][1]
    normalisation = Normalisation(np.zeros(3, np.float32), np.ones(3, np.float32))
    subject = ENGINE.predictor(
        Definition(spec, signature, normalisation), initial_weights(spec, signature, 0)
    )
    x = batch("mlp", 11)
    expected = subject.logits(x)
    subject._forward._compiled.clear()
    subject.logits(x[:2]), subject.logits(x[:8])
    subject._forward.warming = 1
    for rows in (1, 3, 8, 11):  # 11 rows are 8 and 3, and 3 are filled up to 8
        np.testing.assert_allclose(subject.logits(x[:rows]), expected[:rows], atol=2e-6)
    assert sorted(rows for rows, *_ in subject._forward._compiled) == [2, 8]


def test_two_models_of_one_architecture_share_what_is_compiled_and_not_their_weights():
    x = batch("mlp", 4)
    one, other = predictor("mlp", seed=0), predictor("mlp", seed=1)
    first = one.logits(x)
    compiled = dict(one._forward._compiled)
    second = other.logits(x)
    assert other._forward._compiled == compiled
    assert np.abs(first - second).max() > 0.01
    np.testing.assert_array_equal(one.logits(x), first)


def test_threads_get_their_own_answers_and_each_bucket_is_compiled_once():
    subject = predictor("cnn", seed=5)
    subject._forward._compiled.clear()
    batches = [batch("cnn", rows, seed) for seed, rows in enumerate([1, 2, 3, 1, 4, 2, 4, 1] * 6)]
    compiled_before = len(subject._forward._compiled)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(subject.logits, batches))
    assert compiled_before == 0
    assert {rows for rows, *_ in subject._forward._compiled} == {1, 2, 4}
    for x, answer in zip(batches, answers, strict=True):
        np.testing.assert_array_equal(answer, subject.logits(x))


def test_an_option_that_the_compiler_does_not_know_is_left_out():
    compiler = Compiler(jax.devices("cpu")[0], convolves=True)
    assert compiler.options == FUSED_REDUCTIONS
    compiler.options = {"xla_no_such_option": "1"}
    assert float(compiler.compile(lambda x: x + 1, np.float32(1))(np.float32(2))) == 3
    assert compiler.options == {}


def test_this_release_of_xla_knows_the_fused_reductions():
    """Should it fail after an upgrade: measure whether there is a successor, then drop or replace the option."""
    compiler = Compiler(jax.devices("cpu")[0], convolves=True)
    compiler.compile(lambda x: x.sum(), np.ones(8, np.float32))
    assert compiler.options == FUSED_REDUCTIONS


PROGRAM = """
import json, jax, numpy as np
counts = {}
jax.monitoring.register_event_listener(lambda name, **_: counts.update({name: counts.get(name, 0) + 1}))
from models import engine
engine.load("jax").warm_up("cpu")
print(json.dumps({name.rpartition("/")[2]: count for name, count in counts.items()}))
"""


def test_a_second_process_finds_the_training_step_in_the_compilation_cache(tmp_path):
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }

    def events():
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    first, files = events(), {path.name for path in tmp_path.iterdir() if path.name.endswith("-cache")}
    second = events()
    assert files
    assert first["cache_misses"] >= 1
    assert first.get("cache_hits", 0) == 0
    assert second["cache_hits"] == first["cache_misses"]
    assert "cache_misses" not in second
    assert {path.name for path in tmp_path.iterdir() if path.name.endswith("-cache")} == files

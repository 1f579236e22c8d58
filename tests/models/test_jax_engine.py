"""Training with the JAX engine, against itself: interrupted, cut otherwise, in other precisions."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from models import engine
from models.catalog import architectures
from models.engine import Definition, Samples
from models.errors import InvalidInput, OutOfMemory
from models.frameworks.jax.devices import memory_for, scope
from models.frameworks.jax.training import STRIDE, JaxTrainer
from models.initial import initial_weights
from models.plan import Plan, crop_padding
from models.preprocessing import Normalisation
from models.signature import ImageInput, Signature, TableInput
from models.training import TrainingSpec

ENGINE = engine.load("jax")
CPU = jax.devices("cpu")[0]
ROWS, BATCH, SIDE = 400, 8, 10
OPTIMIZERS = {
    "sgd": {"name": "sgd", "learning_rate": 0.05},
    "momentum": {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9, "weight_decay": 0.01},
    "adam": {"name": "adam", "learning_rate": 0.01, "weight_decay": 0.02},
    "adamw": {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.1},
}
SPECS = {
    "mlp": architectures()["mlp"](hidden=(16,)),
    "linear": architectures()["linear"](),
    "cnn": architectures()["cnn"](width=4, stages=1),
}


@pytest.fixture(scope="module", autouse=True)
def compilation_cache(tmp_path_factory):
    """Compile equal steps once: most of what these tests would take is XLA compiling small networks."""
    options = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("jax")),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    reset_cache()


def problem(model):
    """A definition and splits: an image's class is which quarter is bright and how; a row's target is its sum."""
    generator = np.random.default_rng(0)
    if model == "linear":
        x = generator.normal(size=(ROWS, 6)).astype(np.float32)
        y = x.sum(1)
        signature = Signature(
            task="tabular-regression", input=TableInput(features=6, columns=tuple("abcdef")), outputs=1
        )
    else:
        x = generator.integers(0, 120, (ROWS, SIDE, SIDE, 1), dtype=np.uint8)
        y = generator.integers(0, 4, ROWS, dtype=np.int32)
        half = SIDE // 2
        for image, quarter in zip(x, y, strict=True):
            top, left = half * (quarter // 2), half * (quarter % 2)
            image[top : top + half, left : left + half] += np.uint8(10 + 40 * quarter)
        taken = ImageInput(height=SIDE, width=SIDE, channels=1)
        signature = Signature(task="image-classification", input=taken, outputs=4)
    width = x.shape[-1]
    spread = np.full(width, 1 / max(1.0, float(x.std())), np.float32)
    normalisation = Normalisation(np.full(width, float(x.mean()), np.float32), spread)
    splits = {"train": Samples(x, y), "validation": Samples(x[:53], y[:53]), "test": Samples(x[:5], y[:5])}
    return Definition(SPECS[model], signature, normalisation), splits


class Run:
    """A job of one model; `trainer` begins it, or goes on from another's state."""

    def __init__(self, model, optimizer="adamw", *, total=49, **options):
        self.definition, self.splits = problem(model)
        self.training = TrainingSpec(
            max_steps=total, batch_size=BATCH, optimizer=OPTIMIZERS[optimizer], **options
        )
        self.plan = Plan(
            seed=3,
            rows=ROWS,
            batch_size=BATCH,
            learning_rates=np.linspace(0.03, 0.001, total),
            augment=self.training.augment,
            crop_range=2 * crop_padding(SIDE) + 1,
        )
        self.total = total
        self.weights = initial_weights(self.definition.spec, self.definition.signature, 0)

    def trainer(self, before=None, step=0, **options):
        return JaxTrainer(
            self.definition,
            self.training,
            self.splits,
            before.weights() if before else self.weights,
            before.slots() if before else {},
            step,
            CPU,
            budget_bytes=options.get("budget_bytes", 2**30),
        )

    def complete(self, *cuts):
        """Results of all steps, in segments that end at the cuts, and the trainer afterwards."""
        trainer = self.trainer()
        bounds = (0, *cuts, self.total)
        results = [self.segment(trainer, *bounds[i : i + 2]).result() for i in range(len(bounds) - 1)]
        return np.concatenate(results), trainer

    def segment(self, trainer, start, stop):
        return trainer.run(self.plan.segment(start, stop))


def assert_same(one, other):
    """Bit for bit the same weights and slots."""
    assert list(one.weights()) == list(other.weights())
    assert one.slots().keys() == other.slots().keys()
    for name, array in one.weights().items():
        np.testing.assert_array_equal(array, other.weights()[name], err_msg=name)
    for slot, arrays in one.slots().items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, other.slots()[slot][name], err_msg=f"{slot} {name}")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    ("model", "step", "options"),
    [
        ("mlp", STRIDE, {"gradient_clip_norm": 0.5, "label_smoothing": 0.1}),
        ("linear", 17, {}),
        ("cnn", 7, {"augment": ("flip", "crop"), "total": 15}),
    ],
    ids=["mlp", "linear", "cnn"],
)
def test_an_interrupted_and_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    model, step, options, optimizer
):
    run = Run(model, optimizer, **options)
    expected, uninterrupted = run.complete()
    first = run.trainer()
    before = run.segment(first, 0, step).result()
    second = run.trainer(first, step)
    after = run.segment(second, step, run.total).result()
    np.testing.assert_array_equal(np.concatenate((before, after)), expected)
    assert_same(second, uninterrupted)


@pytest.mark.parametrize(("model", "cuts"), [("mlp", (1, 5, 40)), ("cnn", (1, 2, 9))])
def test_where_segments_end_changes_no_bit(model, cuts):
    run = Run(model, total=12 if model == "cnn" else 49)
    (whole, one), (parts, other) = run.complete(), run.complete(*cuts)
    np.testing.assert_array_equal(whole, parts)
    assert_same(one, other)


def test_results_are_losses_and_counts_of_every_step_in_float64():
    results, _ = Run("mlp").complete()
    assert (results.shape, results.dtype) == ((49, 2), np.float64)
    assert results[0, 0] == pytest.approx(np.log(4), abs=0.7)
    assert results[-8:, 1].mean() > BATCH * 0.9
    np.testing.assert_array_equal(results[:, 1], results[:, 1].round())


def test_networks_without_convolutions_run_many_steps_as_one_and_others_single_ones_on_a_cpu():
    assert Run("mlp").trainer().stride == STRIDE
    assert Run("cnn").trainer().stride == 1


def test_a_dataset_too_large_for_the_device_is_gathered_on_the_host_with_the_same_result():
    for model in ("mlp", "linear", "cnn"):
        run = Run(model, total=11)
        expected, resident = run.complete()
        trainer = run.trainer(budget_bytes=0)
        np.testing.assert_array_equal(run.segment(trainer, 0, 11).result(), expected)
        assert_same(trainer, resident)


@pytest.mark.parametrize("model", SPECS)
def test_outputs_are_those_of_single_rows_and_the_last_batch_is_cut(model):
    _, trainer = Run(model, total=9).complete()
    batches = list(trainer.outputs("validation", 16))
    assert [len(batch) for batch in batches] == [16, 16, 16, 5]
    assert batches[0].dtype == np.float32
    together = np.concatenate(list(trainer.outputs("validation", 256)))
    np.testing.assert_allclose(np.concatenate(batches), together, atol=1e-5)
    alone = np.concatenate(list(trainer.outputs("test", 1)))
    np.testing.assert_allclose(together[:5], alone, atol=1e-5)


def test_evaluation_changes_nothing():
    run = Run("cnn", total=10)
    _, undisturbed = run.complete()
    trainer = run.trainer()
    run.segment(trainer, 0, 4).result()
    list(trainer.outputs("validation", 16))
    run.segment(trainer, 4, 10).result()
    assert_same(trainer, undisturbed)


def test_loaded_weights_are_evaluated_and_the_optimizer_stays():
    run = Run("cnn", total=6)
    _, trainer = run.complete()
    trained, slots = trainer.weights(), trainer.slots()
    trainer.load_weights(run.weights)
    fresh = np.concatenate(list(run.trainer().outputs("test", 8)))
    np.testing.assert_array_equal(np.concatenate(list(trainer.outputs("test", 8))), fresh)
    np.testing.assert_array_equal(trainer.slots()["exp_avg"]["fc.bias"], slots["exp_avg"]["fc.bias"])
    trainer.load_weights(trained)
    np.testing.assert_array_equal(trainer.weights()["fc.weight"], trained["fc.weight"])


def test_the_given_weights_are_never_written_to():
    run = Run("cnn", total=3)
    before = {name: array.copy() for name, array in run.weights.items()}
    _, trainer = run.complete()
    slots = trainer.slots()
    kept = slots["exp_avg"]["fc.weight"].copy()
    resumed = run.trainer(trainer, 3)
    run.segment(resumed, 0, 3).result()
    np.testing.assert_array_equal(slots["exp_avg"]["fc.weight"], kept)
    for name, array in before.items():
        np.testing.assert_array_equal(run.weights[name], array)


def test_bfloat16_learns():
    results, _ = Run("mlp", precision="bfloat16").complete()
    assert results[-5:, 0].mean() < 0.2 * results[:5, 0].mean()


def test_bfloat16_is_close_to_float32_and_keeps_float32_weights():
    results, trainer = Run("cnn", precision="bfloat16", total=20).complete()
    assert {array.dtype for array in trainer.weights().values()} == {np.dtype("f4"), np.dtype("i8")}
    assert next(trainer.outputs("test", 8)).dtype == np.float32
    exact, _ = Run("cnn", total=20).complete()
    np.testing.assert_allclose(results[:5, 0], exact[:5, 0], atol=0.05)
    assert np.abs(results[:, 0] - exact[:, 0]).max() > 1e-5


def test_float64_keeps_float64_throughout():
    _, trainer = Run("cnn", precision="float64", total=3).complete()
    assert {array.dtype for array in trainer.weights().values()} == {np.dtype("f8"), np.dtype("i8")}
    assert {array.dtype for array in trainer.slots()["exp_avg"].values()} == {np.dtype("f8")}
    assert next(trainer.outputs("test", 8)).dtype == np.float64


def test_float64_and_float32_side_by_side_do_not_disturb_each_other():
    runs = [Run("mlp", precision=precision) for precision in ("float32", "float64")]
    alone = [run.complete()[0] for run in runs]
    assert np.abs(alone[0] - alone[1]).max() > 0
    trainers = [run.trainer() for run in runs]
    mixed = [[], []]
    for start in range(0, 49, 7):
        for index, (run, trainer) in enumerate(zip(runs, trainers, strict=True)):
            mixed[index].append(run.segment(trainer, start, start + 7).result())
    for expected, results in zip(alone, mixed, strict=True):
        np.testing.assert_array_equal(np.concatenate(results), expected)
    assert jnp.zeros(1, float).dtype == jnp.float32


def test_trainers_of_different_precision_may_run_in_different_threads():
    runs = [Run("mlp", precision=precision) for precision in ("float32", "float64", "float32")]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda run: run.complete()[0], runs))
    for run, results in zip(runs, together, strict=True):
        np.testing.assert_array_equal(results, run.complete()[0])


def test_compiling_is_timed_and_done_once():
    run = Run("mlp")
    trainer = run.trainer()
    run.segment(trainer, 0, 3).result()
    first = trainer.compile_s
    assert first > 0
    run.segment(trainer, 3, 40).result()
    assert trainer.compile_s == first


def test_a_missing_gpu_is_named_and_auto_takes_the_cpu():
    if jax.default_backend() == "gpu":
        pytest.skip("this machine has a GPU")
    run = Run("linear")
    arguments = (run.definition, run.training, run.splits, run.weights, {}, 0)
    assert ENGINE.trainer(*arguments, device="auto").device == "cpu"
    with pytest.raises(InvalidInput, match="no CUDA GPU"):
        ENGINE.trainer(*arguments, device="cuda")
    with pytest.raises(InvalidInput, match="Did you mean 'cuda'"):
        ENGINE.warm_up("cud")


def test_a_full_device_is_said_so_with_half_the_batch_size():
    size = 2**27

    def enormous(x):
        return jnp.broadcast_to(x[:, None], (size, 2**20)) * 2

    with scope(CPU, "float32"):
        compiled = jax.jit(enormous).lower(jax.ShapeDtypeStruct((size,), jnp.float32)).compile()
        with pytest.raises(OutOfMemory, match="batch_size 64; try 32") as caught, memory_for(64, CPU):
            compiled(np.zeros(size, np.float32)).block_until_ready()
    assert caught.value.pointer == "/training/batch_size"
    with pytest.raises(OutOfMemory, match="smaller network"), memory_for(1, CPU):
        raise MemoryError


def test_other_failures_pass_unchanged():
    with pytest.raises(jax.errors.JaxRuntimeError, match="No such compile option"), memory_for(64, CPU):
        jax.jit(jnp.sin).lower(1.0).compile(compiler_options={"xla_no_such_option": "1"})

"""The PyTorch engine against hand-written loops, NumPy references and itself."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models import engine
from models.catalog import architectures, implementation
from models.engine import Definition, Samples
from models.errors import InvalidInput, OutOfMemory
from models.frameworks.torch.samples import Augmentation, TrainingRows
from models.initial import initial_weights
from models.plan import Plan, crop_padding
from models.preprocessing import Normalisation
from models.signature import ImageInput, Signature, TableInput
from models.training import TrainingSpec

ENGINE = engine.load("torch")
ROWS, BATCH = 60, 10
SGD = {"name": "sgd", "learning_rate": 0.05}
OPTIMIZERS = {
    "sgd": SGD,
    "momentum": {**SGD, "momentum": 0.9, "weight_decay": 0.01},
    "nesterov": {**SGD, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
    "adam": {"name": "adam", "learning_rate": 0.01, "weight_decay": 0.02, "betas": [0.8, 0.95]},
    "adamw": {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.1, "epsilon": 1e-6},
}
NETWORKS = {
    "linear": architectures()["linear"](),
    "mlp": architectures()["mlp"](hidden=(9,), activation="gelu"),
    "cnn": architectures()["cnn"](width=4, stages=2),
}


def problem(model="mlp", *, kind="image", channels=3, height=9, width=8, seed=0):
    """A definition and splits of random samples; class and target depend on the samples."""
    generator = np.random.default_rng(seed)
    if kind == "image":
        taken = ImageInput(height=height, width=width, channels=channels)
        x = generator.integers(0, 256, (ROWS, height, width, channels), dtype=np.uint8)
        x[::2] //= 2
        signature = Signature(task="image-classification", input=taken, outputs=4)
        y = (x.mean((1, 2, 3)) // 40).astype(np.int32)
        normalisation = Normalisation(
            np.linspace(90, 110, channels, dtype=np.float32), np.full(channels, 1 / 60, np.float32)
        )
    else:
        x = generator.normal(3, 2, (ROWS, 5)).astype(np.float32)
        taken = TableInput(features=5, columns=tuple("abcde"))
        signature = Signature(task="tabular-regression", input=taken, outputs=1)
        y = (x[:, 0] - x[:, 1] * 0.5).astype(np.float32)
        normalisation = Normalisation(np.full(5, 3, np.float32), np.full(5, 0.5, np.float32))
    held_out = Samples(x[:17], y[:17])
    definition = Definition(NETWORKS[model], signature, normalisation)
    return definition, {"train": Samples(x, y), "validation": held_out, "test": held_out}


def options(**given):
    given = {"epochs": 9, "batch_size": BATCH, "optimizer": OPTIMIZERS["adamw"], **given}
    return TrainingSpec.model_validate(given, strict=False)


def trainer_of(definition, splits, training, weights=None, slots=None, step=0):
    weights = weights or initial_weights(definition.spec, definition.signature, 3)
    return ENGINE.trainer(definition, training, splits, weights, slots or {}, step, device="cpu")


def plan_of(training, height=9):
    return Plan(
        seed=training.seed,
        rows=ROWS,
        batch_size=training.batch_size,
        learning_rates=training.optimizer.learning_rate * np.linspace(1, 0.2, 54),
        augment=training.augment,
        crop_range=2 * crop_padding(height) + 1,
    )


def trained(definition, splits, training, stop=12, **start):
    """Weights and results after steps up to `stop`."""
    trainer = trainer_of(definition, splits, training, **start)
    results = run(trainer, plan_of(training), start.get("step", 0), stop)
    return trainer, results


def run(trainer, plan, start, stop):
    cuts = sorted({start, stop, *(step for step in range(0, stop, 6) if start < step)})
    return np.concatenate([trainer.run(plan.segment(a, b)).result() for a, b in pairwise(cuts)])


def augmented(x, segment, step):
    """The slow reference: one image after the other."""
    padding = crop_padding(x.shape[1])
    batch = []
    for position, row in enumerate(segment.indices[step]):
        image = x[row]
        if segment.offsets is not None:
            top, left = segment.offsets[step, position]
            padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
            image = padded[top : top + x.shape[1], left : left + x.shape[2]]
        if segment.flips is not None and segment.flips[step, position]:
            image = image[:, ::-1]
        batch.append(image)
    return np.stack(batch)


def hand_written(definition, splits, training, stop=12):
    """The same run in plain torch and float64: unfused optimizer, NCHW, NumPy augmentation."""
    spec, signature = definition.spec, definition.signature
    network = implementation(spec, "torch").build(spec, signature)
    weights = initial_weights(spec, signature, 3)
    network.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    network.double().train()
    chosen = training.optimizer
    settings = {"lr": chosen.learning_rate, "weight_decay": chosen.weight_decay, "fused": False}
    if chosen.name == "sgd":
        settings |= {"momentum": chosen.momentum, "nesterov": chosen.nesterov}
    else:
        settings |= {"betas": chosen.betas, "eps": chosen.epsilon}
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    optimizer = kinds[chosen.name](network.parameters(), **settings)
    x, y = splits["train"].x, splits["train"].y
    results = []
    for step in range(stop):
        segment = plan_of(training).segment(step, step + 1)
        raw = augmented(x, segment, 0) if x.ndim == 4 else x[segment.indices[0]]
        normal = (raw.astype(float) - definition.normalisation.mean) * definition.normalisation.inverse_std
        inputs = torch.tensor(np.moveaxis(normal, -1, 1).copy() if x.ndim == 4 else normal)
        target = torch.tensor(y[segment.indices[0]])
        optimizer.param_groups[0]["lr"] = segment.learning_rates[0]
        logits = network(inputs)
        if signature.is_regression:
            loss = ((logits[:, 0] - target.double()) ** 2).mean()
            score = (logits[:, 0] - target).abs().sum()
        else:
            loss = F.cross_entropy(logits, target.long(), label_smoothing=training.label_smoothing)
            score = (logits.argmax(1) == target).sum()
        optimizer.zero_grad()
        loss.backward()
        if training.gradient_clip_norm:
            torch.nn.utils.clip_grad_norm_(network.parameters(), training.gradient_clip_norm)
        optimizer.step()
        results.append((loss.item(), score.item()))
    return network, np.array(results)


def assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert array.dtype == found[name].dtype
        assert array.shape == found[name].shape
        assert np.array_equal(found[name], array), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_a_run_equals_the_hand_written_torch_loop(model, optimizer):
    definition, splits = problem(model)
    training = options(optimizer=OPTIMIZERS[optimizer], precision="float64")
    trainer, results = trained(definition, splits, training)
    network, expected = hand_written(definition, splits, training)
    assert np.allclose(results, expected, rtol=0, atol=1e-12)
    for name, tensor in network.state_dict().items():
        assert np.allclose(trainer.weights()[name], tensor.numpy(), rtol=0, atol=1e-12), name


@pytest.mark.parametrize(
    "given",
    [
        {"label_smoothing": 0.1},
        {"gradient_clip_norm": 0.05},
        {"augment": ["flip"]},
        {"augment": ["crop"]},
        {"augment": ["flip", "crop"], "label_smoothing": 0.2, "gradient_clip_norm": 0.5},
    ],
    ids=str,
)
def test_every_option_means_what_it_means_in_torch(given):
    definition, splits = problem("cnn")
    plain, training = options(precision="float64"), options(precision="float64", **given)
    trainer, results = trained(definition, splits, training)
    network, expected = hand_written(definition, splits, training)
    assert np.allclose(results, expected, rtol=0, atol=1e-12)
    for name, tensor in network.state_dict().items():
        assert np.allclose(trainer.weights()[name], tensor.numpy(), rtol=0, atol=1e-12), name
    assert not np.allclose(results, trained(definition, splits, plain)[1], rtol=0, atol=1e-6)


def test_a_regression_takes_the_mean_squared_error():
    definition, splits = problem("linear", kind="table")
    training = options(optimizer=OPTIMIZERS["momentum"], precision="float64")
    _, results = trained(definition, splits, training, stop=30)
    assert np.allclose(results, hand_written(definition, splits, training, 30)[1], rtol=0, atol=1e-12)
    assert results[-1, 0] < results[0, 0] / 10


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(model, optimizer, precision):
    definition, splits = problem(model)
    training = options(optimizer=OPTIMIZERS[optimizer], augment=["flip", "crop"], precision=precision)
    whole, results = trained(definition, splits, training)
    first, before = trained(definition, splits, training, stop=5)
    state = {"weights": first.weights(), "slots": first.slots(), "step": 5}
    resumed, after = trained(definition, splits, training, **state)
    assert np.array_equal(np.concatenate((before, after)), results)
    assert_same_bits(resumed.weights(), whole.weights())
    for slot, arrays in whole.slots().items():
        assert_same_bits(resumed.slots()[slot], arrays)


@pytest.mark.parametrize(
    ("optimizer", "slots"),
    [
        ("sgd", set()),
        ("momentum", {"momentum_buffer"}),
        ("adam", {"exp_avg", "exp_avg_sq"}),
        ("adamw", {"exp_avg", "exp_avg_sq"}),
    ],
)
def test_slots_have_torchs_names_and_the_parameters_shapes(optimizer, slots):
    definition, splits = problem("cnn")
    training = options(optimizer=OPTIMIZERS[optimizer])
    assert trainer_of(definition, splits, training).slots() == {}
    trainer, _ = trained(definition, splits, training, stop=2)
    assert trainer.slots().keys() == slots
    weights = trainer.weights()
    for arrays in trainer.slots().values():
        assert {name: array.shape for name, array in arrays.items()} == {
            name: array.shape
            for name, array in weights.items()
            if "running" not in name and "num_batches" not in name
        }
        assert all(array.flags.c_contiguous for array in arrays.values())


def test_without_slots_the_optimizer_starts_afresh():
    definition, splits = problem("mlp")
    training = options(optimizer=OPTIMIZERS["adam"], precision="float64")
    first, _ = trained(definition, splits, training, stop=5)
    afresh, _ = trained(definition, splits, training, weights=first.weights(), step=5, stop=6)
    moved = np.abs(afresh.weights()["layers.0.bias"] - first.weights()["layers.0.bias"])
    # Adam's first step is the learning rate times the sign of the gradient.
    assert np.median(moved) == pytest.approx(plan_of(training).segment(5, 6).learning_rates[0], rel=1e-4)


def test_statistics_are_weights_and_count_the_batches():
    definition, splits = problem("cnn")
    trainer, _ = trained(definition, splits, options(), stop=7)
    weights = trainer.weights()
    count = weights["stages.0.bn1.num_batches_tracked"]
    assert (count.shape, count.dtype, int(count)) == ((), np.int64, 7)
    assert np.abs(weights["stages.0.bn1.running_mean"]).max() > 0


def test_weights_and_slots_are_copies():
    definition, splits = problem("mlp")
    trainer, _ = trained(definition, splits, options(), stop=2)
    weights, slots = trainer.weights(), trainer.slots()
    kept = weights["layers.0.weight"].copy(), slots["exp_avg"]["layers.0.weight"].copy()
    run(trainer, plan_of(options()), 2, 4)
    assert np.array_equal(weights["layers.0.weight"], kept[0])
    assert np.array_equal(slots["exp_avg"]["layers.0.weight"], kept[1])


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 8), (3, 9, 16), (3, 32, 20)])
@pytest.mark.parametrize("augment", [("flip",), ("crop",), ("flip", "crop")])
def test_augmentation_is_exact(channels, height, width, augment):
    _, splits = problem("mlp", channels=channels, height=height, width=width)
    x = splits["train"].x
    segment = plan_of(options(augment=list(augment)), height).segment(0, 5)
    augmentation = Augmentation(segment, x.shape[1:], torch.device("cpu"))
    for step in range(5):
        found = augmentation.apply(torch.tensor(x[segment.indices[step]]), step)
        assert np.array_equal(found.numpy(), augmented(x, segment, step))


def test_rows_gathered_on_the_host_are_the_same_as_rows_on_the_device():
    _, splits = problem("mlp")
    indices = plan_of(options()).segment(0, 5).indices
    gathered = []
    for budget in (float("inf"), 100):
        rows, places = TrainingRows(splits["train"], torch.device("cpu"), budget).gather(indices)
        gathered.append(rows[places])
    assert torch.equal(*gathered)
    assert np.array_equal(gathered[0].numpy(), splits["train"].x[indices])


def test_a_read_only_memory_map_trains_as_an_array_does(tmp_path):
    definition, splits = problem("cnn")
    np.save(tmp_path / "x.npy", splits["train"].x)
    mapped = {**splits, "train": replace(splits["train"], x=np.load(tmp_path / "x.npy", mmap_mode="r"))}
    expected, _ = trained(definition, splits, options())
    found, _ = trained(definition, mapped, options())
    assert_same_bits(found.weights(), expected.weights())


def test_long_segments_are_split_to_bound_memory_and_change_nothing():
    definition, splits = problem("cnn")
    training = options(augment=["flip", "crop"])
    expected, results = trained(definition, splits, training)
    trainer = trainer_of(definition, splits, training)
    trainer.piece_bytes = 40_000
    assert trainer._steps_per_piece(BATCH) < 6
    assert np.array_equal(run(trainer, plan_of(training), 0, 12), results)
    assert_same_bits(trainer.weights(), expected.weights())


def test_outputs_are_the_logits_in_evaluation_mode_and_change_nothing():
    definition, splits = problem("cnn")
    trainer, _ = trained(definition, splits, options(), stop=6)
    before = trainer.weights()
    batches = list(trainer.outputs("validation", 8))
    assert [len(batch) for batch in batches] == [8, 8, 1]
    served = ENGINE.predictor(definition, before).logits(splits["validation"].x)
    assert np.allclose(np.concatenate(batches), served, atol=1e-5)
    assert_same_bits(trainer.weights(), before)
    uninterrupted, _ = trained(definition, splits, options())
    run(trainer, plan_of(options()), 6, 12)
    assert_same_bits(trainer.weights(), uninterrupted.weights())


def test_loaded_weights_are_the_ones_evaluated():
    definition, splits = problem("cnn")
    trainer, _ = trained(definition, splits, options(), stop=6)
    best = trainer.weights()
    expected = next(iter(trainer.outputs("test", 17)))
    run(trainer, plan_of(options()), 6, 12)
    assert not np.allclose(next(iter(trainer.outputs("test", 17))), expected)
    trainer.load_weights(best)
    assert np.array_equal(next(iter(trainer.outputs("test", 17))), expected)


@pytest.mark.parametrize(("precision", "dtype"), [("float64", np.float64), ("float32", np.float32)])
def test_precision_is_that_of_weights_slots_and_logits(precision, dtype):
    definition, splits = problem("cnn")
    trainer, _ = trained(definition, splits, options(precision=precision), stop=2)
    arrays = [array for array in trainer.weights().values() if array.shape]
    arrays += [array for slot in trainer.slots().values() for array in slot.values()]
    arrays += list(trainer.outputs("test", 8))
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_bfloat16_learns_with_float32_weights(model):
    definition, splits = problem(model)
    trainer, results = trained(definition, splits, options(precision="bfloat16"), stop=54)
    _, exact = trained(definition, splits, options(), stop=54)
    assert results[-6:, 0].mean() < results[:6, 0].mean() * 0.8
    assert not np.array_equal(results, exact)
    assert np.allclose(results[:3, 0], exact[:3, 0], rtol=0.1)
    assert {array.dtype for array in trainer.weights().values() if array.shape} == {np.dtype(np.float32)}


def test_too_large_a_batch_is_out_of_memory_and_half_of_it_is_suggested():
    batch = 20_000  # its activations of 512 channels need 168 TB, more than an address space holds
    taken = ImageInput(height=64, width=64, channels=1)
    definition = Definition(
        architectures()["cnn"](width=512, stages=1),
        Signature(task="image-classification", input=taken, outputs=2),
        Normalisation(np.zeros(1, np.float32), np.ones(1, np.float32)),
    )
    one = Samples(np.zeros((1, 64, 64, 1), np.uint8), np.zeros(1, np.int32))
    trainer = trainer_of(
        definition, {"train": one, "validation": one, "test": one}, options(batch_size=batch)
    )
    segment = replace(plan_of(options()).segment(0, 1), indices=np.zeros((1, batch), np.int32))
    with pytest.raises(OutOfMemory, match=r"cpu has too little memory for batch_size 20000; try 10000\."):
        trainer.run(segment)
    small = replace(segment, indices=np.zeros((1, 2), np.int32))
    assert np.isfinite(trainer.run(small).result()).all()


@pytest.mark.parametrize(("model", "kind"), [("cnn", "image"), ("mlp", "image"), ("mlp", "table")])
def test_threads_share_a_predictor(model, kind):
    definition, splits = problem(model, kind=kind)
    predictor = ENGINE.predictor(definition, initial_weights(definition.spec, definition.signature, 0))
    batches = [splits["train"].x[start : start + 1 + start % 7] for start in range(40)]
    expected = [predictor.logits(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(predictor.logits, batches * 5))
    for logits, alone in zip(found, expected * 5, strict=True):
        assert logits.dtype == np.float32
        assert np.allclose(logits, alone, rtol=0, atol=1e-6)


def test_a_predictor_takes_read_only_samples():
    definition, splits = problem("cnn")
    predictor = ENGINE.predictor(definition, initial_weights(definition.spec, definition.signature, 0))
    x = splits["test"].x.copy()
    expected = predictor.logits(x)
    x.flags.writeable = False
    assert np.array_equal(predictor.logits(x), expected)


def test_an_unknown_device_is_refused():
    definition, _ = problem("linear")
    weights = initial_weights(definition.spec, definition.signature, 0)
    with pytest.raises(InvalidInput, match=r"no device 'cud'\. Did you mean 'cuda'"):
        ENGINE.predictor(definition, weights, device="cud")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_cuda_is_refused_and_auto_is_the_cpu():
    definition, splits = problem("linear")
    weights = initial_weights(definition.spec, definition.signature, 0)
    with pytest.raises(InvalidInput, match="finds no CUDA GPU"):
        ENGINE.predictor(definition, weights, device="cuda")
    with pytest.raises(InvalidInput, match="finds no CUDA GPU"):
        ENGINE.trainer(definition, options(), splits, weights, {}, 0, device="cuda")
    assert ENGINE.trainer(definition, options(), splits, weights, {}, 0, device="auto").device == "cpu"


def test_warming_up_flushes_denormal_numbers_to_zero():
    tiny = torch.tensor([1e-40])
    assert (tiny * 0.5).item() > 0
    try:
        ENGINE.warm_up("cpu")
        assert (tiny * 0.5).item() == 0
    finally:
        torch.set_flush_denormal(False)

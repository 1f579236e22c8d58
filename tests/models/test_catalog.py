from typing import get_args

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from models.catalog import AnySpec, ModelSpec, architectures, declarations
from models.errors import InvalidInput
from models.initial import initial_weights
from models.signature import ImageInput, Signature, TableInput, TokenInput

IMAGES = Signature(task="image-classification", input=ImageInput(height=16, width=16, channels=3), outputs=10)
REGRESSION = Signature(task="tabular-regression", input=TableInput(features=2, columns=("a", "b")), outputs=1)
TABLE = REGRESSION.model_copy(update={"task": "tabular-classification", "outputs": 3})
TEXTS = Signature(
    task="text-classification", input=TokenInput(vocabulary=50, length=12, padding=0), outputs=2
)
OF_TASKS = {signature.task: signature for signature in (IMAGES, REGRESSION, TABLE, TEXTS)}
OPTIONS = {
    "vgg11": {"width": 4, "hidden": 16},
    "vgg16": {"width": 4, "hidden": 16},
    "convnext_tiny": {"depths": (1, 1, 1, 1)},
    "vit": {"patch_size": 4, "layers": 2, "heads": 2, "hidden": 16, "mlp": 20},
}
"""Of architectures whose defaults are large."""
adapter = TypeAdapter(ModelSpec)


def small(name):
    """The architecture, not too large, and a signature that it takes."""
    spec = architectures()[name](**OPTIONS.get(name, {}))
    return spec, OF_TASKS[spec.tasks[0]]


@pytest.mark.parametrize("name", architectures())
def test_every_architecture_is_chosen_by_its_name_and_refuses_unknown_options(name):
    assert adapter.validate_python({"architecture": name}).name == name
    with pytest.raises(ValidationError):
        adapter.validate_python({"architecture": name, "no_such_option": 1})


@pytest.mark.parametrize("name", architectures())
def test_every_architecture_says_what_it_is_and_how_to_train_it(name):
    spec, signature = small(name)
    assert spec.name == name
    assert spec.title
    assert {"batch_size", "optimizer", "schedule"} <= spec.training_defaults(signature).keys()


def test_no_two_architectures_share_a_title():
    titles = [spec.title for spec in architectures().values()]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("name", architectures())
def test_the_head_is_part_of_the_network_and_holds_all_that_depends_on_the_classes(name):
    spec, signature = small(name)
    more = declarations(spec, signature.model_copy(update={"outputs": signature.outputs + 1}))
    declared = declarations(spec, signature)
    for prefix in spec.head():
        assert prefix.endswith(".")
        assert any(tensor.startswith(prefix) for tensor in declared)
    of_classes = {tensor for tensor in declared if declared[tensor].shape != more[tensor].shape}
    assert of_classes
    assert all(map(spec.in_head, of_classes))
    assert any(tensor.kind == "parameter" for key, tensor in declared.items() if spec.in_head(key))


@pytest.mark.parametrize("spec", get_args(AnySpec), ids=lambda spec: spec.__name__)
def test_a_task_that_an_architecture_does_not_do_is_refused(spec):
    other = next(signature for task, signature in OF_TASKS.items() if task not in spec.tasks)
    with pytest.raises(InvalidInput, match=f"does not do {other.task}") as caught:
        spec().check(other)
    assert caught.value.pointer == "/model/architecture"


def test_the_cnn_refuses_images_that_its_stages_would_halve_to_nothing():
    small = IMAGES.model_copy(update={"input": ImageInput(height=8, width=8, channels=1)})
    adapter.validate_python({"architecture": "cnn", "stages": 3}).check(small)
    with pytest.raises(InvalidInput, match="at most 3"):
        adapter.validate_python({"architecture": "cnn", "stages": 4}).check(small)


def test_the_cnn_refuses_images_outside_its_range():
    large = IMAGES.model_copy(update={"input": ImageInput(height=96, width=96, channels=3)})
    with pytest.raises(InvalidInput, match="96x96"):
        adapter.validate_python({"architecture": "cnn"}).check(large)


@pytest.mark.parametrize("name", architectures())
def test_initial_weights_depend_on_the_seed_and_nothing_else(name):
    spec, signature = small(name)
    first, again, other = (initial_weights(spec, signature, seed) for seed in (0, 0, 1))
    assert first.keys() == declarations(spec, signature).keys()
    assert all(np.array_equal(first[key], again[key]) for key in first)
    drawn = [key for key in first if np.ptp(first[key]) > 0]
    assert drawn
    assert all(not np.array_equal(first[key], other[key]) for key in drawn)


def test_a_linear_layer_starts_as_torch_starts_it():
    weights = initial_weights(architectures()["mlp"](hidden=(500,)), REGRESSION, 0)
    bound = 1 / np.sqrt(2)
    assert np.abs(weights["layers.0.weight"]).max() <= bound
    assert weights["layers.0.weight"].std() == pytest.approx(bound / np.sqrt(3), rel=0.1)


def test_counters_keep_their_type_and_shape():
    weights = initial_weights(architectures()["cnn"](), IMAGES, 0)
    counter = weights["stages.0.bn1.num_batches_tracked"]
    assert counter.dtype == np.int64
    assert counter.shape == ()
